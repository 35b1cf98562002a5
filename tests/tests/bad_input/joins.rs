//! Join strings that are expired, used up, of another installation, cut off; and names that are taken.

use std::{path::Path, time::Duration};

use quell_link::join::JoinString;
use quell_model::digest::Digest;
use quell_tests::fleet::{Fleet, free_port, wait_for};

use crate::call::{FAILED, INVALID, REFUSED, UNREACHABLE, agent, host, logs_are_calm, standing, text};

fn token(fleet: &Fleet, more: &[&str]) -> String {
    fleet.quell(&[&["token", "create"], more].concat()).unwrap().trim().to_owned()
}

/// Tries to join and asserts that it is refused and leaves no trace of an identity.
#[track_caller]
fn refused(directory: &Path, name: &str, join: &str, code: i32, words: &[&str]) {
    agent(["join", "--data-dir", text(directory), "--name", name, join]).says_no(code, words);
    assert!(!directory.join("identity/identity.toml").exists(), "half joined");
    assert!(!directory.join("agent.toml").exists(), "an allow-list without an identity");
}

#[test]
fn a_join_that_cannot_be_says_why_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(scratch.path()).unwrap();
    fleet.enrol(&host("planthost1", "")).unwrap();
    let used = token(&fleet, &["--uses", "1"]);
    let expired = token(&fleet, &["--ttl", "1s"]);
    let good = token(&fleet, &["--ttl", "10m", "--uses", "9"]);
    let bound = token(&fleet, &["--name", "planthost9"]);
    let other = scratch.path().join("planthost2");
    agent(["join", "--data-dir", text(&other), "--name", "planthost2", &used]).done();
    wait_for(
        Duration::from_secs(10),
        || "the token does not expire".to_owned(),
        || (fleet.items("tokens", &[]).unwrap().len() == 2).then_some(()),
    )
    .unwrap();
    let before = standing(&fleet);

    let directory = scratch.path().join("newcomer");
    let no = |name: &str, join: &str, code, words: &[&str]| refused(&directory, name, join, code, words);
    no("planthost3", &used, REFUSED, &["used up", "quell token create"]);
    no("planthost3", &expired, REFUSED, &["expired at", "quell token create"]);
    no("planthost1", &good, REFUSED, &["planthost1 is enrolled", "another name", "quell host retire planthost1"]);
    no("planthost3", &bound, REFUSED, &["is for another name than planthost3"]);
    no("Plant_Host", &good, INVALID, &["Plant_Host", "lower-case", "--name"]);
    no("planthost3", &good[..good.len() - 10], INVALID, &["damaged", "copy the whole line", "quell token create"]);
    no("planthost3", "hunter2", INVALID, &["quell1.", "quell token create"]);
    no("planthost3", "quell7.AAAA", INVALID, &["newer format (quell7)", "update the agent"]);

    let join: JoinString = good.parse().unwrap();
    let elsewhere = JoinString { ca_fingerprint: Digest::of(b"another"), ..join.clone() }.to_string();
    no("planthost3", &elsewhere, REFUSED, &[&join.addresses[0], "another installation", "fingerprint", "token create"]);
    let forged = JoinString { secret: "x".repeat(43), ..join.clone() }.to_string();
    no("planthost3", &forged, REFUSED, &["not known here", "another controller"]);
    let greedy = JoinString { labels: [("role".to_owned(), "dns".to_owned())].into(), ..join.clone() }.to_string();
    no("planthost3", &greedy, REFUSED, &["other labels", "nothing was spent", "quell token create"]);
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let away = JoinString { addresses: vec![address.clone()], ..join }.to_string();
    no("planthost4", &away, UNREACHABLE, &["cannot reach the controller", &address, "check that it runs"]);

    let running = fleet.agent_data("planthost1");
    agent(["join", "--data-dir", text(&running), "--name", "planthost5", &good])
        .says_no(FAILED, &["already runs on", text(&running), "stop it first"]);
    agent(["run", "--data-dir", text(&running)]).says_no(FAILED, &["already runs on", text(&running), "--data-dir"]);
    agent(["join", "--data-dir", text(&other), "--name", "planthost5", &good])
        .says_no(INVALID, &["holds the identity of planthost2 already", "move that directory away"]);

    // Nobody was enrolled, and no use was spent.
    assert_eq!(standing(&fleet), before);

    // And the directory in which so much was refused is as good as any.
    agent(["join", "--data-dir", text(&directory), "--name", "planthost6", &good]).done();
    logs_are_calm(scratch.path());
}
