//! What probes cost the host, and when it is too much.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Share of one processor that a probe may use, over [`WINDOW`].
const MOST_SHARE: f64 = 0.05;

/// Over how long the share is taken.
const WINDOW: Duration = Duration::from_secs(60);

/// Fewer attempts than this decide nothing: the first one may warm things up.
const LEAST_ATTEMPTS: u32 = 3;

/// What a probe has spent in the window that runs, for others to compare.
#[derive(Debug, Clone, Default)]
pub(super) struct Spent(Arc<AtomicU64>);

impl Spent {
    /// Nanoseconds of processor time.
    pub(super) fn recent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Watches one probe's spending.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    attempts: u32,
    spent: Duration,
    shown: Spent,
}

impl Meter {
    pub(super) fn new(shown: Spent, now: Instant) -> Self {
        Self { since: now, attempts: 0, spent: Duration::ZERO, shown }
    }

    /// Counts an attempt; gives the share of a processor when it was too much.
    pub(super) fn charge(&mut self, cost: Duration, now: Instant) -> Option<f64> {
        self.attempts += 1;
        self.spent += cost;
        self.shown.0.store(u64::try_from(self.spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let window = now.duration_since(self.since);
        if window < WINDOW || self.attempts < LEAST_ATTEMPTS {
            return None;
        }
        let share = self.spent.as_secs_f64() / window.as_secs_f64();
        self.reset(now);
        (share > MOST_SHARE).then_some(share)
    }

    /// Begins a new window.
    pub(super) fn reset(&mut self, now: Instant) {
        self.since = now;
        self.attempts = 0;
        self.spent = Duration::ZERO;
    }
}

/// The future panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panicked;

/// Runs a future and gives the processor time that its polls took. A panic ends it and nothing else: a fault of one
/// probe must not silence it for good, nor stop another.
pub(super) struct Timed<F> {
    future: F,
    spent: Duration,
}

impl<F: Future + Unpin> Timed<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future, spent: Duration::ZERO }
    }
}

impl<F: Future + Unpin> Future for Timed<F> {
    type Output = (Result<F::Output, Panicked>, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let before = thread_time();
        // The future is never polled again after a panic, so that nothing sees what it left half done.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.future).poll(cx)));
        self.spent += thread_time().saturating_sub(before);
        match polled {
            Ok(polled) => polled.map(|output| (Ok(output), self.spent)),
            Err(_) => Poll::Ready((Err(Panicked), self.spent)),
        }
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_above_the_limit_is_found_at_the_windows_end() {
        let start = Instant::now();
        let mut meter = Meter::new(Spent::default(), start);
        let cost = Duration::from_secs(2);
        assert_eq!(meter.charge(cost, start + Duration::from_secs(20)), None);
        assert_eq!(meter.charge(cost, start + Duration::from_secs(40)), None);
        let share = meter.charge(cost, start + Duration::from_secs(60)).unwrap();
        assert!((share - 0.1).abs() < 1e-9);
        assert_eq!(meter.charge(cost, start + Duration::from_secs(80)), None);
        assert_eq!(meter.shown.recent(), 2_000_000_000);
    }

    #[tokio::test]
    async fn a_panic_is_a_result() {
        let (result, _) = Timed::new(Box::pin(async { 7 })).await;
        assert_eq!(result, Ok(7));
        let (result, _) = Timed::new(Box::pin(async { panic!("a fault") })).await;
        assert_eq!(result, Err::<(), _>(Panicked));
    }

    #[test]
    fn a_cheap_probe_goes_on() {
        let start = Instant::now();
        let mut meter = Meter::new(Spent::default(), start);
        for second in 1..600 {
            assert_eq!(meter.charge(Duration::from_millis(40), start + Duration::from_secs(second)), None);
        }
    }
}
