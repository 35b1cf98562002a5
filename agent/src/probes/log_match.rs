//! `logMatch`: how many of a log's newest lines match, what the newest match captured, and what stood before it.
//!
//! Reading lines is [`follow`]'s; this file judges them. New lines are told of when they are written, several in quick
//! succession as one.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quell_model::{
    probe::{ProbeKind, ProbeSpec},
    value::Fields,
};
use regex::bytes::Regex;
use tokio::time::Instant;

use super::{Attempt, Boxed, Built, Context, Kind, Probe, blocking::Lane, pattern};
use crate::watch::Watched;
use follow::Follower;

mod follow;

/// This kind in the list.
pub const KIND: Kind = Kind { kind: ProbeKind::LogMatch, build };

/// Shortest time between two looks that were not due: a log that is written to all the time costs no more than this.
pub(super) const LEAST_BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Most lines that a policy may look at.
const MOST_LINES: u32 = 10_000;

/// Lines and bytes of the field `tail`.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: usize = 4096;

/// Most lines and bytes that a request for the tail is answered with, and of each line.
const REQUEST_LINES: usize = 1000;
const REQUEST_BYTES: usize = 1024 * 1024;

fn build(spec: &ProbeSpec, context: &Context) -> Built {
    let ProbeSpec::LogMatch { path, pattern, before, window } = spec else { return None };
    let made = || {
        let before = before.as_deref().map(pattern::compile).transpose()?;
        let judge = Judge { pattern: pattern::compile(pattern)?, before };
        let window = usize::try_from((*window).clamp(1, MOST_LINES)).unwrap_or(1);
        Ok(Box::new(LogMatch {
            path: path.clone(),
            state: Arc::new(Mutex::new(State { follower: Follower::new(path.clone(), window), judge })),
            lane: Lane::default(),
            watched: context.watcher.file(path),
            looked: None,
        }) as Box<dyn Probe>)
    };
    Some(made())
}

struct LogMatch {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    lane: Lane,
    watched: Watched,
    looked: Option<Instant>,
}

struct State {
    follower: Follower,
    judge: Judge,
}

struct Judge {
    pattern: Regex,
    before: Option<Regex>,
}

impl State {
    fn look(&mut self) -> Attempt {
        let read = self.follower.look(&self.judge.pattern);
        let fields = self.judge.fields(&self.follower);
        match read {
            Ok(()) => Attempt::good(fields),
            Err(error) => Attempt::bad(format!("{} cannot be read: {error}", self.follower.path().display()), fields),
        }
    }
}

impl Judge {
    fn fields(&self, follower: &Follower) -> Fields {
        let lines: Vec<(&[u8], bool)> = follower.window(&self.pattern).collect();
        #[expect(clippy::cast_precision_loss, reason = "a window has few lines")]
        let matches = lines.iter().filter(|(_, matches)| *matches).count() as f64;
        let tail = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).map(|(line, _)| *line);
        let mut fields =
            Fields::from([("matches".to_owned(), matches.into()), ("tail".to_owned(), newest(tail).into())]);
        if let Some(newest) = lines.iter().rposition(|(_, matches)| *matches) {
            add(&self.pattern, lines[newest].0, &mut fields);
            if let Some(before) = &self.before
                && let Some((line, _)) = lines[..newest].iter().rev().find(|(line, _)| before.is_match(line))
            {
                add(before, line, &mut fields);
            }
        }
        fields
    }
}

fn add(pattern: &Regex, line: &[u8], fields: &mut Fields) {
    if let Some(captures) = pattern.captures(line) {
        pattern::add_groups(pattern, &captures, "captures.", fields);
    }
}

/// Lines as text, the newest that fit.
fn newest<'a>(lines: impl DoubleEndedIterator<Item = &'a [u8]>) -> String {
    let mut left = TAIL_BYTES;
    let mut kept: Vec<String> = Vec::new();
    for line in lines.rev() {
        let text = pattern::text(line, left);
        let fits = line.len() < left;
        left = left.saturating_sub(text.len() + 1);
        kept.push(text);
        if !fits {
            break;
        }
    }
    kept.reverse();
    kept.join("\n")
}

impl Probe for LogMatch {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move {
            self.watched.arm();
            self.looked = Some(Instant::now());
            let state = Arc::clone(&self.state);
            let work = move || state.lock().unwrap_or_else(PoisonError::into_inner).look();
            Attempt::either(self.lane.run(timeout, work).await)
        })
    }

    fn changed(&mut self) -> Boxed<'_, ()> {
        Box::pin(changed(&self.watched, self.looked))
    }

    fn cost(&mut self) -> Duration {
        self.lane.cost()
    }

    fn tail(&mut self, lines: usize) -> Boxed<'_, Result<Vec<String>, String>> {
        let path = self.path.clone();
        Box::pin(async move {
            let shown = path.display().to_string();
            let read =
                tokio::task::spawn_blocking(move || follow::tail(&path, lines.min(REQUEST_LINES), REQUEST_BYTES));
            match tokio::time::timeout(Duration::from_secs(10), read).await {
                Ok(Ok(Ok(lines))) => Ok(lines.iter().map(|line| pattern::text(line, follow::LINE_BYTES)).collect()),
                Ok(Ok(Err(error))) => Err(format!("{shown} cannot be read: {error}")),
                Ok(Err(error)) => Err(format!("{shown} could not be read: {error}")),
                Err(_) => Err(format!("{shown} could not be read within 10s")),
            }
        })
    }
}

/// Returns when a watched file has changed, though not sooner after the last look than [`LEAST_BETWEEN_LOOKS`].
pub(super) async fn changed(watched: &Watched, looked: Option<Instant>) {
    // Waiting first keeps this cancel-safe: what was told meanwhile is kept by the watch.
    if let Some(looked) = looked {
        tokio::time::sleep_until(looked + LEAST_BETWEEN_LOOKS).await;
    }
    watched.changed().await;
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn look(text: &[u8], pattern: &str, before: Option<&str>, window: usize) -> Fields {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("order_processing.log");
        fs::write(&path, text).unwrap();
        let judge = Judge {
            pattern: pattern::compile(pattern).unwrap(),
            before: before.map(|text| pattern::compile(text).unwrap()),
        };
        let mut state = State { follower: Follower::new(path, window), judge };
        let Attempt::Judged { result: Ok(()), fields } = state.look() else { panic!("not read") };
        fields
    }

    const ORDERS: &[u8] = b"Processing Order 3\nDone\nProcessing Order 4\nError Processing Order. Error #12";
    const ERROR: &str = r"Error #(?<error>\d+)";
    const ORDER: &str = r"Processing Order (?<order>\d+)";

    #[test]
    fn the_newest_match_and_what_stood_before_it_are_captured() {
        let fields = look(ORDERS, ERROR, Some(ORDER), 100);
        assert_eq!(fields["matches"], 1.0.into());
        assert_eq!((&fields["captures.error"], &fields["captures.order"]), (&"12".into(), &"4".into()));
        assert!(fields["tail"].text().unwrap().ends_with("Processing Order 4\nError Processing Order. Error #12"));
    }

    #[test]
    fn only_the_window_counts() {
        let fields = look(b"Error #1\nError #2\nfine\n", ERROR, None, 2);
        assert_eq!((&fields["matches"], &fields["captures.error"]), (&1.0.into(), &"2".into()));
        let fields = look(b"Error #1\nfine\n", ERROR, None, 1);
        assert_eq!(fields["matches"], 0.0.into());
        assert!(!fields.contains_key("captures.error"));
    }

    #[test]
    fn what_is_no_text_is_matched_and_captured_in_bounds() {
        let mut text = vec![0; 10 * 1024 * 1024];
        text.extend(b"\nnoise \xc3\x28\xf0\x9f\n");
        text.extend(b"Error #\xff\x00\x1b]0;x\x07 at ");
        text.extend(vec![0xfe; 1_000_000]);
        let fields = look(&text, "Error #(?<error>(?-u:[^ ]+)) at (?<rest>(?-u:.+))", None, 10_000);
        assert_eq!(fields["matches"], 1.0.into());
        assert_eq!(fields["captures.error"], "\u{fffd}\0\u{1b}]0;x\u{7}".into());
        for value in fields.values().filter_map(quell_model::value::Value::text) {
            // A byte that is no text becomes a character of three.
            assert!(value.len() <= 3 * TAIL_BYTES, "{} bytes", value.len());
        }
    }

    #[test]
    fn the_tail_is_bounded_and_hostile_bytes_are_text() {
        let mut text = vec![b'x'; 100_000];
        text.extend(b"\n\xff\x00\x1b[2J Error #7\n");
        let fields = look(&text, ERROR, None, 100);
        assert_eq!(fields["captures.error"], "7".into());
        assert!(fields["tail"].text().unwrap().len() <= TAIL_BYTES + 8);
        assert!(fields["tail"].text().unwrap().ends_with("Error #7"));
    }
}
