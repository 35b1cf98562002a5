//! `quell promote`, with real processes: what a policy would have done is shown, what is in force and the operator's file
//! change together, and then it acts.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use quell_tests::fleet::{Fleet, Host, wait_for};
use serde_json::Value;

const PATIENT: Duration = Duration::from_secs(60);

/// The file as an operator has it: with comments, a setting, and a neighbour.
const FILE: &str = "# what we do about the queue
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: queue }
spec:
  description: ${what:-the queue grows}
  mode: observe   # until we have seen what it would do
  hosts: { matchLabels: { role: web } }
  trigger: { when: host.uptime > 0 }
  ladder:
    - name: empty
      do: [{ action: exec, with: { argv: [/bin/sh, -c, 'echo >>MARKS'] } }]
      verify: { that: host.uptime < 0, within: 10s }
  guards: { disturb: { hosts: 1, percent: 100, over: 1h } }
  escalate: { to: on-call, after: 15m }
";

struct Shop {
    scratch: tempfile::TempDir,
    fleet: Fleet,
}

impl Shop {
    /// A shop whose policy observes, and would have acted once.
    fn open() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
        fleet.enrol(&Host::running("web1", "web", "/bin/sh")).unwrap();
        let shop = Self { scratch, fleet };
        fs::write(shop.file(), shop.text()).unwrap();
        shop.fleet.quell(&["apply", "-f", shop.file().to_str().unwrap()]).unwrap();
        let acted = || (shop.policy()["shadow"]["acted"] == 1).then_some(());
        wait_for(PATIENT, || format!("it would not have acted: {}", shop.policy()), acted).unwrap();
        shop
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("queue.yaml")
    }

    fn marks(&self) -> PathBuf {
        self.scratch.path().join("marks")
    }

    fn text(&self) -> String {
        FILE.replace("MARKS", self.marks().to_str().unwrap())
    }

    fn policy(&self) -> Value {
        let text = self.fleet.quell(&["describe", "policy", "queue", "-o", "json"]).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn promote(&self, more: &[&str]) -> Output {
        let profile = self.fleet.profile();
        let mut command = Command::new(self.fleet.cli());
        command.arg("--profile").arg(profile).args(["promote", "queue"]).args(more).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Nothing was promoted, for this reason.
    fn refuses(&self, more: &[&str], code: i32, reason: &str) {
        let output = self.promote(more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {said}");
        assert!(said.contains(reason), "{more:?}: {said}");
        assert_eq!(self.policy()["mode"], "observe");
    }
}

fn has_acted(marks: &Path) -> bool {
    fs::read(marks).is_ok_and(|marks| !marks.is_empty())
}

#[test]
fn what_it_would_have_done_is_shown_before_it_is_let_loose_and_the_file_follows() {
    let shop = Shop::open();
    let (path, file) = (shop.file(), shop.file().display().to_string());
    let shadow = shop.policy()["shadow"].take();
    assert_eq!(shadow["hosts"]["web1"], 1, "{shadow}");
    assert_eq!(
        (&shadow["decisions"][0]["rung"], &shadow["decisions"][0]["outcome"]),
        (&"empty".into(), &"acted".into())
    );
    let described = shop.fleet.quell(&["describe", "policy", "queue"]).unwrap();
    assert!(described.contains("what it would have done since"), "{described}");

    shop.refuses(&["--to", "enforce"], 2, "say where its manifest is");
    shop.refuses(&["--to", "enforce", "-f", &file], 2, "say --yes");
    fs::write(&path, shop.text().replace("hosts: 1", "hosts: 9")).unwrap();
    shop.refuses(&["--to", "enforce", "-f", &file, "--yes"], 2, "something else of plants/queue");
    fs::write(&path, shop.text().replace("mode: observe", "mode: ${mode:-observe}")).unwrap();
    shop.refuses(&["--to", "enforce", "-f", &file, "--yes"], 2, "line 12: the mode is filled in");
    fs::write(&path, shop.text()).unwrap();
    let shown = shop.promote(&["--to", "enforce", "-f", &file, "--dry-run"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in ["acts:          1", "+  mode: enforce", "looser: ", "nothing was changed (dry run)"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), shop.text());
    assert!(!has_acted(&shop.marks()), "it only observes");

    let done = shop.promote(&["--to", "enforce", "-f", &file, "--yes"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read_to_string(&path).unwrap(), shop.text().replace("mode: observe ", "mode: enforce "));
    assert_eq!(
        (shop.policy()["mode"].as_str(), shop.policy()["effectiveMode"].as_str()),
        (Some("enforce"), Some("enforce"))
    );
    let acts = || has_acted(&shop.marks()).then_some(());
    wait_for(PATIENT, || format!("it does not act: {}", shop.policy()), acts).unwrap();
    let diff = shop.fleet.quell(&["diff", "-f", &file, "--exit-code"]).unwrap();
    assert!(diff.contains("no changes"), "the file and what is in force say the same: {diff}");
    let again = shop.promote(&["--to", "enforce", "-f", &file, "--yes"]);
    assert_eq!(again.status.code(), Some(2), "it goes as far already");
}
