//! Exit codes: the one table. Scripts depend on it.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or a manifest is wrong; nothing was changed.
    Invalid = 2,
    /// Somebody said no: the controller, or every agent that was asked.
    Refused = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The controller cannot be reached.
    Unreachable = 5,
    /// It waits: a guard holds it, or an approval is wanted.
    Held = 6,
    /// Some of it was done.
    Partly = 7,
    /// Nobody can say whether it was done.
    Unknown = 8,
    /// `diff --exit-code` found changes.
    Changes = 10,
}

impl Exit {
    /// All of them, with what the documentation says.
    pub const TABLE: [(Self, &'static str); 10] = [
        (Self::Done, "done"),
        (Self::Failed, "failed"),
        (Self::Invalid, "usage or invalid input"),
        (Self::Refused, "refused"),
        (Self::NotFound, "not found"),
        (Self::Unreachable, "cannot reach the controller"),
        (Self::Held, "held or awaiting approval"),
        (Self::Partly, "partly done"),
        (Self::Unknown, "outcome unknown"),
        (Self::Changes, "diff found changes"),
    ];
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The table, as `--help` and the man page show it.
pub fn help() -> String {
    let mut text = "Exit codes:".to_owned();
    for (exit, meaning) in Exit::TABLE {
        text.push_str(&format!("\n  {:>2}  {meaning}", exit as u8));
    }
    text
}
