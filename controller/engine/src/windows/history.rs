//! The history of one series: what `increase`, `max`, `min`, `avg` and `forecast` look at.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use quell_model::condition::Over;

use super::{before, signed};

/// So many points are kept; when there are more, every second one goes, oldest first.
const MOST_POINTS: usize = 2_048;

/// A span is kept in so many parts: closer points that say nothing of their own are merged.
const FINENESS: u32 = 512;

/// A forecast needs so many points over at least a tenth of its span.
const FEWEST_FOR_FORECAST: usize = 3;

/// Points of a series, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    points: VecDeque<(Timestamp, f64)>,
}

/// How a history is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// The function.
    pub(crate) over: Over,
    /// The span that it covers.
    pub(crate) span: Duration,
    /// How far apart points are.
    pub(crate) every: Duration,
    /// Only points after this moment count: the act that is to be verified.
    pub(crate) after: Option<Timestamp>,
}

impl History {
    /// Adds a point, in its place when it came late; points older than twice the span go.
    pub(crate) fn add(&mut self, at: Timestamp, number: f64, span: Duration) {
        let place = self.points.partition_point(|(other, _)| *other < at);
        match self.points.get_mut(place) {
            Some(point) if point.0 == at => point.1 = number,
            _ => self.points.insert(place, (at, number)),
        }
        self.merge_newest(span);
        let newest = self.points.back().map_or(at, |point| point.0);
        let horizon = before(newest, span.saturating_mul(2));
        while self.points.front().is_some_and(|point| point.0 < horizon) {
            self.points.pop_front();
        }
        if self.points.len() > MOST_POINTS {
            self.thin();
        }
    }

    /// Drops the last point but one when it is closer to its neighbours than the span needs and says nothing that they
    /// do not: it lies between them. Peaks, troughs and resets stay.
    fn merge_newest(&mut self, span: Duration) {
        let count = self.points.len();
        let Some([one, two, three]) =
            count.checked_sub(3).map(|from| [self.points[from], self.points[from + 1], self.points[from + 2]])
        else {
            return;
        };
        let is_between = (one.1 <= two.1 && two.1 <= three.1) || (one.1 >= two.1 && two.1 >= three.1);
        if is_between && three.0.duration_since(one.0) < signed(span / FINENESS) {
            self.points.remove(count - 2);
        }
    }

    /// Drops every second point of the older half, so that long spans keep their shape.
    fn thin(&mut self) {
        let half = self.points.len() / 2;
        let mut index = 0;
        self.points.retain(|_| {
            index += 1;
            index > half || index % 2 == 1
        });
    }

    /// Reads the history at a moment; absent while it does not reach back far enough to be believed.
    pub(crate) fn read(&self, reading: Reading, now: Timestamp) -> Option<f64> {
        let from = before(now, reading.span);
        let from = reading.after.map_or(from, |after| from.max(after));
        let mut start = self.points.partition_point(|point| point.0 < from);
        match reading.after {
            Some(after) => start = start.max(self.points.partition_point(|point| point.0 <= after)),
            // Growth is counted from the last point before the span, where there is one.
            None if reading.over == Over::Increase => start = start.saturating_sub(1),
            None => {}
        }
        let end = self.points.partition_point(|point| point.0 <= now);
        let points = || self.points.range(start.min(end)..end);
        let (first, last) = (points().next()?, points().next_back()?);
        let slack = signed(reading.every.saturating_mul(3)).max(signed(reading.span / FINENESS));
        if now.duration_since(last.0) > signed(reading.every.saturating_mul(3)) {
            return None;
        }
        if reading.over == Over::Forecast {
            return forecast(points(), end - start, first.0, last.0, reading.span);
        }
        if first.0.duration_since(from) > slack || (reading.over == Over::Increase && end - start < 2) {
            return None;
        }
        let numbers = points().map(|point| point.1);
        Some(match reading.over {
            Over::Increase => increase(numbers),
            Over::Max => numbers.fold(f64::NEG_INFINITY, f64::max),
            Over::Min => numbers.fold(f64::INFINITY, f64::min),
            Over::Avg => numbers.sum::<f64>() / (end - start) as f64,
            Over::Forecast => return None,
        })
    }
}

/// Growth of a counter; a fall is a reset, from which it grew from zero.
fn increase(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut last = None;
    let mut growth = 0.0;
    for number in numbers {
        growth += match last {
            Some(last) if number >= last => number - last,
            Some(_) => number,
            None => 0.0,
        };
        last = Some(number);
    }
    growth
}

/// Where the straight line of least squares arrives one span after the newest point.
fn forecast<'a>(
    points: impl Iterator<Item = &'a (Timestamp, f64)> + Clone,
    count: usize,
    first: Timestamp,
    last: Timestamp,
    span: Duration,
) -> Option<f64> {
    let covered = last.duration_since(first).as_secs_f64();
    if count < FEWEST_FOR_FORECAST || covered < span.as_secs_f64() / 10.0 {
        return None;
    }
    let seconds = |at: Timestamp| at.duration_since(first).as_secs_f64();
    let (mut time_sum, mut sum) = (0.0, 0.0);
    for (at, number) in points.clone() {
        time_sum += seconds(*at);
        sum += number;
    }
    let (mean_time, mean) = (time_sum / count as f64, sum / count as f64);
    let (mut slope, mut spread) = (0.0, 0.0);
    for (at, number) in points {
        slope += (seconds(*at) - mean_time) * (number - mean);
        spread += (seconds(*at) - mean_time).powi(2);
    }
    (spread > 0.0).then(|| mean + slope / spread * (covered + span.as_secs_f64() - mean_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn read(over: Over, span: u64, now: i64, points: &[(i64, f64)]) -> Option<f64> {
        let mut history = History::default();
        for (second, number) in points {
            history.add(at(*second), *number, Duration::from_secs(span));
        }
        let reading = Reading { over, span: Duration::from_secs(span), every: Duration::from_secs(10), after: None };
        history.read(reading, at(now))
    }

    #[test]
    fn an_increase_counts_a_reset_as_growth_from_zero() {
        let points = [(0, 5.0), (10, 8.0), (20, 2.0), (30, 3.0)];
        assert_eq!(read(Over::Increase, 30, 30, &points), Some(3.0 + 2.0 + 1.0));
    }

    #[test]
    fn a_history_that_does_not_cover_its_span_is_unknown() {
        let points = [(3_500, 5.0), (3_510, 5.0)];
        assert_eq!(read(Over::Increase, 3_600, 3_600 + 3_510, &points), None);
        assert_eq!(read(Over::Max, 3_600, 3_510, &points), None);
    }

    #[test]
    fn a_forecast_follows_the_line() {
        // 0.444 points a day from 65 % crosses 80 % in 33.75 days.
        let day = 86_400;
        let points: Vec<(i64, f64)> = (0..40).map(|n| (n * day, 65.0 + 0.444 * n as f64)).collect();
        let mut history = History::default();
        let span = Duration::from_secs(33 * 86_400);
        for (second, number) in &points {
            history.add(at(*second), *number, span);
        }
        let every = Duration::from_secs(86_400);
        let reading =
            |days: u64| Reading { over: Over::Forecast, span: Duration::from_secs(days * 86_400), every, after: None };
        let now = at(39 * day);
        let expected = 65.0 + 0.444 * (39.0 + 33.0);
        assert!((history.read(reading(33), now).unwrap() - expected).abs() < 1e-6);
    }

    #[test]
    fn a_steady_series_is_kept_coarsely_and_its_peak_and_growth_are_not_lost() {
        let mut history = History::default();
        let span = Duration::from_secs(86_400);
        for second in (0..86_400).step_by(15) {
            let number = if second == 43_200 { 99.0 } else { 10.0 };
            history.add(at(second), number, span);
        }
        assert!(history.points.len() < 1_100, "{}", history.points.len());
        let every = Duration::from_secs(15);
        let reading = |over| Reading { over, span, every, after: None };
        assert_eq!(history.read(reading(Over::Max), at(86_400)), Some(99.0));
        let mut counter = History::default();
        for second in (0..86_400).step_by(15) {
            counter.add(at(second), (second % 40_000) as f64, span);
        }
        let expected = 39_990.0 + 39_990.0 - 10.0 + 6_385.0;
        let grown = counter.read(reading(Over::Increase), at(86_385)).unwrap();
        assert!((grown - expected).abs() < 30.0, "{grown} is not {expected}");
    }

    #[test]
    fn late_points_take_their_place_and_the_number_of_points_is_bounded() {
        let mut history = History::default();
        for second in (0..10_000).rev() {
            history.add(at(second), f64::from(second as i32 % 7), Duration::from_secs(20_000));
        }
        assert!(history.points.len() <= MOST_POINTS);
        assert!(history.points.iter().zip(history.points.iter().skip(1)).all(|(a, b)| a.0 < b.0));
    }
}
