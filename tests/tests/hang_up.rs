//! The agent's terminal goes away: an agent under `nohup` stays, another one stops, and what either starts is not deaf.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quell_tests::fleet::{Fleet, Host, process::Programs, wait_for};

const SOON: Duration = Duration::from_secs(20);

/// An agent that ends with the test, whatever becomes of it.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the agent of a host through a shell that first does something of its own.
fn start(fleet: &Fleet, first: &str) -> Agent {
    let agent = Programs::beside_this_one().unwrap().agent;
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("{first} exec \"$0\" run --data-dir \"$1\"")])
        .args([agent, fleet.agent_data("web1")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Agent(child)
}

/// Whether a process has SIGHUP in one of the masks of its status.
fn has_hang_up(agent: &Agent, mask: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(mask)).unwrap_or_default();
    u64::from_str_radix(mask.trim_start_matches(':').trim(), 16).is_ok_and(|mask| mask & 1 == 1)
}

fn send(agent: &Agent, signal: Signal) {
    kill(Pid::from_raw(agent.0.id().try_into().unwrap()), signal).unwrap();
}

/// How an agent ends when it is sent a signal.
fn ends(mut agent: Agent, signal: Signal) -> Option<i32> {
    send(&agent, signal);
    wait_for(SOON, || format!("{signal} did not end the agent"), || agent.0.try_wait().unwrap()).unwrap().code()
}

#[test]
fn an_agent_under_nohup_stays_and_what_it_starts_hears_a_hang_up() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(scratch.path()).unwrap();
    fleet.enrol(&Host::running("web1", "web", "/bin/true")).unwrap();
    fleet.kill_agent("web1");

    let agent = start(&fleet, "");
    wait_for(SOON, || "no handler".to_owned(), || has_hang_up(&agent, "SigCgt").then_some(())).unwrap();
    assert_eq!(ends(agent, Signal::SIGHUP), Some(0), "it stops cleanly with its terminal");

    let mut agent = start(&fleet, "trap '' HUP;");
    wait_for(SOON, || "no handler".to_owned(), || has_hang_up(&agent, "SigCgt").then_some(())).unwrap();
    assert!(!has_hang_up(&agent, "SigIgn"), "its children would ignore it too");
    fleet.wait_until_online("web1").unwrap();
    send(&agent, Signal::SIGHUP);
    fleet.quell(&["run", "exec", "-l", "all", "--set", "argv=[\"/bin/true\"]"]).unwrap();
    let done = || (fleet.items("plans", &["--all"]).unwrap()[0]["state"] == "succeeded").then_some(());
    wait_for(SOON, || "it does nothing any more".to_owned(), done).unwrap();
    assert_eq!(agent.0.try_wait().unwrap(), None, "it stays, and does what it is told");
    assert_eq!(ends(agent, Signal::SIGTERM), Some(0));
}
