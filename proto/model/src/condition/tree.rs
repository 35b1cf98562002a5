//! The typed tree that a condition is compiled to: where it stands there, every name exists and every type fits.

use std::time::Duration;

use regex::Regex;

use super::Derived;
use crate::policy::Family;

/// An expression of any type.
#[derive(Debug, Clone)]
pub(super) enum Typed {
    Boolean(Boolean),
    Number(Number),
    Text(Text),
    /// Text that becomes a number where one is wanted.
    Captured(Source),
    /// Elements with their offsets.
    List(Vec<(Typed, usize)>),
    /// `host.disks`.
    Family(Family),
}

/// Where a value is read from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// `probe.NAME.FIELD`, `host.FIELD`.
    Field { probe: Box<str>, field: Box<str> },
    /// `probe[value.NAME].FIELD`; the value's bounds name declared probes only.
    Chosen { value: Box<str>, probes: Box<[Box<str>]>, field: Box<str> },
    /// `disk.used_percent`, of the policy's element.
    Element { field: Box<str> },
    /// `host.disks[m].used_percent` inside a comprehension: `disks[`, the key of this loop, `].used_percent`.
    Each { level: usize, before: Box<str>, after: Box<str> },
    /// `value.NAME`.
    Value(Box<str>),
    /// `plan.NAME`.
    Plan(Box<str>),
    /// `outcome.NAME`.
    Outcome(Box<str>),
}

/// How two operands are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A test of a text against another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

/// An operation on numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone)]
pub(super) enum Boolean {
    Constant(bool),
    Read(Source),
    Signal(Box<str>),
    /// `alert.firing`
    Alert,
    Not(Box<Boolean>),
    And(Box<[Boolean]>),
    Or(Box<[Boolean]>),
    /// Both true or both false.
    Same(Box<[Boolean; 2]>),
    Numbers(Order, Box<[Number; 2]>),
    Texts(Order, Box<[Text; 2]>),
    NumberIn(Box<Number>, Box<[Number]>),
    TextIn(Box<Text>, Box<[Text]>),
    /// `"/var" in host.disks`.
    IsElement(Box<Text>, Family),
    Test(TextTest, Box<[Text; 2]>),
    Matches(Box<Text>, Regex),
    /// The element is the mount that holds the path.
    Holds(Family, Box<Text>),
    /// `exists`, or `all` when `every` is set.
    Each {
        every: bool,
        family: Family,
        level: usize,
        body: Box<Boolean>,
    },
    Choose(Box<(Boolean, Boolean, Boolean)>),
}

#[derive(Debug, Clone)]
pub(super) enum Number {
    Constant(f64),
    Read(Source),
    Derived(Box<Derived>),
    Acted(Duration),
    Negate(Box<Number>),
    Arithmetic { operator: Operator, operands: Box<[Number; 2]>, offset: u32 },
    Choose(Box<(Boolean, Number, Number)>),
    FromText(Box<Text>),
    TextSize(Box<Text>),
    FamilySize(Family),
}

#[derive(Debug, Clone)]
pub(super) enum Text {
    Constant(Box<str>),
    Read(Source),
    /// The key of a comprehension's loop.
    Key(usize),
    /// The name of the policy's element.
    ElementName,
    Join(Box<[Text; 2]>),
    Choose(Box<(Boolean, Text, Text)>),
    FromNumber(Box<Number>),
}
