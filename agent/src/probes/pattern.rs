//! Regular expressions of policies: bounded in size when compiled, linear in time when run.

use quell_model::{
    probe::PATTERN_SIZE_LIMIT,
    value::{Fields, Value},
};
use regex::bytes::{Captures, Regex, RegexBuilder};

/// Memory that the lazily built automaton of one pattern may use, in bytes.
const AUTOMATON_BYTES: usize = 256 * 1024;

/// Longest text that a group or a content may give, in bytes.
pub const CAPTURE_BYTES: usize = 4096;

/// Compiles a pattern; input need not be UTF-8.
///
/// # Errors
/// It is not a regular expression, or one that would need too much memory.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_SIZE_LIMIT)
        .dfa_size_limit(AUTOMATON_BYTES)
        .build()
        .map_err(|error| format!("the pattern {pattern:?} cannot be used: {error}"))
}

/// Adds the named groups that took part in a match.
pub fn add_groups(pattern: &Regex, captures: &Captures<'_>, prefix: &str, fields: &mut Fields) {
    for name in pattern.capture_names().flatten() {
        if let Some(group) = captures.name(name) {
            fields.insert(format!("{prefix}{name}"), captured(group.as_bytes()));
        }
    }
}

/// Bytes from the host as a field. Always text, so that leading zeros live; at most [`CAPTURE_BYTES`].
pub fn captured(bytes: &[u8]) -> Value {
    text(bytes, CAPTURE_BYTES).into()
}

/// Bytes from the host as text of at most so many bytes of input. What is not UTF-8 is replaced; a character that the
/// limit cuts in two is left out.
pub fn text(bytes: &[u8], most: usize) -> String {
    let cut = &bytes[..bytes.len().min(most)];
    let whole = match std::str::from_utf8(cut) {
        Err(error) if error.error_len().is_none() && cut.len() < bytes.len() => &cut[..error.valid_up_to()],
        _ => cut,
    };
    String::from_utf8_lossy(whole).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_would_explode_is_refused() {
        assert!(compile(r"((a{1,100}){1,100}){1,100}").unwrap_err().contains("cannot be used"));
        assert!(compile("(").is_err());
    }

    #[test]
    fn hostile_bytes_become_text() {
        assert_eq!(text(b"ab\xff\xfec", 10), "ab\u{fffd}\u{fffd}c");
        assert_eq!(text("aü".as_bytes(), 2), "a");
        assert_eq!(text("aü".as_bytes(), 3), "aü");
        assert_eq!(captured(&vec![b'x'; 10_000]).text().unwrap().len(), CAPTURE_BYTES);
    }

    #[test]
    fn groups_are_named() {
        let pattern = compile(r"Error #(?<error>\d+)(?<rest>!)?").unwrap();
        let mut fields = Fields::new();
        add_groups(&pattern, &pattern.captures(b"Error #012").unwrap(), "captures.", &mut fields);
        assert_eq!(fields, Fields::from([("captures.error".to_owned(), "012".into())]));
    }
}
