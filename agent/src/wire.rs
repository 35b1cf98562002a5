//! Between the wire and the agent's own types: every message is converted here, once.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use quell_model::{manifest::probe_from_canonical, value::Value};
use quell_wire::v1;

use crate::{execute::Report, guard::needs_signature, hold::Hold, probes::runner::Assignment};

/// Longest name of a field that the controller takes, in bytes. A mount point may be longer; it is then not reported.
const NAME_BYTES: usize = 256;

/// Most entries of the journal that a hello carries, and most bytes of output in them.
const JOURNAL_ENTRIES: usize = 1000;
const JOURNAL_OUTPUT_BYTES: usize = 1024 * 1024;

/// How often a probe that is not understood says so.
const UNKNOWN_EVERY: Duration = Duration::from_secs(60);

/// A field; absent when its name is too long to be sent.
pub fn field((name, value): (&String, &Value)) -> Option<v1::Field> {
    let value = match value {
        Value::Flag(flag) => v1::field::Value::Flag(*flag),
        Value::Number(number) => v1::field::Value::Number(*number),
        Value::Text(text) => v1::field::Value::Text(text.clone()),
    };
    (name.len() <= NAME_BYTES).then(|| v1::Field { name: name.clone(), value: Some(value) })
}

/// A span in milliseconds.
pub fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A probe to run. One that this version does not understand is run as one that says so: an unknown kind is refused,
/// never guessed.
pub fn assignment(message: &v1::ProbeAssignment, vouched: &BTreeSet<String>) -> Assignment {
    let key: Arc<str> = message.key.as_str().into();
    let read = std::str::from_utf8(&message.spec).map_err(|error| error.to_string()).and_then(|text| {
        probe_from_canonical(text).map_err(|errors| {
            let first = errors.first().map(|error| error.message.clone()).unwrap_or_default();
            format!("this agent does not understand the probe: {first}; update the agent")
        })
    });
    match read {
        Ok(probe) => {
            let is_signed = !needs_signature(&probe.spec) || vouched.contains(&probe.canonical);
            let unsigned = "nobody signed this probe, which reads the host: sign its policy with `quell apply`";
            let spec = if is_signed { Ok(probe.spec) } else { Err(unsigned.to_owned()) };
            Assignment { key, every: probe.every, timeout: probe.timeout, spec }
        }
        Err(reason) => Assignment { key, every: UNKNOWN_EVERY, timeout: UNKNOWN_EVERY, spec: Err(reason) },
    }
}

/// What became of an order.
pub fn report(report: Report) -> v1::agent_message::Body {
    use v1::agent_message::Body;
    match report {
        Report::Started(started) => Body::Started(started),
        Report::Preview(preview) => Body::Preview(preview),
        Report::Outcome(outcome) => Body::Outcome(outcome),
    }
}

/// The orders that the agent has, as a hello can carry them: the newest entries of the journal, with no more output than a
/// message has room for (the outcomes' own messages have it whole), and the names of all others.
pub fn at_hand(
    mut at_hand: BTreeSet<String>,
    mut journal: Vec<v1::JournalEntry>,
) -> (Vec<v1::JournalEntry>, Vec<String>) {
    for entry in &journal {
        at_hand.remove(&entry.command_id);
    }
    let older = journal.drain(..journal.len().saturating_sub(JOURNAL_ENTRIES));
    at_hand.extend(older.map(|entry| entry.command_id));
    let mut left = JOURNAL_OUTPUT_BYTES;
    for outcome in journal.iter_mut().rev().filter_map(|entry| entry.outcome.as_mut()) {
        match left.checked_sub(outcome.output.len()) {
            Some(rest) => left = rest,
            None => outcome.output.clear(),
        }
    }
    (journal, at_hand.into_iter().collect())
}

/// The hold of the host's administrator.
pub fn hold(hold: Option<&Hold>) -> v1::HostHold {
    match hold {
        Some(hold) => {
            v1::HostHold { held: true, reason: hold.reason.clone(), until_unix_ms: hold.until.as_millisecond() }
        }
        None => v1::HostHold::default(),
    }
}

/// The lines of a log, or why there are none.
pub fn log_tail(request_id: String, tail: Result<Vec<String>, String>) -> v1::LogTail {
    match tail {
        Ok(lines) => v1::LogTail { request_id, lines, error: String::new() },
        Err(error) => v1::LogTail { request_id, lines: Vec::new(), error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_of_another_version_is_told_apart() {
        let message = |spec: &str| v1::ProbeAssignment {
            key: "k".to_owned(),
            spec: spec.as_bytes().to_vec(),
            authorities: Vec::new(),
        };
        let file = r#"{"every":"5s","file":{"path":"/a"},"timeout":"2s"}"#;
        let vouched = BTreeSet::from([file.to_owned()]);
        let assignment = |message: &v1::ProbeAssignment| super::assignment(message, &vouched);
        let known = assignment(&message(file));
        let other = assignment(&message(r#"{"every":"5s","file":{"path":"/b"},"timeout":"2s"}"#));
        assert!(other.spec.unwrap_err().contains("nobody signed this probe"));
        assert!(
            assignment(&message(r#"{"every":"5s","tcp":{"address":"web.example:80"},"timeout":"2s"}"#)).spec.is_ok()
        );
        assert_eq!(
            (known.every, known.timeout, known.spec.is_ok()),
            (Duration::from_secs(5), Duration::from_secs(2), true)
        );
        assert!(
            assignment(&message(r#"{"ping":{"host":"a"},"every":"5s"}"#))
                .spec
                .unwrap_err()
                .contains("update the agent")
        );
        assert!(assignment(&v1::ProbeAssignment { spec: vec![0xff], ..message("") }).spec.is_err());
    }

    #[test]
    fn a_long_journal_fits_into_a_message() {
        let entry = |number: usize| v1::JournalEntry {
            command_id: format!("cmd-{number}"),
            outcome: Some(v1::Outcome { output: "x".repeat(8 * 1024), ..v1::Outcome::default() }),
            ..v1::JournalEntry::default()
        };
        let waiting = ["cmd-7000", "cmd-600"].map(str::to_owned).into();
        let (journal, at_hand) = at_hand(waiting, (0..1500).map(entry).collect());
        assert_eq!((journal.len(), journal[0].command_id.as_str()), (1000, "cmd-500"));
        let named = |id: &str| at_hand.iter().any(|named| named == id);
        assert!(named("cmd-0") && named("cmd-499") && named("cmd-7000"), "what has no room is named all the same");
        assert!(!named("cmd-500") && !named("cmd-600") && at_hand.len() == 501, "what the journal tells is told once");
        let outputs: Vec<usize> =
            journal.iter().map(|entry| entry.outcome.as_ref().map_or(0, |outcome| outcome.output.len())).collect();
        assert_eq!(outputs.iter().sum::<usize>(), JOURNAL_OUTPUT_BYTES);
        assert!(outputs[0] == 0 && outputs[999] > 0);
    }

    #[test]
    fn a_name_that_is_too_long_is_not_sent() {
        assert!(field((&"x".repeat(257), &Value::Flag(true))).is_none());
        assert!(field((&"x".repeat(256), &Value::Flag(true))).is_some());
    }
}
