//! How far the host's clock is ahead of the controller's.
//!
//! It is learned at each welcome, where the controller says its time, and kept up to date by what the host's wall
//! clock and its monotonic clock have done since: a clock that jumps is seen without another word from the controller.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Shared by the session, which learns it, and the host samples, which report it.
#[derive(Debug, Clone, Default)]
pub struct ClockOffset {
    learned: Arc<Mutex<Option<Learned>>>,
}

#[derive(Debug, Clone, Copy)]
struct Learned {
    /// The controller's time, in milliseconds since 1970, at …
    controller_ms: i64,
    /// … this moment.
    at: Instant,
}

impl ClockOffset {
    /// The controller said its time; `at` is when it most probably was that time here.
    pub fn learn(&self, controller_ms: i64, at: Instant) {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Learned { controller_ms, at });
    }

    /// Seconds that the host's clock is ahead; negative when it is behind; absent until the controller has said its time.
    pub fn seconds(&self) -> Option<f64> {
        self.seconds_at(SystemTime::now(), Instant::now())
    }

    /// The same by given clocks.
    pub fn seconds_at(&self, wall: SystemTime, now: Instant) -> Option<f64> {
        let learned = (*self.learned.lock().unwrap_or_else(PoisonError::into_inner))?;
        let wall = match wall.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_secs_f64(),
            Err(before) => -before.duration().as_secs_f64(),
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 are exact in a double for 285,000 years"
        )]
        let controller =
            learned.controller_ms as f64 / 1000.0 + now.saturating_duration_since(learned.at).as_secs_f64();
        // Below a millisecond it is noise of the network, and would make every sample differ from the last.
        Some(((wall - controller) * 1000.0).round() / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_offset_follows_the_wall_clock_and_not_the_passing_of_time() {
        let clock = ClockOffset::default();
        assert_eq!(clock.seconds(), None);
        let start = Instant::now();
        clock.learn(1_000_000, start);
        let wall = UNIX_EPOCH + Duration::from_millis(1_002_500);
        assert_eq!(clock.seconds_at(wall, start), Some(2.5));
        let later = Duration::from_secs(3600);
        assert_eq!(clock.seconds_at(wall + later, start + later), Some(2.5));
        assert_eq!(clock.seconds_at(wall + later - Duration::from_secs(60), start + later), Some(-57.5));
    }
}
