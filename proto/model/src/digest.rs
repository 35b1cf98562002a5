//! Canonical bytes and their digests: what is hashed, compared and, later, signed.
//!
//! Canonical means RFC 8785 (JSON Canonicalization Scheme): no white space, keys sorted by UTF-16 code units, numbers
//! as ECMAScript prints them. Numbers in manifests are finite doubles, so one rule serves for all.

mod canonical;

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

/// The canonical text of plain data with text keys, as RFC 8785 has it.
pub fn canonical<T: Serialize + ?Sized>(value: &T) -> String {
    canonical::text(value).unwrap_or_else(|_| "null".to_owned())
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
    fn a_type_is_written_as_the_tree_of_it_would_be() {
        #[derive(Serialize)]
        enum Kind {
            Plain,
            One(u64),
            Two(i8, char),
            Named { b: (), a: f32 },
        }
        #[derive(Serialize)]
        struct Inner {
            z: Option<bool>,
            a: Vec<Kind>,
        }
        #[derive(Serialize)]
        struct Outer {
            text: &'static str,
            inner: Vec<Inner>,
            numbers: std::collections::BTreeMap<u64, f64>,
            #[serde(rename = "\u{fb33}\"")]
            odd: std::collections::BTreeMap<String, i64>,
            #[serde(rename = "\u{1f600}")]
            after: u64,
        }
        let inner = |z| Inner {
            z,
            a: vec![Kind::Two(-8, 'x'), Kind::Named { b: (), a: 0.5 }, Kind::Plain, Kind::One(u64::MAX)],
        };
        let outer = Outer {
            text: "\u{1}\u{8}\t\n\u{c}\r\"\\/é",
            inner: vec![inner(Some(true)), inner(None)],
            numbers: [(10, f64::NAN), (9, -0.0), (1 << 50, 1e21)].into(),
            odd: [("b\\".to_owned(), i64::MIN), ("b".to_owned(), -1), ("a\u{1f600}".to_owned(), 1 << 53)].into(),
            after: (1 << 53) + 1,
        };
        assert_eq!(
            canonical(&outer),
            concat!(
                r#"{"inner":[{"a":[{"Two":[-8,"x"]},{"Named":{"a":0.5,"b":null}},"Plain",{"One":18446744073709552000}],"#,
                r#""z":true},{"a":[{"Two":[-8,"x"]},{"Named":{"a":0.5,"b":null}},"Plain",{"One":18446744073709552000}],"#,
                r#""z":null}],"numbers":{"10":null,"1125899906842624":1e+21,"9":0},"#,
                r#""text":"\u0001\b\t\n\f\r\"\\/é","#,
                "\"\u{1f600}\":9007199254740992,",
                "\"\u{fb33}\\\"\":{\"a\u{1f600}\":9007199254740992,\"b\":-1,\"b\\\\\":-9223372036854776000}}"
            )
        );
        assert_eq!(canonical(&outer), canonical(&serde_json::to_value(&outer).unwrap()));
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
