//! Conditions: CEL with declared names, checked types and three truth values.
//!
//! A condition is parsed by the `cel` crate and compiled here into a typed tree of our own, because what decides about
//! acts needs what a general evaluator does not give: every name and type checked beforehand, a bounded cost, and
//! *unknown* instead of an error where a sample is missing or stale.
//!
//! All numbers are doubles. Text that a file, a command or a pattern gave (`file.value`, `captures.NAME`) is *captured*:
//! where the other side is a number it is the number that it reads as, and unknown when it reads as none
//! (`probe.outstanding.value > 12`); beside text it is text; two captured texts are equal as texts (`04` is not `4`) and
//! ordered as numbers; `number(x)` and `text(x)` say it outright.
//!
//! Functions: `x.contains(y)`, `x.startsWith(y)`, `x.endsWith(y)`, `x.matches("PATTERN")`, `size(x)`, `number(x)`,
//! `text(x)`, `duration("14d")` in seconds, `host.disks.exists(m, …)` and `.all(m, …)` over the names of the elements,
//! `"/var" in host.disks`, `disk.holds("/path")` and `disk.name` of the policy's element, and the derived series of
//! [`Over`]. An overflow or a division by zero is a [`Fault`], unless the rest decides or is unknown.

mod compile;
mod judge;
mod limits;
pub(crate) mod nearest;
mod parse;
mod reads;
mod source;
mod span;
pub(crate) mod stack;
mod tree;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    policy::Family,
    probe::Probe,
    value::{Truth, Value},
};

pub use limits::MAX_LENGTH;
pub use reads::Reference;

use source::Source;

/// What a condition may name: what the manifest around it declares.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// Probes by name.
    pub probes: Arc<BTreeMap<String, Probe>>,
    /// Signals by name.
    pub signals: Vec<String>,
    /// Computed values, with what each may be.
    pub values: BTreeMap<String, Vec<Value>>,
    /// The variable of `target: { each: …, as: … }`.
    pub element: Option<(String, Family)>,
    /// Whether `plan.*`, `outcome.*` and `ledger.*` are there: in rungs.
    pub in_rung: bool,
    /// Whether `alert.firing` is there: where `trigger: { alert: … }` declares alerts of another system.
    pub alert: bool,
}

/// Why a text is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Offset of the fault in the text, in bytes, as far as it is known.
    pub offset: Option<usize>,
    /// What is wrong and how it would be right.
    pub message: String,
}

impl Error {
    fn at(offset: usize, message: impl Into<String>) -> Self {
        Self { offset: Some(offset), message: message.into() }
    }

    fn whole(message: impl Into<String>) -> Self {
        Self { offset: None, message: message.into() }
    }
}

/// What a scope knows of a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// A value from a fresh sample.
    Known(Value),
    /// The sample is missing or stale.
    Unknown,
}

/// A function over the history of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Over {
    /// Growth of a counter, resets counted as growth from zero.
    Increase,
    /// Largest.
    Max,
    /// Smallest.
    Min,
    /// Mean.
    Avg,
    /// Where a straight line through the window arrives after the same span of time ahead.
    Forecast,
}

/// A series made from another: `increase(probe.orders.value, "1h")`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Derived {
    /// The function.
    pub over: Over,
    /// The probe's name in the policy, or `host`.
    pub probe: String,
    /// The field, with the element's key filled in: `disks[/var].used_percent`; `disks[$].…` for the policy's element.
    pub field: String,
    /// The span.
    pub span: Duration,
}

/// Where a condition is judged: what its names mean at this moment. Implemented by the engine.
///
/// A value of another type than the field table says is the same as none: agents are not trusted.
pub trait Scope {
    /// A field of a probe of the policy; `host` is the probe of the host samples.
    fn field(&self, probe: &str, field: &str) -> Lookup;
    /// A field of the policy's element (`used_percent` for `disk.used_percent`).
    fn element(&self, field: &str) -> Lookup;
    /// The name of the policy's element: the mount, the interface. Absent when the target is no element.
    fn element_name(&self) -> Option<&str>;
    /// Names of the elements of a family that the host has now; absent while no host sample is fresh.
    fn elements(&self, family: Family) -> Option<Vec<String>>;
    /// A derived series.
    fn derived(&self, derived: &Derived) -> Lookup;
    /// A signal.
    fn signal(&self, name: &str) -> Truth;
    /// A computed value.
    fn value(&self, name: &str) -> Lookup;
    /// A frozen value of the plan.
    fn plan(&self, name: &str) -> Lookup;
    /// A value that the last step reported.
    fn outcome(&self, name: &str) -> Lookup;
    /// Whether another system says that the policy's alert fires on the target.
    fn alert(&self) -> Truth;
    /// Acts on this target within a span.
    fn acted(&self, within: Duration) -> f64;
}

/// Why a judgement ended without a truth value: a fault of the policy, not of the world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        Self(error.to_string())
    }
}

impl From<judge::Trouble> for Fault {
    fn from(trouble: judge::Trouble) -> Self {
        Self(trouble.to_string())
    }
}

/// A boolean expression. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Condition(Arc<Source<tree::Boolean>>);

impl Condition {
    /// Compiles and checks a text.
    ///
    /// # Errors
    /// The text is not CEL, names something undeclared, has a type that does not fit, or could cost too much.
    pub fn compile(text: &str, declared: &Arc<Declared>) -> Result<Self, Error> {
        Source::compiled(text, declared).map(Self)
    }

    /// Takes a text that was compiled before somebody signed it: it is compiled again when it is first asked about.
    /// Until then nobody knows whether it is a condition at all. One that is none reads nothing, and judging it is a
    /// [`Fault`].
    pub fn signed(text: &str, declared: &Arc<Declared>) -> Self {
        Self(Source::signed(text, declared))
    }

    /// Judges it.
    ///
    /// # Errors
    /// Anything but a missing sample that stops the evaluation: a division by zero.
    pub fn judge(&self, scope: &dyn Scope) -> Result<Truth, Fault> {
        Ok(judge::Place::new(scope).boolean(self.0.tree()?)?)
    }
}

/// An expression with a value. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Expression(Arc<Source<tree::Typed>>);

impl Expression {
    /// Compiles and checks a text.
    ///
    /// # Errors
    /// As for [`Condition::compile`]; a list and a family have no value.
    pub fn compile(text: &str, declared: &Arc<Declared>) -> Result<Self, Error> {
        Source::compiled(text, declared).map(Self)
    }

    /// As [`Condition::signed`].
    pub fn signed(text: &str, declared: &Arc<Declared>) -> Self {
        Self(Source::signed(text, declared))
    }

    /// Evaluates it. Captured text that stands alone comes as the sample has it.
    ///
    /// # Errors
    /// As for [`Condition::judge`].
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Lookup, Fault> {
        Ok(judge::Place::new(scope).value(self.0.tree()?)?)
    }
}

/// What conditions and expressions say of themselves alike.
macro_rules! says {
    ($($kind:ident)*) => {
        $(impl $kind {
            /// As written.
            pub fn text(&self) -> &str {
                self.0.text()
            }

            /// What it reads, in the order of the text.
            pub fn reads(&self) -> &[Reference] {
                &self.0.names().reads
            }

            /// What it sees in a scope, for people: `probe.dns1.failures = 3`.
            pub fn saw(&self, scope: &dyn Scope) -> Vec<String> {
                self.reads().iter().flat_map(|reference| reference.saw(scope)).collect()
            }

            /// The derived series that it needs.
            pub fn derived(&self) -> &[Derived] {
                &self.0.names().derived
            }

            /// The probes that it may read, by name; `host` among them when it reads host samples.
            pub fn probes(&self) -> &[String] {
                &self.0.names().probes
            }

            /// The signals that it may read.
            pub fn signals(&self) -> &[String] {
                &self.0.names().signals
            }

            /// The computed values that it may read; `plan.NAME` is not one of them.
            pub fn values(&self) -> &[String] {
                &self.0.names().values
            }
        })*
    };
}
says!(Condition Expression);

#[cfg(test)]
mod tests;
