//! What needs a real host: root and a running systemd. `tests/host/systemd.sh` boots one and runs this inside; anywhere
//! else each test says why it skips.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "the whole file is tests")]

#[expect(dead_code, reason = "these tests sign in one way only")]
mod office;

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use quell_agent::{
    belief::Beliefs,
    clock::ClockOffset,
    config::Config,
    execute::{self, Handle, Options, Report, Reports},
    guard::Surroundings,
    managers::{Managers, State},
};
use quell_wire::v1::{self, OutcomeKind};

const LIMIT: Duration = Duration::from_secs(30);

/// The door: true where these tests may change the host.
fn may_change_this_host(test: &str) -> bool {
    let why = if std::env::var_os("QUELL_HOST_TESTS").is_none_or(|value| value != "1") {
        "QUELL_HOST_TESTS is not 1"
    } else if !rustix::process::geteuid().is_root() {
        "it needs root"
    } else if !Path::new("/run/systemd/system").exists() {
        "no systemd runs here"
    } else {
        return true;
    };
    println!("skipped {test}: {why}; tests/host/systemd.sh runs it");
    false
}

fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Installs a unit and starts it.
fn unit(name: &str, service: &str) {
    let text = format!("[Service]\n{service}\n[Install]\nWantedBy=multi-user.target\n");
    std::fs::write(format!("/etc/systemd/system/{name}.service"), text).unwrap();
    systemctl(&["daemon-reload"]);
    systemctl(&["enable", "--now", name]);
}

fn main_pid(name: &str) -> u32 {
    systemctl(&["show", "--value", "-p", "MainPID", name]).parse().unwrap()
}

struct Agent {
    handle: Handle,
    reports: Reports,
    managers: Arc<Managers>,
    _data: tempfile::TempDir,
}

impl Agent {
    async fn start(services: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let toml = format!("[allow]\nactions = [\"service.restart\"]\nservices = {services:?}\n");
        let config = Arc::new(Config::parse(&toml, Path::new("agent.toml")).unwrap());
        let managers = Arc::new(Managers::open(&config, data.path()).await.unwrap());
        Beliefs::establish(data.path(), &office::OFFICE.root(), &office::labels()).unwrap();
        let options = Options {
            data_directory: data.path().to_owned(),
            config,
            managers: Arc::clone(&managers),
            beliefs: Arc::new(Beliefs::open(data.path(), office::host()).unwrap()),
            clock: ClockOffset::default(),
            host_hold: Arc::new(|| None),
            surroundings: Surroundings::default(),
        };
        let (handle, reports) = execute::start(options).await.unwrap();
        Self { handle, reports, managers, _data: data }
    }

    async fn restart(&mut self, service: &str) -> v1::Outcome {
        let order = v1::Command {
            command_id: format!("cmd-{service}"),
            idempotency_key: service.to_owned(),
            start_within_ms: 30_000,
            timeout_ms: 30_000,
            action: "service.restart".to_owned(),
            parameters: format!("{{\"service\":\"{service}\"}}").into_bytes(),
            ..v1::Command::default()
        };
        self.handle.submit(office::signed(order)).await;
        loop {
            let report = tokio::time::timeout(LIMIT, self.reports.recv()).await.expect("no outcome").unwrap();
            if let Report::Outcome(outcome) = report {
                return outcome;
            }
        }
    }
}

#[tokio::test]
async fn a_unit_that_runs_is_restarted_as_a_job() {
    if !may_change_this_host("a_unit_that_runs_is_restarted_as_a_job") {
        return;
    }
    unit("quell-plain", "ExecStart=/bin/sleep 300");
    let before = main_pid("quell-plain");
    let mut agent = Agent::start(&["quell-plain"]).await;
    let outcome = agent.restart("quell-plain").await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    let after = main_pid("quell-plain");
    assert!(before != after && outcome.summary.contains(&after.to_string()), "{}", outcome.summary);
}

#[tokio::test]
async fn a_unit_that_dies_is_pushed_and_brought_back() {
    if !may_change_this_host("a_unit_that_dies_is_pushed_and_brought_back") {
        return;
    }
    unit("quell-killed", "ExecStart=/bin/sleep 300");
    let mut agent = Agent::start(&["quell-killed.service"]).await;
    let manager = agent.managers.find("quell-killed").unwrap();
    let mut watch = manager.watch();
    let up = tokio::time::timeout(LIMIT, watch.wait_for(|status| status.state == State::Active)).await.unwrap();
    let pid = up.unwrap().process.as_ref().unwrap().pid;
    let killed = Instant::now();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    let down = tokio::time::timeout(LIMIT, watch.wait_for(|status| status.state == State::Failed)).await.unwrap();
    println!("systemd told of the end of the process after {:?}", killed.elapsed());
    assert!(!down.unwrap().stopped_by_person);
    let outcome = agent.restart("quell-killed").await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    println!("and it was verified to run again after {:?}", killed.elapsed());
}

#[tokio::test]
async fn what_a_person_wants_down_stays_down() {
    if !may_change_this_host("what_a_person_wants_down_stays_down") {
        return;
    }
    let names = ["quell-stopped", "quell-disabled", "quell-masked"];
    for name in names {
        unit(name, "ExecStart=/bin/sleep 300");
        systemctl(&["stop", name]);
    }
    systemctl(&["disable", "quell-disabled"]);
    std::fs::remove_file("/etc/systemd/system/quell-masked.service").unwrap();
    systemctl(&["mask", "quell-masked"]);
    let mut agent = Agent::start(&names).await;
    for (name, state) in names.into_iter().zip([State::Stopped, State::Disabled, State::Masked]) {
        let status = agent.managers.find(name).unwrap().state().await.unwrap();
        assert_eq!((status.state, status.stopped_by_person), (state, true), "{name}: {status:?}");
        let outcome = agent.restart(name).await;
        assert_eq!(outcome.kind(), OutcomeKind::Refused, "{name}: {}", outcome.summary);
        assert!(agent.managers.find(name).unwrap().restart(LIMIT).await.is_err(), "{name}");
        assert_eq!(main_pid(name), 0, "{name}");
    }
}

#[tokio::test]
async fn a_unit_that_ends_again_or_does_not_exist_is_told() {
    if !may_change_this_host("a_unit_that_ends_again_or_does_not_exist_is_told") {
        return;
    }
    unit("quell-brief", "ExecStart=/bin/sh -c 'sleep 0.1; exit 3'");
    let begun = Instant::now();
    while systemctl(&["is-active", "quell-brief"]) != "failed" {
        assert!(begun.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unit("quell-broken", "Type=notify\nTimeoutStartSec=1s\nExecStart=/bin/sleep 300");
    let mut agent = Agent::start(&["quell-brief", "quell-broken", "quell-nowhere"]).await;
    let brief = agent.restart("quell-brief").await;
    assert_eq!(brief.kind(), OutcomeKind::Failed, "{}", brief.summary);
    let broken = agent.restart("quell-broken").await;
    assert_eq!(broken.kind(), OutcomeKind::Failed, "{}", broken.summary);
    let nowhere = agent.restart("quell-nowhere").await;
    assert_eq!(nowhere.kind(), OutcomeKind::Refused, "{}", nowhere.summary);
    assert!(nowhere.summary.contains("no service"), "{}", nowhere.summary);
}
