//! Statistics over the figures of several rounds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The median and the range of several figures.
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

    /// The spread of the ratios of figures from the same round.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Result<Self> {
        ensure!(ours.len() == theirs.len(), "{} rounds against {}", ours.len(), theirs.len());
        Self::of(&ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
    }
}

pub fn sorted(figures: &[f64]) -> Result<Vec<f64>> {
    ensure!(!figures.is_empty(), "nothing was measured");
    ensure!(figures.iter().all(|figure| figure.is_finite()), "a figure is not a finite number: {figures:?}");
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(sorted)
}

/// A percentile of sorted figures, which must not be empty. Interpolates linearly.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let position = percent / 100.0 * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    low + (high - low) * position.fract()
}

/// Measures several times and returns the median.
pub fn median_of(times: usize, measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let figures = std::iter::repeat_with(measure).take(times).collect::<Result<Vec<_>>>()?;
    Ok(Spread::of(&figures)?.median)
}

/// A measurement. Each call returns one figure.
pub type Contender<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// Measures every contender once in each round. The order alternates, so that slow changes (the
/// disk, the clock of the processor) affect all contenders equally. Returns the figures of each
/// contender.
pub fn rounds(count: usize, contenders: &mut [Contender<'_>]) -> Result<Vec<Vec<f64>>> {
    let mut figures = vec![Vec::with_capacity(count); contenders.len()];
    for round in 0..count {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            figures[index].push(contenders[index]()?);
        }
    }
    Ok(figures)
}

/// Measures two contenders with [`rounds`].
pub fn duel(count: usize, ours: Contender<'_>, theirs: Contender<'_>) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut figures = rounds(count, &mut [ours, theirs])?;
    let theirs = figures.pop().context("the second contender has no figures")?;
    Ok((figures.pop().context("the first contender has no figures")?, theirs))
}

/// Returns the time of `work` in seconds.
pub fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let begin = Instant::now();
    // The result is dropped after the clock was read.
    let result = work()?;
    let elapsed = begin.elapsed();
    drop(result);
    Ok(elapsed.as_secs_f64())
}

/// Repeats `work` until the time is over. Returns the sum of its results per second.
pub fn rate(budget: Duration, mut work: impl FnMut() -> Result<u64>) -> Result<f64> {
    let begin = Instant::now();
    let mut done = 0;
    while begin.elapsed() < budget {
        done += work()?;
    }
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}
