//! The straight line of least squares through the newest points of a series, kept up point by point: a forecast over a
//! month is read with every sample, and going over the month's points each time cost more than all else together.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use super::super::before;

/// A point of a series.
pub(super) type Point = (Timestamp, f64);

/// After so many points that came or went the sums are made anew: each leaves a rounding error behind.
const MOST_MOVES: u32 = 1_024;

/// The line through the points of one span.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) span: Duration,
    /// Points before this moment do not count.
    from: Timestamp,
    /// Where time is counted from, so that the sums stay small.
    origin: Timestamp,
    sums: Sums,
    moves: u32,
}

/// What a line is computed from.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    count: f64,
    times: f64,
    numbers: f64,
    products: f64,
    squares: f64,
}

impl Sums {
    /// Counts a point `weight` times; -1 takes it out.
    fn count(&mut self, time: f64, number: f64, weight: f64) {
        self.count += weight;
        self.times += weight * time;
        self.numbers += weight * number;
        self.products += weight * time * number;
        self.squares += weight * time * time;
    }

    /// Where the line is at a time; absent when the points do not spread over time.
    fn line_at(&self, time: f64) -> Option<f64> {
        let (mean_time, mean) = (self.times / self.count, self.numbers / self.count);
        let slope = self.products - self.times * mean;
        let spread = self.squares - self.times * mean_time;
        (spread > 0.0).then(|| mean + slope / spread * (time - mean_time))
    }
}

impl Line {
    /// A line of no points yet.
    pub(super) fn new(span: Duration) -> Self {
        Self { span, from: Timestamp::MIN, origin: Timestamp::UNIX_EPOCH, sums: Sums::default(), moves: 0 }
    }

    /// The line through all of these points.
    pub(super) fn through<'a>(span: Duration, points: impl Iterator<Item = &'a Point>) -> Self {
        let mut line = Self::new(span);
        points.for_each(|point| line.add(*point));
        line
    }

    /// Counts a point that was added to the series.
    pub(super) fn add(&mut self, point: Point) {
        if self.sums.count < 0.5 {
            (self.origin, self.sums) = (point.0, Sums::default());
        }
        self.count(point, 1.0);
    }

    /// Takes out a point that left the series.
    pub(super) fn remove(&mut self, point: Point) {
        self.count(point, -1.0);
    }

    fn count(&mut self, point: Point, weight: f64) {
        if point.0 >= self.from {
            self.sums.count(self.seconds(point.0), point.1, weight);
            self.moves += 1;
        }
    }

    fn seconds(&self, at: Timestamp) -> f64 {
        at.duration_since(self.origin).as_secs_f64()
    }

    /// Lets go of the points that are older than the span now.
    pub(super) fn advance(&mut self, points: &VecDeque<Point>) {
        let Some(newest) = points.back() else { return };
        let from = before(newest.0, self.span);
        if self.moves > MOST_MOVES {
            self.redraw(points);
        }
        if from > self.from {
            let start = points.partition_point(|point| point.0 < self.from);
            for point in points.range(start..).take_while(|point| point.0 < from) {
                self.count(*point, -1.0);
            }
            self.from = from;
        }
    }

    /// Draws the line anew.
    pub(super) fn redraw(&mut self, points: &VecDeque<Point>) {
        let start = points.partition_point(|point| point.0 < self.from);
        *self = Self { from: self.from, ..Self::through(self.span, points.range(start..)) };
        self.moves = 0;
    }

    /// Where the line arrives one span after `last`, without the points before `from`.
    pub(super) fn arrives(&self, points: &VecDeque<Point>, from: Timestamp, last: Timestamp) -> Option<f64> {
        let mut sums = self.sums;
        let start = points.partition_point(|point| point.0 < self.from);
        for point in points.range(start..).take_while(|point| point.0 < from) {
            sums.count(self.seconds(point.0), point.1, -1.0);
        }
        sums.line_at(self.seconds(last) + self.span.as_secs_f64())
    }
}
