//! `file`: a file's age and size, and what it says; told when that changes.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use quell_model::{
    probe::{ProbeKind, ProbeSpec},
    value::Fields,
};
use regex::bytes::Regex;
use rustix::fs::OFlags;
use tokio::time::Instant;

use super::{Attempt, Boxed, Built, Context, Kind, Probe, blocking::Lane, log_match, pattern};
use crate::watch::Watched;

/// This kind in the list.
pub const KIND: Kind = Kind { kind: ProbeKind::File, build };

/// How much of a file a pattern is looked for in, in bytes.
const CONTENT_BYTES: u64 = 64 * 1024;

fn build(spec: &ProbeSpec, context: &Context) -> Built {
    let ProbeSpec::File { path, parse } = spec else { return None };
    let made = || {
        let parse = parse.as_deref().map(pattern::compile).transpose()?;
        let watched = context.watcher.file(path);
        let path = Arc::from(path.as_path());
        Ok(Box::new(File { path, parse, lane: Lane::default(), watched, looked: None }) as Box<dyn Probe>)
    };
    Some(made())
}

struct File {
    path: Arc<Path>,
    parse: Option<Regex>,
    lane: Lane,
    watched: Watched,
    looked: Option<Instant>,
}

impl Probe for File {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move {
            self.watched.arm();
            self.looked = Some(Instant::now());
            let (path, parse) = (Arc::clone(&self.path), self.parse.clone());
            Attempt::either(self.lane.run(timeout, move || look(&path, parse.as_ref())).await)
        })
    }

    fn changed(&mut self) -> Boxed<'_, ()> {
        Box::pin(log_match::changed(&self.watched, self.looked))
    }

    fn cost(&mut self) -> Duration {
        self.lane.cost()
    }
}

fn look(path: &Path, parse: Option<&Regex>) -> Attempt {
    match read(path) {
        Ok((content, mut fields)) => {
            let value = match parse {
                None => Some(content.trim_ascii()),
                // Without the newline at its end, which `echo 15 > file` leaves: a pattern's `$` means the end.
                Some(pattern) => pattern.captures(content.trim_ascii()).map(|captures| {
                    captures.get(1).or_else(|| captures.get(0)).map_or(&b""[..], |group| group.as_bytes())
                }),
            };
            match value {
                Some(value) => {
                    fields.insert("value".to_owned(), pattern::captured(value));
                    Attempt::good(fields)
                }
                None => Attempt::bad(format!("{} does not match the pattern", path.display()), fields),
            }
        }
        Err(error) => Attempt::bad(format!("{} cannot be read: {error}", path.display()), Fields::new()),
    }
}

/// The beginning of the file, its size and its age.
fn read(path: &Path) -> io::Result<(Vec<u8>, Fields)> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "sizes of files are exact in a double")]
    let size = metadata.len() as f64;
    let mut content = Vec::new();
    file.take(CONTENT_BYTES).read_to_end(&mut content)?;
    let age = (age.as_secs_f64() * 1000.0).round() / 1000.0;
    Ok((content, Fields::from([("size".to_owned(), size.into()), ("age".to_owned(), age.into())])))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn value(content: &[u8], parse: Option<&str>) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters");
        fs::write(&path, content).unwrap();
        let parse = parse.map(|pattern| pattern::compile(pattern).unwrap());
        match look(&path, parse.as_ref()) {
            Attempt::Judged { result: Ok(()), fields } => fields["value"].text().map(str::to_owned),
            Attempt::Judged { result: Err(_), fields } => {
                assert!(fields.contains_key("size") && !fields.contains_key("value"));
                None
            }
            Attempt::Unjudged { .. } => panic!("the file was there"),
        }
    }

    #[test]
    fn the_value_is_what_the_pattern_captures_or_the_whole() {
        assert_eq!(value(b" 15 \n", None).as_deref(), Some("15"));
        assert_eq!(value(b"processed 16\noutstanding 3\n", Some(r"outstanding (\d+)")).as_deref(), Some("3"));
        assert_eq!(value(b"15\n", Some(r"^(\d+)$")).as_deref(), Some("15"));
        assert_eq!(value(b"ready", Some("ready")).as_deref(), Some("ready"));
        assert_eq!(value(b"processed 16", Some(r"outstanding (\d+)")), None);
    }
}
