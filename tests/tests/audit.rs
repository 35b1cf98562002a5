//! `audit verify`, with real processes: what was done stands in the log, the log proves whole over the wire and on the
//! files, and one that was edited or cut does not.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use quell_tests::fleet::{Fleet, Host};

/// The text of a record that is changed: a person's reason, of one length with what it is changed to.
const REASON: (&str, &str) = ("the change of disks", "the theft of a disk");

/// The newest segment of a log.
fn newest_segment(data: &Path) -> PathBuf {
    let entries = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap()
}

/// `quell-controller audit verify` on files.
fn verify(fleet: &Fleet, data: &Path) -> Output {
    let program = fleet.cli().with_file_name("quell-controller");
    Command::new(program).args(["audit", "verify", "--data-dir"]).arg(data).stdin(Stdio::null()).output().unwrap()
}

fn is_whole(fleet: &Fleet, data: &Path) {
    let output = verify(fleet, data);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// It ends with 1 and says this.
fn is_not_whole(fleet: &Fleet, data: &Path, reason: &str) {
    let output = verify(fleet, data);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(reason), "no {reason:?} in: {said}");
}

#[test]
fn a_log_that_was_edited_or_cut_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
    fleet.enrol(&Host::running("web1", "web", "/bin/sh")).unwrap();
    fleet.quell(&["freeze", "--all", "--for", "1h", "--reason", REASON.0]).unwrap();
    fleet.quell(&["thaw", "--all", "--reason", "done"]).unwrap();
    fleet.quell(&["audit", "verify"]).unwrap();
    let exported = fleet.quell(&["audit", "export"]).unwrap();
    let told = exported.lines().filter(|line| line.contains(REASON.0)).count();
    assert!(told >= 1, "who froze, and why, is not in: {exported}");
    // A clean stop signs the head.
    fleet.stop_controller().unwrap();
    let data = fleet.controller_data();
    is_whole(&fleet, &data);

    let segment = newest_segment(&data);
    let good = fs::read(&segment).unwrap();
    let at = good.windows(REASON.0.len()).position(|part| part == REASON.0.as_bytes()).unwrap();
    let mut edited = good.clone();
    edited[at..at + REASON.1.len()].copy_from_slice(REASON.1.as_bytes());
    fs::write(&segment, edited).unwrap();
    is_not_whole(&fleet, &data, "record");

    fs::write(&segment, &good[..at]).unwrap();
    is_not_whole(&fleet, &data, "record");

    fs::write(&segment, good).unwrap();
    is_whole(&fleet, &data);
}
