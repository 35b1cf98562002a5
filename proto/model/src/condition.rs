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
    /// Acts on this target within a span.
    fn acted(&self, within: Duration) -> f64;
}

/// Why a judgement ended without a truth value: a fault of the policy, not of the world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

impl From<judge::Trouble> for Fault {
    fn from(trouble: judge::Trouble) -> Self {
        Self(trouble.to_string())
    }
}

/// What an expression names.
#[derive(Debug, Default)]
struct Names {
    reads: Vec<Reference>,
    derived: Vec<Derived>,
    probes: Vec<String>,
    signals: Vec<String>,
    values: Vec<String>,
}

impl Names {
    fn of(reads: Vec<Reference>, uses_elements: bool) -> Self {
        let mut names = Self::default();
        if uses_elements {
            names.probes.push("host".to_owned());
        }
        for reference in &reads {
            match reference {
                Reference::Field { probe, .. } => names.probes.push(probe.clone()),
                Reference::Chosen { value, probes, .. } => {
                    names.values.push(value.clone());
                    names.probes.extend(probes.iter().cloned());
                }
                Reference::Element { .. } | Reference::Each { .. } => names.probes.push("host".to_owned()),
                Reference::Derived(derived) => {
                    names.probes.push(derived.probe.clone());
                    names.derived.push(derived.clone());
                }
                Reference::Signal(name) => names.signals.push(name.clone()),
                Reference::Value(name) => names.values.push(name.clone()),
                Reference::Plan(_) | Reference::Outcome(_) | Reference::Acted(_) => {}
            }
        }
        for list in [&mut names.probes, &mut names.signals, &mut names.values] {
            list.sort_unstable();
            list.dedup();
        }
        names.reads = reads;
        names
    }
}

/// A boolean expression, compiled. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Condition {
    /// As written.
    pub text: String,
    tree: Arc<tree::Boolean>,
    names: Arc<Names>,
}

impl Condition {
    /// Compiles and checks a text.
    ///
    /// # Errors
    /// The text is not CEL, names something undeclared, has a type that does not fit, or could cost too much.
    pub fn compile(text: &str, declared: &Declared<'_>) -> Result<Self, Error> {
        stack::with_room(|| {
            let (root, places) = parse::parse(text)?;
            let mut compiler = compile::Compiler::new(declared, places);
            let tree = Arc::new(compiler.boolean(&root)?);
            Ok(Self { text: text.to_owned(), tree, names: Arc::new(compiler.into_names()) })
        })
        .unwrap_or_else(|why| Err(Error::whole(why)))
    }

    /// Judges it.
    ///
    /// # Errors
    /// Anything but a missing sample that stops the evaluation: a division by zero.
    pub fn judge(&self, scope: &dyn Scope) -> Result<Truth, Fault> {
        Ok(judge::Place::new(scope).boolean(&self.tree)?)
    }

    /// What it reads, in the order of the text.
    pub fn reads(&self) -> &[Reference] {
        &self.names.reads
    }

    /// What it sees in a scope, for people: `probe.dns1.failures = 3`.
    pub fn saw(&self, scope: &dyn Scope) -> Vec<String> {
        self.names.reads.iter().flat_map(|reference| reference.saw(scope)).collect()
    }

    /// The derived series that it needs.
    pub fn derived(&self) -> &[Derived] {
        &self.names.derived
    }

    /// The probes that it may read, by name; `host` among them when it reads host samples.
    pub fn probes(&self) -> &[String] {
        &self.names.probes
    }

    /// The signals that it may read.
    pub fn signals(&self) -> &[String] {
        &self.names.signals
    }

    /// The computed values that it may read; `plan.NAME` is not one of them.
    pub fn values(&self) -> &[String] {
        &self.names.values
    }
}

/// An expression with a value, compiled. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Expression {
    /// As written.
    pub text: String,
    tree: Arc<tree::Typed>,
    names: Arc<Names>,
}

impl Expression {
    /// Compiles and checks a text.
    ///
    /// # Errors
    /// As for [`Condition::compile`]; a list and a family have no value.
    pub fn compile(text: &str, declared: &Declared<'_>) -> Result<Self, Error> {
        stack::with_room(|| {
            let (root, places) = parse::parse(text)?;
            let mut compiler = compile::Compiler::new(declared, places);
            let tree = compiler.expression(&root)?;
            if matches!(tree, tree::Typed::List(_) | tree::Typed::Family(_)) {
                return Err(Error::whole(format!("{} is no value: name one of its elements", tree.describe())));
            }
            Ok(Self { text: text.to_owned(), tree: Arc::new(tree), names: Arc::new(compiler.into_names()) })
        })
        .unwrap_or_else(|why| Err(Error::whole(why)))
    }

    /// Evaluates it. Captured text that stands alone comes as the sample has it.
    ///
    /// # Errors
    /// As for [`Condition::judge`].
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Lookup, Fault> {
        Ok(judge::Place::new(scope).value(&self.tree)?)
    }

    /// What it reads, in the order of the text.
    pub fn reads(&self) -> &[Reference] {
        &self.names.reads
    }

    /// What it sees in a scope, for people.
    pub fn saw(&self, scope: &dyn Scope) -> Vec<String> {
        self.names.reads.iter().flat_map(|reference| reference.saw(scope)).collect()
    }

    /// The derived series that it needs.
    pub fn derived(&self) -> &[Derived] {
        &self.names.derived
    }

    /// The probes that it may read, by name.
    pub fn probes(&self) -> &[String] {
        &self.names.probes
    }

    /// The signals that it may read.
    pub fn signals(&self) -> &[String] {
        &self.names.signals
    }

    /// The computed values that it may read.
    pub fn values(&self) -> &[String] {
        &self.names.values
    }
}

#[cfg(test)]
mod tests;
