use std::{path::Path, sync::Arc, time::Duration};

use super::Command;
use crate::{
    config::{Config, Service},
    managers::{Error, Manager, State, Status},
    process::Process,
};

const LIMIT: Duration = Duration::from_secs(10);

fn service(text: &str) -> Service {
    let text = format!("[[service]]\nname = \"orders\"\nmanager = \"command\"\nstop_timeout = \"500ms\"\n{text}");
    Config::parse(&text, Path::new("agent.toml")).unwrap().services.remove(0)
}

fn sleeper() -> Service {
    service("start = [\"/bin/sleep\", \"300\"]")
}

async fn until(manager: &Arc<Command>, what: impl Fn(&Status) -> bool) -> Status {
    let mut watch = manager.watch();
    tokio::time::timeout(LIMIT, watch.wait_for(|status| what(status)))
        .await
        .expect("the status never came")
        .unwrap()
        .clone()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn is_zombie_or_gone(pid: u32) -> (bool, bool) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    (stat.as_ref().is_ok_and(|stat| stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z')), stat.is_err())
}

#[tokio::test]
async fn a_killed_service_is_seen_at_once_reaped_and_restarted() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Command::open(sleeper(), directory.path()).await.unwrap();
    assert_eq!(manager.state().await.unwrap().state, State::Stopped);
    let first = manager.restart(LIMIT).await.unwrap().process.unwrap();
    kill(first.pid);
    let status = until(&manager, |status| status.state == State::Failed).await;
    assert!(status.detail.contains("signal 9") && !status.stopped_by_person, "{status:?}");
    assert_eq!(is_zombie_or_gone(first.pid), (false, true), "it was reaped");
    let status = manager.restart(LIMIT).await.unwrap();
    assert_eq!((status.state, status.restarts), (State::Active, 1));
    assert_ne!(status.process, Some(first));
    manager.stop(LIMIT).await.unwrap();
}

#[tokio::test]
async fn the_next_agent_finds_what_the_last_one_started() {
    let directory = tempfile::tempdir().unwrap();
    let first = Command::open(sleeper(), directory.path()).await.unwrap();
    let process = first.start(LIMIT).await.unwrap().process.unwrap();
    let second = Command::open(sleeper(), directory.path()).await.unwrap();
    assert_eq!(second.state().await.unwrap().process, Some(process.clone()), "by its record");
    std::fs::remove_dir_all(directory.path().join("services")).unwrap();
    let third = Command::open(sleeper(), directory.path()).await.unwrap();
    assert_eq!(third.state().await.unwrap().process, Some(process.clone()), "by its mark");
    kill(process.pid);
    for agent in [&second, &third] {
        until(agent, |status| status.state == State::Failed).await;
    }
    let fourth = Command::open(sleeper(), directory.path()).await.unwrap();
    assert_ne!(fourth.state().await.unwrap().state, State::Active);
}

#[tokio::test]
async fn a_service_that_ignores_term_is_killed_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("child");
    let script = format!(
        "trap '' TERM; sleep 300 & echo $! > {}.next; mv {}.next {}; wait; sleep 300",
        file.display(),
        file.display(),
        file.display()
    );
    let manager =
        Command::open(service(&format!("start = [\"/bin/sh\", \"-c\", {script:?}]")), directory.path()).await.unwrap();
    let parent = manager.start(LIMIT).await.unwrap().process.unwrap();
    let begun = std::time::Instant::now();
    while !file.exists() {
        assert!(begun.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let child: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let status = manager.stop(LIMIT).await.unwrap();
    assert_eq!((status.state, status.stopped_by_person), (State::Stopped, true));
    assert!(!parent.runs());
    while Process::of(child).is_ok() {
        assert!(begun.elapsed() < LIMIT, "the child outlived its service");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_was_stopped_on_request_is_not_restarted_even_by_the_next_agent() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Command::open(sleeper(), directory.path()).await.unwrap();
    manager.start(LIMIT).await.unwrap();
    manager.stop(LIMIT).await.unwrap();
    for agent in [manager, Command::open(sleeper(), directory.path()).await.unwrap()] {
        assert!(agent.state().await.unwrap().stopped_by_person);
        assert!(matches!(agent.restart(LIMIT).await, Err(Error::Unwanted { .. })));
    }
}

#[tokio::test]
async fn a_daemon_is_followed_by_its_pid_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("daemon.pid");
    let script = format!("setsid sleep 300 >/dev/null 2>&1 & echo $! > {}", file.display());
    let text = format!("start = [\"/bin/sh\", \"-c\", {script:?}]\npid_file = {:?}", file.display().to_string());
    let manager = Command::open(service(&text), directory.path()).await.unwrap();
    let first = manager.restart(LIMIT).await.unwrap().process.unwrap();
    let second = manager.restart(LIMIT).await.unwrap().process.unwrap();
    assert!(!first.runs() && second.runs());
    std::fs::write(&file, "1\n").unwrap();
    kill(second.pid);
    until(&manager, |status| status.state == State::Failed).await;
    assert_eq!(manager.state().await.unwrap().state, State::Failed, "process 1 is nobody's service");
}

#[tokio::test]
async fn a_program_that_stays_and_writes_its_own_pid_file_is_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("orders.pid");
    let script = format!("echo $$ > {}; exec sleep 300", file.display());
    let text = format!("start = [\"/bin/sh\", \"-c\", {script:?}]\npid_file = {:?}", file.display().to_string());
    let manager = Command::open(service(&text), directory.path()).await.unwrap();
    let first = manager.restart(LIMIT).await.unwrap().process.unwrap();
    kill(first.pid);
    let status = until(&manager, |status| status.state == State::Failed).await;
    assert!(status.detail.contains("signal 9"), "{status:?}");
    assert_eq!(is_zombie_or_gone(first.pid), (false, true), "it was reaped");
    let second = manager.restart(LIMIT).await.unwrap().process.unwrap();
    assert!(second.runs() && second != first);
    manager.stop(LIMIT).await.unwrap();

    let failing = service(&format!("start = [\"/bin/false\"]\npid_file = {:?}", file.display().to_string()));
    let other = tempfile::tempdir().unwrap();
    let manager = Command::open(failing, other.path()).await.unwrap();
    let error = manager.restart(LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("status 1"), "{error}");
}

#[tokio::test]
async fn a_program_that_cannot_start_and_a_status_that_is_not_content_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Command::open(service("start = [\"/nonexistent/program\"]"), directory.path()).await.unwrap();
    let error = missing.restart(LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("/nonexistent/program") && error.contains("No such file"), "{error}");

    let other = tempfile::tempdir().unwrap();
    let text = "start = [\"/bin/sleep\", \"300\"]\nstatus = [\"/bin/sh\", \"-c\", \"echo not yet >&2; exit 1\"]";
    let sad = Command::open(service(text), other.path()).await.unwrap();
    let error = sad.restart(Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(error.contains("not yet"), "{error}");
    assert_eq!(sad.state().await.unwrap().state, State::Failed);
    sad.stop(LIMIT).await.unwrap();
}

#[tokio::test]
async fn output_goes_to_the_log_and_not_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("orders.log");
    let text = format!("start = [\"/bin/sh\", \"-c\", \"echo said; exit 4\"]\nlog = {:?}", log.display().to_string());
    let manager = Command::open(service(&text), directory.path()).await.unwrap();
    manager.start(LIMIT).await.unwrap();
    let status = until(&manager, |status| status.state == State::Failed).await;
    assert!(status.detail.contains("status 4"), "{status:?}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "said\n");
    let target = directory.path().join("precious");
    std::fs::rename(&log, &target).unwrap();
    std::os::unix::fs::symlink(&target, &log).unwrap();
    assert!(manager.restart(LIMIT).await.is_err());
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "said\n");
}
