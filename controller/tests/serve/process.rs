//! The program itself: its calls, its errors, its end.

use std::{
    io::Read as _,
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Usage, or invalid input.
const INVALID: i32 = 2;
const PROGRAM: &str = env!("CARGO_BIN_EXE_quell-controller");

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command
}

fn run(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A controller's directory, made by the program.
fn made(directory: &Path) -> PathBuf {
    let data = directory.join("controller");
    let output = run(&["init", "--data-dir", text(&data), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(Path::new(said.lines().last().unwrap()).exists(), "{said}");
    // A port that was free then may be taken now; here nobody needs to know it.
    let config = data.join("controller.toml");
    let chosen = std::fs::read_to_string(&config).unwrap();
    let any = chosen.lines().map(|line| match line.split_once(" = ") {
        Some((field @ ("listen" | "http"), _)) => format!("{field} = \"127.0.0.1:0\"\n"),
        _ => format!("{line}\n"),
    });
    std::fs::write(&config, any.collect::<String>()).unwrap();
    data
}

/// A program that serves, killed when a test fails.
struct Serving {
    child: Child,
    manager: UnixDatagram,
}

impl Serving {
    /// Starts it and waits until it tells the service manager that it is ready.
    fn start(data: &Path) -> Self {
        let socket = data.with_extension("notify");
        let _ = std::fs::remove_file(&socket);
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let child = program(&["serve", "--data-dir", text(data), "--log-format", "json"])
            .env("NOTIFY_SOCKET", &socket)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut serving = Self { child, manager };
        let mut buffer = [0; 256];
        if serving.manager.recv(&mut buffer).is_err() {
            let _ = serving.child.kill();
            panic!("it did not become ready:\n{}", serving.log());
        }
        assert!(buffer.starts_with(b"READY=1"));
        serving
    }

    /// What the service manager is told next.
    fn told(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.manager.recv(&mut buffer).expect("the service manager is told nothing");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// What it logs until its end.
    fn log(&mut self) -> String {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        log
    }

    /// Ends it as a service manager does, and returns its log.
    fn stop(mut self) -> String {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let began = Instant::now();
        kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(self.told(), "STOPPING=1");
        let log = self.log();
        assert!(self.child.wait().unwrap().success(), "{log}");
        assert!(began.elapsed() < Duration::from_secs(20));
        log
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already in a test that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asserts that a call fails with a code and one line that holds these words.
fn assert_refused(arguments: &[&str], code: i32, words: &[&str]) {
    let output = run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[test]
fn it_serves_until_it_is_asked_to_end_and_logs_json() {
    let directory = tempfile::tempdir().unwrap();
    let log = Serving::start(&made(directory.path())).stop();
    assert!(log.lines().count() > 0);
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(entry["level"].is_string() && entry["message"].is_string(), "{line}");
    }
}

#[test]
fn what_cannot_be_served_is_one_line_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let none = directory.path().join("none");
    assert_refused(
        &["serve", "--data-dir", text(&none)],
        INVALID,
        &["there is no controller", "quell-controller init"],
    );

    let data = made(directory.path());
    let serve = ["serve", "--data-dir", text(&data)];
    assert_refused(&["init", "--data-dir", text(&data)], INVALID, &["holds a controller already"]);

    let config = data.join("controller.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, &good[..good.find("listen").unwrap() + 12]).unwrap();
    assert_refused(&serve, INVALID, &["controller.toml:", "correct the file"]);
    std::fs::write(&config, format!("colour = \"blue\"\n{good}")).unwrap();
    assert_refused(&serve, INVALID, &["controller.toml:1:1", "colour"]);
    std::fs::remove_file(&config).unwrap();
    assert_refused(&serve, INVALID, &["controller.toml is missing", "put it back"]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = good.lines().find(|line| line.starts_with("listen")).unwrap();
    std::fs::write(&config, good.replace(listen, &format!("listen = \"{address}\""))).unwrap();
    assert_refused(&serve, 1, &[&address.to_string(), "listen in", "another port"]);
    std::fs::write(&config, &good).unwrap();

    let key = data.join("authority");
    std::fs::rename(&key, directory.path().join("moved")).unwrap();
    assert_refused(&serve, 1, &["certificate authority"]);
    std::fs::rename(directory.path().join("moved"), &key).unwrap();

    let serving = Serving::start(&data);
    assert_refused(&serve, 1, &["in use by another controller"]);
    serving.stop();
}

#[test]
fn a_call_that_makes_no_sense_is_a_usage_error() {
    for arguments in [&[][..], &["serve"], &["dance"], &["serve", "--data-dir", "D", "--colour"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(INVALID), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
    assert!(run(&["--version"]).status.success());
}

#[test]
fn a_backup_taken_while_it_serves_can_be_restored_and_served() {
    let directory = tempfile::tempdir().unwrap();
    let data = made(directory.path());
    let serving = Serving::start(&data);
    let copy = directory.path().join("backup");
    let output = run(&["backup", "--data-dir", text(&data), "--to", text(&copy)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The program that made it leaves a notice; the controller records it.
    let notices = data.join("notices");
    let began = Instant::now();
    while std::fs::read_dir(&notices).unwrap().next().is_some() {
        assert!(began.elapsed() < Duration::from_secs(20), "the notice of the backup was not taken up");
        std::thread::sleep(Duration::from_millis(10));
    }
    serving.stop();
    let log = std::fs::read(data.join("log/00000000000000000001.log")).unwrap();
    assert!(log.windows(12).any(|text| text == b"\"backupMade\""), "the backup is not on record");
    for directory in [&data, &copy] {
        let output = run(&["audit", "verify", "--data-dir", text(directory)]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8(output.stdout).unwrap().contains("is whole"));
    }
    assert_refused(&["restore", "--data-dir", text(&data), "--from", text(&copy)], 1, &["controller"]);
    let restored = directory.path().join("restored");
    let output = run(&["restore", "--data-dir", text(&restored), "--from", text(&copy)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Serving::start(&restored).stop();
}
