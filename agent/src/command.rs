//! The commands of `quell-agent`, one file each.

pub(crate) mod check;
pub(crate) mod hold;
pub(crate) mod join;
pub(crate) mod label;
pub(crate) mod run;

use std::{fmt::Display, io::Write as _};

/// Writes a line to standard output. A reader that has gone away is no error.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
