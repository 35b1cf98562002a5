//! Holds the pure crates pure: none of them can reach a runtime, a socket, a disk or a clock by what it depends on.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

/// The crates that decide and the crates that they decide with.
const PURE: [&str; 3] = ["quell-wire", "quell-model", "quell-engine"];

/// What brings I/O, a runtime or randomness from the system with it.
const FORBIDDEN: [&str; 16] = [
    "tokio",
    "mio",
    "async-io",
    "hyper",
    "tonic",
    "rustls",
    "reqwest",
    "socket2",
    "sled",
    "nix",
    "rustix",
    "zbus",
    "sysinfo",
    "getrandom",
    "tempfile",
    "tracing-subscriber",
];

/// Names of all crates that a crate is built from.
fn dependencies(name: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{lib}", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(|name| name.replace('_', "-")))
        .collect()
}

/// The library that verifies signatures could give randomness as well.
#[test]
fn of_the_cryptography_only_signatures_are_used() {
    let output = Command::new("grep")
        .args(["-rhoE", "aws_lc_rs::[a-z_]+"])
        .args(["proto/wire/src", "proto/model/src", "controller/engine/src"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    let used: std::collections::BTreeSet<&str> = found.lines().collect();
    assert_eq!(used, ["aws_lc_rs::signature"].into());
}

#[test]
fn the_crates_that_decide_cannot_do_input_or_output() {
    for name in PURE {
        let found = dependencies(name);
        assert!(found.iter().any(|found| found == "serde"), "the tree of {name} was not read: {found:?}");
        let reached: Vec<_> =
            FORBIDDEN.iter().filter(|forbidden| found.iter().any(|found| found == *forbidden)).collect();
        assert!(reached.is_empty(), "{name} depends on {reached:?}, by which it could do I/O");
    }
}
