//! How long to wait before the next attempt: exponential, with jitter, so that a fleet does not come back at once.

use std::time::Duration;

/// Delays that double from one attempt to the next up to a cap, each drawn at random from the upper half of its span.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// Delays from about `first` up to `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap: cap.max(first), attempts: 0 }
    }

    /// What an agent uses for its session: from a quarter of a second to thirty seconds.
    pub fn session() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(30))
    }

    /// The next delay; it counts as an attempt.
    pub fn next_delay(&mut self) -> Duration {
        let span = self.first.saturating_mul(1 << self.attempts.min(30)).min(self.cap);
        self.attempts = self.attempts.saturating_add(1);
        span / 2 + jitter(span / 2)
    }

    /// Attempts since the start or the last [`Backoff::reset`].
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Begins again from the first delay: the last attempt held.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A random duration from zero up to `span`.
pub fn jitter(span: Duration) -> Duration {
    let mut bytes = [0; 4];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return span / 2;
    }
    span.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, jitter};

    #[test]
    fn delays_double_up_to_the_cap_and_begin_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(1000));
        for span in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay().as_millis();
            assert!((span / 2..=span).contains(&delay), "{delay} ms of {span} ms");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
        assert_eq!(backoff.attempts(), 1);
    }

    #[test]
    fn it_never_overflows() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for _ in 0..100 {
            assert!(backoff.next_delay() <= Duration::from_secs(60));
        }
    }

    #[test]
    fn jitter_spreads() {
        let drawn: std::collections::BTreeSet<_> = (0..20).map(|_| jitter(Duration::from_secs(1))).collect();
        assert!(drawn.len() > 10, "{drawn:?}");
        assert!(drawn.iter().all(|one| *one <= Duration::from_secs(1)));
    }
}
