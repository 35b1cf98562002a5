//! Previews: what a host says that a step would touch there, before anybody is asked and before anything is done.
//!
//! The digest of the list goes into the plan that people approve. Whoever shows a list computes the digest again from what
//! is shown, so that nobody approves another list than the one that they read.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{digest::Digest, escape, unit};

/// Most objects that one preview lists: more is read by nobody, so it cannot be approved.
pub const MOST_ITEMS: usize = 200;
/// Most bytes of the texts of one preview: it is kept with its command, which is written again at each turn.
pub const MOST_BYTES: usize = 16 << 10;

/// One object that a step would touch on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// What would be done: `restart`, `rotate`, `delete`, `run`, `switch`.
    pub verb: String,
    /// The object: a unit, a path, an argv, a zone. Hostile text, as all of the host's.
    pub object: String,
    /// Its size in bytes, where it has one; else 0.
    #[serde(default)]
    pub size: u64,
    /// Anything else that a person would want to know.
    #[serde(default)]
    pub detail: String,
    /// Whether size and detail change by themselves (a log that is being written, a process number): they are shown,
    /// and not approved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moving: bool,
}

impl Item {
    /// The item in one line for people, hostile text made harmless: `delete /var/log/app.log.1 (4.0 MiB): of 2026-11-20`.
    pub fn line(&self) -> String {
        let mut line = format!("{} {}", self.verb, self.object);
        if self.size > 0 {
            line.push_str(&format!(" ({})", unit::size_text(self.size)));
        }
        if !self.detail.is_empty() {
            line.push_str(&format!(": {}", self.detail));
        }
        escape::line(&line).into_owned()
    }
}

/// A list is longer than people read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it would touch {items} objects ({bytes} bytes of text), and a preview lists at most {MOST_ITEMS} ({MOST_BYTES} bytes): \
     let the step touch fewer at a time"
)]
pub struct TooMuch {
    items: usize,
    bytes: usize,
}

/// Whether a preview is one that people can read and the state can keep.
///
/// # Errors
/// It lists more objects, or more text, than one may.
pub fn check(items: &[Item]) -> Result<(), TooMuch> {
    let bytes = items.iter().map(|item| item.verb.len() + item.object.len() + item.detail.len()).sum();
    if items.len() > MOST_ITEMS || bytes > MOST_BYTES {
        return Err(TooMuch { items: items.len(), bytes });
    }
    Ok(())
}

/// What an approval binds of a preview: SHA-256 over the canonical JSON of the list of its objects, each with what is done
/// to it and, unless they move by themselves, its size and detail.
pub fn digest(items: &[Item]) -> Digest {
    let bound = |item: &Item| {
        if item.moving {
            return json!({ "object": item.object, "verb": item.verb });
        }
        // Sizes are written as integers: exact beyond 2^53 too.
        json!({ "detail": item.detail, "object": item.object, "sizeBytes": item.size, "verb": item.verb })
    };
    let list: Vec<serde_json::Value> = items.iter().map(bound).collect();
    Digest::of(serde_json::Value::Array(list).to_string().as_bytes())
}

/// The bytes of everything that is listed.
pub fn total(items: &[Item]) -> u64 {
    items.iter().fold(0, |sum, item| sum.saturating_add(item.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(object: &str, size: u64, moving: bool) -> Item {
        Item { verb: "delete".to_owned(), object: object.to_owned(), size, detail: "old".to_owned(), moving }
    }

    #[test]
    fn every_word_of_a_list_is_bound_and_its_order() {
        let list = vec![item("/a", 1, false), item("/b", 2, false)];
        let digest_of = |change: fn(&mut Vec<Item>)| {
            let mut other = list.clone();
            change(&mut other);
            digest(&other)
        };
        assert_eq!(digest(&list), digest_of(|_| {}));
        for (what, change) in [
            ("verb", (|list| list[0].verb = "keep".to_owned()) as fn(&mut Vec<Item>)),
            ("object", |list| list[0].object = "/c".to_owned()),
            ("size", |list| list[0].size = 3),
            ("detail", |list| list[0].detail = "new".to_owned()),
            ("one more", |list| list.push(item("/c", 0, false))),
            ("one less", |list| list.truncate(1)),
            ("order", |list| list.swap(0, 1)),
            ("what is bound", |list| list[0].moving = true),
        ] {
            assert_ne!(digest(&list), digest_of(change), "{what}");
        }
    }

    #[test]
    fn what_moves_by_itself_is_shown_and_not_bound() {
        assert_eq!(digest(&[item("/log", 10, true)]), digest(&[item("/log", 11, true)]));
        assert_ne!(digest(&[item("/log", 10, true)]), digest(&[item("/other", 10, true)]));
    }

    #[test]
    fn an_item_is_one_line() {
        assert_eq!(item("/a", 4 << 20, false).line(), "delete /a (4.0 MiB): old");
        assert_eq!(item("/a\n/etc\u{1b}[2K", 0, false).line(), "delete /a\\n/etc\\u{1b}[2K: old");
    }

    #[test]
    fn a_list_that_nobody_reads_is_no_preview() {
        assert!(check(&vec![item("/a", 1, false); MOST_ITEMS]).is_ok());
        assert!(check(&vec![item("/a", 1, false); MOST_ITEMS + 1]).is_err());
        assert!(check(&[item(&"x".repeat(MOST_BYTES), 1, false)]).is_err());
        assert_eq!(total(&[item("/a", u64::MAX, false), item("/b", 2, false)]), u64::MAX, "no sum wraps round");
    }
}
