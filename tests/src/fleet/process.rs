//! Processes that are ended with their owner.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The programs that were built beside the one that runs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `quell-controller`.
    pub controller: PathBuf,
    /// `quell-agent`.
    pub agent: PathBuf,
    /// `quell`.
    pub cli: PathBuf,
    /// `quell-shop`.
    pub shop: PathBuf,
}

impl Programs {
    /// Finds them: in the folder of this program, or, for a test, in the one above.
    ///
    /// # Errors
    /// One is missing.
    pub fn beside_this_one() -> anyhow::Result<Self> {
        let this = std::env::current_exe()?;
        let folders: Vec<PathBuf> = this.ancestors().skip(1).take(2).map(Path::to_owned).collect();
        let find =
            |name: &str| {
                folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file()).with_context(|| {
                    format!("{name} is not built; run `cargo build --workspace` (looked in {folders:?})")
                })
            };
        Ok(Self {
            controller: find("quell-controller")?,
            agent: find("quell-agent")?,
            cli: find("quell")?,
            shop: find("quell-shop")?,
        })
    }
}

/// Runs a program to its end and answers its standard output.
///
/// # Errors
/// It exits with another status than 0; the message is its standard error.
pub fn run(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{} {} ended with {}:\n{}{stdout}",
        program.file_name().unwrap_or_default().to_string_lossy(),
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(stdout)
}

/// A child process that ends with its owner.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program; what it says goes to the end of a log.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> anyhow::Result<Self> {
        Self::start_talking(program, arguments, None, log)
    }

    /// The same, with a filter of what it says (`RUST_LOG`).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_talking(program: &Path, arguments: &[&str], filter: Option<&str>, log: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(arguments)
            .envs(filter.map(|filter| ("RUST_LOG", filter)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child })
    }

    /// Starts a program and hands out the lines that it prints.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_piped(
        program: &Path,
        arguments: &[&str],
        capacity: usize,
    ) -> anyhow::Result<(Self, mpsc::Receiver<String>)> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("the program has no standard output")?;
        let (sender, lines) = mpsc::sync_channel(capacity);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok((Self { child }, lines))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to kill and only the status to collect.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM.
    pub fn ask_to_stop(&mut self) {
        if let (false, Ok(pid)) = (self.has_ended(), i32::try_from(self.child.id())) {
            // It may end between the look and the signal: the child is not reaped, so nobody else gets the signal.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Waits for the end, and kills when it does not come.
    pub fn kill_after(&mut self, limit: Duration) {
        let started = Instant::now();
        while !self.has_ended() && started.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// It did not end in time; it is killed then.
    pub fn stop(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.ask_to_stop();
        let started = Instant::now();
        while !self.has_ended() && started.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        let stopped = self.has_ended();
        self.kill();
        ensure!(stopped, "process {} did not stop within {limit:?}", self.child.id());
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends the process whose number stands in a file, if it runs.
pub fn end_by_pid_file(file: &Path) {
    let pid = fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(pid) = pid.filter(|pid| *pid > 1) {
        // It may be gone already.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
