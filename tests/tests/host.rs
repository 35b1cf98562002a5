//! What needs programs that a checkout does not bring. Behind `tests/host/run.sh`; says why when it skips.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use quell_tests::fleet::{Fleet, http_get};

/// Whether the tests that need more were asked for.
#[expect(clippy::print_stderr, reason = "it says why it skips")]
fn asked_for() -> bool {
    let asked = std::env::var_os("QUELL_HOST_TESTS").is_some();
    if !asked {
        eprintln!("skipped: it needs promtool; run it through tests/host/run.sh");
    }
    asked
}

#[test]
fn promtool_accepts_the_metrics() {
    if !asked_for() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(scratch.path()).unwrap();
    let answer = http_get(fleet.http_port(), "/metrics").unwrap();
    let (_, metrics) = answer.split_once("\r\n\r\n").unwrap();
    assert!(metrics.contains("quell_"), "no metric of ours: {metrics}");

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "promtool says:\n{said}\nof:\n{metrics}");
}
