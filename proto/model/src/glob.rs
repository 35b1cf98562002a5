//! Patterns for the names of files: `*` is any text, `?` is one character, everything else is itself.
//!
//! As in a shell, a name that begins with a dot is meant only by a pattern that begins with one. There are no brackets
//! and no alternatives: a list of patterns says the same, and can be read aloud.

use std::{fmt, path::Path, str::FromStr};

use crate::name::Invalid;

/// Longest pattern, bytes: no name of a file is longer.
const LONGEST: usize = 255;

/// A pattern for a name, without any `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Whether a name is meant.
    pub fn matches(&self, name: &str) -> bool {
        (self.0.starts_with('.') || !name.starts_with('.')) && means(&self.0, name)
    }
}

impl FromStr for Glob {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let good = (1..=LONGEST).contains(&text.len())
            && !text.chars().any(|character| character == '/' || character.is_control())
            && text != "."
            && text != "..";
        let rule = "the name of a file in which `*` is any text and `?` one character, at most 255 bytes, without `/`";
        let invalid = || Invalid { kind: "pattern for names", text: text.to_owned(), rule };
        good.then(|| Self(text.to_owned())).ok_or_else(invalid)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A pattern for absolute paths: in each part, `*` and `?` stand for text of that part alone. What it means is meant
/// with all that lies beneath.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathGlob(String);

impl PathGlob {
    /// Whether a path is meant, or lies beneath one that is. Dots are no exception: what is held is held.
    pub fn covers(&self, path: &Path) -> bool {
        let Some(path) = path.to_str() else { return false };
        let mut parts = path.split('/');
        self.0.split('/').all(|pattern| parts.next().is_some_and(|part| means(pattern, part)))
    }
}

impl FromStr for PathGlob {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let path = crate::name::path(text).ok().filter(|path| path.file_name().is_some());
        let rule = "it begins with /, has no '..', '.' or empty part; `*` and `?` stand for text of one part";
        let invalid = || Invalid { kind: "pattern for paths", text: text.to_owned(), rule };
        path.map(|_| Self(text.to_owned())).ok_or_else(invalid)
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn means(pattern: &str, text: &str) -> bool {
    let characters = |text: &str| text.chars().collect::<Vec<char>>();
    matches(&characters(pattern), &characters(text))
}

/// Whether a text matches a pattern with `*` (any text) and `?` (one item), in time that is at most the product of the
/// lengths.
pub(crate) fn matches<T: PartialEq + From<u8>>(pattern: &[T], text: &[T]) -> bool {
    let (any, one) = (T::from(b'*'), T::from(b'?'));
    let (mut at, mut seen) = (0, 0);
    // Where to go on when what follows the last star does not fit: behind the star, and one item further in the text.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(item) if *item == any => {
                star = Some((at + 1, seen));
                at += 1;
            }
            Some(item) if *item == one || *item == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((behind, taken)) => {
                    star = Some((behind, taken + 1));
                    at = behind;
                    seen = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|item| *item == any)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Glob, PathGlob};

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<Glob>().unwrap().matches(name)
    }

    #[test]
    fn a_name_is_meant_as_it_is_written() {
        for (pattern, name) in [
            ("app.log", "app.log"),
            ("app.log.*", "app.log.1"),
            ("*.gz", "gz.gz"),
            ("*", "anything at all"),
            ("a*b*c", "aXbYbZc"),
            ("?.log", "ü.log"),
            ("**", "x"),
            ("*a", "aaaa"),
            (".*", ".hidden"),
            ("[a]", "[a]"),
        ] {
            assert!(matches(pattern, name), "{pattern:?} means {name:?}");
        }
        for (pattern, name) in [
            ("app.log", "app.log.1"),
            ("app.log.*", "app.log"),
            ("*.gz", "app.log"),
            ("*", ".hidden"),
            ("?hidden", ".hidden"),
            ("?", ""),
            ("a?c", "ac"),
            ("*a*a*a", "aXa"),
            ("[ab]", "a"),
            ("A", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern:?} does not mean {name:?}");
        }
        let hostile = "*a".repeat(100);
        assert!(!matches(&hostile, &"a".repeat(99)), "and it is told at once");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "a/b", "..", ".", "a\nb", "\u{1b}[2J", &"x".repeat(256)] {
            assert!(text.parse::<Glob>().is_err(), "{text:?}");
        }
        for text in ["", "/", "var/log", "/var/../etc", "/var//log", "/a\nb"] {
            assert!(text.parse::<PathGlob>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_path_is_meant_with_all_beneath_it() {
        let covers = |pattern: &str, path: &str| pattern.parse::<PathGlob>().unwrap().covers(Path::new(path));
        for (pattern, path) in [
            ("/var/log/app", "/var/log/app"),
            ("/var/log/app", "/var/log/app/deep/down.log"),
            ("/var/log/*/audit-*", "/var/log/shop/audit-2026.log"),
            ("/var/log/*", "/var/log/.hidden"),
        ] {
            assert!(covers(pattern, path), "{pattern} covers {path}");
        }
        for (pattern, path) in [
            ("/var/log/app", "/var/log/app2"),
            ("/var/log/app", "/var/log"),
            ("/var/*.log", "/var/log/app.log"),
            ("/var/log/*/audit-*", "/var/log/audit-2026.log"),
        ] {
            assert!(!covers(pattern, path), "{pattern} does not cover {path}");
        }
    }
}
