//! Running a program to its end: argv and never a shell, in a process group of its own, with a deadline and a bound on
//! the output that is kept.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

/// How long a process group may take to end after TERM before it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// How long the output is awaited after the program has ended: a grandchild may hold the pipe open for ever.
const DRAIN: Duration = Duration::from_millis(200);

/// The `PATH` that programs are given when nothing else was said.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to run.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where it runs; `/` when absent.
    pub directory: Option<PathBuf>,
    /// As whom; as the agent when absent.
    pub user: Option<String>,
    /// Its whole environment, besides `PATH`.
    pub environment: BTreeMap<String, String>,
    /// How many bytes of standard output, and as many of standard error, are kept: the last ones.
    pub output_limit: usize,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Status(i32),
    /// Killed by this signal, not by the agent.
    Signal(i32),
    /// It ran longer than it may, and its process group was killed.
    TimedOut,
    /// It was cancelled, and its process group was killed.
    Cancelled,
}

impl End {
    /// Whether it exited with status 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Status(0)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::TimedOut => f.write_str("took too long and was killed"),
            Self::Cancelled => f.write_str("was cancelled and killed"),
        }
    }
}

/// What a program did.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// The end of its standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// The end of its standard error.
    pub stderr: String,
}

impl Output {
    /// Standard error when there is some, else standard output, on one line and short: for messages.
    pub fn complaint(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let line = text.trim().lines().last().unwrap_or_default();
        line.chars().filter(|character| !character.is_control()).take(200).collect()
    }
}

/// Runs a program until it ends, its time is over or it is cancelled; in the last two cases its whole process group
/// is ended, with TERM first.
///
/// # Errors
/// When it cannot be started: the program is missing, the user is not known, the agent may not.
pub async fn run(program: &Program, limit: Duration, cancel: &CancellationToken) -> io::Result<Output> {
    let mut child = spawn(program)?;
    let stdout = Tail::of(child.stdout.take(), program.output_limit);
    let stderr = Tail::of(child.stderr.take(), program.output_limit);
    let end = tokio::select! {
        status = child.wait() => end_of(status?),
        () = tokio::time::sleep(limit) => { kill(&mut child).await; End::TimedOut }
        () = cancel.cancelled() => { kill(&mut child).await; End::Cancelled }
    };
    Ok(Output { end, stdout: stdout.finish().await, stderr: stderr.finish().await })
}

fn spawn(program: &Program) -> io::Result<Child> {
    let (name, arguments) =
        program.argv.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "argv is empty"))?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .envs(&program.environment)
        .current_dir(program.directory.as_deref().unwrap_or_else(|| std::path::Path::new("/")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = &program.user {
        let (uid, gid) = user_ids(user)?;
        command.uid(uid).gid(gid);
    }
    command.spawn()
}

/// The numbers of a user and of its group, by the user's name.
///
/// # Errors
/// When the host knows no such user.
pub fn user_ids(name: &str) -> io::Result<(u32, u32)> {
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid.as_raw(), user.gid.as_raw())),
        Ok(None) => Err(io::Error::new(io::ErrorKind::NotFound, format!("this host has no user {name:?}"))),
        Err(error) => Err(error.into()),
    }
}

fn end_of(status: std::process::ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Status(code),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    }
}

/// Ends the child's process group. The child is not reaped before, so the group's number is still its own.
async fn kill(child: &mut Child) {
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let Some(group) = group else { return };
    let _gone = rustix::process::kill_process_group(group, Signal::TERM);
    let pid = group.as_raw_nonzero().get().unsigned_abs();
    if let Ok(watched) = super::Watched::open_child(pid) {
        let _late = tokio::time::timeout(GRACE, watched.ended()).await;
    }
    let _gone = rustix::process::kill_process_group(group, Signal::KILL);
    if let Err(error) = child.wait().await {
        tracing::warn!(pid, %error, "a killed program could not be reaped");
    }
}

/// Reads to the end and keeps the last `limit` bytes, so that a program that says much is never blocked by it.
struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    limit: usize,
    reader: tokio::task::JoinHandle<()>,
}

impl Tail {
    fn of(source: Option<impl AsyncRead + Unpin + Send + 'static>, limit: usize) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let Some(mut source) = source else { return };
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = source.read(&mut buffer).await {
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..count]);
                if kept.len() > 2 * limit {
                    let excess = kept.len() - limit;
                    kept.drain(..excess);
                }
            }
        });
        Self { kept, limit, reader }
    }

    async fn finish(mut self) -> String {
        if tokio::time::timeout(DRAIN, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept[kept.len().saturating_sub(self.limit)..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Program, run};
    use std::time::{Duration, Instant};
    use tokio_util::sync::CancellationToken;

    fn shell(script: &str) -> Program {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Program { argv, output_limit: 1024, ..Program::default() }
    }

    #[tokio::test]
    async fn output_is_capped_and_the_status_told() {
        let output =
            run(&shell("seq 1 100000; exit 3"), Duration::from_secs(20), &CancellationToken::new()).await.unwrap();
        assert_eq!(output.end, End::Status(3));
        assert_eq!(output.stdout.len(), 1024);
        assert!(output.stdout.ends_with("99999\n100000\n"));
    }

    #[tokio::test]
    async fn a_time_out_ends_the_whole_group() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script =
            format!("trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $! > {}; wait", file.display());
        let begun = Instant::now();
        let output = run(&shell(&script), Duration::from_millis(300), &CancellationToken::new()).await.unwrap();
        assert_eq!(output.end, End::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(10));
        let grandchild: u32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        while crate::process::Process::of(grandchild).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the grandchild was not killed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_the_pipe_does_not_hold_the_agent() {
        let begun = Instant::now();
        let output = run(&shell("echo said; sleep 30 & exit 0"), Duration::from_secs(20), &CancellationToken::new())
            .await
            .unwrap();
        assert!(output.end.is_success());
        assert_eq!(output.stdout, "said\n");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_missing_program_and_user_are_named() {
        let mut program = shell("true");
        program.user = Some("no-such-user-here".to_owned());
        let error = run(&program, Duration::from_secs(1), &CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains("no-such-user-here"));
    }
}
