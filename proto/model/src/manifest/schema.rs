//! What manifests may say: one table of fields, from which they are read, checked, explained and documented.
//!
//! The reader takes its names, types and defaults from here and from nowhere else, so the documentation cannot drift
//! from what is read. A field that is declared but never read fails the tests.

mod kinds;
pub(crate) mod shared;

pub use kinds::KINDS;
pub(crate) use kinds::{DOCUMENT, PROBE};

/// A kind of manifest.
#[derive(Debug)]
pub struct Kind {
    /// As `kind:` has it.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// The fields of its `spec`.
    pub fields: &'static [Field],
}

/// A field of a map.
#[derive(Debug)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// What it may be.
    pub shape: Shape,
    /// Whether it may be left out, and what it is then.
    pub need: Need,
    /// One sentence.
    pub about: &'static str,
}

/// Whether a field may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It may not.
    Required,
    /// It may, and then there is no such thing.
    Optional,
    /// It may, and then it is this; a list's items are separated by commas, a map's own fields have their own.
    Default(&'static str),
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Text.
    Text,
    /// The name of a manifest, probe, signal, value or rung.
    Name,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `30s`, `1h30m`.
    Duration,
    /// `1MiB`.
    Size,
    /// A number from 0 to 100, or `10%`.
    Percent,
    /// `true` or `false`.
    Flag,
    /// A CEL expression with a truth value.
    Condition,
    /// A CEL expression with any value.
    Expression,
    /// A regular expression.
    Pattern,
    /// An absolute path.
    Path,
    /// A date: `2026-12-24`.
    Date,
    /// A time of day: `17:00`.
    TimeOfDay,
    /// A moment: `2026-12-24T17:00:00Z`.
    Timestamp,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text, number, true or false.
    Scalar,
    /// Anything; what reads it says what.
    Any,
    /// A list.
    List(&'static Shape),
    /// A map from names to values.
    Map(&'static Shape),
    /// A map with these fields.
    Object(&'static [Field]),
    /// One word or text in short, or a map with these fields.
    Short(&'static Shape, &'static [Field]),
}

impl Shape {
    /// In words, for documentation.
    pub fn words(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Name => "name".to_owned(),
            Self::Integer => "whole number".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Size => "size".to_owned(),
            Self::Percent => "percentage".to_owned(),
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Condition => "condition".to_owned(),
            Self::Expression => "expression".to_owned(),
            Self::Pattern => "regular expression".to_owned(),
            Self::Path => "absolute path".to_owned(),
            Self::Date => "date".to_owned(),
            Self::TimeOfDay => "time of day".to_owned(),
            Self::Timestamp => "moment".to_owned(),
            Self::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
            Self::Scalar => "text, number or truth value".to_owned(),
            Self::Any => "see the action".to_owned(),
            Self::List(item) => format!("list of {}", item.words()),
            Self::Map(value) => format!("map of {}", value.words()),
            Self::Object(_) => "map".to_owned(),
            Self::Short(short, _) => format!("{}, or map", short.words()),
        }
    }

    /// The fields below it, through lists and maps.
    pub fn fields(&self) -> &'static [Field] {
        match self {
            Self::Object(fields) | Self::Short(_, fields) => fields,
            Self::List(inner) | Self::Map(inner) => inner.fields(),
            _ => &[],
        }
    }

    /// What stands between the field's path and those of the fields below it.
    fn step(&self) -> &'static str {
        match self {
            Self::List(_) => "[]",
            Self::Map(_) => ".NAME",
            _ => "",
        }
    }
}

/// A field with its path: `spec.probes.NAME.dns.server`.
#[derive(Debug)]
pub struct Entry {
    /// From the manifest's root.
    pub path: String,
    /// The field.
    pub field: &'static Field,
}

/// Every field of a kind, each before those below it.
pub fn entries(kind: &Kind) -> Vec<Entry> {
    let mut entries = Vec::new();
    collect("spec", kind.fields, &mut entries);
    entries
}

fn collect(path: &str, fields: &'static [Field], entries: &mut Vec<Entry>) {
    for field in fields {
        let path = format!("{path}.{}", field.name);
        let below = format!("{path}{}", field.shape.step());
        entries.push(Entry { path, field });
        collect(&below, field.shape.fields(), entries);
    }
}

/// The fields at and directly below a path like `policy.spec.trigger` or `Policy.trigger`; `[]` and names of probes,
/// signals and values may be left out. Empty when there is no such path.
pub fn explain(path: &str) -> Vec<Entry> {
    let (kind, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some(kind) = KINDS.iter().find(|known| known.name.eq_ignore_ascii_case(kind)) else { return Vec::new() };
    let plain = |path: &str| path.replace("[]", "").replace(".NAME", "");
    let rest = plain(rest.strip_prefix("spec").unwrap_or(rest));
    let rest = rest.trim_matches('.');
    let wanted = if rest.is_empty() { "spec".to_owned() } else { format!("spec.{rest}") };
    let is_there = |path: &str| {
        let path = plain(path);
        path == wanted
            || path.strip_prefix(&wanted).is_some_and(|below| below.starts_with('.') && !below[1..].contains('.'))
    };
    entries(kind).into_iter().filter(|entry| is_there(&entry.path)).collect()
}
