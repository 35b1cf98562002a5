//! What people type, checked: names, selectors, spans of time, reasons.

use std::{collections::BTreeSet, str::FromStr, time::Duration};

use quell_engine::{State, id::PlanId, state::PlanRow};
use quell_model::{
    name::FullName,
    selector::{Labels, Selector},
};
use tonic::Status;

/// Longest reason or note, bytes.
const REASON_BYTES: usize = 4 << 10;
/// Most labels of a host or selector.
const LABELS: usize = 64;
/// Longest name or value of a label, bytes.
const LABEL_BYTES: usize = 253;

/// A name in its type.
///
/// # Errors
/// It is not of the form wanted.
pub(super) fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: T::Err| Status::invalid_argument(error.to_string()))
}

/// A reason, which must be there.
///
/// # Errors
/// It is empty or too long.
pub(super) fn reason(text: &str) -> Result<String, Status> {
    if text.trim().is_empty() {
        return Err(Status::invalid_argument("a reason is needed: say with --reason why"));
    }
    note(text)
}

/// A text for people, which may be empty.
///
/// # Errors
/// It is too long.
pub(super) fn note(text: &str) -> Result<String, Status> {
    if text.len() > REASON_BYTES {
        return Err(Status::invalid_argument(format!(
            "a text of {} bytes is too long: at most {REASON_BYTES}",
            text.len()
        )));
    }
    Ok(text.trim().to_owned())
}

/// A span of time in milliseconds, inside its bounds.
///
/// # Errors
/// It is zero or too long.
pub(super) fn span(what: &str, millis: u64, most: Duration) -> Result<Duration, Status> {
    let span = Duration::from_millis(millis);
    if span.is_zero() || span > most {
        let most = most.as_secs();
        return Err(Status::invalid_argument(format!(
            "{what} is {millis} ms; it must be above 0 and at most {most} s"
        )));
    }
    Ok(span)
}

/// A selector as the CLI writes it: `role=web,zone=a`, or `all`. Nothing is nobody, and nobody is refused here: who asks
/// for something to happen means somebody.
///
/// # Errors
/// It is empty or malformed.
pub(super) fn selector(text: &str) -> Result<Selector, Status> {
    match parse(text)? {
        Selector::Labels(labels) => Ok(Selector::labels(self::labels(labels)?)),
        other => Ok(other),
    }
}

/// Labels from the wire.
///
/// # Errors
/// There are too many, or one is empty, too long, or holds what a selector could not name.
pub(super) fn labels(labels: Labels) -> Result<Labels, Status> {
    if labels.len() > LABELS {
        return Err(Status::invalid_argument(format!("{} labels are more than {LABELS}", labels.len())));
    }
    let fits = |text: &str| {
        (1..=LABEL_BYTES).contains(&text.len())
            && text.chars().all(|character| character.is_ascii_alphanumeric() || "-_./:".contains(character))
    };
    match labels.iter().find(|(key, value)| !fits(key) || !fits(value)) {
        None => Ok(labels),
        Some((key, value)) => Err(Status::invalid_argument(format!(
            "the label {key:?}={value:?} cannot be used: keys and values take letters, digits and -_./: and are 1 to {LABEL_BYTES} characters long"
        ))),
    }
}

/// A policy by its full name, or by its name alone where only one namespace has it.
///
/// # Errors
/// There is none, or more than one.
pub(super) fn policy(state: &State, text: &str) -> Result<FullName, Status> {
    let policies = state.manifests.keys().filter(|(kind, _)| kind == "Policy").map(|(_, name)| name);
    if text.contains('/') {
        let name: FullName = parse(text)?;
        let known = policies.into_iter().any(|policy| *policy == name);
        return if known { Ok(name) } else { Err(no_policy(state, text)) };
    }
    let found: Vec<&FullName> = policies.filter(|policy| policy.name.as_str() == text).collect();
    match found[..] {
        [] => Err(no_policy(state, text)),
        [one] => Ok(one.clone()),
        _ => {
            let names: Vec<String> = found.iter().map(ToString::to_string).collect();
            Err(Status::invalid_argument(format!(
                "{text} is a policy of several namespaces: write one of {}",
                names.join(", ")
            )))
        }
    }
}

fn no_policy(state: &State, text: &str) -> Status {
    let names: BTreeSet<String> =
        state.manifests.keys().filter(|(kind, _)| kind == "Policy").map(|(_, name)| name.to_string()).collect();
    let known = match names.len() {
        0 => "none is applied yet".to_owned(),
        _ => format!("there are {}", names.into_iter().take(20).collect::<Vec<_>>().join(", ")),
    };
    Status::not_found(format!("there is no policy {text}: {known}"))
}

/// A plan by its number or the beginning of its hash.
///
/// # Errors
/// There is none, or more than one.
pub(super) fn plan<'a>(state: &'a State, text: &str) -> Result<&'a PlanRow, Status> {
    if let Ok(id) = text.parse::<PlanId>() {
        let row = state.plans.get(&id).ok_or_else(|| Status::not_found(format!("there is no {id}")))?;
        return Ok(row);
    }
    if text.len() < 6 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Status::invalid_argument(format!(
            "{text:?} is neither a plan's number (plan-7) nor the first six or more digits of its hash"
        )));
    }
    let mut found = state.plans.values().filter(|row| row.hash.to_string().starts_with(text));
    match (found.next(), found.next()) {
        (Some(row), None) => Ok(row),
        (None, _) => Err(Status::not_found(format!("there is no plan whose hash begins with {text}"))),
        _ => Err(Status::invalid_argument(format!("several plans' hashes begin with {text}: write more of it"))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn nothing_is_nobody_and_everybody_is_written_out() {
        for nobody in ["", "  "] {
            assert_eq!(selector(nobody).unwrap_err().code(), Code::InvalidArgument);
        }
        assert_eq!(selector("all").unwrap(), Selector::All);
        let labels = [("role".to_owned(), "web".to_owned()), ("zone".to_owned(), "a".to_owned())].into();
        assert_eq!(selector("role=web, zone=a").unwrap(), Selector::Labels(labels));
        for wrong in ["role", "role=", "=web", "role=web,", "role=a,role=b", "role=a b", "*", "ALL"] {
            assert_eq!(selector(wrong).unwrap_err().code(), Code::InvalidArgument, "{wrong}");
        }
    }

    #[test]
    fn reasons_and_spans_have_bounds() {
        assert!(reason(" ").is_err());
        assert!(reason(&"x".repeat(REASON_BYTES + 1)).is_err());
        assert_eq!(reason(" kernel ").unwrap(), "kernel");
        let hour = Duration::from_secs(3_600);
        assert!(span("for", 0, hour).is_err());
        assert!(span("for", 3_600_001, hour).is_err());
        assert!(span("for", u64::MAX, hour).is_err());
        assert_eq!(span("for", 3_600_000, hour).unwrap(), hour);
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let state = State::default();
        assert_eq!(policy(&state, "plants/dns").unwrap_err().code(), Code::NotFound);
        assert_eq!(policy(&state, "dns").unwrap_err().code(), Code::NotFound);
        assert_eq!(plan(&state, "plan-7").unwrap_err().code(), Code::NotFound);
        assert_eq!(plan(&state, "abcdef").unwrap_err().code(), Code::NotFound);
        assert_eq!(plan(&state, "abc").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(plan(&state, "seven").unwrap_err().code(), Code::InvalidArgument);
    }
}
