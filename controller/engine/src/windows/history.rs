//! The history of one series: what `increase`, `max`, `min`, `avg` and `forecast` look at.

mod line;

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use quell_model::condition::Over;

use self::line::{Line, Point};
use super::{Series, before, signed};

/// So many points are kept; when there are more, every second one goes, oldest first.
const MOST_POINTS: usize = 2_048;

/// A span is kept in so many parts: closer points that say nothing of their own are merged.
const FINENESS: u32 = 512;

/// A forecast needs so many points over at least a tenth of its span.
const FEWEST_FOR_FORECAST: usize = 3;

/// Points of a series, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    points: VecDeque<Point>,
    /// The lines of the forecasts that are asked for.
    lines: Vec<Line>,
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
    /// Adds a point, in its place when it came late; points older than twice the longest span go.
    pub(crate) fn add(&mut self, at: Timestamp, number: f64, series: &Series) {
        if !self.lines.iter().map(|line| line.span).eq(series.forecasts.iter().copied()) {
            let points = &self.points;
            self.lines = series.forecasts.iter().map(|span| Line::through(*span, points.iter())).collect();
        }
        self.insert((at, number));
        self.merge_newest(series.span);
        self.lines.iter_mut().for_each(|line| line.advance(&self.points));
        let newest = self.points.back().map_or(at, |point| point.0);
        // No line reaches back that far.
        let horizon = before(newest, series.span.saturating_mul(2));
        while self.points.front().is_some_and(|point| point.0 < horizon) {
            self.points.pop_front();
        }
        if self.points.len() > MOST_POINTS {
            self.thin();
        }
    }

    fn insert(&mut self, point: Point) {
        if self.points.back().is_none_or(|newest| newest.0 < point.0) {
            self.points.push_back(point);
        } else {
            let place = self.points.partition_point(|other| other.0 < point.0);
            match self.points.get_mut(place) {
                Some(other) if other.0 == point.0 => {
                    self.lines.iter_mut().for_each(|line| line.remove(*other));
                    *other = point;
                }
                _ => self.points.insert(place, point),
            }
        }
        self.lines.iter_mut().for_each(|line| line.add(point));
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
            self.lines.iter_mut().for_each(|line| line.remove(two));
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
        self.lines.iter_mut().for_each(|line| line.redraw(&self.points));
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
            let covered = last.0.duration_since(first.0).as_secs_f64();
            if end - start < FEWEST_FOR_FORECAST || covered < reading.span.as_secs_f64() / 10.0 {
                return None;
            }
            let is_whole = reading.after.is_none() && end == self.points.len();
            return match self.lines.iter().find(|line| is_whole && line.span == reading.span) {
                Some(line) => line.arrives(&self.points, first.0, last.0),
                None => Line::through(reading.span, points()).arrives(&VecDeque::new(), first.0, last.0),
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A series of which a forecast is asked for too.
    fn series(span: Duration) -> Series {
        Series { field: "value".to_owned(), span, forecasts: vec![span] }
    }

    fn read(over: Over, span: u64, now: i64, points: &[(i64, f64)]) -> Option<f64> {
        let mut history = History::default();
        for (second, number) in points {
            history.add(at(*second), *number, &series(Duration::from_secs(span)));
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
            history.add(at(*second), *number, &series(span));
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
            history.add(at(second), number, &series(span));
        }
        assert!(history.points.len() < 1_100, "{}", history.points.len());
        let every = Duration::from_secs(15);
        let reading = |over| Reading { over, span, every, after: None };
        assert_eq!(history.read(reading(Over::Max), at(86_400)), Some(99.0));
        let mut counter = History::default();
        for second in (0..86_400).step_by(15) {
            counter.add(at(second), (second % 40_000) as f64, &series(span));
        }
        let expected = 39_990.0 + 39_990.0 - 10.0 + 6_385.0;
        let grown = counter.read(reading(Over::Increase), at(86_385)).unwrap();
        assert!((grown - expected).abs() < 30.0, "{grown} is not {expected}");
    }

    #[test]
    fn late_points_take_their_place_and_the_number_of_points_is_bounded() {
        let mut history = History::default();
        for second in (0..10_000).rev() {
            history.add(at(second), f64::from(second as i32 % 7), &series(Duration::from_secs(20_000)));
        }
        assert!(history.points.len() <= MOST_POINTS);
        assert!(history.points.iter().zip(history.points.iter().skip(1)).all(|(a, b)| a.0 < b.0));
    }

    /// A forecast as the textbook has it, over the points of a span.
    fn plain_forecast(history: &History, span: Duration, now: Timestamp) -> f64 {
        let points: Vec<&Point> = history.points.iter().filter(|point| point.0 >= before(now, span)).collect();
        let last = points.last().unwrap().0;
        let seconds = |moment: Timestamp| moment.duration_since(last).as_secs_f64();
        let count = points.len() as f64;
        let mean_time = points.iter().map(|point| seconds(point.0)).sum::<f64>() / count;
        let mean = points.iter().map(|point| point.1).sum::<f64>() / count;
        let slope = points.iter().map(|point| (seconds(point.0) - mean_time) * (point.1 - mean)).sum::<f64>();
        let spread = points.iter().map(|point| (seconds(point.0) - mean_time).powi(2)).sum::<f64>();
        mean + slope / spread * (span.as_secs_f64() - mean_time)
    }

    #[test]
    fn a_line_that_is_kept_up_is_the_line_that_is_drawn_anew() {
        let span = Duration::from_secs(30_000);
        let mut history = History::default();
        let mut seed = 1_u64;
        for step in 0..20_000_i64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (seed >> 40) as f64 / 1e6;
            // Plateaus are merged, some points come late, some again, and the whole is thinned now and then.
            let number = 40.0 + (step / 500 % 7) as f64 + if step % 3 == 0 { noise } else { 0.0 };
            let late = if step % 97 == 0 { 400 } else { 0 };
            history.add(at(15 * step - late), number, &series(span));
            if step > 300 && step % 50 == 0 {
                // Between two samples old points leave the span.
                let now = at(15 * step + 20);
                let reading = Reading { over: Over::Forecast, span, every: Duration::from_secs(15), after: None };
                let (read, plain) = (history.read(reading, now).unwrap(), plain_forecast(&history, span, now));
                assert!((read - plain).abs() < 1e-7, "{read} is not {plain} after {step} points");
            }
        }
    }
}
