//! Changes are told when they happen.

use std::{fs, io::Write as _, time::Duration};

use quell_agent::probes::Probe;
use quell_model::probe::ProbeSpec;

use crate::world::{ALLOW, PATIENT, Sleeper, context, judged, probe};

/// Waits for a change and looks.
async fn next(probe: &mut dyn Probe) -> (bool, quell_model::value::Fields) {
    tokio::time::timeout(PATIENT, probe.changed()).await.expect("nothing was told");
    judged(probe.attempt(PATIENT).await)
}

/// Nothing is told for a while.
async fn quiet(probe: &mut dyn Probe) {
    let told = tokio::time::timeout(Duration::from_millis(50), probe.changed()).await;
    assert!(told.is_err(), "something was told that did not happen");
}

#[tokio::test]
async fn the_end_of_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(ALLOW, dir.path()).await;
    let number = format!("200{}", std::process::id());
    let mut child = Sleeper::start(&number);
    let spec = ProbeSpec::Process { name: None, command: Some(format!("^sleep {number}$")) };
    let mut probe = probe(&spec, &context);
    let (ok, fields) = judged(probe.attempt(PATIENT).await);
    assert_eq!((ok, &fields["count"]), (true, &1.0.into()));
    assert!(fields["rss_bytes"].number().unwrap() > 0.0);
    quiet(&mut *probe).await;
    child.0.kill().unwrap();
    // It was not collected by its parent yet: it does not count all the same.
    let (ok, fields) = next(&mut *probe).await;
    assert_eq!((ok, &fields["count"]), (false, &0.0.into()));
}

#[tokio::test]
async fn a_line_of_a_log_and_its_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(ALLOW, dir.path()).await;
    let path = dir.path().join("app.log");
    fs::write(&path, "fine\n").unwrap();
    let spec = ProbeSpec::LogMatch { path: path.clone(), pattern: "Error".to_owned(), before: None, window: 5 };
    let mut probe = probe(&spec, &context);
    assert_eq!(judged(probe.attempt(PATIENT).await).1["matches"], 0.0.into());
    let append = |line: &str| {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    };
    append("Error 1\n");
    assert_eq!(next(&mut *probe).await.1["matches"], 1.0.into());
    fs::rename(&path, dir.path().join("app.log.1")).unwrap();
    append("Error 2\n");
    let mut matches = 0.0;
    while matches < 2.0 {
        matches = next(&mut *probe).await.1["matches"].number().unwrap();
    }
    append("Error 3\n");
    while matches < 3.0 {
        matches = next(&mut *probe).await.1["matches"].number().unwrap();
    }
    assert_eq!(probe.tail(2).await.unwrap(), ["Error 2", "Error 3"]);
}

#[tokio::test]
async fn the_value_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(ALLOW, dir.path()).await;
    let path = dir.path().join("outstanding");
    fs::write(&path, "3").unwrap();
    let mut probe = probe(&ProbeSpec::File { path: path.clone(), parse: None }, &context);
    assert_eq!(judged(probe.attempt(PATIENT).await).1["value"], "3".into());
    let new = dir.path().join("outstanding.new");
    fs::write(&new, "15").unwrap();
    fs::rename(&new, &path).unwrap();
    let mut value = String::new();
    while value != "15" {
        value = next(&mut *probe).await.1["value"].text().unwrap().to_owned();
    }
}

#[tokio::test]
async fn the_end_of_a_service() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[service]]\nname = \"orders\"\nmanager = \"command\"\nstart = [\"/bin/sleep\", \"1000\"]\n";
    let context = context(config, dir.path()).await;
    let manager = context.managers.find("orders").unwrap();
    let running = manager.start(PATIENT).await.unwrap();
    let mut probe = probe(&ProbeSpec::Service { name: "orders".to_owned() }, &context);
    let (ok, fields) = judged(probe.attempt(PATIENT).await);
    assert_eq!((ok, &fields["state"]), (true, &"active".into()));
    let pid = running.process.unwrap().pid;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut state = String::new();
    while state != "failed" {
        let (ok, fields) = next(&mut *probe).await;
        state = fields["state"].text().unwrap().to_owned();
        assert!(!ok || state == "active");
    }
}
