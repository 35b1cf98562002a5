//! What a condition reads, for telling people what it saw.

use std::{fmt, time::Duration};

use super::{Derived, Lookup, Over, Scope};
use crate::{policy::Family, unit, value::Value};

/// Most elements that are listed for a comprehension.
const MAX_LISTED: usize = 16;
/// Longest text that is quoted, in characters: the rest of a log's tail is elsewhere.
const MAX_QUOTED: usize = 80;

/// Something that a condition reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A field of a probe, or of the host samples (`host`).
    Field {
        /// The probe's name in the policy, or `host`.
        probe: String,
        /// The field; of an element: `disks[/var].used_percent`.
        field: String,
    },
    /// A field of the probe that a computed value names: `probe[value.active].failures`.
    Chosen {
        /// The computed value.
        value: String,
        /// The probes that it can name.
        probes: Vec<String>,
        /// The field.
        field: String,
    },
    /// A field of the policy's element: `disk.used_percent`.
    Element {
        /// The name that the policy gives the element.
        variable: String,
        /// The field; `name` is the element's own.
        field: String,
    },
    /// A field of every element of the host, inside `exists` or `all`.
    Each {
        /// The family.
        family: Family,
        /// The field.
        field: String,
    },
    /// A derived series.
    Derived(Derived),
    /// A signal.
    Signal(String),
    /// Whether the alert of another system fires.
    Alert,
    /// A computed value.
    Value(String),
    /// A frozen value of the plan.
    Plan(String),
    /// A value that the last step reported.
    Outcome(String),
    /// The number of acts within a span.
    Acted(Duration),
}

impl Reference {
    /// What it was in this scope, one line each: `probe.dns1.failures = 3`. Texts are quoted, escaped and cut.
    pub fn saw(&self, scope: &dyn Scope) -> Vec<String> {
        match self {
            Self::Field { probe, field } => vec![line(self, &scope.field(probe, field))],
            Self::Chosen { value, probes, field } => match scope.value(value) {
                Lookup::Known(Value::Text(probe)) if probes.contains(&probe) => {
                    let lookup = scope.field(&probe, field);
                    vec![line(&Self::Field { probe, field: field.clone() }, &lookup)]
                }
                _ => vec![line(self, &Lookup::Unknown)],
            },
            Self::Element { field, .. } if field == "name" => {
                let name = scope.element_name().map_or(Lookup::Unknown, |name| Lookup::Known(name.into()));
                vec![line(self, &name)]
            }
            Self::Element { field, .. } => vec![line(self, &scope.element(field))],
            Self::Each { family, field } => each(*family, field, scope),
            Self::Derived(derived) => vec![line(self, &scope.derived(derived))],
            Self::Signal(name) => vec![format!("{self} = {}", scope.signal(name))],
            Self::Alert => vec![format!("{self} = {}", scope.alert())],
            Self::Value(name) => vec![line(self, &scope.value(name))],
            Self::Plan(name) => vec![line(self, &scope.plan(name))],
            Self::Outcome(name) => vec![line(self, &scope.outcome(name))],
            Self::Acted(within) => vec![format!("{self} = {}", scope.acted(*within))],
        }
    }
}

fn each(family: Family, field: &str, scope: &dyn Scope) -> Vec<String> {
    let Some(elements) = scope.elements(family) else {
        return vec![format!("host.{}[*].{field} = unknown", family.prefix())];
    };
    let mut lines: Vec<_> = elements
        .iter()
        .take(MAX_LISTED)
        .map(|element| {
            let field = format!("{}[{element}].{field}", family.prefix());
            let lookup = scope.field("host", &field);
            line(&Reference::Field { probe: "host".to_owned(), field }, &lookup)
        })
        .collect();
    if elements.len() > MAX_LISTED {
        lines.push(format!("and {} more of host.{}", elements.len() - MAX_LISTED, family.prefix()));
    }
    lines
}

fn line(reference: &Reference, lookup: &Lookup) -> String {
    match lookup {
        Lookup::Unknown => format!("{reference} = unknown"),
        Lookup::Known(Value::Text(text)) if text.chars().count() > MAX_QUOTED => {
            let cut: String = text.chars().take(MAX_QUOTED).collect();
            format!("{reference} = {cut:?}…")
        }
        Lookup::Known(value) => format!("{reference} = {value}"),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { probe, field } => write_field(f, probe, field),
            Self::Chosen { value, field, .. } => write!(f, "probe[value.{value}].{field}"),
            Self::Element { variable, field } => write!(f, "{variable}.{field}"),
            Self::Each { family, field } => write!(f, "host.{}[*].{field}", family.prefix()),
            Self::Derived(derived) => derived.fmt(f),
            Self::Signal(name) => write!(f, "signal.{name}"),
            Self::Alert => f.write_str("alert.firing"),
            Self::Value(name) => write!(f, "value.{name}"),
            Self::Plan(name) => write!(f, "plan.{name}"),
            Self::Outcome(name) => write!(f, "outcome.{name}"),
            Self::Acted(within) => write!(f, "ledger.acted({:?})", unit::duration_text(*within)),
        }
    }
}

impl fmt::Display for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.over.as_str())?;
        write_field(f, &self.probe, &self.field)?;
        write!(f, ", {:?})", unit::duration_text(self.span))
    }
}

impl Over {
    /// As conditions write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Increase => "increase",
            Self::Max => "max",
            Self::Min => "min",
            Self::Avg => "avg",
            Self::Forecast => "forecast",
        }
    }
}

/// As conditions write it: `host.disks["/var"].used_percent` for `disks[/var].used_percent`.
fn write_field(f: &mut fmt::Formatter<'_>, probe: &str, field: &str) -> fmt::Result {
    match probe {
        "host" => f.write_str("host.")?,
        probe if probe.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => write!(f, "probe.{probe}.")?,
        probe => write!(f, "probe[{probe:?}].")?,
    }
    match field.split_once('[').and_then(|(family, rest)| Some((family, rest.rsplit_once(']')?))) {
        Some((family, ("$", rest))) => write!(f, "{family}[*]{rest}"),
        Some((family, (element, rest))) => write!(f, "{family}[{element:?}]{rest}"),
        None => match field.strip_prefix("load.") {
            Some(minutes) => write!(f, "load[{minutes:?}]"),
            None => f.write_str(field),
        },
    }
}
