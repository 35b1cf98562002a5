//! The story of a run, told when somebody wants to read it.

use crate::time::Millis;

/// The lines so far.
#[derive(Debug)]
pub(crate) struct Story {
    lines: Option<Vec<String>>,
}

impl Story {
    pub(crate) fn new(told: bool) -> Self {
        Self { lines: told.then(Vec::new) }
    }

    /// Adds a line, if anybody listens.
    pub(crate) fn tell(&mut self, now: Millis, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let (seconds, millis) = (now / 1_000, now % 1_000);
            lines.push(format!(
                "{:02}:{:02}:{:02}.{millis:03} {}",
                seconds / 3_600,
                seconds / 60 % 60,
                seconds % 60,
                what()
            ));
        }
    }

    /// The lines.
    pub(crate) fn take(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
