//! Measurements of whole processes, each beside a bare limit in the same run, so that the ratio survives a noisy machine.

pub mod rest;
pub mod restart;

use std::time::Duration;

/// The middle, the least and the greatest of some times.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The least.
    pub least: Duration,
    /// The middle.
    pub median: Duration,
    /// The greatest.
    pub greatest: Duration,
}

impl Spread {
    /// Of at least one time.
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        Some(Self { least: *times.first()?, median: *times.get(times.len() / 2)?, greatest: *times.last()? })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(f, "median {:.2} ms (least {:.2}, greatest {:.2})", ms(self.median), ms(self.least), ms(self.greatest))
    }
}
