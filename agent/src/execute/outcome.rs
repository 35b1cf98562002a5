//! How an order ended, as the journal keeps it and as the wire carries it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use quell_model::{action::LONGEST_OUTPUT, digest::Digest, preview, value::Value};
use quell_wire::v1;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::actions::{Change, Item, Preview, Refusal};

/// How an order can end, by name: the journal must not depend on the wire's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Applied, and it held.
    Succeeded,
    /// There was nothing to do.
    NoChange,
    /// This host said no.
    Refused,
    /// It was tried and did not work.
    Failed,
    /// It failed and was taken back.
    Undone,
    /// Nobody can say.
    Unknown,
    /// It was called off or its time was over before it began.
    NotStarted,
}

impl Kind {
    fn wire(self) -> v1::OutcomeKind {
        match self {
            Self::Succeeded => v1::OutcomeKind::Succeeded,
            Self::NoChange => v1::OutcomeKind::NoChange,
            Self::Refused => v1::OutcomeKind::Refused,
            Self::Failed => v1::OutcomeKind::Failed,
            Self::Undone => v1::OutcomeKind::Undone,
            Self::Unknown => v1::OutcomeKind::Unknown,
            Self::NotStarted => v1::OutcomeKind::NotStarted,
        }
    }
}

/// An outcome, before it is known to whom it belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// In one word.
    pub kind: Kind,
    /// What it changed, or why nothing.
    pub change: Change,
    /// The line of `agent.toml` that would permit it; empty when no line would.
    pub remedy: String,
    /// Whether it was refused because what it would touch is not what was previewed any more.
    pub moved: bool,
}

impl End {
    /// One that is told in one line.
    pub fn new(kind: Kind, summary: impl Into<String>) -> Self {
        Self { kind, change: Change::new(summary), remedy: String::new(), moved: false }
    }

    /// A refusal.
    pub fn refused(refusal: Refusal) -> Self {
        Self { kind: Kind::Refused, change: Change::new(refusal.reason), remedy: refusal.remedy, moved: false }
    }
}

/// How an order ended, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Under which key the journal finds it.
    pub key: String,
    /// "cmd-17".
    pub command_id: String,
    /// The order's fence.
    pub fence: u64,
    /// How it ended, in one word,
    pub kind: Kind,
    /// and in one line.
    pub summary: String,
    /// From its beginning to its end, milliseconds.
    pub duration_ms: u64,
    /// When it ended, Unix time in milliseconds.
    pub ended_unix_ms: i64,
    /// What the action reported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
    /// The end of its output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// The line of `agent.toml` that would permit it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// Nothing was to be changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// It was refused because what it would touch is not what was previewed any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
}

impl Stored {
    /// The outcome of an order that took `duration` and ended at `now` by the host's wall clock.
    pub fn of(command: &v1::Command, key: &str, end: End, duration: Duration, now: jiff::Timestamp) -> Self {
        Self {
            key: key.to_owned(),
            command_id: command.command_id.clone(),
            fence: command.fence,
            kind: end.kind,
            summary: end.change.summary,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            ended_unix_ms: now.as_millisecond(),
            values: end.change.values,
            output: cut_front(end.change.output, LONGEST_OUTPUT),
            remedy: end.remedy,
            dry_run: command.dry_run,
            moved: end.moved,
        }
    }

    /// The outcome as the wire carries it, so many milliseconds old, with the key that the controller knows.
    pub fn wire(&self, age_ms: u64) -> v1::Outcome {
        v1::Outcome {
            command_id: self.command_id.clone(),
            idempotency_key: super::wire_key(&self.key).to_owned(),
            kind: self.kind.wire().into(),
            summary: self.summary.clone(),
            duration_ms: self.duration_ms,
            age_ms,
            values: self.values.iter().map(|(name, value)| field(name, value)).collect(),
            output: self.output.clone(),
            remedy: self.remedy.clone(),
            dry_run: self.dry_run,
            moved: self.moved,
        }
    }
}

/// Keeps the end of a text, from a whole character on.
fn cut_front(mut text: String, limit: usize) -> String {
    let mut from = text.len().saturating_sub(limit);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.drain(..from);
    text
}

/// When outcomes of this process ended, by its monotonic clock; those of an earlier one are dated by the wall clock.
#[derive(Debug, Default)]
pub(crate) struct Ends(Mutex<HashMap<String, Instant>>);

impl Ends {
    pub(crate) fn note(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), Instant::now());
    }

    pub(crate) fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn age_ms(&self, stored: &Stored) -> u64 {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&stored.key).copied();
        match ended {
            Some(ended) => u64::try_from(ended.elapsed().as_millis()).unwrap_or(u64::MAX),
            None => u64::try_from(jiff::Timestamp::now().as_millisecond() - stored.ended_unix_ms).unwrap_or(0),
        }
    }

    /// The outcome as the wire carries it.
    pub(crate) fn wire(&self, stored: &Stored) -> v1::Outcome {
        stored.wire(self.age_ms(stored))
    }
}

fn field(name: &str, value: &Value) -> v1::Field {
    let value = match value {
        Value::Flag(flag) => v1::field::Value::Flag(*flag),
        Value::Number(number) => v1::field::Value::Number(*number),
        Value::Text(text) => v1::field::Value::Text(text.clone()),
    };
    v1::Field { name: name.to_owned(), value: Some(value) }
}

/// What an approval binds of a preview: the objects that would be touched, and how.
pub(crate) fn preview_digest(preview: &Preview) -> Digest {
    preview::digest(&listed(preview))
}

/// The objects of a preview as they are hashed and shown.
fn listed(preview: &Preview) -> Vec<preview::Item> {
    let item = |item: &Item| preview::Item {
        verb: item.verb.to_owned(),
        object: item.object.clone(),
        size: item.size,
        detail: item.detail.clone(),
        moving: item.moving,
    };
    preview.items.iter().map(item).collect()
}

/// A preview as the wire carries it.
///
/// One that is longer than people read is a refusal.
pub(crate) fn preview(command_id: &str, checked: Result<Preview, Refusal>) -> v1::Preview {
    let checked = checked.map(|preview| (listed(&preview), preview.note));
    let (items, note, refusal) = match checked.map(|(items, note)| (preview::check(&items), items, note)) {
        Ok((Ok(()), items, note)) => (items, note, String::new()),
        Ok((Err(too_much), _, note)) => (Vec::new(), note, too_much.to_string()),
        Err(refusal) => (Vec::new(), String::new(), refusal.reason),
    };
    let digest = preview::digest(&items);
    let items = items
        .into_iter()
        .map(|item| v1::PreviewItem {
            verb: item.verb,
            object: item.object,
            size_bytes: item.size,
            detail: item.detail,
            moving: item.moving,
        })
        .collect();
    v1::Preview { command_id: command_id.to_owned(), items, refusal, digest: digest.0.to_vec(), note }
}

/// What a dry run answers: the same looks, and nothing done.
pub(crate) fn dry_run(checked: Result<Preview, Refusal>) -> End {
    match checked {
        Err(refusal) => End::refused(refusal),
        Ok(preview) if preview.items.is_empty() => End::new(Kind::NoChange, preview.note),
        Ok(preview) => {
            let lines: Vec<String> = preview
                .items
                .iter()
                .map(|item| format!("{} {} {}", item.verb, item.object, item.detail).trim_end().to_owned())
                .collect();
            let mut end = End::new(Kind::Succeeded, format!("would {}", lines.join("; would ")));
            end.change.output = lines.join("\n");
            if !preview.note.is_empty() {
                end.change.summary.push_str(&format!("; {}", preview.note));
            }
            end
        }
    }
}
