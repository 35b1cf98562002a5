//! Pages of headings, named values and indented lines: what `describe`, `why` and `status` are made of.

use std::fmt::Write as _;

use super::escape;

/// Bold, and back. `anstream` takes them out where nobody sees them or `NO_COLOR` is set.
const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

/// Width of the names in front of values.
const NAME: usize = 14;

/// A text that grows line by line; what comes from outside is escaped on its way in.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text, with the codes for colours.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// A heading, with an empty line before it unless it is the first.
    pub fn heading(&mut self, text: &str) -> &mut Self {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let _ = writeln!(self.text, "{BOLD}{}{PLAIN}", escape::line(text));
        self
    }

    /// A named value; nothing when it is empty. Lines after the first are indented below it.
    pub fn value(&mut self, name: &str, value: &str) -> &mut Self {
        if value.is_empty() {
            return self;
        }
        let escaped = escape::block(value);
        for (index, line) in escaped.lines().enumerate() {
            let name = if index == 0 { format!("{name}:") } else { String::new() };
            let _ = writeln!(self.text, "{name:NAME$} {}", state(line));
        }
        self
    }

    /// A line, indented.
    pub fn line(&mut self, text: &str) -> &mut Self {
        let _ = writeln!(self.text, "  {}", escape::line(text));
        self
    }

    /// A text of several lines, each indented by four.
    pub fn quote(&mut self, text: &str) -> &mut Self {
        for line in escape::block(text).lines() {
            let _ = writeln!(self.text, "    {line}");
        }
        self
    }

    /// Something that was made here already.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }
}

/// A state in its colour, when the whole text is one.
fn state(text: &str) -> String {
    let colour = match text {
        "online" | "resolved" | "succeeded" | "enforce" | "true" | "notFiring" => GREEN,
        "lost" | "revoked" | "failed" | "open" | "firing" | "fired" | "refused" | "false" => RED,
        "held" | "proposed" | "pending" | "unknown" | "acknowledged" | "mitigated" | "awaitingApproval" => YELLOW,
        other => return other.to_owned(),
    };
    format!("{colour}{text}{PLAIN}")
}

/// Labels, facts and frozen values: `key=value, key=value`.
pub fn pairs<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let pairs: Vec<_> = map.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(", ")
}

/// The text without codes for colours.
#[cfg(test)]
pub fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_escaped_and_aligned() {
        let mut page = Page::new();
        page.heading("inc-1").value("state", "open").value("nothing", "").value("note", "one\ntwo\u{1b}[2J");
        page.heading("timeline").line("a\nb").quote("tail\n\u{7}end");
        let text = page.into_text();
        assert!(text.contains("\u{1b}[31mopen"), "{text:?}");
        assert_eq!(
            plain(&text),
            "inc-1\nstate:         open\nnote:          one\n               two\\u{1b}[2J\n\ntimeline\n  a\\nb\n    tail\n    \\u{7}end\n"
        );
    }
}
