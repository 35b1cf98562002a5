//! Backups of a controller that serves, and what is in force after their return.

use std::{fs, path::Path, time::Duration};

use quell_tests::fleet::{Fleet, http_get, process::Process, wait_for};

use crate::call::{FAILED, controller, host, logs_are_calm, programs, text};

const SOON: Duration = Duration::from_secs(30);

const POLICY: &str = r"
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: full }
spec:
  description: The host has a processor, which is always so.
  mode: enforce
  hosts: { matchLabels: { role: orders } }
  trigger: { when: host.uptime >= 0 }
  ladder:
    - name: nothing
      do: [{ action: exec, with: { argv: [/bin/true] } }]
      verify: { that: host.uptime < 0, within: 5s }
  escalate: { to: on-call, after: 15m }
---
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
";

#[test]
fn a_restored_controller_knows_everything_and_only_observes() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(scratch.path()).unwrap();
    fleet.enrol(&host("planthost1", "[allow]\nactions = [\"exec\"]\nprograms = [\"/bin/true\"]\n")).unwrap();
    let (backup, back) = (scratch.path().join("backup"), scratch.path().join("back"));
    let data = fleet.controller_data();
    controller(["backup", "--data-dir", text(&data), "--to", text(&backup)]).done();
    let before = fleet.quell(&["events", "-o", "json"]).unwrap();
    fleet.quell(&["token", "create"]).unwrap();
    what_cannot_be_restored_is_not(scratch.path(), &data, &backup);

    fleet.stop_controller().unwrap();
    controller(["restore", "--data-dir", text(&back), "--from", text(&backup)]).done();
    let log = scratch.path().join("restored.log");
    let restored = ["serve", "--data-dir", text(&back)];
    let mut restored = Process::start(&programs().controller, &restored, &log).unwrap();
    let ready = || http_get(fleet.http_port(), "/readyz").ok().filter(|answer| answer.starts_with("HTTP/1.1 200"));
    wait_for(SOON, || fs::read_to_string(&log).unwrap(), ready).unwrap();

    let after = fleet.quell(&["events", "-o", "json"]).unwrap();
    assert!(after.starts_with(&before) && after.len() > before.len(), "records were lost or none says what happened");
    assert!(after.contains("restored from the backup"), "{after}");
    let manifest = scratch.path().join("policy.yaml");
    fs::write(&manifest, POLICY).unwrap();
    fleet.apply(&manifest, &[]).unwrap();
    // The agent comes back by itself, to a new epoch; the symptom is there, and nothing is done about it.
    let held = || {
        let incidents = fleet.items("incidents", &[]).unwrap();
        incidents.into_iter().find(|incident| incident["problem"] == "full")
    };
    let incident = wait_for(SOON, || fleet.quell(&["get", "hosts", "-o", "yaml"]).unwrap(), held).unwrap();
    let holds = fleet.quell(&["get", "holds", "-o", "json"]).unwrap();
    assert!(holds.contains("\"restored\"") && holds.contains("everything"), "{holds}");
    let steps = |plan: &serde_json::Value| plan["steps"].as_array().map_or(0, Vec::len);
    let sent = incident["plans"].as_array().unwrap().iter().filter(|plan| plan["startedAt"].is_string());
    assert_eq!(sent.map(steps).sum::<usize>(), 0, "something was done: {incident:#}");
    let agent = fs::read_to_string(scratch.path().join("planthost1.log")).unwrap();
    assert!(agent.contains("epoch=0") && agent.contains("epoch=1"), "no new epoch: {agent}");
    restored.stop(SOON).unwrap();
    logs_are_calm(scratch.path());
}

/// And nothing is left of what was tried.
fn what_cannot_be_restored_is_not(scratch: &Path, data: &Path, backup: &Path) {
    let target = scratch.join("target");
    let refused = |from: &Path, words: &[&str]| {
        controller(["restore", "--data-dir", text(&target), "--from", text(from)]).ends(FAILED, words);
        let left: Vec<_> = fs::read_dir(scratch).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let left = left.iter().filter(|name| name.to_string_lossy().starts_with("target")).count();
        assert_eq!(left, 0, "something was left of {}", target.display());
    };
    refused(data, &["is no whole backup", "quell-controller backup"]);
    refused(&scratch.join("nowhere"), &["nowhere", "is no whole backup"]);
    let damaged = scratch.join("damaged");
    crate::directories::copy(backup, &damaged);
    let list = fs::read_to_string(damaged.join("backup.json")).unwrap();
    let key = damaged.join("authority/ca.key.pem");
    let content = fs::read_to_string(&key).unwrap();
    fs::write(&key, content.replacen('A', "B", 1)).unwrap();
    refused(&damaged, &["ca.key.pem is damaged", "use another backup"]);
    fs::remove_file(&key).unwrap();
    refused(&damaged, &["ca.key.pem"]);
    fs::write(damaged.join("backup.json"), &list[..list.len() / 2]).unwrap();
    refused(&damaged, &["backup.json is not the list of a backup"]);
    fs::write(
        damaged.join("backup.json"),
        list.replacen("\"format\": 1", "\"format\": 99", 1).replacen("\"format\":1", "\"format\":99", 1),
    )
    .unwrap();
    refused(&damaged, &["backup.json", "format 99", "run the version that wrote it"]);
    controller(["restore", "--data-dir", text(data), "--from", text(backup)])
        .ends(FAILED, &[text(data), "is not empty", "does not exist"]);
    controller(["backup", "--data-dir", text(data), "--to", text(backup)])
        .ends(FAILED, &[text(backup), "is not empty", "does not exist"]);
}
