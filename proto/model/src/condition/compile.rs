//! From CEL's syntax tree to the typed tree: every name looked up, every type checked.
//!
//! [`names`] says what a name means, [`calls`] what operators and functions take; here is what goes between.

mod calls;
mod names;

use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

use super::{
    Declared, Error, Reference, judge,
    parse::Places,
    source::Names,
    tree::{Boolean, Number, Source, Text, Typed},
};
use crate::{policy::Family, probe::FieldType};

/// Compiles one expression.
pub(super) struct Compiler<'d, 't> {
    declared: &'d Declared,
    places: Places<'t>,
    /// Variables of the comprehensions around the present place.
    loops: Vec<(String, Family)>,
    reads: Vec<Reference>,
    /// Whether the host's elements are gone over.
    uses_elements: bool,
}

impl<'d, 't> Compiler<'d, 't> {
    pub(super) fn new(declared: &'d Declared, places: Places<'t>) -> Self {
        Self { declared, places, loops: Vec::new(), reads: Vec::new(), uses_elements: false }
    }

    /// What was named, in order of appearance.
    pub(super) fn into_names(self) -> Names {
        Names::of(self.reads, self.uses_elements)
    }

    fn error(&self, node: &IdedExpr, message: impl Into<String>) -> Error {
        Error::at(self.places.offset(node), message)
    }

    fn read(&mut self, reference: Reference) {
        if !self.reads.contains(&reference) {
            self.reads.push(reference);
        }
    }

    pub(super) fn expression(&mut self, node: &IdedExpr) -> Result<Typed, Error> {
        match &node.expr {
            Expr::Literal(literal) => self.literal(node, literal),
            Expr::Ident(_) => self.path(node),
            Expr::Select(select) if select.test => {
                Err(self
                    .error(node, "has() is not there: where a sample is missing the condition is unknown by itself"))
            }
            Expr::Select(_) => self.path(node),
            Expr::Call(call) if call.func_name == operators::INDEX => self.path(node),
            Expr::Call(call) => self.call(node, call),
            Expr::List(list) => {
                let element = |element| Ok((self.expression(element)?, self.places.offset(element)));
                Ok(Typed::List(list.elements.iter().map(element).collect::<Result<_, Error>>()?))
            }
            Expr::Comprehension(comprehension) => self.comprehension(node, comprehension),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err(self.error(node, "maps and messages have no place in a condition"))
            }
        }
    }

    fn literal(&self, node: &IdedExpr, literal: &LiteralValue) -> Result<Typed, Error> {
        Ok(match literal {
            LiteralValue::Boolean(flag) => Typed::Boolean(Boolean::Constant(*flag.inner())),
            LiteralValue::Double(number) => Typed::Number(Number::Constant(*number.inner())),
            LiteralValue::Int(number) => Typed::Number(Number::Constant(*number.inner() as f64)),
            LiteralValue::UInt(number) => Typed::Number(Number::Constant(*number.inner() as f64)),
            LiteralValue::String(text) => Typed::Text(Text::Constant(text.inner().into())),
            LiteralValue::Bytes(_) => return Err(self.error(node, "bytes have no place in a condition: write a text")),
            LiteralValue::Null => {
                return Err(self.error(node, "there is no null: where a sample is missing the condition is unknown"));
            }
        })
    }

    /// `host.disks.exists(m, …)` and `.all`, which the parser has unfolded into a fold.
    fn comprehension(&mut self, node: &IdedExpr, fold: &ComprehensionExpr) -> Result<Typed, Error> {
        let Some((every, body)) = quantifier(fold) else {
            return Err(self.error(node, "of the comprehensions there are exists and all only"));
        };
        let Typed::Family(family) = self.expression(&fold.iter_range)? else {
            return Err(self.error(&fold.iter_range, "exists and all go over host.disks and host.network"));
        };
        let level = self.loops.len();
        if level == judge::MAX_LEVELS {
            return Err(self.error(node, "comprehensions are nested more than once: split the condition into signals"));
        }
        if self.is_taken(&fold.iter_var) {
            return Err(self.error(node, format!("{} has a meaning already: choose another name", fold.iter_var)));
        }
        self.loops.push((fold.iter_var.clone(), family));
        let body = self.boolean(body);
        self.loops.pop();
        Ok(Typed::Boolean(Boolean::Each { every, family, level, body: Box::new(body?) }))
    }

    /// An expression that must be true, false or unknown.
    pub(super) fn boolean(&mut self, node: &IdedExpr) -> Result<Boolean, Error> {
        match self.expression(node)? {
            Typed::Boolean(boolean) => Ok(boolean),
            other => {
                let is = other.describe();
                Err(self.error(node, format!("this is {is}, and must be true or false: compare it with something")))
            }
        }
    }

    fn number(&mut self, node: &IdedExpr) -> Result<Number, Error> {
        let typed = self.expression(node)?;
        typed.into_number().map_err(|is| self.error(node, format!("this is {is}, and must be a number")))
    }

    fn text(&mut self, node: &IdedExpr) -> Result<Text, Error> {
        let typed = self.expression(node)?;
        typed.into_text().map_err(|is| self.error(node, format!("this is {is}, and must be a text")))
    }
}

/// What `exists` and `all` look like once unfolded: whether it is `all`, and the body.
fn quantifier(fold: &ComprehensionExpr) -> Option<(bool, &IdedExpr)> {
    let Expr::Literal(LiteralValue::Boolean(start)) = &fold.accu_init.expr else { return None };
    let Expr::Call(step) = &fold.loop_step.expr else { return None };
    let every = *start.inner();
    let expected = if every { operators::LOGICAL_AND } else { operators::LOGICAL_OR };
    match step.args.as_slice() {
        [_, body] if step.func_name == expected => Some((every, body)),
        _ => None,
    }
}

/// The text of a literal.
fn literal_text(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

impl Typed {
    /// A value read from somewhere.
    fn read(kind: FieldType, source: Source) -> Self {
        match kind {
            FieldType::Number => Self::Number(Number::Read(source)),
            FieldType::Text => Self::Text(Text::Read(source)),
            FieldType::Flag => Self::Boolean(Boolean::Read(source)),
            FieldType::Captured => Self::Captured(source),
        }
    }

    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Captured(_) => "captured text",
            Self::List(_) => "a list",
            Self::Family(_) => "a family of elements",
        }
    }

    fn into_number(self) -> Result<Number, &'static str> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Captured(source) => Ok(Number::Read(source)),
            other => Err(other.describe()),
        }
    }

    fn into_text(self) -> Result<Text, &'static str> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Captured(source) => Ok(Text::Read(source)),
            other => Err(other.describe()),
        }
    }
}
