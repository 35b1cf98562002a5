//! `command`: a program of the host's allow-list, its exit status and what it prints.
//!
//! Never a shell: the arguments go to the program as they stand in the policy. The program runs in a group of its own,
//! with an environment that holds nothing but a `PATH`; when its time is up the whole group is killed. Output beyond
//! the cap is read and thrown away, so that a talkative program neither blocks nor costs memory.

use std::{
    fs, io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use quell_model::{
    probe::{ProbeKind, ProbeSpec},
    value::Fields,
};
use regex::bytes::Regex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

use super::{Attempt, Boxed, Built, Context, Kind, Probe, pattern};
use crate::{
    config::{Allow, Config},
    watch::Exit,
};

/// This kind in the list.
pub const KIND: Kind = Kind { kind: ProbeKind::Command, build };

/// Bytes of standard output that are kept.
const OUTPUT_BYTES: usize = 64 * 1024;

/// Bytes of standard error that are kept, for the error's text.
const ERROR_BYTES: usize = 512;

/// How long output is waited for after the program's end: something that it left behind may hold the pipe.
const GRACE: Duration = Duration::from_millis(200);

/// Where programs find other programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn build(spec: &ProbeSpec, context: &Context) -> Built {
    let ProbeSpec::Command { argv, parse } = spec else { return None };
    let made = || {
        if argv.is_empty() {
            return Err("a command needs a program".to_owned());
        }
        let parse = parse.as_deref().map(pattern::compile).transpose()?;
        let config = Arc::clone(&context.config);
        Ok(Box::new(Tool { argv: argv.clone(), parse, config, cost: Duration::ZERO }) as Box<dyn Probe>)
    };
    Some(made())
}

struct Tool {
    argv: Vec<String>,
    parse: Option<Regex>,
    config: Arc<Config>,
    cost: Duration,
}

/// What a program did.
struct Ran {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// The program that an argument vector names: the allowed path itself, or the one allowed path with that file name.
///
/// # Errors
/// Why it may not run, and the line that would permit it.
pub fn permit(allow: &Allow, program: &str) -> Result<PathBuf, String> {
    let named = |path: &&PathBuf| !program.contains('/') && path.file_name().is_some_and(|name| name == program);
    let mut candidates = allow.programs.iter().filter(|path| path.as_path() == Path::new(program) || named(path));
    match (candidates.next(), candidates.next()) {
        (Some(path), None) => Ok(path.clone()),
        (Some(_), Some(_)) => Err(format!("{program} stands for several programs of agent.toml; write the whole path")),
        (None, _) => Err(format!(
            "{program} is not allowed; to allow it, add its absolute path to programs under [allow] in agent.toml: \
             programs = [\"{}\"]",
            if program.starts_with('/') { program.to_owned() } else { format!("/…/{program}") }
        )),
    }
}

impl Tool {
    async fn run(&mut self, program: &Path, timeout: Duration) -> Result<Ran, String> {
        let mut child = Command::new(program)
            .arg0(&self.argv[0])
            .args(&self.argv[1..])
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        // Dropped at every way out: nothing of the program's group outlives the attempt.
        let _group = Group(child.id());
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let ended = {
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let reading = async {
                tokio::join!(keep(stdout, &mut output, OUTPUT_BYTES), keep(stderr, &mut errors, ERROR_BYTES));
            };
            tokio::time::timeout(timeout, end_and_read(&mut child, reading)).await
        };
        let ended =
            ended.map_err(|_| format!("{} did not end within {timeout:?} and was killed", program.display()))?;
        let (status, spent) = ended.map_err(|error| format!("{}: {error}", program.display()))?;
        self.cost += spent;
        Ok(Ran { status, output, errors })
    }

    fn judge(&self, ran: &Ran) -> Attempt {
        // Without the newline at its end: a pattern's `$` means the end of what was printed.
        let output = ran.output.trim_ascii();
        let mut fields = Fields::from([("value".to_owned(), pattern::captured(output))]);
        if let Some(code) = ran.status.code() {
            fields.insert("exit".to_owned(), f64::from(code).into());
        }
        let captures = self.parse.as_ref().map(|pattern| (pattern, pattern.captures(output)));
        if let Some((pattern, Some(captures))) = &captures {
            pattern::add_groups(pattern, captures, "", &mut fields);
        }
        if !ran.status.success() {
            let how = match (ran.status.code(), ran.status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, signal) => format!("killed by signal {}", signal.unwrap_or(0)),
            };
            let said = pattern::text(ran.errors.trim_ascii(), ERROR_BYTES);
            Attempt::bad(if said.is_empty() { how } else { format!("{how}: {said}") }, fields)
        } else if matches!(captures, Some((_, None))) {
            Attempt::bad("the output does not match the pattern", fields)
        } else {
            Attempt::good(fields)
        }
    }
}

impl Probe for Tool {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move {
            let program = match permit(&self.config.allow, &self.argv[0]) {
                Ok(program) => program,
                Err(refusal) => return Attempt::not_made(refusal),
            };
            match self.run(&program, timeout).await {
                Ok(ran) => self.judge(&ran),
                Err(error) => Attempt::bad(error, Fields::new()),
            }
        })
    }

    fn cost(&mut self) -> Duration {
        std::mem::take(&mut self.cost)
    }
}

/// Kills everything that is left of a program's process group.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            // Nobody left is no error.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Waits for a child while its output is read, and a little longer for the rest of the output.
async fn end_and_read(child: &mut Child, reading: impl Future<Output = ()>) -> io::Result<(ExitStatus, Duration)> {
    let mut reading = std::pin::pin!(reading);
    let mut ending = std::pin::pin!(end(child));
    let mut read = false;
    loop {
        tokio::select! {
            () = &mut reading, if !read => read = true,
            ended = &mut ending => {
                if !read {
                    let _ = tokio::time::timeout(GRACE, reading).await;
                }
                return ended;
            }
        }
    }
}

/// Waits for a child and reads what it cost before its number is given back.
async fn end(child: &mut Child) -> io::Result<(ExitStatus, Duration)> {
    let mut spent = Duration::ZERO;
    if let Some(pid) = child.id()
        && let Ok(exit) = Exit::of(pid)
    {
        exit.exited().await;
        spent = processor_time(pid).unwrap_or_default();
    }
    Ok((child.wait().await?, spent))
}

/// Processor time of an ended, uncollected process and of its children, from `/proc` (which is memory, not a disk).
fn processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5), counted from the state behind the name: utime, stime, cutime, cstime are fields 14 to 17.
    let ticks: u64 =
        stat.rsplit_once(") ")?.1.split(' ').skip(11).take(4).filter_map(|text| text.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(1000 * ticks / procfs::ticks_per_second().max(1)))
}

/// Reads to the end and keeps the beginning.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, most: usize) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 2048];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let room = most.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_allowed_runs() {
        let allow = Allow {
            programs: ["/usr/local/bin/dnsTool", "/opt/a/tool", "/opt/b/tool"].map(PathBuf::from).into(),
            ..Allow::default()
        };
        let allowed = |program: &str| permit(&allow, program);
        assert_eq!(allowed("dnsTool").unwrap(), Path::new("/usr/local/bin/dnsTool"));
        assert_eq!(allowed("/opt/a/tool").unwrap(), Path::new("/opt/a/tool"));
        assert!(allowed("tool").unwrap_err().contains("several"));
        for program in ["sh", "/usr/bin/dnsTool", "../bin/dnsTool", "bin/dnsTool", ""] {
            assert!(allowed(program).unwrap_err().contains("programs = ["), "{program}");
        }
    }
}
