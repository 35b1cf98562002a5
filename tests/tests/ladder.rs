//! A ladder of two rungs on one host, with real processes: the second is tried at once when the first did not help,
//! although the policy's cool-down has only begun; and then no rung a second time.

use std::{fs, time::Duration};

use quell_tests::fleet::{Fleet, Host, wait_for};

const PATIENT: Duration = Duration::from_secs(60);

/// Its cool-down is the one of a policy that says none: half an hour.
const POLICY: &str = "apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: queue }
spec:
  description: the queue grows
  mode: enforce
  hosts: { matchLabels: { role: web } }
  trigger: { when: host.uptime > 0 }
  ladder:
    - name: gently
      do: [{ action: exec, with: { argv: [/bin/sh, -c, 'echo gently >>MARKS'] } }]
      verify: { that: host.uptime < 0, within: 1s }
    - name: firmly
      do: [{ action: exec, with: { argv: [/bin/sh, -c, 'echo firmly >>MARKS'] } }]
      verify: { that: host.uptime < 0, within: 1s }
  guards: { disturb: { hosts: 1, percent: 100, over: 1h } }
  escalate: { to: on-call, after: 15m }
";

#[test]
fn the_next_rung_does_not_wait_for_the_cool_down_of_the_one_before() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
    fleet.enrol(&Host::running("web1", "web", "/bin/sh")).unwrap();
    let (file, marks) = (scratch.path().join("queue.yaml"), scratch.path().join("marks"));
    fs::write(&file, POLICY.replace("MARKS", marks.to_str().unwrap())).unwrap();
    fleet.quell(&["apply", "-f", file.to_str().unwrap()]).unwrap();

    let incident = || {
        let incidents = fleet.items("incidents", &[]).unwrap_or_default();
        incidents.into_iter().next().unwrap_or_default()
    };
    let ended = || (incident()["hold"]["guard"] == "ladder").then_some(());
    wait_for(PATIENT, || format!("the ladder does not end: {}", incident()), ended).unwrap();
    assert_eq!(fs::read_to_string(&marks).unwrap(), "gently\nfirmly\n", "{}", incident());
}
