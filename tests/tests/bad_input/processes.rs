//! The processes themselves: where they log, how they say that they are ready, and how they stop.

use std::{
    fs::File,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quell_tests::fleet::wait_for;
use serde_json::Value;

use crate::call::{INVALID, agent, calm, command, controller, programs, quell, text};

/// How long a process may take to stop.
const STOP: Duration = Duration::from_secs(20);

/// A process with a service manager that listens, and its two outputs in files. It ends with its owner.
struct Service {
    child: Child,
    manager: UnixDatagram,
    out: std::path::PathBuf,
    err: std::path::PathBuf,
}

impl Service {
    fn start(program: &Path, arguments: &[&str], scratch: &Path, name: &str) -> Self {
        let place = |end: &str| scratch.join(format!("{name}.{end}"));
        let manager = UnixDatagram::bind(place("notify")).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (out, err) = (place("out"), place("err"));
        let mut command = command(program, arguments);
        command.env("NOTIFY_SOCKET", place("notify"));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Self { child: command.spawn().unwrap(), manager, out, err }
    }

    /// The next thing that the service manager is told.
    fn told(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Asks it to stop, and holds it to its word.
    fn stops_cleanly(mut self) {
        let asked = Instant::now();
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.told().starts_with("STOPPING=1"));
        let status = wait_for(STOP, || "it does not stop".to_owned(), || self.child.try_wait().unwrap()).unwrap();
        assert_eq!(status.code(), Some(0), "after {:?}: {}", asked.elapsed(), self.errors());
        assert_eq!(std::fs::read_to_string(&self.out).unwrap(), "", "standard output is not for logs");
        let errors = self.errors();
        calm(&errors);
        assert!(errors.lines().count() > 1, "it did not log: {errors}");
        for line in errors.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            for field in ["timestamp", "level", "message", "target"] {
                assert!(line[field].is_string(), "no {field} in {line}");
            }
            assert_ne!(line["level"], "ERROR", "{line}");
        }
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn they_tell_when_they_are_ready_log_to_standard_error_and_stop_when_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name);
    let (data, host) = (place("controller"), place("host"));
    let made = controller(["init", "--data-dir", text(&data), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let made = made.done();
    let profile = Path::new(made.lines().last().unwrap());

    let programs = programs();
    let serve = ["serve", "--data-dir", text(&data), "--log-format", "json"];
    let controller = Service::start(&programs.controller, &serve, scratch.path(), "c");
    assert!(controller.told().starts_with("READY=1"));
    // Ready means ready: there is nothing to wait for.
    let join = quell(profile, &["token", "create"]).done();
    agent(["join", "--data-dir", text(&host), "--name", "planthost1", join.trim()]).done();
    let run = ["run", "--data-dir", text(&host), "--log-format", "json"];
    let agent = Service::start(&programs.agent, &run, scratch.path(), "a");
    assert!(agent.told().starts_with("READY=1"));
    let online = || quell(profile, &["get", "hosts", "-o", "json"]).done().contains("online").then_some(());
    wait_for(Duration::from_secs(30), || format!("not online: {}", agent.errors()), online).unwrap();
    controller.stops_cleanly();
    // The agent lives on without the controller, and stops without it.
    let noticed = || agent.errors().contains("WARN").then_some(());
    wait_for(Duration::from_secs(30), || format!("the agent does not notice: {}", agent.errors()), noticed).unwrap();
    agent.stops_cleanly();

    // Asked to stop the moment it is ready, it stops as cleanly.
    for turn in 0..5 {
        let controller = Service::start(&programs.controller, &serve, scratch.path(), &format!("c{turn}"));
        assert!(controller.told().starts_with("READY=1"));
        controller.stops_cleanly();
    }
}

#[test]
fn what_is_typed_wrong_is_usage() {
    for ended in [
        controller(["serve"]),
        controller(["init", "--data-dir", "/nonexistent/c", "--listen", "nonsense"]),
        controller(["dance"]),
        agent(["run", "--colour"]),
        agent(["join"]),
        agent(["hold", "--for", "1h"]),
    ] {
        ended.ends(INVALID, &["--help"]);
    }
    let mut filtered = command(&programs().controller, ["serve", "--data-dir", "/nonexistent/c"]);
    filtered.env("RUST_LOG", "quell=loud=er");
    crate::call::run(filtered).says_no(INVALID, &["RUST_LOG", "info"]);
}
