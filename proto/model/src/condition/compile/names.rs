//! What a name means: `probe.dns1.failures`, `host.disks["/var"].used_percent`, `value.active`, ….

use cel::common::ast::{Expr, IdedExpr, LiteralValue};

use super::{
    super::{
        Declared, Error, Reference,
        nearest::suggestion,
        tree::{Boolean, Source, Text, Typed},
    },
    Compiler, literal_text,
};
use crate::{
    policy::Family,
    probe::{FieldType, Probe, ProbeKind, all_fields, host_fields, outcome_fields, plan_fields},
    value::Value,
};

/// Names with which a path can begin, besides the variables.
const ROOTS: [&str; 8] = ["probe", "host", "signal", "alert", "value", "plan", "outcome", "ledger"];

/// What follows a name in a path.
#[derive(Clone, Copy)]
struct Segment<'n> {
    node: &'n IdedExpr,
    key: Key<'n>,
}

#[derive(Clone, Copy)]
enum Key<'n> {
    /// `.name`
    Name(&'n str),
    /// `[…]`
    Index(&'n IdedExpr),
}

impl<'n> Segment<'n> {
    /// The name, or the literal inside the brackets.
    fn text(self) -> Option<String> {
        match self.key {
            Key::Name(name) => Some(name.to_owned()),
            Key::Index(index) => match &index.expr {
                Expr::Literal(LiteralValue::Int(number)) => Some(number.inner().to_string()),
                _ => literal_text(index).map(str::to_owned),
            },
        }
    }

    fn index(self) -> Option<&'n IdedExpr> {
        if let Key::Index(index) = self.key { Some(index) } else { None }
    }
}

/// A path as its root's node, its root and what follows; absent when it does not begin with a name.
fn segments(mut node: &IdedExpr) -> Option<(&IdedExpr, &str, Vec<Segment<'_>>)> {
    let mut found = Vec::new();
    loop {
        match &node.expr {
            Expr::Ident(root) => {
                found.reverse();
                return Some((node, root, found));
            }
            Expr::Select(select) if !select.test => {
                found.push(Segment { node, key: Key::Name(&select.field) });
                node = &select.operand;
            }
            Expr::Call(call) => {
                let [operand, index] = call.args.as_slice() else { return None };
                found.push(Segment { node, key: Key::Index(index) });
                node = operand;
            }
            _ => return None,
        }
    }
}

/// The type that all values have; absent when they differ. Without any, it is text that may be a number.
fn type_of(values: &[Value]) -> Option<FieldType> {
    let mut types = values.iter().map(|value| match value {
        Value::Flag(_) => FieldType::Flag,
        Value::Number(_) => FieldType::Number,
        Value::Text(_) => FieldType::Text,
    });
    let Some(first) = types.next() else { return Some(FieldType::Captured) };
    types.all(|next| next == first).then_some(first)
}

impl<'d> Compiler<'d, '_> {
    /// Whether a name has a meaning here.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        ROOTS.contains(&name)
            || self.loops.iter().any(|(variable, _)| variable == name)
            || self.declared.element.as_ref().is_some_and(|(variable, _)| variable == name)
    }

    pub(super) fn path(&mut self, node: &IdedExpr) -> Result<Typed, Error> {
        let Some((start, root, rest)) = segments(node) else {
            return Err(self.error(node, "only names have fields"));
        };
        // What is wrong with a name is told at the first segment after the root.
        let node = rest.first().map_or(start, |first| first.node);
        if let Some(level) = self.loops.iter().position(|(variable, _)| variable == root) {
            return self.loop_variable(node, level, &rest);
        }
        let declared: &'d Declared = self.declared;
        if let Some((variable, family)) = declared.element.as_ref().filter(|(variable, _)| variable == root) {
            return self.element(node, variable, *family, &rest);
        }
        match root {
            "probe" => self.probe(node, &rest),
            "host" => self.host(node, &rest),
            "signal" => self.signal(node, &rest),
            "alert" => self.alert(node, &rest),
            "value" => self.value(node, &rest),
            "plan" => self.plan(node, &rest),
            "outcome" => self.outcome(node, &rest),
            "ledger" => Err(self.error(node, "the ledger is asked with ledger.acted(\"1h\")")),
            other => {
                let known = ROOTS.into_iter().chain(declared.element.as_ref().map(|(variable, _)| variable.as_str()));
                Err(self.error(start, format!("nothing here is called {other}: {}", suggestion(other, known))))
            }
        }
    }

    /// The one name that must follow a root.
    fn only_name(&self, node: &IdedExpr, root: &str, rest: &[Segment<'_>]) -> Result<String, Error> {
        match rest {
            [segment] => segment.text(),
            _ => None,
        }
        .ok_or_else(|| self.error(node, format!("one name is wanted here: {root}.NAME")))
    }

    fn in_rung(&self, node: &IdedExpr, root: &str) -> Result<(), Error> {
        if self.declared.in_rung {
            return Ok(());
        }
        Err(self.error(node, format!("{root} is there in a rung of the ladder only: no plan has been made before")))
    }

    fn signal(&mut self, node: &IdedExpr, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        let name = self.only_name(node, "signal", rest)?;
        if !self.declared.signals.contains(&name) {
            let near = suggestion(&name, self.declared.signals.iter().map(String::as_str));
            return Err(self.error(node, format!("no signal is called {name}: {near}")));
        }
        self.read(Reference::Signal(name.clone()));
        Ok(Typed::Boolean(Boolean::Signal(name.into())))
    }

    fn alert(&mut self, node: &IdedExpr, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        if !self.declared.alert {
            let message = "there is no alert of another system here: `trigger: { alert: … }` would name one";
            return Err(self.error(node, message));
        }
        if self.only_name(node, "alert", rest)? != "firing" {
            return Err(self.error(node, "of an alert there is alert.firing"));
        }
        self.read(Reference::Alert);
        Ok(Typed::Boolean(Boolean::Alert))
    }

    fn declared_value(&self, node: &IdedExpr, name: &str) -> Result<&'d [Value], Error> {
        let declared: &'d Declared = self.declared;
        declared.values.get(name).map(Vec::as_slice).ok_or_else(|| {
            let near = suggestion(name, declared.values.keys().map(String::as_str));
            self.error(node, format!("no value is called {name}: {near}"))
        })
    }

    fn value_type(&self, node: &IdedExpr, name: &str) -> Result<FieldType, Error> {
        type_of(self.declared_value(node, name)?).ok_or_else(|| {
            self.error(node, format!("the bounds of {name} mix types: make them all texts or all numbers"))
        })
    }

    fn value(&mut self, node: &IdedExpr, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        let name = self.only_name(node, "value", rest)?;
        let kind = self.value_type(node, &name)?;
        self.read(Reference::Value(name.clone()));
        Ok(Typed::read(kind, Source::Value(name.into())))
    }

    fn plan(&mut self, node: &IdedExpr, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        self.in_rung(node, "plan")?;
        let name = self.only_name(node, "plan", rest)?;
        let planned = plan_fields().iter().find(|spec| spec.name == name);
        let kind = match planned.filter(|_| !self.declared.values.contains_key(&name)) {
            Some(spec) => spec.kind,
            None => self.value_type(node, &name)?,
        };
        self.read(Reference::Plan(name.clone()));
        Ok(Typed::read(kind, Source::Plan(name.into())))
    }

    fn outcome(&mut self, node: &IdedExpr, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        self.in_rung(node, "outcome")?;
        let name = self.only_name(node, "outcome", rest)?;
        let spec = outcome_fields().iter().find(|spec| spec.name == name).ok_or_else(|| {
            let near = suggestion(&name, outcome_fields().iter().map(|spec| spec.name));
            self.error(node, format!("no action reports {name}: {near}"))
        })?;
        self.read(Reference::Outcome(name.clone()));
        Ok(Typed::read(spec.kind, Source::Outcome(name.into())))
    }

    fn loop_variable(&self, node: &IdedExpr, level: usize, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        if rest.is_empty() {
            return Ok(Typed::Text(Text::Key(level)));
        }
        let (variable, family) = &self.loops[level];
        let family = family.prefix();
        Err(self.error(node, format!("{variable} is a name: its fields are host.{family}[{variable}].FIELD")))
    }

    fn element(
        &mut self,
        node: &IdedExpr,
        variable: &str,
        family: Family,
        rest: &[Segment<'_>],
    ) -> Result<Typed, Error> {
        let field = self.field_name(node, rest, || element_field_names(family))?;
        self.uses_elements = true;
        let reference = Reference::Element { variable: variable.to_owned(), field: field.clone() };
        if field == "name" {
            self.read(reference);
            return Ok(Typed::Text(Text::ElementName));
        }
        let kind = self.element_field_type(node, family, &field)?;
        self.read(reference);
        Ok(Typed::read(kind, Source::Element { field: field.into() }))
    }

    /// The rest of a path as the name of a field: `captures.error`.
    fn field_name(
        &self,
        node: &IdedExpr,
        rest: &[Segment<'_>],
        known: impl FnOnce() -> Vec<String>,
    ) -> Result<String, Error> {
        if rest.is_empty() {
            let known = known().join(", ");
            return Err(self.error(node, format!("a field is wanted here: one of {known}")));
        }
        let mut parts = Vec::with_capacity(rest.len());
        for segment in rest {
            let text =
                segment.text().ok_or_else(|| self.error(segment.node, "a literal is wanted inside the brackets"))?;
            parts.push(text);
        }
        Ok(parts.join("."))
    }

    fn probe(&mut self, node: &IdedExpr, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        let Some((first, rest)) = rest.split_first() else {
            return Err(self.error(node, "a probe is wanted here: probe.NAME.FIELD"));
        };
        if let Some(name) = first.text() {
            let probe = self.declared_probe(first.node, &name)?;
            let (field, kind) = self.probe_field(node, &name, probe, rest)?;
            self.read(Reference::Field { probe: name.clone(), field: field.clone() });
            return Ok(Typed::read(kind, Source::Field { probe: name.into(), field: field.into() }));
        }
        match first.index().and_then(segments) {
            Some((_, "value", value)) => {
                let value = self.only_name(first.node, "value", &value)?;
                self.chosen_probe(node, &value, rest)
            }
            _ => Err(self.error(first.node, "a probe is chosen with probe[value.NAME] or probe[\"NAME\"]")),
        }
    }

    /// `probe[value.NAME].FIELD`: whatever the value may be must be a probe that has the field.
    fn chosen_probe(&mut self, node: &IdedExpr, value: &str, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        let mut probes = Vec::new();
        let mut found: Option<(String, FieldType)> = None;
        for bound in self.declared_value(node, value)? {
            let Value::Text(name) = bound else {
                return Err(self.error(node, format!("value.{value} may be {bound}, which is not the name of a probe")));
            };
            let declared = self
                .declared_probe(node, name)
                .map_err(|error| Error { message: format!("value.{value} may be {name:?}, and {error}"), ..error })?;
            let field = self.probe_field(node, name, declared, rest)?;
            if found.as_ref().is_some_and(|found| *found != field) {
                let field = field.0;
                return Err(self.error(node, format!("{field} has different types in the probes of value.{value}")));
            }
            found = Some(field);
            probes.push(name.clone());
        }
        let Some((field, kind)) = found else {
            return Err(self.error(node, format!("value.{value} has no bounds: say in oneOf which probes it may name")));
        };
        self.read(Reference::Chosen { value: value.to_owned(), probes: probes.clone(), field: field.clone() });
        let probes = probes.into_iter().map(String::into_boxed_str).collect();
        Ok(Typed::read(kind, Source::Chosen { value: value.into(), probes, field: field.into() }))
    }

    fn declared_probe(&self, node: &IdedExpr, name: &str) -> Result<&'d Probe, Error> {
        let declared: &'d Declared = self.declared;
        declared.probes.get(name).ok_or_else(|| {
            let known = declared.probes.keys().map(String::as_str);
            self.error(node, format!("no probe is called {name}: {}", suggestion(name, known)))
        })
    }

    fn probe_field(
        &self,
        node: &IdedExpr,
        name: &str,
        probe: &Probe,
        rest: &[Segment<'_>],
    ) -> Result<(String, FieldType), Error> {
        let known = || {
            let declared = all_fields(probe.spec.kind()).map(|spec| spec.name.to_owned());
            declared.chain(probe.spec.captured()).collect::<Vec<_>>()
        };
        let node = rest.first().map_or(node, |first| first.node);
        let field = self.field_name(node, rest, known)?;
        let kind = probe.spec.field_type(&field).ok_or_else(|| {
            let known = known();
            let near = suggestion(&field, known.iter().map(String::as_str));
            self.error(node, format!("probe {name} is of kind {} and has no field {field}: {near}", probe.spec.kind()))
        })?;
        Ok((field, kind))
    }

    fn host(&mut self, node: &IdedExpr, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        let family = rest.first().and_then(|first| match first.key {
            Key::Name(name) => family_of(name),
            Key::Index(_) => None,
        });
        match (family, rest) {
            (Some(family), [_]) => {
                self.uses_elements = true;
                Ok(Typed::Family(family))
            }
            (Some(family), [_, element, rest @ ..]) => self.host_element(node, family, *element, rest),
            _ => self.host_field(node, rest),
        }
    }

    fn host_field(&mut self, node: &IdedExpr, rest: &[Segment<'_>]) -> Result<Typed, Error> {
        let known = || all_fields(ProbeKind::Host).map(|spec| spec.name.to_owned()).collect::<Vec<_>>();
        let field = self.field_name(node, rest, known)?;
        let spec = all_fields(ProbeKind::Host).find(|spec| spec.name == field).ok_or_else(|| {
            let known = known();
            let near = suggestion(&field, known.iter().map(String::as_str));
            self.error(node, format!("the host samples have no field {field}: {near}"))
        })?;
        self.read(Reference::Field { probe: "host".to_owned(), field: field.clone() });
        Ok(Typed::read(spec.kind, Source::Field { probe: "host".into(), field: field.into() }))
    }

    /// `host.disks["/var"].used_percent`, or with a comprehension's variable inside the brackets.
    fn host_element(
        &mut self,
        node: &IdedExpr,
        family: Family,
        element: Segment<'_>,
        rest: &[Segment<'_>],
    ) -> Result<Typed, Error> {
        let prefix = family.prefix();
        let Some(index) = element.index() else {
            return Err(self.error(element.node, format!("name the element: host.{prefix}[\"NAME\"].FIELD")));
        };
        let field = self.field_name(node, rest, || element_field_names(family))?;
        let node = rest.first().map_or(node, |first| first.node);
        let kind = self.element_field_type(node, family, &field)?;
        if let Some(name) = literal_text(index) {
            let field = format!("{prefix}[{name}].{field}");
            self.read(Reference::Field { probe: "host".to_owned(), field: field.clone() });
            return Ok(Typed::read(kind, Source::Field { probe: "host".into(), field: field.into() }));
        }
        let Expr::Ident(variable) = &index.expr else {
            return Err(self.error(index, "a text or the variable of exists or all is wanted inside the brackets"));
        };
        let Some(level) = self.loops.iter().position(|(name, _)| name == variable) else {
            return Err(self.error(index, format!("{variable} is not the variable of an exists or all around this")));
        };
        if self.loops[level].1 != family {
            let other = self.loops[level].1.prefix();
            return Err(self.error(index, format!("{variable} goes over host.{other}, not over host.{prefix}")));
        }
        let source = Source::Each { level, before: format!("{prefix}[").into(), after: format!("].{field}").into() };
        self.read(Reference::Each { family, field });
        Ok(Typed::read(kind, source))
    }

    fn element_field_type(&self, node: &IdedExpr, family: Family, field: &str) -> Result<FieldType, Error> {
        let wanted = format!("{}[].{field}", family.prefix());
        host_fields().iter().find(|spec| spec.name == wanted).map(|spec| spec.kind).ok_or_else(|| {
            let known = element_field_names(family);
            let near = suggestion(field, known.iter().map(String::as_str));
            self.error(node, format!("an element of host.{} has no field {field}: {near}", family.prefix()))
        })
    }
}

/// The family that `host.NAME` names.
fn family_of(name: &str) -> Option<Family> {
    [Family::Disks, Family::Network].into_iter().find(|family| family.prefix() == name)
}

fn element_field_names(family: Family) -> Vec<String> {
    let prefix = format!("{}[].", family.prefix());
    host_fields().iter().filter_map(|spec| spec.name.strip_prefix(&prefix)).map(str::to_owned).collect()
}
