//! Log matching: a pattern, a pattern for what stood before, and a log, through the agent's own probe. The log comes in
//! one piece to one probe and grows under another, and both see the same.
//!
//! An input's first line is `pattern`, its second `before` (empty: none), the rest is the log.

#![no_main]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use quell_agent::{
    clock::ClockOffset,
    config::Config,
    managers::Managers,
    probes::{self, Attempt, Context, Probe, pattern},
    watch::Watcher,
};
use quell_model::{probe::ProbeSpec, value::Fields};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Lines of the window: few, so that short inputs fill it.
const WINDOW: u32 = 8;
/// The most that a field may hold: 4 KiB of input, where a byte that is no text becomes a character of three.
const FIELD_BYTES: usize = 3 * 4096;
/// Bytes of a line that are matched; the rest is skipped.
const LINE_BYTES: usize = 4096;
/// What a look may take. Far less than this is usual; an attempt that took longer is a finding.
const TIMEOUT: Duration = Duration::from_secs(5);

struct Host {
    runtime: Runtime,
    context: Context,
    directory: TempDir,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config::parse("", Path::new("agent.toml")).expect("an empty file is right");
    let context = runtime.block_on(async {
        let managers = Managers::open(&config, directory.path()).await.expect("no services");
        let watcher = Watcher::start().expect("inotify");
        Context { config: Arc::new(config), managers: Arc::new(managers), watcher, clock: ClockOffset::default() }
    });
    Host { runtime, context, directory }
});

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let mut line = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let (Some(pattern), Some(before)) = (line(), line()) else { return };
    let log = parts.next().unwrap_or_default();
    let Ok(compiled) = pattern::compile(pattern) else { return };

    let whole = look_at(pattern, before, &[log]);
    let (first, second) = log.split_at(log.len() / 2);
    let grown = look_at(pattern, before, &[first, second]);
    assert_eq!(whole, grown, "a log that grew is seen otherwise than one that was there");

    let Some(fields) = whole else { return };
    assert_eq!(fields["matches"].number(), Some(count(&compiled, log)), "counted otherwise");
    for (name, value) in &fields {
        let length = value.text().map_or(0, str::len);
        assert!(length <= FIELD_BYTES, "{name} has {length} bytes");
    }
});

/// What the last look saw, after each piece of the log was written and looked at; absent when the probe is refused.
fn look_at(pattern: &str, before: &str, pieces: &[&[u8]]) -> Option<Fields> {
    let path = HOST.directory.path().join("app.log");
    let spec = ProbeSpec::LogMatch {
        path: path.clone(),
        pattern: pattern.to_owned(),
        before: (!before.is_empty()).then(|| before.to_owned()),
        window: WINDOW,
    };
    HOST.runtime.block_on(async {
        let mut probe = probes::build(&spec, &HOST.context).ok()?;
        fs::write(&path, b"").expect("the log is emptied");
        let mut seen = None;
        for piece in pieces {
            append(&path, piece);
            seen = Some(look(probe.as_mut()).await);
        }
        seen
    })
}

fn append(path: &PathBuf, piece: &[u8]) {
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("the log");
    file.write_all(piece).expect("the log grows");
}

async fn look(probe: &mut dyn Probe) -> Fields {
    match probe.attempt(TIMEOUT).await {
        Attempt::Judged { result: Ok(()), fields } => fields,
        Attempt::Judged { result: Err(error), .. } => panic!("the log was not read: {error}"),
        Attempt::Unjudged { reason, .. } => panic!("the log was not looked at: {reason}"),
    }
}

/// How many of a log's newest lines match, counted the plain way.
fn count(pattern: &regex::bytes::Regex, log: &[u8]) -> f64 {
    let ended = log.strip_suffix(b"\n");
    let lines: Vec<&[u8]> =
        if log.is_empty() { Vec::new() } else { ended.unwrap_or(log).split(|b| *b == b'\n').collect() };
    let newest = lines.iter().enumerate().skip(lines.len().saturating_sub(WINDOW as usize));
    let matches = newest.filter(|(number, line)| {
        let cut = &line[..line.len().min(LINE_BYTES)];
        let has_end = ended.is_some() || number + 1 < lines.len();
        pattern.is_match(if has_end { cut.strip_suffix(b"\r").unwrap_or(cut) } else { cut })
    });
    f64::from(u32::try_from(matches.count()).unwrap_or(u32::MAX))
}
