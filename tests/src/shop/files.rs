//! Small files by which the stand-ins keep their state and are told to fail.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

/// Replaces a file in one step, so that no reader sees half of it.
///
/// # Errors
/// The directory cannot be written.
pub fn replace(path: &Path, content: &str) -> io::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, content)?;
    fs::rename(&draft, path)
}

/// Reads a small file, trimmed; absent when there is none.
pub fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Reads a number; 0 when there is none.
pub fn number(path: &Path) -> u64 {
    read(path).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Adds a line to a log.
///
/// # Errors
/// The log cannot be written.
pub fn log(path: &Path, line: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{line}")
}

/// Writes this process's number where its manager looks for it.
///
/// # Errors
/// The file cannot be written.
pub fn write_pid(path: Option<&Path>) -> io::Result<()> {
    path.map_or(Ok(()), |path| replace(path, &std::process::id().to_string()))
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub fn is_running(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with(['Z', 'X'])))
        .unwrap_or(false)
}
