//! `process`: processes by the name of their executable or by their command line.
//!
//! `/proc` is scanned only where a policy asks for it. The processes found are watched through pidfds, so that the end
//! of one is told when it happens. A process that has ended and was not yet collected by its parent does not count.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    task::Poll,
    time::{Duration, Instant},
};

use quell_model::{
    probe::{ProbeKind, ProbeSpec},
    value::Fields,
};
use regex::bytes::Regex;

use super::{Attempt, Boxed, Built, Context, Kind, Probe, blocking::Lane, pattern};
use crate::watch::Exit;

/// This kind in the list.
pub const KIND: Kind = Kind { kind: ProbeKind::Process, build };

/// Most processes of one probe whose end is watched; more are only counted.
const MOST_WATCHED: usize = 64;

/// Longest command line that is looked at, in bytes.
const COMMAND_LINE_BYTES: usize = 16 * 1024;

/// The kernel keeps this many bytes of an executable's name.
const NAME_BYTES: usize = 15;

fn build(spec: &ProbeSpec, _context: &Context) -> Built {
    let ProbeSpec::Process { name, command } = spec else { return None };
    let wanted = match (name, command) {
        (Some(name), None) => Ok(Wanted::Name(name.clone())),
        (None, Some(command)) => pattern::compile(command).map(Wanted::Command),
        _ => Err("a process is named by either its name or its command line".to_owned()),
    };
    Some(wanted.map(|wanted| Box::new(Processes::new(wanted)) as Box<dyn Probe>))
}

/// What makes a process one of those looked for.
#[derive(Debug, Clone)]
enum Wanted {
    Name(String),
    Command(Regex),
}

/// A process that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    identity: Identity,
    /// Clock ticks of processor time since its start.
    ticks: u64,
    resident_pages: u64,
}

/// Number and start, in clock ticks since boot: numbers are used again.
type Identity = (u32, u64);

struct Processes {
    wanted: Wanted,
    lane: Lane,
    watched: BTreeMap<Identity, Exit>,
    last: Option<(Instant, BTreeMap<Identity, u64>)>,
}

impl Processes {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, lane: Lane::default(), watched: BTreeMap::new(), last: None }
    }

    fn judge(&mut self, found: &[Found]) -> Attempt {
        self.watch(found);
        let mut fields = Fields::from([
            ("count".to_owned(), number(found.len() as u64)),
            (
                "rss_bytes".to_owned(),
                number(found.iter().map(|one| one.resident_pages).sum::<u64>() * procfs::page_size()),
            ),
        ]);
        let now = Instant::now();
        if let Some((then, before)) = &self.last {
            let used: u64 = found
                .iter()
                .map(|one| one.ticks - before.get(&one.identity).copied().unwrap_or(0).min(one.ticks))
                .sum();
            #[expect(clippy::cast_precision_loss, reason = "ticks since the last sample are few")]
            let seconds = used as f64 / procfs::ticks_per_second() as f64;
            let percent = 100.0 * seconds / now.duration_since(*then).as_secs_f64().max(0.01);
            fields.insert("cpu_percent".to_owned(), ((percent * 10.0).round() / 10.0).into());
        }
        self.last = Some((now, found.iter().map(|one| (one.identity, one.ticks)).collect()));
        if found.is_empty() { Attempt::bad("no such process runs", fields) } else { Attempt::good(fields) }
    }

    fn watch(&mut self, found: &[Found]) {
        self.watched.retain(|identity, _| found.iter().any(|one| one.identity == *identity));
        for one in found {
            if self.watched.len() < MOST_WATCHED && !self.watched.contains_key(&one.identity) {
                // A process that is gone by now is missed by the next scan.
                if let Ok(exit) = Exit::of(one.identity.0) {
                    self.watched.insert(one.identity, exit);
                }
            }
        }
    }
}

impl Probe for Processes {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move {
            let wanted = self.wanted.clone();
            match self.lane.run(timeout, move || scan(&wanted)).await {
                Ok(Ok(found)) => self.judge(&found),
                Ok(Err(error)) => Attempt::not_made(format!("/proc cannot be read: {error}")),
                Err(attempt) => attempt,
            }
        })
    }

    fn changed(&mut self) -> Boxed<'_, ()> {
        Box::pin(std::future::poll_fn(|cx| {
            let ended =
                self.watched.iter().find_map(|(identity, exit)| exit.poll_exited(cx).is_ready().then_some(*identity));
            match ended {
                // It has been told; the next scan finds out what is left.
                Some(identity) => {
                    self.watched.remove(&identity);
                    Poll::Ready(())
                }
                None => Poll::Pending,
            }
        }))
    }

    fn cost(&mut self) -> Duration {
        self.lane.cost()
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts of a host are exact in a double")]
fn number(count: u64) -> quell_model::value::Value {
    (count as f64).into()
}

fn scan(wanted: &Wanted) -> std::io::Result<Vec<Found>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid != own
            && let Some(one) = look(&entry.path(), pid, wanted)
        {
            found.push(one);
        }
    }
    Ok(found)
}

/// The process, when it is one of those looked for and still runs. Processes vanish at any moment: then it is not.
fn look(directory: &Path, pid: u32, wanted: &Wanted) -> Option<Found> {
    let stat = fs::read(directory.join("stat")).ok()?;
    let (name, rest) = split_stat(&stat)?;
    let matches = match wanted {
        Wanted::Name(wanted) => is_named(wanted.as_bytes(), name, directory),
        Wanted::Command(pattern) => pattern.is_match(&command_line(directory)?),
    };
    if !matches {
        return None;
    }
    let mut numbers = rest.split(|byte| *byte == b' ');
    let state = numbers.next()?;
    if matches!(state, b"Z" | b"X" | b"x") {
        return None;
    }
    // proc_pid_stat(5), counted from the state, which is field 3: utime 14, stime 15, starttime 22, rss 24.
    let numbers: Vec<u64> = numbers
        .map(|text| std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
        .collect();
    let field = |number: usize| numbers.get(number - 4).copied().unwrap_or(0);
    Some(Found { identity: (pid, field(22)), ticks: field(14) + field(15), resident_pages: field(24) })
}

/// The name between the outermost parentheses of a `stat`, and what follows. The name may itself hold anything.
fn split_stat(stat: &[u8]) -> Option<(&[u8], &[u8])> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    Some((stat.get(open + 1..close)?, stat.get(close + 2..)?))
}

fn is_named(wanted: &[u8], name: &[u8], directory: &Path) -> bool {
    if wanted.len() <= NAME_BYTES || name != &wanted[..NAME_BYTES] {
        return name == wanted;
    }
    // The kernel cut the name: the first argument or the executable tell the rest.
    let argument = fs::read(directory.join("cmdline")).unwrap_or_default();
    let first = argument.split(|byte| *byte == 0).next().unwrap_or_default();
    let base = first.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let executable = fs::read_link(directory.join("exe")).ok();
    base == wanted
        || executable.and_then(|path| path.file_name().map(|name| name.as_bytes() == wanted)).unwrap_or(false)
}

/// Arguments joined by spaces; absent for kernel threads, which have none.
fn command_line(directory: &Path) -> Option<Vec<u8>> {
    let mut line = fs::read(directory.join("cmdline")).ok()?;
    line.truncate(COMMAND_LINE_BYTES);
    while line.last() == Some(&0) {
        line.pop();
    }
    line.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_hold_anything() {
        assert_eq!(split_stat(b"7 (a) (b) S 1"), Some((&b"a) (b"[..], &b"S 1"[..])));
        assert_eq!(split_stat(b"7 (a"), None);
        assert_eq!(split_stat(b"7 (a)"), None);
        assert_eq!(split_stat(b""), None);
    }
}
