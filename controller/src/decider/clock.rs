//! The controller's time: it never goes back, and says when the wall clock jumped.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

/// A difference between the wall clock and the monotonic clock that is a jump.
const JUMP: Duration = Duration::from_secs(60);

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock: it may jump.
    fn wall(&self) -> Timestamp;
    /// Time since some moment: it only ever goes on.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The time that the engine is given.
///
/// It follows the wall clock. When that goes back, this one goes on at half speed until the wall clock has caught up, so
/// that neither order nor timers break.
pub(crate) struct EngineClock {
    source: Box<dyn Clock>,
    last: Mutex<Reading>,
}

struct Reading {
    now: Timestamp,
    wall: Timestamp,
    monotonic: Duration,
    jump: SignedDuration,
}

impl EngineClock {
    /// `floor` is the time of the newest record: time does not begin before it.
    pub(crate) fn new(source: Box<dyn Clock>, floor: Timestamp) -> Self {
        let wall = source.wall();
        let behind = floor.duration_since(wall);
        let jump = if behind > SignedDuration::try_from(JUMP).unwrap_or(SignedDuration::MAX) {
            -behind
        } else {
            SignedDuration::ZERO
        };
        let last = Reading { now: wall.max(floor), wall, monotonic: source.monotonic(), jump };
        Self { source, last: Mutex::new(last) }
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        let mut last = self.lock();
        let (wall, monotonic) = (self.source.wall(), self.source.monotonic());
        let elapsed =
            SignedDuration::try_from(monotonic.saturating_sub(last.monotonic)).unwrap_or(SignedDuration::ZERO);
        let difference = wall.duration_since(last.wall).saturating_sub(elapsed);
        if difference.unsigned_abs() > JUMP {
            last.jump = last.jump.saturating_add(difference);
        }
        let slowed = last.now.checked_add(elapsed / 2).unwrap_or(last.now);
        last.now = wall.max(slowed);
        last.wall = wall;
        last.monotonic = monotonic;
        last.now
    }

    /// By how many seconds the wall clock has jumped since this was last asked, forward positive; jumps of at most a
    /// minute are none.
    pub(crate) fn take_jump(&self) -> Option<f64> {
        let jump = std::mem::replace(&mut self.lock().jump, SignedDuration::ZERO);
        (jump != SignedDuration::ZERO).then(|| jump.as_secs_f64())
    }

    /// Every field is replaced by a whole value, so a panic of another thread leaves nothing half-written.
    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone)]
    struct Fake(Arc<Mutex<(i64, u64)>>);

    impl Clock for Fake {
        fn wall(&self) -> Timestamp {
            Timestamp::from_second(self.0.lock().unwrap().0).unwrap()
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.lock().unwrap().1)
        }
    }

    fn clock(wall: i64, floor: i64) -> (Fake, EngineClock) {
        let fake = Fake(Arc::new(Mutex::new((wall, 0))));
        let clock = EngineClock::new(Box::new(fake.clone()), Timestamp::from_second(floor).unwrap());
        (fake, clock)
    }

    #[test]
    fn follows_the_wall_clock() {
        let (fake, clock) = clock(1_000, 0);
        *fake.0.lock().unwrap() = (1_090, 90);
        assert_eq!(clock.now().as_second(), 1_090);
        assert_eq!(clock.take_jump(), None);
    }

    #[test]
    fn a_jump_forward_is_told_once() {
        let (fake, clock) = clock(1_000, 0);
        *fake.0.lock().unwrap() = (1_062, 1);
        assert_eq!(clock.now().as_second(), 1_062);
        assert_eq!(clock.take_jump(), Some(61.0));
        assert_eq!(clock.take_jump(), None);
    }

    #[test]
    fn a_minute_is_not_a_jump() {
        let (fake, clock) = clock(1_000, 0);
        *fake.0.lock().unwrap() = (1_061, 1);
        clock.now();
        assert_eq!(clock.take_jump(), None);
    }

    #[test]
    fn going_back_slows_time_down_until_the_wall_clock_has_caught_up() {
        let (fake, clock) = clock(1_000, 0);
        *fake.0.lock().unwrap() = (900, 0);
        assert_eq!(clock.now().as_second(), 1_000);
        assert_eq!(clock.take_jump(), Some(-100.0));
        *fake.0.lock().unwrap() = (1_000, 100);
        assert_eq!(clock.now().as_second(), 1_050);
        *fake.0.lock().unwrap() = (1_150, 250);
        assert_eq!(clock.now().as_second(), 1_150);
        assert_eq!(clock.take_jump(), None);
    }

    #[test]
    fn time_does_not_begin_before_the_newest_record() {
        let (_, clock) = clock(1_000, 2_000);
        assert_eq!(clock.now().as_second(), 2_000);
        assert_eq!(clock.take_jump(), Some(-1_000.0));
    }
}
