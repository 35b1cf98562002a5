//! Filling `${name}` and `${name:-default}` in scalars, before anything is validated.
//!
//! What is filled in can change a scalar and nothing else: a placeholder is taken out of the text before YAML is read,
//! and its value is put back into the scalar that it stood in, quoted where the value would read as anything but a
//! plain word. So no value can add a key, a list, a comment or a document.

use std::collections::{BTreeMap, BTreeSet};

use super::{Error, node::Place, yaml};

/// Stands for a placeholder while YAML is read: characters of the private use area, which need no quotes anywhere.
const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';

/// Said of a placeholder in a key.
const KEY: &str = "a key cannot be filled in, only values can";

/// A place in a file that wants a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placeholder {
    /// Its name.
    pub name: String,
    /// What it is without a value; absent: a value must be given.
    pub default: Option<String>,
}

/// The placeholders of a text, those in comments included; each once.
pub fn placeholders(text: &str) -> BTreeSet<Placeholder> {
    Pieces(text).filter_map(|piece| if let Piece::Hole(_, hole) = piece { Some(hole) } else { None }).collect()
}

/// A text in which every placeholder is hidden, so that it can be read as YAML; each character keeps its place.
pub(super) fn hidden(text: &str) -> String {
    let piece = |piece| match piece {
        Piece::Text(text) => text.to_owned(),
        Piece::Hole(source, _) => source.chars().map(|_| OPEN).collect(),
    };
    Pieces(text).map(piece).collect()
}

/// Fills every placeholder of a manifest file that stands in a scalar, with a value or else with its default.
///
/// # Errors
/// A placeholder without default has no value, stands in a key, or its value cannot be written where it stands. The
/// errors name the file `file`.
pub fn fill(file: &str, text: &str, values: &BTreeMap<String, String>) -> Result<String, Vec<Error>> {
    if !text.contains("${") || text.contains([OPEN, CLOSE]) || text.len() > yaml::LARGEST {
        return Ok(text.to_owned());
    }
    let mut holes = Vec::new();
    let mut marked = String::with_capacity(text.len());
    for piece in Pieces(text) {
        match piece {
            Piece::Text(text) => marked.push_str(text),
            Piece::Hole(source, hole) => {
                marked.push_str(&format!("{OPEN}{}{CLOSE}", holes.len()));
                holes.push((source, hole));
            }
        }
    }
    let mut filler = Filler { file, text, values, holes: &holes, marked: &marked, errors: Vec::new() };
    let filled = filler.whole();
    if filler.errors.is_empty() { Ok(filled) } else { Err(filler.errors) }
}

struct Filler<'a> {
    file: &'a str,
    text: &'a str,
    values: &'a BTreeMap<String, String>,
    holes: &'a [(&'a str, Placeholder)],
    marked: &'a str,
    errors: Vec<Error>,
}

impl<'a> Filler<'a> {
    fn whole(&mut self) -> String {
        let mut filled = String::with_capacity(self.text.len());
        let mut done = 0;
        for scalar in yaml::scalars(self.marked) {
            let Some(source) = self.marked.get(scalar.range.clone()) else { continue };
            if scalar.range.start < done || !source.contains(OPEN) {
                continue;
            }
            // What is between scalars (comments, mostly) keeps its placeholders.
            filled.push_str(&self.replace(&self.marked[done..scalar.range.start], &|source, _| source.to_owned()));
            filled.push_str(&self.scalar(source, &scalar));
            done = scalar.range.end;
        }
        filled.push_str(&self.replace(&self.marked[done..], &|source, _| source.to_owned()));
        filled
    }

    fn scalar(&mut self, source: &str, scalar: &yaml::Scalar) -> String {
        let mut missing = Vec::new();
        for (source, hole) in self.holes_of(&scalar.text) {
            if hole.default.is_none() && !self.values.contains_key(&hole.name) {
                missing
                    .push((source, format!("`{}` has no value and no default: give one with --set {0}=…", hole.name)));
            }
        }
        if self.marked[scalar.range.end..].trim_start_matches(' ').starts_with(':') {
            missing.extend(self.holes_of(&scalar.text).iter().map(|(source, _)| (*source, KEY.to_owned())));
        }
        for (source, message) in missing {
            self.fail(source, message);
        }
        let value = |_: &str, hole: &Placeholder| self.value(hole).to_owned();
        let content = self.replace(&scalar.text, &value);
        let one_line = !source.contains('\n');
        let safe = self.holes_of(&scalar.text).iter().all(|(_, hole)| is_plain(self.value(hole)));
        match scalar.style {
            yaml::Style::Plain if is_plain(&content) && one_line => content,
            yaml::Style::Plain | yaml::Style::Quoted if one_line => serde_json::Value::String(content).to_string(),
            _ if safe => self.replace(source, &value),
            _ => {
                let places: Vec<_> = self.holes_of(&scalar.text).iter().map(|(source, _)| *source).collect();
                for source in places {
                    let message =
                        "a text of several lines takes only values of letters, digits and -_./: inside a line";
                    self.fail(source, message.to_owned());
                }
                String::new()
            }
        }
    }

    fn value<'b>(&'b self, hole: &'b Placeholder) -> &'b str {
        self.values.get(&hole.name).or(hole.default.as_ref()).map_or("", String::as_str)
    }

    /// The placeholders in a part of the marked text.
    fn holes_of(&self, marked: &str) -> Vec<(&'a str, &'a Placeholder)> {
        marked
            .split(OPEN)
            .skip(1)
            .filter_map(|part| part.split_once(CLOSE)?.0.parse::<usize>().ok())
            .filter_map(|index| self.holes.get(index).map(|(source, hole)| (*source, hole)))
            .collect()
    }

    /// A part of the marked text with its placeholders replaced.
    fn replace(&self, marked: &str, by: &dyn Fn(&str, &Placeholder) -> String) -> String {
        let mut parts = marked.split(OPEN);
        let mut text = parts.next().unwrap_or("").to_owned();
        for part in parts {
            let (index, rest) = part.split_once(CLOSE).unwrap_or(("", part));
            if let Some((source, hole)) = index.parse::<usize>().ok().and_then(|index| self.holes.get(index)) {
                text.push_str(&by(source, hole));
            }
            text.push_str(rest);
        }
        text
    }

    /// Reports an error at a placeholder, which is a slice of the text.
    fn fail(&mut self, source: &str, message: String) {
        let offset = (source.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text.get(..offset).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.errors.push(Error::at(self.file, Place { line: number(line), column: number(column) }, message));
    }
}

/// Whether a text reads as itself when it is written without quotes, in any position.
fn is_plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric() || matches!(first, '/' | '.' | '_') || first == '-')
        && !matches!(text, "-" | "---" | "...")
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "-_./:+%=".contains(character))
        && !text.ends_with(':')
        && (!text.starts_with('-') || text[1..].starts_with(|second: char| second.is_ascii_alphanumeric()))
}

enum Piece<'a> {
    Text(&'a str),
    /// A placeholder as written, and what it says.
    Hole(&'a str, Placeholder),
}

/// A text cut at its placeholders.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.0.is_empty() {
            return None;
        }
        if let Some((source, hole)) = hole(self.0) {
            self.0 = &self.0[source.len()..];
            return Some(Piece::Hole(source, hole));
        }
        let mut from = 0;
        let end = loop {
            // What looks like a placeholder and is none is text: its `$` is passed over.
            match self.0[from..].find("${") {
                None => break self.0.len(),
                Some(at) if hole(&self.0[from + at..]).is_some() => break from + at,
                Some(at) => from += at + 2,
            }
        };
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(Piece::Text(text))
    }
}

/// The placeholder at the beginning of a text.
fn hole(text: &str) -> Option<(&str, Placeholder)> {
    let inside = text.strip_prefix("${")?;
    let (inside, _) = inside.split_once('}')?;
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default.to_owned())),
        None => (inside, None),
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        && !inside.contains('\n');
    is_name.then(|| (&text[..inside.len() + 3], Placeholder { name: name.to_owned(), default }))
}
