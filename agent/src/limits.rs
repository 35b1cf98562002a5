//! The agent's own ceilings, watched by itself.
//!
//! Above a ceiling the probe that cost most is suspended, one at each look, until it is below again; far above the
//! memory ceiling, where no probe can be the reason, the agent ends and its service manager starts it afresh: journal
//! and holds are on disk, and the host is better off.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// How often is looked.
pub const EVERY: Duration = Duration::from_secs(10);

/// Resident memory above which probes are suspended, in bytes. An agent at rest needs a sixth of it.
const MEMORY: u64 = 64 << 20;

/// How many times the ceiling ends the agent.
const FAR_ABOVE: u64 = 4;

/// Share of one processor above which probes are suspended, over a look's time.
const PROCESSOR: f64 = 0.25;

/// Looks in a row that must find it above: a compression or a start is no reason.
const PATIENCE: u32 = 3;

/// What the agent uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Processor time since the start.
    pub cpu: Duration,
}

impl Usage {
    /// What is used now. Reads `/proc`, which is memory.
    pub fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(u64::try_from(cpu.tv_sec).unwrap_or(0), u32::try_from(cpu.tv_nsec).unwrap_or(0));
        let pages = fs::read_to_string("/proc/self/statm").ok();
        let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or(0);
        Self { resident_bytes: pages * procfs::page_size(), cpu }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// Suspend the costliest probe, because of this.
    Suspend(String),
    /// End the agent, because of this.
    End(String),
}

/// Compares looks.
#[derive(Debug)]
pub struct Limits {
    last: (Usage, Instant),
    above_memory: u32,
    above_processor: u32,
}

impl Limits {
    /// Begins to watch.
    pub fn new(usage: Usage, now: Instant) -> Self {
        Self { last: (usage, now), above_memory: 0, above_processor: 0 }
    }

    /// Judges a look.
    pub fn judge(&mut self, usage: Usage, now: Instant) -> Verdict {
        let (before, then) = std::mem::replace(&mut self.last, (usage, now));
        let seconds = now.duration_since(then).as_secs_f64().max(0.001);
        let share = usage.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds;
        let mebibytes = usage.resident_bytes >> 20;
        if usage.resident_bytes > FAR_ABOVE * MEMORY {
            return Verdict::End(format!("the agent uses {mebibytes} MiB, {FAR_ABOVE} times its ceiling"));
        }
        self.above_memory = if usage.resident_bytes > MEMORY { self.above_memory + 1 } else { 0 };
        self.above_processor = if share > PROCESSOR { self.above_processor + 1 } else { 0 };
        if self.above_memory >= PATIENCE {
            return Verdict::Suspend(format!(
                "suspended: the agent uses {mebibytes} MiB, above its ceiling of {} MiB",
                MEMORY >> 20
            ));
        }
        if self.above_processor >= PATIENCE {
            return Verdict::Suspend(format!("suspended: the agent uses {:.0} % of a processor", share * 100.0));
        }
        Verdict::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(mebibytes: u64, cpu: Duration) -> Usage {
        Usage { resident_bytes: mebibytes << 20, cpu }
    }

    #[test]
    fn what_lasts_is_acted_upon_and_what_passes_is_not() {
        let start = Instant::now();
        let at = |look: u32| start + EVERY * look;
        let mut limits = Limits::new(usage(8, Duration::ZERO), start);
        assert_eq!(limits.judge(usage(100, Duration::ZERO), at(1)), Verdict::Fine);
        assert_eq!(limits.judge(usage(100, Duration::ZERO), at(2)), Verdict::Fine);
        assert!(matches!(limits.judge(usage(100, Duration::ZERO), at(3)), Verdict::Suspend(_)));
        assert_eq!(limits.judge(usage(8, Duration::ZERO), at(4)), Verdict::Fine);
        assert_eq!(limits.judge(usage(8, Duration::from_secs(5)), at(5)), Verdict::Fine);
        assert_eq!(limits.judge(usage(8, Duration::from_secs(10)), at(6)), Verdict::Fine);
        assert!(matches!(limits.judge(usage(8, Duration::from_secs(15)), at(7)), Verdict::Suspend(_)));
        assert!(matches!(limits.judge(usage(300, Duration::from_secs(15)), at(8)), Verdict::End(_)));
    }

    #[test]
    fn usage_is_measured() {
        let usage = Usage::now();
        assert!(usage.resident_bytes > 1 << 20 && usage.cpu > Duration::ZERO);
    }
}
