//! Compiling conditions where they stand, and the names that a text fills in.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    condition::{self, Condition, Declared, Expression},
    manifest::{Reading, node::Node, object::Object, schema::Shape},
};

/// What conditions of a policy may name, and how they may name it.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) reading: Reading,
    pub(super) declared: Arc<Declared>,
    /// Set when the target is the fleet: the probes that give a value for each host, which only a quorum can judge.
    pub(super) per_host: Option<BTreeSet<String>>,
    /// Conditions of the ladder by their texts: rungs often say the same, and parsing it once is enough.
    pub(super) known: Option<RefCell<BTreeMap<String, Condition>>>,
}

impl Context {
    /// The same for conditions of rungs, which also know `plan`, `outcome` and `ledger`.
    pub(super) fn in_rung(&self) -> Self {
        Self { known: Some(RefCell::default()), ..self.declaring(|declared| declared.in_rung = true) }
    }

    /// The same for a signal with a quorum, which judges each host by itself.
    pub(super) fn with_quorum(&self) -> Self {
        Self { per_host: None, ..self.clone() }
    }

    /// The same with more to name.
    pub(super) fn declaring(&self, declare: impl FnOnce(&mut Declared)) -> Self {
        let mut more = self.clone();
        declare(Arc::make_mut(&mut more.declared));
        more
    }

    /// The condition of a field.
    pub(super) fn condition(&self, object: &Object<'_>, field: &str) -> Option<Condition> {
        self.condition_at(object, field, object.node(field)?)
    }

    /// The condition that a node holds.
    pub(super) fn condition_at(&self, object: &Object<'_>, field: &str, node: &Node) -> Option<Condition> {
        let condition = told(object, node, self.compile_once(&text(object, field, node)?))?;
        self.refuse_per_host(object, node, || condition.probes());
        Some(condition)
    }

    /// The expression of a field.
    pub(super) fn expression(&self, object: &Object<'_>, field: &str) -> Option<Expression> {
        let node = object.node(field)?;
        let text = text(object, field, node)?;
        let expression = match self.reading {
            Reading::Written => told(object, node, Expression::compile(&text, &self.declared))?,
            Reading::Signed => Expression::signed(&text, &self.declared),
        };
        self.refuse_per_host(object, node, || expression.probes());
        Some(expression)
    }

    /// What a text is compiled to, or is to be, once for all places where it stands.
    pub(super) fn compile_once(&self, text: &str) -> Result<Condition, condition::Error> {
        let make = || match self.reading {
            Reading::Written => Condition::compile(text, &self.declared),
            Reading::Signed => Ok(Condition::signed(text, &self.declared)),
        };
        let Some(known) = &self.known else { return make() };
        if let Some(condition) = known.borrow().get(text) {
            return Ok(condition.clone());
        }
        let condition = make()?;
        known.borrow_mut().insert(text.to_owned(), condition.clone());
        Ok(condition)
    }

    fn refuse_per_host<'c>(&self, object: &Object<'_>, node: &Node, probes: impl FnOnce() -> &'c [String]) {
        let Some(per_host) = self.per_host.as_ref().filter(|_| self.reading == Reading::Written) else { return };
        for probe in probes().iter().filter(|probe| per_host.contains(*probe)) {
            let message = format!(
                "`{probe}` gives a value for each host and the target is the fleet: ask a signal with a quorum \
                 (`quorum: 2 of 3`), or let the probe run on one host (`on: {{ …, pick: 1 }}`)"
            );
            object.report.fault(node.place, message);
        }
    }

    /// Checks the names that a message fills in: `$(value)`, `$(probe.NAME.FIELD)`, `$(host.FIELD)`,
    /// `$(element.FIELD)`, `$(target)`.
    pub(super) fn check_message(&self, object: &Object<'_>, node: &Node, text: &str) {
        if self.reading == Reading::Signed {
            return;
        }
        for (offset, name) in placeholders(text) {
            let fault = |message: String| object.report.fault(node.place_in_text(offset), message);
            let Some(name) = name else {
                fault("`$(` is never closed: write $(name)".to_owned());
                continue;
            };
            if name == "target" || self.declared.values.contains_key(name) {
                continue;
            }
            let is_path =
                name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte));
            if !is_path {
                fault(format!(
                    "$({name}) is neither a value of the policy nor $(target) nor a path like $(probe.NAME.FIELD)"
                ));
            } else if let Err(error) = Expression::compile(name, &self.declared) {
                fault(format!("$({name}): {}", error.message));
            }
        }
    }

    /// The name of the value that a parameter is filled with, when it is one; reports what is half a value.
    pub(super) fn whole_value<'t>(&self, object: &Object<'_>, node: &Node, text: &'t str) -> Option<&'t str> {
        let fault = |message: String| {
            object.report.fault(node.place, message);
            None
        };
        match placeholders(text).as_slice() {
            [] => None,
            [(0, Some(name))] if text.len() == name.len() + 3 => {
                if self.declared.values.contains_key(*name) {
                    return Some(name);
                }
                fault(format!("$({name}) is not a value of the policy: declare it under `values`"))
            }
            _ => fault(format!("{text:?}: a $(value) has to be the whole argument")),
        }
    }
}

/// The text that a node holds.
fn text(object: &Object<'_>, field: &str, node: &Node) -> Option<String> {
    object.parse_node(field, node, &Shape::Condition, &|text: &str| Ok::<_, String>(text.to_owned()))
}

/// What was compiled; what is wrong with it is reported at its place in the text.
fn told<T>(object: &Object<'_>, node: &Node, compiled: Result<T, condition::Error>) -> Option<T> {
    let fault = |error: condition::Error| {
        let place = error.offset.map_or(node.place, |offset| node.place_in_text(offset));
        object.report.fault(place, error.message);
    };
    compiled.map_err(fault).ok()
}

/// The `$(…)` of a text: where each begins and what it names; no name when it is never closed.
fn placeholders(text: &str) -> Vec<(usize, Option<&str>)> {
    text.match_indices("$(")
        .map(|(offset, opening)| {
            let inside = &text[offset + opening.len()..];
            (offset, inside.find(')').map(|end| &inside[..end]))
        })
        .collect()
}
