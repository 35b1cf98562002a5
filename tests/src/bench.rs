//! Measurements of whole processes, each beside a bare limit in the same run, so that the ratio survives a noisy machine.

pub mod rest;
pub mod restart;

use std::time::Duration;

/// The middle, the least, the greatest, and what nine of ten keep to, of some times.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The least.
    pub least: Duration,
    /// The middle.
    pub median: Duration,
    /// Nine of ten take at most this long.
    pub ninetieth: Duration,
    /// The greatest.
    pub greatest: Duration,
}

impl Spread {
    /// Of at least one time.
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let ninetieth = (times.len() * 9).div_ceil(10).saturating_sub(1);
        Some(Self {
            least: *times.first()?,
            median: *times.get(times.len() / 2)?,
            ninetieth: *times.get(ninetieth)?,
            greatest: *times.last()?,
        })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "median {:.2} ms, 90th percentile {:.2} (least {:.2}, greatest {:.2})",
            ms(self.median),
            ms(self.ninetieth),
            ms(self.least),
            ms(self.greatest)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_read_off_the_sorted_times() {
        let times = |of: &[u64]| of.iter().copied().map(Duration::from_millis).collect();
        let spread = Spread::of(times(&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1])).unwrap();
        assert_eq!(spread.to_string(), "median 6.00 ms, 90th percentile 9.00 (least 1.00, greatest 10.00)");
        let spread = Spread::of(times(&[3])).unwrap();
        assert_eq!((spread.least, spread.ninetieth), (spread.median, spread.greatest));
        assert!(Spread::of(vec![]).is_none());
    }
}
