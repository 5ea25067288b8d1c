//! Figures of several rounds, and what they come to.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// A median with the range it came from.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(figures: &[f64]) -> Result<Self> {
        let sorted = sorted(figures)?;
        Ok(Self { median: percentile(&sorted, 50.0), min: sorted[0], max: sorted[sorted.len() - 1] })
    }

    /// Of the quotients of figures that were taken in the same round.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Result<Self> {
        ensure!(ours.len() == theirs.len(), "{} rounds against {}", ours.len(), theirs.len());
        Self::of(&ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
    }
}

pub fn sorted(figures: &[f64]) -> Result<Vec<f64>> {
    ensure!(!figures.is_empty(), "nothing was measured");
    ensure!(figures.iter().all(|figure| figure.is_finite()), "a figure is no number: {figures:?}");
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(sorted)
}

/// Of sorted figures, which must not be none. Between two of them: on the line that joins them.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let place = percent / 100.0 * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// The median of what is measured a number of times.
pub fn median_of(times: usize, measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let figures = std::iter::repeat_with(measure).take(times).collect::<Result<Vec<_>>>()?;
    Ok(Spread::of(&figures)?.median)
}

/// What is measured in rounds, with others in turn. One figure a call.
pub type Contender<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// Has every contender measured once a round, in one order and then in the other, so that what changes slowly (the
/// disk, the clock of the processor) is the same for all of them. Gives each one's figures, by round.
pub fn rounds(count: usize, contenders: &mut [Contender<'_>]) -> Result<Vec<Vec<f64>>> {
    let mut figures = vec![Vec::with_capacity(count); contenders.len()];
    for round in 0..count {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for place in order {
            figures[place].push(contenders[place]()?);
        }
    }
    Ok(figures)
}

/// Two contenders, which is the common case.
pub fn duel(count: usize, ours: Contender<'_>, theirs: Contender<'_>) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut figures = rounds(count, &mut [ours, theirs])?;
    let theirs = figures.pop().context("the second contender has no figures")?;
    Ok((figures.pop().context("the first contender has no figures")?, theirs))
}

/// How long something takes, in seconds.
pub fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let begin = Instant::now();
    // What it makes is dropped behind the second look at the clock.
    let made = work()?;
    let took = begin.elapsed();
    drop(made);
    Ok(took.as_secs_f64())
}

/// Does something until a time is over. Gives how many there were a second.
pub fn rate(budget: Duration, mut work: impl FnMut() -> Result<u64>) -> Result<f64> {
    let begin = Instant::now();
    let mut done = 0;
    while begin.elapsed() < budget {
        done += work()?;
    }
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}
