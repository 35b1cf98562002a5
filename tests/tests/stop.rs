//! What stops things, with real processes: a freeze outlives the controller, a host that its administrator holds does nothing
//! although the hold came while the controller was dead, and both let go when they are lifted.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use quell_tests::fleet::{Fleet, Host, wait_for};
use serde_json::Value;

const PATIENT: Duration = Duration::from_secs(60);

/// A host that lets a script be run, which leaves a mark.
struct Shop {
    scratch: tempfile::TempDir,
    fleet: Fleet,
}

impl Shop {
    fn open() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
        fleet.enrol(&Host::running("web1", "web", "/bin/sh")).unwrap();
        Self { scratch, fleet }
    }

    fn marks_file(&self) -> PathBuf {
        self.scratch.path().join("marks")
    }

    fn marks(&self) -> usize {
        fs::read(self.marks_file()).map_or(0, |marks| marks.len())
    }

    /// Has the script run by the CLI, which says that it is held by this guard.
    fn run_is_held_by(&self, guard: &str) {
        let script = format!("echo >>{}", self.marks_file().display());
        let argv = serde_json::to_string(&["/bin/sh", "-c", &script]).unwrap();
        let mut command = Command::new(self.fleet.cli());
        command.arg("--profile").arg(self.fleet.profile()).args(["run", "exec", "-l", "role=web", "--set"]);
        let output = command.arg(format!("argv={argv}")).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(6), "{said}");
        assert!(said.contains(&format!("held by {guard}")), "{said}");
    }

    fn host(&self) -> Value {
        let hosts = self.fleet.items("hosts", &[]).unwrap_or_default();
        hosts.into_iter().next().unwrap_or_default()
    }

    fn plan(&self) -> Value {
        let plans = self.fleet.items("plans", &["--all"]).unwrap_or_default();
        plans.into_iter().next().unwrap_or_default()
    }

    /// The plan waits, as the controller says, and nothing was done.
    fn waits(&self) {
        assert_eq!(self.plan()["state"], "held", "{}", self.plan());
        assert_eq!(self.marks(), 0);
    }

    /// The plan begins by itself, and is done once.
    fn goes_on(&self) {
        let ended = || (self.plan()["state"] == "succeeded").then_some(());
        wait_for(PATIENT, || format!("it does not go on: {}", self.plan()), ended).unwrap();
        assert_eq!(self.marks(), 1);
    }

    /// The controller dies, something is done without it, and it comes back.
    fn without_controller(&mut self, act: impl FnOnce(&Self)) {
        self.fleet.kill_controller();
        act(self);
        self.fleet.start_controller().unwrap();
        self.fleet.wait_until_online("web1").unwrap();
    }

    /// What the host's administrator says there.
    fn quell_agent_hold(&self, more: &[&str]) {
        let program = self.fleet.cli().with_file_name("quell-agent");
        let data = self.fleet.agent_data("web1");
        let status = Command::new(program).args(["hold", "--data-dir"]).arg(data).args(more).status().unwrap();
        assert!(status.success(), "{more:?}: {status}");
    }
}

#[test]
fn a_freeze_outlives_the_controller_and_ends_with_the_thaw() {
    let mut shop = Shop::open();
    shop.fleet.quell(&["freeze", "--all", "--for", "1h", "--reason", "an audit"]).unwrap();
    shop.run_is_held_by("freeze");
    shop.without_controller(|shop| assert_eq!(shop.marks(), 0));
    shop.waits();
    shop.fleet.quell(&["thaw", "--all", "--reason", "the audit is over"]).unwrap();
    shop.goes_on();
}

#[test]
fn a_hold_that_was_put_on_the_host_while_the_controller_was_dead_holds() {
    let mut shop = Shop::open();
    shop.without_controller(|shop| shop.quell_agent_hold(&["--for", "1h", "--reason", "its disk is being changed"]));
    // Until the host is back it counts as it was before, and what is sent to it meanwhile it refuses by itself.
    let is_known = || (!shop.host()["held"].is_null()).then_some(());
    wait_for(PATIENT, || format!("nobody hears of the hold: {}", shop.host()), is_known).unwrap();
    shop.run_is_held_by("hostHold");
    shop.waits();
    shop.quell_agent_hold(&["--lift"]);
    shop.goes_on();
}
