//! Time that passes only when the simulation says so, as the controller's clocks show it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use quell_controller::decider::Clock;

/// Milliseconds since the simulation began.
pub(crate) type Millis = u64;

/// A second.
pub(crate) const SECOND: Millis = 1_000;
/// A minute.
pub(crate) const MINUTE: Millis = 60 * SECOND;

/// When every simulation begins: Unix time in milliseconds, 2026-11-23T09:00:00Z.
const BEGINS: i64 = 1_795_424_400_000;

/// The wall clock of somebody whose clock is ahead by `offset` milliseconds.
pub(crate) fn wall(now: Millis, offset: i64) -> Timestamp {
    let at = BEGINS.saturating_add_unsigned(now).saturating_add(offset);
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX)
}

/// A span as the time library adds it.
pub(crate) fn span(millis: Millis) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// The controller's clocks; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ControllerClock(Arc<Reading>);

#[derive(Debug, Default)]
struct Reading {
    now: AtomicU64,
    offset: AtomicI64,
}

impl ControllerClock {
    /// Time has passed.
    pub(crate) fn set(&self, now: Millis) {
        self.0.now.store(now, Ordering::Relaxed);
    }

    /// The wall clock is set ahead by so many milliseconds in all.
    pub(crate) fn put_ahead(&self, offset: i64) {
        self.0.offset.store(offset, Ordering::Relaxed);
    }
}

impl Clock for ControllerClock {
    fn wall(&self) -> Timestamp {
        wall(self.0.now.load(Ordering::Relaxed), self.0.offset.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.now.load(Ordering::Relaxed))
    }
}
