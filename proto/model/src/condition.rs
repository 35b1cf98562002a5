//! Conditions: CEL with declared names, checked types and three truth values.
//!
//! A condition is parsed by the `cel` crate and compiled here into a typed tree of our own, because what decides about
//! acts needs what a general evaluator does not give: every name and type checked beforehand, a bounded cost, and
//! *unknown* instead of an error where a sample is missing or stale.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    policy::Family,
    probe::Probe,
    value::{Truth, Value},
};

/// What a condition may name: what the manifest around it declares.
#[derive(Debug, Clone, Default)]
pub struct Declared<'a> {
    /// Probes by name.
    pub probes: Option<&'a BTreeMap<String, Probe>>,
    /// Signals by name.
    pub signals: Vec<&'a str>,
    /// Computed values, with what each may be.
    pub values: BTreeMap<&'a str, &'a [Value]>,
    /// The variable of `target: { each: …, as: … }`.
    pub element: Option<(&'a str, Family)>,
    /// Whether `plan.*`, `outcome.*` and `ledger.*` are there: in rungs.
    pub in_rung: bool,
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
pub trait Scope {
    /// A field of a probe of the policy; `host` is the probe of the host samples.
    fn field(&self, probe: &str, field: &str) -> Lookup;
    /// A field of the policy's element (`disk.used_percent`).
    fn element(&self, field: &str) -> Lookup;
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
    /// Acts on this target within a span.
    fn acted(&self, within: Duration) -> f64;
}

/// Why a judgement ended without a truth value: a fault of the policy, not of the world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// A boolean expression, compiled.
#[derive(Debug, Clone)]
pub struct Condition {
    /// As written.
    pub text: String,
}

impl Condition {
    /// Compiles and checks a text.
    ///
    /// # Errors
    /// The text is not CEL, names something undeclared, has a type that does not fit, or could cost too much.
    pub fn compile(text: &str, _declared: &Declared<'_>) -> Result<Self, Error> {
        Ok(Self { text: text.to_owned() })
    }

    /// Judges it.
    ///
    /// # Errors
    /// Anything but a missing sample that stops the evaluation: a division by zero.
    pub fn judge(&self, _scope: &dyn Scope) -> Result<Truth, Fault> {
        Ok(Truth::Unknown)
    }

    /// The derived series that it needs.
    pub fn derived(&self) -> &[Derived] {
        &[]
    }

    /// The probes that it may read, by name; `host` among them when it reads host samples.
    pub fn probes(&self) -> &[String] {
        &[]
    }

    /// The signals that it may read.
    pub fn signals(&self) -> &[String] {
        &[]
    }
}

/// An expression with a value, compiled.
#[derive(Debug, Clone)]
pub struct Expression {
    /// As written.
    pub text: String,
}

impl Expression {
    /// Compiles and checks a text.
    ///
    /// # Errors
    /// As for [`Condition::compile`].
    pub fn compile(text: &str, _declared: &Declared<'_>) -> Result<Self, Error> {
        Ok(Self { text: text.to_owned() })
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// As for [`Condition::judge`].
    pub fn evaluate(&self, _scope: &dyn Scope) -> Result<Lookup, Fault> {
        Ok(Lookup::Unknown)
    }

    /// The probes that it may read, by name.
    pub fn probes(&self) -> &[String] {
        &[]
    }
}
