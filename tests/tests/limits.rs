//! Limits, with real processes: set by one person over the policies of another, refused at apply, held by name, and kept
//! to by the host.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use quell_link::signing::NewKey;
use quell_tests::fleet::{Fleet, Host, wait_for};

const PATIENT: Duration = Duration::from_secs(60);

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
    - name: empty
      do: [{ action: exec, with: { argv: [/bin/sh, -c, 'echo >>MARKS'] } }]
      verify: { that: host.uptime < 0, within: 1s }
    - name: again
      do: [{ action: exec, with: { argv: [/bin/sh, -c, 'echo >>MARKS'] } }]
      verify: { that: host.uptime < 0, within: 1s }
  guards: { cooldown: 1s, disturb: { hosts: 1, percent: 100, over: 1h } }
  escalate: { to: on-call, after: 15m }
";

struct Shop {
    scratch: tempfile::TempDir,
    fleet: Fleet,
}

impl Shop {
    /// Pat signs policies, Lena signs limits.
    fn open() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
        fleet.enrol(&Host::running("web1", "web", "/bin/sh")).unwrap();
        let shop = Self { scratch, fleet };
        for (name, namespace) in [("pat", "quell-policy"), ("lena", "quell-limits")] {
            let key = NewKey::make(name).unwrap();
            quell_link::files::write(&shop.key(name), key.private.as_bytes()).unwrap();
            let public = shop.scratch.path().join(format!("{name}.pub"));
            fs::write(&public, &key.public).unwrap();
            shop.fleet.quell(&["trust", "add", name, text(&public), "--namespaces", namespace]).unwrap();
        }
        fs::create_dir(shop.directory()).unwrap();
        shop
    }

    fn key(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("policies")
    }

    fn marks(&self) -> usize {
        fs::read_to_string(self.scratch.path().join("marks")).unwrap_or_default().lines().count()
    }

    fn write_policy(&self, change: impl FnOnce(String) -> String) -> PathBuf {
        let marks = self.scratch.path().join("marks");
        let file = self.directory().join("queue.yaml");
        fs::write(&file, change(POLICY.replace("MARKS", text(&marks)))).unwrap();
        file
    }

    fn write_limits(&self, spec: &str) -> PathBuf {
        let file = self.directory().join("limits.yaml");
        let limits = format!(
            "apiVersion: quell/v1\nkind: Limits\nmetadata: {{ namespace: plants, name: ceiling }}\nspec: {{ \
             description: What security allows., {spec} }}\n"
        );
        fs::write(&file, limits).unwrap();
        file
    }

    fn quell(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.fleet.cli());
        command.args(["--profile", text(self.fleet.profile())]).args(arguments);
        command.output().unwrap()
    }

    /// It does what it is asked for; what it printed.
    fn does(&self, arguments: &[&str]) -> String {
        let output = self.quell(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &said
    }

    /// It refuses with exit code 2; what it said.
    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.quell(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        said
    }

    fn apply(&self, path: &Path, key: &str) -> String {
        self.does(&["apply", "-f", text(path), "--key", text(&self.key(key))])
    }

    fn wait_for_why(&self, wanted: &str) {
        let why = || self.does(&["why", "queue", "web1"]);
        wait_for(PATIENT, || format!("{wanted:?} is not said: {}", why()), || why().contains(wanted).then_some(()))
            .unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn limits_are_set_by_others_and_kept_from_apply_to_the_host() {
    let shop = Shop::open();
    let (directory, pat, lena) = (shop.directory(), shop.key("pat"), shop.key("lena"));
    let (pat, lena) = (text(&pat), text(&lena));

    // Limits first: what passes them is refused with its place, offline and at apply, and nothing is in force.
    let limits = shop.write_limits("actions: [exec], mode: propose");
    shop.apply(&limits, "lena");
    let policy = shop.write_policy(|text| text);
    let place = format!("{}:11:9: Policy plants/queue: `mode` passes Limits plants/ceiling", text(&policy));
    let checked = shop.refuses(&["check", "-f", text(&directory)]);
    assert!(checked.contains(&place), "{checked}");
    for command in ["apply", "diff"] {
        let mut arguments = vec![command, "-f", text(&policy)];
        if command == "apply" {
            arguments.extend(["--key", pat]);
        }
        let refused = shop.refuses(&arguments);
        assert!(refused.contains(&place), "{command}: {refused}");
    }
    assert!(!shop.does(&["get", "policies"]).contains("queue"));

    // Who signs policies does not change limits, and hears what to do.
    shop.write_limits("actions: [exec], mode: enforce, budget: { perHost: 1 }");
    let refused = shop.refuses(&["apply", "-f", text(&directory), "--key", pat]);
    assert!(
        refused.contains("quell sign --only plants/limits") && refused.contains("nothing was applied"),
        "{refused}"
    );
    let looser = shop.does(&["diff", "-f", text(&limits)]);
    assert!(looser.contains("mode: propose → enforce"), "{looser}");
    shop.does(&["sign", "-f", text(&directory), "--only", "plants/limits", "--key", lena]);
    assert!(directory.join("plants.limits.set.sig").exists());
    let left = shop.does(&["sign", "-f", text(&directory), "--key", pat]);
    assert!(left.contains("is signed by pat") && left.contains("plants/limits"), "{left}");
    shop.apply(&directory, "pat");
    assert!(shop.does(&["get", "limits"]).contains("ceiling"));
    assert!(shop.does(&["explain", "limits.budget"]).contains("perHost"));

    // The host takes the limits with the order, and keeps to them; then it does nothing without.
    shop.does(&["trust", "require", "limits", "1"]);
    wait_for(PATIENT, || shop.does(&["why", "queue", "web1"]), || (shop.marks() == 1).then_some(())).unwrap();

    shop.wait_for_why("Limits plants/ceiling: 1 acts on web1 within 24h are spent");

    // Lowered, they hold what is in force, by their name; the policies' own --prune does not lift them.
    let lowered = shop.write_limits("actions: [log.rotate]");
    let warned = shop.apply(&lowered, "lena");
    assert!(warned.contains("will not act there"), "{warned}");
    shop.wait_for_why("passes Limits plants/ceiling: it is exec, and allowed are log.rotate");
    fs::remove_file(&lowered).unwrap();
    shop.write_policy(|text| text.replace("mode: enforce", "mode: observe"));
    shop.does(&["apply", "-f", text(&directory), "--prune", "--key", pat]);
    assert!(shop.does(&["get", "limits"]).contains("ceiling"));
    assert_eq!(shop.marks(), 1);
}
