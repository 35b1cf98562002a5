//! Canonical bytes and their digests: what is hashed, compared and, later, signed.
//!
//! Canonical means RFC 8785 (JSON Canonicalization Scheme): no white space, keys sorted by UTF-16 code units, numbers
//! as ECMAScript prints them. Numbers in manifests are finite doubles, so one rule serves for all.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256, shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first twelve hexadecimal digits: enough for people.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // One write for all digits: plans of thousands of commands name each by its digest.
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let text: String = digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect();
        f.write_str(&text)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a SHA-256 in hexadecimal (64 digits)")]
pub struct ParseError(String);

impl std::str::FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut bytes = [0; 32];
        // `from_str_radix` alone would take a sign for a digit.
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseError(text.to_owned()));
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| ParseError(text.to_owned()))?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The canonical text of a JSON value, as RFC 8785 has it.
pub fn canonical(value: &serde_json::Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

fn write_value(text: &mut String, value: &serde_json::Value) {
    match value {
        serde_json::Value::Null => text.push_str("null"),
        serde_json::Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        // A JSON number without a double is one that serde_json itself could not have read.
        serde_json::Value::Number(number) => text.push_str(&number_text(number.as_f64().unwrap_or(0.0))),
        serde_json::Value::String(string) => write_string(text, string),
        serde_json::Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, item);
            }
            text.push(']');
        }
        serde_json::Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_string(text, key);
                text.push(':');
                write_value(text, member);
            }
            text.push('}');
        }
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            control if u32::from(control) < 0x20 => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
}

/// A double as ECMAScript's `Number::toString` writes it (ECMA-262, 6.1.6.1.20), from the shortest digits that read
/// back as the same double.
fn number_text(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The decimal point stands after this many digits.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let body = if (count..=21).contains(&point) {
        format!("{digits}{}", zeros(point - count))
    } else if (1..=21).contains(&point) {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{whole}.{fraction}")
    } else if (-5..=0).contains(&point) {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, others) = digits.split_at(1);
        let dot = if others.is_empty() { "" } else { "." };
        format!("{first}{dot}{others}e{:+}", point - 1)
    };
    if number < 0.0 { format!("-{body}") } else { body }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_is_rfc_8785() {
        // Appendix B of the RFC and the key order of its section 3.2.3.
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (333_333_333.333_333_3, "333333333.3333333"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (-1.5, "-1.5"),
            (5e-324, "5e-324"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
            (4.5, "4.5"),
            (0.002, "0.002"),
        ] {
            assert_eq!(number_text(number), text);
        }
        let value =
            json!({"\u{20ac}": "Euro", "\r": "CR", "\u{fb33}": 1, "1": 2, "\u{1f600}": 3, "\u{80}": 4, "\u{f6}": 5});
        let keys: Vec<_> =
            canonical(&value).chars().filter(|c| "\u{20ac}\u{fb33}\u{1f600}\u{80}\u{f6}".contains(*c)).collect();
        assert_eq!(keys, ['\u{80}', '\u{f6}', '\u{20ac}', '\u{1f600}', '\u{fb33}']);
        assert_eq!(
            canonical(&json!({"b": [true, null, 1.0], "a": "\u{1}\n\"\\/"})),
            r#"{"a":"\u0001\n\"\\/","b":[true,null,1]}"#
        );
    }

    #[test]
    fn a_sign_is_no_digit_of_a_digest() {
        assert!("0f".repeat(32).parse::<Digest>().is_ok());
        assert!("+f".repeat(32).parse::<Digest>().is_err());
        assert!("0f".repeat(31).parse::<Digest>().is_err());
    }

    proptest! {
        #[test]
        fn numbers_read_back(number in proptest::num::f64::NORMAL) {
            prop_assert_eq!(number_text(number).parse(), Ok(number));
        }

        #[test]
        fn texts_read_back(text in any::<String>()) {
            let read: String = serde_json::from_str(&canonical(&json!(text))).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
