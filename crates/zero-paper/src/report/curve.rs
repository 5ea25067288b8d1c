//! The equity curve, thinned as it grows.

use serde::Serialize;

/// The account after a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EquityPoint {
    /// Time of the event after which this holds, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Cash in USD.
    pub cash_usd: f64,
    /// How far the equity is below its highest value so far, in percent of that value; 0 if that
    /// value is not above 0.
    pub drawdown_pct: f64,
    /// Cash and positions in USD.
    pub equity_usd: f64,
    /// Index of the event after which this holds.
    pub event_index: u64,
    /// Sum of the absolute values of all positions, in USD.
    pub gross_exposure_usd: f64,
    /// Sum of the signed values of all positions, in USD.
    pub net_exposure_usd: f64,
}

/// Two neighbouring buckets are merged when there are this many. Each holds at most four points.
const MAX_BUCKETS: usize = 512;

/// The points of an equity curve. However many are added, at most some thousand are kept, among
/// them the first, the last and the extremes of every stretch.
#[derive(Clone, Debug, Default)]
pub(super) struct Curve {
    buckets: Vec<Bucket>,
    /// Points in each bucket but the last.
    points_per_bucket: u64,
    points_in_last: u64,
    ends: Option<(EquityPoint, EquityPoint)>,
}

/// The extremes of consecutive points.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    highest: EquityPoint,
    lowest: EquityPoint,
    deepest: EquityPoint,
    most_exposed: EquityPoint,
}

impl Bucket {
    fn of(point: EquityPoint) -> Self {
        Self { highest: point, lowest: point, deepest: point, most_exposed: point }
    }

    /// Adds a later bucket. Of two equal extremes, the earlier one stays.
    fn merge(&mut self, later: &Self) {
        if later.highest.equity_usd > self.highest.equity_usd {
            self.highest = later.highest;
        }
        if later.lowest.equity_usd < self.lowest.equity_usd {
            self.lowest = later.lowest;
        }
        if later.deepest.drawdown_pct > self.deepest.drawdown_pct {
            self.deepest = later.deepest;
        }
        if later.most_exposed.gross_exposure_usd > self.most_exposed.gross_exposure_usd {
            self.most_exposed = later.most_exposed;
        }
    }

    fn points(&self) -> [EquityPoint; 4] {
        [self.highest, self.lowest, self.deepest, self.most_exposed]
    }
}

impl Curve {
    /// Adds the next point. Its event must come after the events of all earlier points.
    pub(super) fn add(&mut self, point: EquityPoint) {
        self.ends = Some((self.ends.map_or(point, |(first, _)| first), point));
        self.points_per_bucket = self.points_per_bucket.max(1);
        let is_full = self.points_in_last == self.points_per_bucket;
        if let Some(last) = self.buckets.last_mut().filter(|_| !is_full) {
            last.merge(&Bucket::of(point));
            self.points_in_last += 1;
            return;
        }
        if self.buckets.len() == MAX_BUCKETS {
            self.merge_neighbours();
        }
        self.buckets.push(Bucket::of(point));
        self.points_in_last = 1;
    }

    fn merge_neighbours(&mut self) {
        let merge = |pair: &[Bucket]| {
            let mut merged = pair[0];
            pair[1..].iter().for_each(|later| merged.merge(later));
            merged
        };
        self.buckets = self.buckets.chunks(2).map(merge).collect();
        self.points_per_bucket *= 2;
    }

    /// Returns the points that are kept, in their order.
    pub(super) fn points(&self) -> Vec<EquityPoint> {
        let Some((first, last)) = self.ends else { return Vec::new() };
        let mut points: Vec<EquityPoint> = self.buckets.iter().flat_map(Bucket::points).collect();
        points.extend([first, last]);
        points.sort_by_key(|point| point.event_index);
        points.dedup_by_key(|point| point.event_index);
        points
    }
}

#[cfg(test)]
mod tests {
    use super::{Curve, EquityPoint};

    fn point(event_index: u64, equity_usd: f64, drawdown_pct: f64, gross_exposure_usd: f64) -> EquityPoint {
        let (as_of, cash_usd, net_exposure_usd) = (event_index as f64, 0.0, 0.0);
        EquityPoint {
            as_of,
            cash_usd,
            drawdown_pct,
            equity_usd,
            event_index,
            gross_exposure_usd,
            net_exposure_usd,
        }
    }

    #[test]
    fn a_short_curve_keeps_every_point() {
        let mut curve = Curve::default();
        assert!(curve.points().is_empty());
        let points: Vec<EquityPoint> = (1..=500).map(|index| point(index, index as f64, 0.0, 1.0)).collect();
        points.iter().for_each(|point| curve.add(*point));
        assert_eq!(curve.points(), points);
    }

    #[test]
    fn a_long_curve_keeps_its_ends_and_its_extremes() {
        let mut curve = Curve::default();
        for index in 1..=100_000u64 {
            let mut next = point(index, 100.0 + (index % 7) as f64, 1.0, 5.0);
            match index {
                31_415 => next.equity_usd = 900.0,
                27_182 => next.equity_usd = -900.0,
                57_721 => next.drawdown_pct = 99.0,
                16_180 => next.gross_exposure_usd = 1e6,
                _ => {}
            }
            curve.add(next);
        }
        let points = curve.points();
        assert!(points.len() <= 4 * super::MAX_BUCKETS + 2 && points.len() > 500, "{}", points.len());
        assert!(points.is_sorted_by(|a, b| a.event_index < b.event_index));
        let indexes: Vec<u64> = points.iter().map(|point| point.event_index).collect();
        for index in [1, 31_415, 27_182, 57_721, 16_180, 100_000] {
            assert!(indexes.contains(&index), "{index}");
        }
    }
}
