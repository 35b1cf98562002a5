//! Values of samples and conditions, and the three truth values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a field of a sample, a computed value or a condition's operand can be. All numbers are doubles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A truth value.
    Flag(bool),
    /// A number; its unit is in the field's name or the field table.
    Number(f64),
    /// Text; hostile wherever a host supplied it.
    Text(String),
}

impl Value {
    /// The number, when it is one.
    pub fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The text, when it is text.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The flag, when it is one.
    pub fn flag(&self) -> Option<bool> {
        if let Self::Flag(flag) = self { Some(*flag) } else { None }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The fields of one sample, by name: `ok`, `failures`, `cpu.used_percent`, `disks[/var].used_percent`.
pub type Fields = BTreeMap<String, Value>;

/// A truth value that admits not knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    /// Known not to hold.
    False,
    /// A sample that it needs is missing or stale. Never a reason to act.
    Unknown,
    /// Known to hold.
    True,
}

impl Truth {
    /// True only when known to hold.
    pub fn holds(self) -> bool {
        self == Self::True
    }

    /// True only when known not to hold.
    pub fn fails(self) -> bool {
        self == Self::False
    }

    /// Strong Kleene conjunction: `false && unknown` is false.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// Strong Kleene disjunction: `true || unknown` is true.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }
}

impl From<bool> for Truth {
    fn from(flag: bool) -> Self {
        if flag { Self::True } else { Self::False }
    }
}

impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::False => "false",
            Self::Unknown => "unknown",
            Self::True => "true",
        })
    }
}
