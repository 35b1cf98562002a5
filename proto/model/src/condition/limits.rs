//! What a text may cost, checked before the parser sees it.
//!
//! Parser, compiler and judge all recurse with the depth of the expression. The limits here bound that depth, so that no
//! text can overflow a stack, and are far above what a person can read.

use super::Error;

/// Longest text of a condition, in bytes.
pub const MAX_LENGTH: usize = 4 * 1024;
/// Deepest nesting of parentheses, brackets and braces.
const MAX_NESTING: usize = 16;
/// Most operators other than `&&` and `||`, which do not nest; calls and indices count.
const MAX_OPERATORS: usize = 200;
/// Most names joined by dots.
const MAX_DOTS: usize = 400;

/// Refuses a text that is too long, too deep, or cannot be a condition for a reason that deserves a better word than the
/// parser has.
pub(super) fn check(text: &str) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::whole("the condition is empty"));
    }
    if text.len() > MAX_LENGTH {
        return Err(Error::whole(format!(
            "the condition has {} bytes, and at most {MAX_LENGTH} are allowed: split it into signals",
            text.len()
        )));
    }
    Scanner { text: text.as_bytes(), at: 0, nesting: 0, operators: 0, dots: 0, word: "" }.run(text)
}

/// Walks over the tokens as far as counting needs them; what is not well-formed is left to the parser.
struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    nesting: usize,
    operators: usize,
    dots: usize,
    /// The identifier just before.
    word: &'t str,
}

impl<'t> Scanner<'t> {
    fn run(mut self, text: &'t str) -> Result<(), Error> {
        while let Some(&byte) = self.text.get(self.at) {
            let start = self.at;
            let word = std::mem::take(&mut self.word);
            match byte {
                b'"' | b'\'' => self.string(byte, false),
                b'/' if self.text.get(start + 1) == Some(&b'/') => self.comment(),
                b'.' if word == "load" && self.next_is_digit() => return Err(load_index(start)),
                b'.' if !self.next_is_digit() => {
                    self.dots += 1;
                    self.at += 1;
                }
                b'0'..=b'9' | b'.' => self.number(),
                byte if byte.is_ascii_alphabetic() || byte == b'_' => self.identifier(text),
                byte => {
                    self.punctuation(byte);
                    self.at += 1;
                }
            }
            self.within_limits(start)?;
        }
        Ok(())
    }

    fn next_is_digit(&self) -> bool {
        self.text.get(self.at + 1).is_some_and(u8::is_ascii_digit)
    }

    fn punctuation(&mut self, byte: u8) {
        match byte {
            b'(' | b'[' | b'{' => {
                self.nesting += 1;
                self.operators += 1;
            }
            b')' | b']' | b'}' => self.nesting = self.nesting.saturating_sub(1),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' | b'!' | b'?' => self.operators += 1,
            _ => {}
        }
    }

    fn identifier(&mut self, text: &'t str) {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            self.at += 1;
        }
        let word = &text[start..self.at];
        match self.text.get(self.at) {
            Some(quote @ (b'"' | b'\'')) if is_string_prefix(word) => {
                self.string(*quote, word.contains(['r', 'R']));
            }
            _ if word == "in" => self.operators += 1,
            _ => self.word = word,
        }
    }

    fn number(&mut self) {
        self.at += 1;
        while self.text.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'.') {
            self.at += 1;
        }
    }

    fn comment(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| *byte != b'\n') {
            self.at += 1;
        }
    }

    fn string(&mut self, quote: u8, raw: bool) {
        let triple = self.text[self.at..].starts_with(&[quote; 3]);
        let close: &[u8] = if triple { &[quote; 3] } else { &[quote] };
        self.at += close.len();
        while self.at < self.text.len() && !self.text[self.at..].starts_with(close) {
            self.at += if self.text[self.at] == b'\\' && !raw { 2 } else { 1 };
        }
        self.at += close.len();
    }

    fn within_limits(&self, offset: usize) -> Result<(), Error> {
        let over = |what: &str, limit: usize| {
            Err(Error::at(offset, format!("the condition has more than {limit} {what}: split it into signals")))
        };
        match self {
            _ if self.nesting > MAX_NESTING => over("nested brackets", MAX_NESTING),
            _ if self.operators > MAX_OPERATORS => over("operators", MAX_OPERATORS),
            _ if self.dots > MAX_DOTS => over("dots", MAX_DOTS),
            _ => Ok(()),
        }
    }
}

fn is_string_prefix(word: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "r" | "b" | "rb" | "br")
}

fn load_index(offset: usize) -> Error {
    Error::at(offset, "a number cannot follow a dot: write host.load[\"1\"], host.load[\"5\"] or host.load[\"15\"]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_conditions_pass() {
        let many = vec!["probe.web.latency > 0.5"; 60].join(" && ");
        for text in ["true", "a.b[\"c\"].d > 3 && !(e || f)", r#""((((((((((((((((((((((((" == x"#, &many] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_would_recurse_too_deeply_is_refused() {
        for text in [
            "(".repeat(17),
            "[".repeat(MAX_LENGTH),
            "a+".repeat(201),
            "a?b:".repeat(201),
            "a.".repeat(401),
            "!".repeat(300),
            "a[0]".repeat(201),
            "f()".repeat(201),
            "x".repeat(MAX_LENGTH + 1),
            " ".repeat(3),
            String::new(),
        ] {
            assert!(check(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn strings_and_comments_hide_brackets() {
        for text in [
            r#"x == "\"(((((((((((((((((((""#,
            r#"x == r"\" && y"#,
            r"x == '''((((((((((((((((((((((' '''",
            "x // ((((((((((((((((((((((((\n && y",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert!(check(&format!("x == r\"\\\" && {}", "(".repeat(17))).is_err());
    }

    #[test]
    fn a_load_average_after_a_dot_is_explained() {
        let error = check("host.load.1 > 4").expect_err("cannot be CEL");
        assert_eq!(error.offset, Some(9));
        assert!(error.message.contains("host.load[\"1\"]"), "{error}");
    }
}
