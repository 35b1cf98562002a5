//! What other programs call: the words, the fields and the order that they rely on; and text from hosts and people that
//! would like to be obeyed by a terminal.

use std::{fs, path::Path, time::Duration};

use quell_link::join::JoinString;
use quell_tests::fleet::{Fleet, http_get, process::Process, wait_for};
use serde_json::Value;

use crate::call::{Ended, INVALID, NOT_FOUND, command, host, logs_are_calm, programs, quell, run, text};

/// What a hostile log line, name or reason holds: it clears the screen, sets the title, turns the text around.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}";
/// How long the fleet may take for something.
const SOON: Duration = Duration::from_secs(30);

/// A policy that puts a counter back with the one program that the host allows.
const HEAL: &str = r"
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: order-backlog }
spec:
  description: Orders wait.
  severity: ticket
  mode: enforce
  hosts: { matchLabels: { role: orders } }
  probes:
    orders: { file: { path: '${dir}/outstanding', parse: '^(\d+)$' }, every: 1s }
    log: { logMatch: { path: '${dir}/app.log', pattern: 'stopped by (?<who>.*)$' }, every: 1s }
  signals: { overload: probe.orders.value > 12 }
  trigger: { when: signal.overload, clear: probe.orders.value <= 12 }
  tell: [{ at: firing, contact: on-call, text: '$(target) was stopped by $(probe.log.captures.who)' }]
  ladder:
    - name: reset
      do: [{ action: exec, with: { argv: [/bin/cp, '${dir}/none', '${dir}/outstanding'] }, timeout: 10s }]
      verify: { that: probe.orders.value <= 12, within: 20s }
  escalate: { to: on-call, after: 15m }
";

const AGENT: &str = "[allow]\nactions = [\"exec\"]\nprograms = [\"/bin/cp\"]\n";

struct Stage {
    scratch: tempfile::TempDir,
    fleet: Fleet,
}

impl Stage {
    fn set() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("orders");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("none"), "0").unwrap();
        fs::write(dir.join("outstanding"), "3").unwrap();
        fs::write(dir.join("app.log"), format!("stopped by {HOSTILE}mallory\n")).unwrap();
        let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
        fleet.enrol(&host("planthost1", AGENT)).unwrap();
        let manifest = scratch.path().join("heal.yaml");
        fs::write(&manifest, HEAL).unwrap();
        fleet.apply(&manifest, &[("dir".to_owned(), text(&dir).to_owned())]).unwrap();
        Self { scratch, fleet }
    }

    fn orders_wait(&self) {
        fs::write(self.scratch.path().join("orders/outstanding"), "15").unwrap();
    }

    fn call(&self, arguments: &[&str]) -> Ended {
        quell(self.fleet.profile(), arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.call(&[arguments, &["-o", "json"]].concat()).done()).unwrap()
    }

    /// Waits until the policy's verdict is this one.
    fn why(&self, verdict: &str) -> Value {
        let why = || self.json(&["why", "order-backlog", "planthost1"]);
        wait_for(SOON, || format!("not {verdict}: {:#}", why()), || Some(why()).filter(|why| why["verdict"] == verdict))
            .unwrap()
    }
}

#[track_caller]
fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "no {field} in {value:#}");
    }
}

#[test]
fn what_other_programs_call_is_answered_as_promised() {
    let stage = Stage::set();
    a_join_string_stands_alone(&stage);
    the_profile_is_found(&stage);
    hosts_have_their_fields(&stage);
    machines_that_look_after_it_are_answered(&stage);
    what_is_not_there_is_told(&stage);
    calls_are_checked_before_anything_is_asked(&stage);

    let hold = ["hold", "planthost1", "--for", "1h", "--reason", &format!("wait{HOSTILE}")];
    stage.call(&hold).done();
    stage.orders_wait();
    why_names_the_first_no(&stage);
    nothing_hostile_reaches_a_terminal(&stage);
    stage.call(&["thaw", "--all"]).done();
    incidents_have_their_fields(&stage);
    logs_are_calm(&stage.scratch.path().join("quell"));
}

fn a_join_string_stands_alone(stage: &Stage) {
    let ended = stage.call(&["token", "create", "--ttl", "10m", "--uses", "3", "--label", "role=orders"]);
    assert_eq!(ended.err, "");
    let out = ended.done();
    let join: JoinString = out.strip_suffix('\n').unwrap().parse().unwrap();
    assert_eq!(out.lines().count(), 1, "{out}");
    assert_eq!(join.labels["role"], "orders");
}

fn the_profile_is_found(stage: &Stage) {
    let home = stage.scratch.path().join("home");
    fs::create_dir_all(home.join(".config/quell")).unwrap();
    fs::copy(stage.fleet.profile(), home.join(".config/quell/profile.toml")).unwrap();
    let mut at_home = command(&programs().cli, ["get", "hosts", "-o", "name"]);
    at_home.env("HOME", &home);
    assert_eq!(run(at_home).done(), "planthost1\n");
    let mut named = command(&programs().cli, ["get", "hosts", "-o", "name"]);
    named.env("HOME", "/nonexistent").env("QUELL_PROFILE", stage.fleet.profile());
    assert_eq!(run(named).done(), "planthost1\n");
    // Colours where they are wanted, and none where they are not, whatever else is set.
    let help = |no_color: bool| {
        let mut help = command(&programs().cli, ["--help"]);
        help.env("CLICOLOR_FORCE", "1");
        if no_color {
            help.env("NO_COLOR", "1");
        }
        run(help).done()
    };
    assert!(help(false).contains('\u{1b}') && !help(true).contains('\u{1b}'));
}

fn hosts_have_their_fields(stage: &Stage) {
    let host = || stage.json(&["get", "hosts"])["items"][0].clone();
    let sampled = || Some(host()).filter(|host| host["samples"].as_u64() > Some(0));
    let host = wait_for(SOON, || format!("{:#}", host()), sampled).unwrap();
    has(&host, &["name", "state", "labels", "agentVersion", "lastSeen", "samples"]);
    assert_eq!((&host["name"], &host["state"]), (&"planthost1".into(), &"online".into()));
    assert_eq!(host["labels"]["role"], "orders");
    assert!(host["lastSeen"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
}

fn machines_that_look_after_it_are_answered(stage: &Stage) {
    let get = |resource: &str| http_get(stage.fleet.http_port(), resource).unwrap();
    for resource in ["/healthz", "/readyz"] {
        assert!(get(resource).starts_with("HTTP/1.1 200"), "{}", get(resource));
    }
    let metrics = get("/metrics");
    assert!(metrics.contains("\nquell_sessions 1\n"), "{metrics}");
    assert!(get("/secrets").starts_with("HTTP/1.1 404"));
}

fn what_is_not_there_is_told(stage: &Stage) {
    let cases: [(&[&str], &str); 7] = [
        (&["get", "hosts", "nobody"], "nobody"),
        (&["get", "incidents", "inc-99"], "inc-99"),
        (&["describe", "policy", "nothing"], "nothing"),
        (&["why", "nothing"], "nothing"),
        (&["why", "order-backlog", "nobody"], "nobody"),
        (&["approve", "plan-99"], "plan-99"),
        (&["host", "revoke", "nobody", "--reason", "a test"], "nobody"),
    ];
    for (arguments, name) in cases {
        stage.call(arguments).says_no(NOT_FOUND, &[name]);
    }
}

fn calls_are_checked_before_anything_is_asked(stage: &Stage) {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["token", "create", "--ttl", "10"], &["--ttl", "no unit", "10m"]),
        (&["token", "create", "--ttl", "90d"], &["life of a token", "at most 604800 s"]),
        (&["token", "create", "--uses", "0"], &["--uses"]),
        (&["get", "frobs"], &["frobs", "hosts"]),
        (&["frobnicate"], &["frobnicate", "--help"]),
        (&["hold", "planthost1", "--for", "1h"], &["--reason"]),
    ];
    for (arguments, words) in cases {
        stage.call(arguments).ends(INVALID, words);
    }
}

fn why_names_the_first_no(stage: &Stage) {
    let why = stage.why("held");
    has(&why, &["policy", "target", "verdict", "firstNo", "signals"]);
    has(&why["firstNo"], &["guard", "reason", "until"]);
    assert!(why["firstNo"]["reason"].as_str().unwrap().contains("wait"), "{why:#}");
    assert!(why["firstNo"]["until"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{why:#}");
    let signal = &why["signals"][0];
    assert_eq!((&signal["name"], &signal["value"]), (&"overload".into(), &"true".into()), "{why:#}");
    assert!(signal["saw"].to_string().contains("15"), "the value is not shown: {why:#}");
}

/// Whatever the commands print, a terminal obeys none of it; and it is all there for those who look.
fn nothing_hostile_reaches_a_terminal(stage: &Stage) {
    let incidents = stage.json(&["get", "incidents"]);
    let incident = incidents["items"][0]["id"].as_str().unwrap();
    stage.call(&["note", incident, &format!("who is {HOSTILE}mallory?")]).done();
    let calls: [&[&str]; 12] = [
        &[],
        &["get", "incidents"],
        &["get", "holds"],
        &["get", "windows"],
        &["get", "windows", "-o", "wide"],
        &["get", "windows", "-o", "yaml"],
        &["get", "windows", "-o", "json"],
        &["describe", "incident", incident],
        &["why", "order-backlog", "planthost1"],
        &["why", "order-backlog", "planthost1", "-o", "json"],
        &["events"],
        &["events", "-o", "json"],
    ];
    let mut shown = String::new();
    for arguments in calls {
        let out = stage.call(arguments).done();
        harmless(&out, &arguments.join(" "));
        shown.push_str(&out);
    }
    stage.call(&["describe", "host", &format!("a{HOSTILE}b")]).says_no(NOT_FOUND, &["\\u{1b}"]);
    harmless(&stage.call(&["describe", "host", HOSTILE]).err, "an error");
    assert!(shown.contains("wait\\u{1b}[2J"), "the reason is not shown: {shown}");
    assert!(shown.contains("who is \\u{1b}[2J"), "the note is not shown: {shown}");
    // What the host's log said was told to a contact, and stands in the controller's log.
    let log = fs::read_to_string(stage.scratch.path().join("quell/controller.log")).unwrap();
    let told = log.lines().find(|line| line.contains("was stopped by"));
    assert!(told.is_some_and(|line| line.contains("mallory")), "the contact was not told: {log}");
    harmless(&log, "the controller's log");
    harmless(&fs::read_to_string(stage.scratch.path().join("quell/planthost1.log")).unwrap(), "the agent's log");
}

#[track_caller]
fn harmless(text: &str, what: &str) {
    let hostile = |character: char| (character.is_control() && character != '\n') || character == '\u{202e}';
    let found = text.find(hostile).map(|at| text[at..].chars().take(20).collect::<String>());
    assert_eq!(found, None, "{what} would be obeyed");
}

fn incidents_have_their_fields(stage: &Stage) {
    let resolved = || {
        let incidents = stage.json(&["get", "incidents", "--all"]);
        Some(incidents["items"][0].clone()).filter(|incident| incident["state"] == "resolved")
    };
    let described = || stage.fleet.quell(&["get", "incidents", "--all", "-o", "yaml"]).unwrap();
    let incident = wait_for(SOON, described, resolved).unwrap();
    has(&incident, &["id", "problem", "target", "policies", "state", "openedAt", "resolvedAt", "plans"]);
    assert_eq!(incident["target"], "planthost1");
    assert_eq!(incident["policies"][0], "plants/order-backlog");
    for moment in ["openedAt", "resolvedAt"] {
        assert!(incident[moment].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{moment} in {incident:#}");
    }
    let plan = incident["plans"].as_array().unwrap().last().unwrap();
    let step = &plan["steps"][0];
    assert_eq!((&step["action"], &step["outcome"]), (&"exec".into(), &"succeeded".into()), "{incident:#}");
    assert_eq!(fs::read_to_string(stage.scratch.path().join("orders/outstanding")).unwrap(), "0");
}

#[test]
fn events_have_no_gap_and_no_repetition_across_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(scratch.path()).unwrap();
    let events = fleet.follow().unwrap();
    let next = |before: Option<Value>| {
        let record = events.next(SOON).unwrap();
        has(&record, &["sequence", "time", "actor", "kind", "text", "ids", "previous", "hash"]);
        if let Some(before) = before {
            assert_eq!(record["sequence"].as_u64(), before["sequence"].as_u64().map(|sequence| sequence + 1));
            assert_eq!(record["previous"], before["hash"]);
        }
        record
    };
    let mut record = next(None);
    assert_eq!(record["sequence"], 1);
    let mut until = |fleet: &Fleet| {
        let text = fleet.quell(&["events", "-o", "json"]).unwrap();
        let newest: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        while record["sequence"].as_u64() < newest["sequence"].as_u64() {
            record = next(Some(record.take()));
        }
        assert_eq!(record["hash"], newest["hash"]);
    };
    until(&fleet);
    fleet.quell(&["token", "create"]).unwrap();
    until(&fleet);
    fleet.stop_controller().unwrap();
    fleet.start_controller().unwrap();
    fleet.quell(&["token", "create"]).unwrap();
    until(&fleet);
    fleet.kill_controller();
    fleet.start_controller().unwrap();
    fleet.quell(&["token", "create"]).unwrap();
    until(&fleet);
    logs_are_calm(scratch.path());
    a_second_controller_is_refused(&fleet, scratch.path());
}

/// The one that serves is not disturbed by it.
fn a_second_controller_is_refused(fleet: &Fleet, scratch: &Path) {
    let data = fleet.controller_data();
    let log = scratch.join("second.log");
    let mut second = Process::start(&programs().controller, &["serve", "--data-dir", text(&data)], &log).unwrap();
    wait_for(SOON, || "the second controller goes on".to_owned(), || second.has_ended().then_some(())).unwrap();
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("in use by another controller") && said.contains(text(&data)), "{said}");
    assert!(said.contains("stop that one first"), "{said}");
    fleet.quell(&["token", "create"]).unwrap();
}
