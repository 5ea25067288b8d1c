//! Ticks of chart axes, and their labels.

use zero_paper::text::{format_date_and_time, format_money, format_number};

/// Positions on an axis, each with its label.
pub(crate) type Ticks = Vec<(f64, String)>;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 86400.0;

/// Steps of a time axis, in seconds. Longer ones are counted in months.
const TIME_STEPS: [f64; 19] = [
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
    MINUTE,
    2.0 * MINUTE,
    5.0 * MINUTE,
    10.0 * MINUTE,
    30.0 * MINUTE,
    HOUR,
    2.0 * HOUR,
    3.0 * HOUR,
    6.0 * HOUR,
    12.0 * HOUR,
    DAY,
    2.0 * DAY,
    7.0 * DAY,
    14.0 * DAY,
];

const MONTH_STEPS: [u32; 6] = [1, 2, 3, 6, 12, 24];

/// A longer range has no calendar ticks.
const MAX_CALENDAR_RANGE_S: f64 = 20.0 * 366.0 * DAY;

/// Returns at most `max_ticks` round values from `low` to `high`, labelled as amounts of money.
pub(crate) fn amounts(low: f64, high: f64, max_ticks: usize) -> Ticks {
    let step = round_step((high - low) / max_ticks as f64);
    let label = |value: f64| if step >= 1.0 { whole(value) } else { format_number(value) };
    multiples(low, high, step, max_ticks).into_iter().map(|value| (value, label(value))).collect()
}

/// Returns at most `max_ticks` round values from `low` to `high`, labelled as percentages.
pub(crate) fn percentages(low: f64, high: f64, max_ticks: usize) -> Ticks {
    let step = round_step((high - low) / max_ticks as f64);
    let label = |value: f64| format!("{} %", format_number(value));
    multiples(low, high, step, max_ticks).into_iter().map(|value| (value, label(value))).collect()
}

/// Returns at most `max_ticks` round numbers from `low` to `high`, labelled as indexes.
pub(crate) fn indexes(low: f64, high: f64, max_ticks: usize) -> Ticks {
    let step = round_step((high - low) / max_ticks as f64).max(1.0);
    let label = |value: f64| format!("event {}", whole(value));
    multiples(low, high, step, max_ticks).into_iter().map(|value| (value, label(value))).collect()
}

/// Returns at most `max_ticks` round times from `low` to `high`, which are Unix seconds.
pub(crate) fn times(low: f64, high: f64, max_ticks: usize) -> Ticks {
    let fits = |step: &f64| (high - low) / step <= max_ticks as f64;
    if let Some(step) = TIME_STEPS.into_iter().find(fits) {
        return multiples(low, high, step, max_ticks)
            .into_iter()
            .map(|at| (at, time_label(at, low, high, step)))
            .collect();
    }
    if high - low > MAX_CALENDAR_RANGE_S {
        let step = round_step((high - low) / max_ticks as f64);
        let label = |at: f64| format_date_and_time(at).0;
        return multiples(low, high, step, max_ticks).into_iter().map(|at| (at, label(at))).collect();
    }
    months(low, high, max_ticks)
}

/// The first days of months.
fn months(low: f64, high: f64, max_ticks: usize) -> Ticks {
    let days = (0..).map(|day| ((low / DAY).ceil() + f64::from(day)) * DAY).take_while(|at| *at <= high);
    let firsts: Vec<(f64, String, u32)> = days
        .filter_map(|at| {
            let date = format_date_and_time(at).0;
            let month = date.strip_suffix("-01")?.to_owned();
            let (year, number) = month.rsplit_once('-')?;
            let count = year.parse::<u32>().ok()? * 12 + number.parse::<u32>().ok()? - 1;
            Some((at, month, count))
        })
        .collect();
    let every = |step: u32| firsts.iter().filter(move |(_, _, count)| count % step == 0);
    let step = MONTH_STEPS.into_iter().find(|step| every(*step).count() <= max_ticks);
    every(step.unwrap_or(60)).map(|(at, month, _)| (*at, month.clone())).collect()
}

/// The time of day, with the date if the range has several dates.
fn time_label(at: f64, low: f64, high: f64, step: f64) -> String {
    let (date, time) = format_date_and_time(at);
    if step >= DAY {
        return date;
    }
    let time = if step < MINUTE { time.as_str() } else { time.get(..5).unwrap_or(&time) };
    let is_one_day = format_date_and_time(low).0 == format_date_and_time(high).0;
    let month_and_day = date.get(date.len().saturating_sub(5)..).unwrap_or(&date);
    if is_one_day { time.to_owned() } else { format!("{month_and_day} {time}") }
}

/// The amount without cents.
fn whole(value: f64) -> String {
    let text = format_money(value + 0.0);
    text.strip_suffix(".00").unwrap_or(&text).to_owned()
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    if !(step > 0.0 && step.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= step);
    factor.unwrap_or(10.0) * power
}

/// The multiples of a step within a range. There are at most `max_ticks` and one more.
fn multiples(low: f64, high: f64, step: f64, max_ticks: usize) -> Vec<f64> {
    let first = (low / step).ceil();
    (0..=max_ticks).map(|n| (first + n as f64) * step).take_while(|value| *value <= high).collect()
}

#[cfg(test)]
mod tests {
    use super::{Ticks, amounts, indexes, percentages, times};

    fn labels(ticks: Ticks) -> Vec<String> {
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn amounts_are_round() {
        assert_eq!(labels(amounts(9_870.0, 10_130.0, 6)), ["9,900", "9,950", "10,000", "10,050", "10,100"]);
        assert_eq!(labels(amounts(-0.25, 0.25, 5)), ["-0.2", "-0.1", "0", "0.1", "0.2"]);
        assert_eq!(labels(percentages(-7.0, 0.0, 4)), ["-6 %", "-4 %", "-2 %", "0 %"]);
        assert_eq!(labels(indexes(1.0, 4.0, 8)), ["event 1", "event 2", "event 3", "event 4"]);
    }

    #[test]
    fn times_are_round_in_the_calendar() {
        let start = 1_777_593_600.0; // 2026-05-01T00:00:00Z
        assert_eq!(labels(times(start + 5.0, start + 3600.0, 4)), ["00:30", "01:00"]);
        assert_eq!(
            labels(times(start, start + 40.0 * 3600.0, 4)),
            ["05-01 00:00", "05-01 12:00", "05-02 00:00", "05-02 12:00"]
        );
        assert_eq!(labels(times(start, start + 4.5 * 86400.0, 5)).last().unwrap(), "2026-05-05");
        assert_eq!(
            labels(times(start, start + 200.0 * 86400.0, 4)),
            ["2026-05", "2026-07", "2026-09", "2026-11"]
        );
    }

    #[test]
    fn extreme_ranges_have_few_ticks() {
        for (low, high) in [(0.0, 0.0), (-1e300, 1e300), (0.0, 1e12), (1e15, 1e15 + 1.0), (0.0, 1e-300)] {
            for ticks in [amounts(low, high, 6), times(low, high, 6), indexes(low, high, 6)] {
                assert!(ticks.len() <= 7, "{low} {high}: {}", ticks.len());
            }
        }
    }
}
