//! Evaluation: strong Kleene logic over the typed tree.
//!
//! With less known, a judgement is the same or unknown, never the opposite: unknown outweighs a fault, and only an
//! operand that decides by itself (`false && …`) outweighs unknown.

use std::borrow::Cow;

use super::{
    Lookup, Scope,
    tree::{Boolean, Number, Operator, Order, Source, Text, TextTest, Typed},
};
use crate::{
    policy::Family,
    value::{Truth, Value},
};

/// Most elements that a comprehension goes over: a host that names more is not judged.
const MAX_ELEMENTS: usize = 512;
/// Levels of comprehensions: one, and one nested in it.
pub(super) const MAX_LEVELS: usize = 2;

/// Why an evaluation ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A division by zero at this offset.
    Zero(u32),
    /// A number that grew beyond all bounds at this offset.
    Infinite(u32),
    /// More elements than may be gone over.
    Elements(Family),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Zero(offset) => write!(f, "a division by zero at offset {offset}: guard it with a comparison"),
            Self::Infinite(offset) => write!(f, "a number without bounds at offset {offset}"),
            Self::Elements(family) => {
                write!(f, "host.{} has more than {MAX_ELEMENTS} elements, which are not judged", family.prefix())
            }
        }
    }
}

/// Absent: unknown.
type Found<T> = Result<Option<T>, Trouble>;

/// What names mean here, and where the loops stand.
#[derive(Clone, Copy)]
pub(super) struct Place<'s> {
    scope: &'s dyn Scope,
    keys: [&'s str; MAX_LEVELS],
}

/// Takes the value out of a [`Found`], or returns unknown or the trouble.
macro_rules! known {
    ($found:expr, $unknown:expr) => {
        match $found? {
            Some(value) => value,
            None => return Ok($unknown),
        }
    };
}

impl<'s> Place<'s> {
    pub(super) fn new(scope: &'s dyn Scope) -> Self {
        Self { scope, keys: [""; MAX_LEVELS] }
    }

    /// Any expression's value.
    pub(super) fn value(self, typed: &Typed) -> Result<Lookup, Trouble> {
        let found = match typed {
            Typed::Boolean(boolean) => match self.boolean(boolean)? {
                Truth::Unknown => None,
                truth => Some(Value::Flag(truth.holds())),
            },
            Typed::Number(number) => self.number(number)?.map(Value::Number),
            Typed::Text(text) => self.text(text)?.map(|text| Value::Text(text.into_owned())),
            Typed::Captured(source) => return Ok(self.lookup(source)),
            Typed::List(_) | Typed::Family(_) => None,
        };
        Ok(found.map_or(Lookup::Unknown, Lookup::Known))
    }

    pub(super) fn boolean(self, boolean: &Boolean) -> Result<Truth, Trouble> {
        match boolean {
            Boolean::Constant(flag) => Ok((*flag).into()),
            Boolean::Read(source) => Ok(match self.lookup(source) {
                Lookup::Known(Value::Flag(flag)) => flag.into(),
                _ => Truth::Unknown,
            }),
            Boolean::Signal(name) => Ok(self.scope.signal(name)),
            Boolean::Alert => Ok(self.scope.alert()),
            Boolean::Not(operand) => Ok(!self.boolean(operand)?),
            Boolean::And(operands) => decide(Truth::False, operands.iter().map(|operand| self.boolean(operand))),
            Boolean::Or(operands) => decide(Truth::True, operands.iter().map(|operand| self.boolean(operand))),
            Boolean::Same(operands) => self.same(operands),
            Boolean::Numbers(order, operands) => {
                let left = known!(self.number(&operands[0]), Truth::Unknown);
                let right = known!(self.number(&operands[1]), Truth::Unknown);
                Ok(order.holds(left.partial_cmp(&right)).into())
            }
            Boolean::Texts(order, operands) => {
                let left = known!(self.text(&operands[0]), Truth::Unknown);
                let right = known!(self.text(&operands[1]), Truth::Unknown);
                Ok(order.holds(Some(left.cmp(&right))).into())
            }
            Boolean::Test(test, operands) => {
                let text = known!(self.text(&operands[0]), Truth::Unknown);
                let part = known!(self.text(&operands[1]), Truth::Unknown);
                Ok(test.holds(&text, &part).into())
            }
            Boolean::Matches(text, pattern) => Ok(pattern.is_match(&known!(self.text(text), Truth::Unknown)).into()),
            Boolean::Choose(choice) => match self.boolean(&choice.0)? {
                Truth::Unknown => Ok(Truth::Unknown),
                truth => self.boolean(if truth.holds() { &choice.1 } else { &choice.2 }),
            },
            _ => self.membership(boolean),
        }
    }

    fn same(self, operands: &[Boolean; 2]) -> Result<Truth, Trouble> {
        let left = self.boolean(&operands[0])?;
        if left == Truth::Unknown {
            return Ok(Truth::Unknown);
        }
        let right = self.boolean(&operands[1])?;
        Ok(if right == Truth::Unknown { right } else { (left == right).into() })
    }

    /// What goes over lists and elements.
    fn membership(self, boolean: &Boolean) -> Result<Truth, Trouble> {
        match boolean {
            Boolean::NumberIn(number, list) => {
                let wanted = known!(self.number(number), Truth::Unknown);
                let equal = |found: Option<f64>| found.map_or(Truth::Unknown, |found| (found == wanted).into());
                decide(Truth::True, list.iter().map(|item| Ok(equal(self.number(item)?))))
            }
            Boolean::TextIn(text, list) => {
                let wanted = known!(self.text(text), Truth::Unknown);
                let equal =
                    |found: Option<Cow<'_, str>>| found.map_or(Truth::Unknown, |found| (found == wanted).into());
                decide(Truth::True, list.iter().map(|item| Ok(equal(self.text(item)?))))
            }
            Boolean::IsElement(text, family) => {
                let wanted = known!(self.text(text), Truth::Unknown);
                let elements = known!(self.elements(*family), Truth::Unknown);
                Ok(elements.iter().any(|element| *element == wanted).into())
            }
            Boolean::Holds(family, path) => self.holds(*family, path),
            Boolean::Each { every, family, level, body } => {
                let elements = known!(self.elements(*family), Truth::Unknown);
                let judged = elements.iter().map(|element| {
                    let mut inner = Place { scope: self.scope, keys: self.keys };
                    inner.keys[*level] = element;
                    inner.boolean(body)
                });
                decide(if *every { Truth::False } else { Truth::True }, judged)
            }
            _ => Ok(Truth::Unknown),
        }
    }

    fn elements(self, family: Family) -> Found<Vec<String>> {
        match self.scope.elements(family) {
            Some(elements) if elements.len() > MAX_ELEMENTS => Err(Trouble::Elements(family)),
            elements => Ok(elements),
        }
    }

    /// Whether the policy's element is, of all that the host has, the one whose path is the longest above the given one.
    fn holds(self, family: Family, path: &Text) -> Result<Truth, Trouble> {
        let path = known!(self.text(path), Truth::Unknown);
        let Some(own) = self.scope.element_name() else { return Ok(Truth::Unknown) };
        if !is_above(own, &path) {
            return Ok(Truth::False);
        }
        let elements = known!(self.elements(family), Truth::Unknown);
        let longer = |other: &String| other.len() > own.len() && is_above(other, &path);
        Ok((!elements.iter().any(longer)).into())
    }

    fn number(self, number: &Number) -> Found<f64> {
        match number {
            Number::Constant(number) => Ok(Some(*number)),
            Number::Read(source) => Ok(as_number(self.lookup(source))),
            Number::Derived(derived) => Ok(as_number(self.scope.derived(derived))),
            Number::Acted(within) => Ok(Some(self.scope.acted(*within))),
            Number::Negate(operand) => Ok(self.number(operand)?.map(|number| -number)),
            Number::Arithmetic { operator, operands, offset } => {
                let left = known!(self.number(&operands[0]), None);
                let right = known!(self.number(&operands[1]), None);
                operator.apply(left, right, *offset).map(Some)
            }
            Number::Choose(choice) => match self.boolean(&choice.0)? {
                Truth::Unknown => Ok(None),
                truth => self.number(if truth.holds() { &choice.1 } else { &choice.2 }),
            },
            Number::FromText(text) => Ok(self.text(text)?.and_then(|text| number_in(&text))),
            Number::TextSize(text) => Ok(self.text(text)?.map(|text| text.chars().count() as f64)),
            Number::FamilySize(family) => Ok(self.elements(*family)?.map(|elements| elements.len() as f64)),
        }
    }

    fn text<'t>(self, text: &'t Text) -> Found<Cow<'t, str>>
    where
        's: 't,
    {
        Ok(match text {
            Text::Constant(text) => Some(Cow::Borrowed(text)),
            Text::Read(source) => as_text(self.lookup(source)).map(Cow::Owned),
            Text::Key(level) => Some(Cow::Borrowed(self.keys[*level])),
            Text::ElementName => self.scope.element_name().map(Cow::Borrowed),
            Text::Join(parts) => {
                let left = known!(self.text(&parts[0]), None);
                let right = known!(self.text(&parts[1]), None);
                Some(left + right)
            }
            Text::Choose(choice) => match self.boolean(&choice.0)? {
                Truth::Unknown => None,
                truth => self.text(if truth.holds() { &choice.1 } else { &choice.2 })?,
            },
            Text::FromNumber(number) => self.number(number)?.map(|number| Cow::Owned(number.to_string())),
        })
    }

    fn lookup(self, source: &Source) -> Lookup {
        match source {
            Source::Field { probe, field } => self.scope.field(probe, field),
            Source::Chosen { value, probes, field } => match self.scope.value(value) {
                Lookup::Known(Value::Text(name)) if probes.iter().any(|probe| **probe == name) => {
                    self.scope.field(&name, field)
                }
                _ => Lookup::Unknown,
            },
            Source::Element { field } => self.scope.element(field),
            Source::Each { level, before, after } => {
                self.scope.field("host", &[before, self.keys[*level], after].concat())
            }
            Source::Value(name) => self.scope.value(name),
            Source::Plan(name) => self.scope.plan(name),
            Source::Outcome(name) => self.scope.outcome(name),
        }
    }
}

/// Conjunction when `decisive` is false, disjunction when it is true.
fn decide(decisive: Truth, operands: impl Iterator<Item = Result<Truth, Trouble>>) -> Result<Truth, Trouble> {
    let mut outcome = !decisive;
    let mut trouble = None;
    for operand in operands {
        match operand {
            Ok(truth) if truth == decisive => return Ok(decisive),
            Ok(Truth::Unknown) => outcome = Truth::Unknown,
            Ok(_) => {}
            Err(found) => trouble = trouble.or(Some(found)),
        }
    }
    match trouble {
        Some(trouble) if outcome != Truth::Unknown => Err(trouble),
        _ => Ok(outcome),
    }
}

impl Order {
    fn holds(self, ordering: Option<std::cmp::Ordering>) -> bool {
        ordering.is_some_and(|ordering| match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        })
    }
}

impl TextTest {
    fn holds(self, text: &str, part: &str) -> bool {
        match self {
            Self::Contains => text.contains(part),
            Self::StartsWith => text.starts_with(part),
            Self::EndsWith => text.ends_with(part),
        }
    }
}

impl Operator {
    fn apply(self, left: f64, right: f64, offset: u32) -> Result<f64, Trouble> {
        let result = match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide | Self::Remainder if right == 0.0 => return Err(Trouble::Zero(offset)),
            Self::Divide => left / right,
            Self::Remainder => left % right,
        };
        if result.is_finite() { Ok(result) } else { Err(Trouble::Infinite(offset)) }
    }
}

/// Whether a directory is a path or above it.
fn is_above(directory: &str, path: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The number that a text reads as; never an infinity.
fn number_in(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// Agents are not trusted to send what the table says: what is no number is unknown.
fn as_number(lookup: Lookup) -> Option<f64> {
    match lookup {
        Lookup::Known(Value::Number(number)) => Some(number).filter(|number| number.is_finite()),
        Lookup::Known(Value::Text(text)) => number_in(&text),
        Lookup::Known(Value::Flag(_)) | Lookup::Unknown => None,
    }
}

fn as_text(lookup: Lookup) -> Option<String> {
    match lookup {
        Lookup::Known(Value::Text(text)) => Some(text),
        Lookup::Known(Value::Number(number)) => Some(number.to_string()),
        Lookup::Known(Value::Flag(_)) | Lookup::Unknown => None,
    }
}
