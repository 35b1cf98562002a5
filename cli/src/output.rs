//! What is printed: tables for people, JSON and YAML for programs, names for scripts.

use std::io::Write as _;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use crate::{error::Error, render::yaml};

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, at most 80 columns.
    Table,
    /// For people with wide terminals.
    Wide,
    /// For programs: stable and documented.
    Json,
    /// For programs that want to be read.
    Yaml,
    /// Names alone, one a line.
    Name,
}

impl Format {
    /// Whether it is for programs.
    pub fn is_data(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

/// Prints a text as it is: it must have been escaped.
///
/// # Errors
/// Standard output is closed or fails.
pub fn text(text: &str) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| match source.kind() {
        std::io::ErrorKind::BrokenPipe => Error::OutputClosed,
        _ => Error::File { action: "write", path: "standard output".to_owned(), source },
    })
}

/// Prints one line.
///
/// # Errors
/// As for [`text`].
pub fn line(line: &str) -> Result<(), Error> {
    text(&format!("{line}\n"))
}

/// Prints a value for programs.
///
/// # Errors
/// As for [`text`].
pub fn data(format: Format, value: &impl Serialize) -> Result<(), Error> {
    let value = to_value(value)?;
    match format {
        Format::Yaml => text(&yaml::write(&value)),
        _ => line(&json(&value, true)),
    }
}

/// Says something on standard error that is not part of the answer.
pub fn note(text: &str) {
    // Standard error may be closed; a note is not worth failing for.
    let _ = writeln!(anstream::stderr(), "{}", crate::render::escape::line(text));
}

/// Warns on standard error.
pub fn warning(text: &str) {
    note(&format!("warning: {text}"));
}

/// As JSON in memory.
///
/// # Errors
/// Never for the views of the wire.
pub fn to_value(value: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|error| Error::Failed(format!("this has no JSON form: {error}")))
}

/// JSON, of which nothing that a terminal would obey is left: such characters stand in strings only, where `\u` is
/// their equal.
pub fn json(value: &Value, pretty: bool) -> String {
    let text = if pretty { format!("{value:#}") } else { value.to_string() };
    if !text.chars().any(is_obeyed) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_obeyed(character) {
            safe.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            safe.push(character);
        }
    }
    safe
}

fn is_obeyed(character: char) -> bool {
    character != '\n' && crate::render::escape::is_hostile(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_safe_for_terminals_and_still_the_same() {
        let value = serde_json::json!({ "name": "a\u{9b}2J\u{202e}\u{1b}[2J\n\u{7f}é" });
        for pretty in [true, false] {
            let text = json(&value, pretty);
            assert!(!text.chars().any(|character| character != '\n' && character.is_control()), "{text:?}");
            assert!(!text.contains('\u{202e}') && text.contains('é'), "{text:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
