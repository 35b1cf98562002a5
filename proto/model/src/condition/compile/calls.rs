//! What operators and functions take and give.

use std::time::Duration;

use cel::common::ast::{CallExpr, Expr, IdedExpr, operators};
use regex::RegexBuilder;

use super::{
    super::{
        Derived, Error, Over, Reference,
        nearest::suggestion,
        span,
        tree::{Boolean, Number, Operator, Order, Source, Text, TextTest, Typed},
    },
    Compiler, literal_text,
};
use crate::probe::PATTERN_SIZE_LIMIT;

/// Functions, for suggestions.
const FUNCTIONS: [&str; 16] = [
    "increase",
    "max",
    "min",
    "avg",
    "forecast",
    "size",
    "number",
    "double",
    "text",
    "string",
    "duration",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "holds",
];

impl Compiler<'_, '_> {
    pub(super) fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Result<Typed, Error> {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => Ok(Typed::Boolean(self.conjunction(left, right)?)),
            (operators::LOGICAL_OR, [left, right]) => Ok(Typed::Boolean(self.disjunction(left, right)?)),
            (operators::LOGICAL_NOT, [operand]) => Ok(Typed::Boolean(Boolean::Not(Box::new(self.boolean(operand)?)))),
            (operators::NEGATE, [operand]) => Ok(Typed::Number(Number::Negate(Box::new(self.number(operand)?)))),
            (operators::CONDITIONAL, [asked, yes, no]) => self.choice(node, asked, yes, no),
            (operators::IN, [item, list]) => self.is_in(node, item, list),
            (name, [left, right]) if order(name).is_some() => {
                let (left, right) = (self.expression(left)?, self.expression(right)?);
                let order = order(name).unwrap_or(Order::Equal);
                compare(order, left, right).map_err(|message| self.error(node, message))
            }
            (name, [left, right]) if operator(name).is_some() => {
                let (left, right) = (self.expression(left)?, self.expression(right)?);
                self.arithmetic(node, operator(name).unwrap_or(Operator::Add), left, right)
            }
            (name, arguments) => self.function(node, name, call.target.as_deref(), arguments),
        }
    }

    fn conjunction(&mut self, left: &IdedExpr, right: &IdedExpr) -> Result<Boolean, Error> {
        let mut operands = Vec::new();
        for operand in [self.boolean(left)?, self.boolean(right)?] {
            match operand {
                Boolean::And(inner) => operands.extend(inner),
                other => operands.push(other),
            }
        }
        Ok(Boolean::And(operands.into()))
    }

    fn disjunction(&mut self, left: &IdedExpr, right: &IdedExpr) -> Result<Boolean, Error> {
        let mut operands = Vec::new();
        for operand in [self.boolean(left)?, self.boolean(right)?] {
            match operand {
                Boolean::Or(inner) => operands.extend(inner),
                other => operands.push(other),
            }
        }
        Ok(Boolean::Or(operands.into()))
    }

    fn choice(&mut self, node: &IdedExpr, asked: &IdedExpr, yes: &IdedExpr, no: &IdedExpr) -> Result<Typed, Error> {
        let asked = self.boolean(asked)?;
        let (yes, no) = (self.expression(yes)?, self.expression(no)?);
        let differ = format!("one branch is {}, the other {}", yes.describe(), no.describe());
        match (yes, no) {
            (Typed::Boolean(yes), Typed::Boolean(no)) => {
                Ok(Typed::Boolean(Boolean::Choose(Box::new((asked, yes, no)))))
            }
            (yes @ Typed::Number(_), no) | (yes, no @ Typed::Number(_)) => {
                match (yes.into_number(), no.into_number()) {
                    (Ok(yes), Ok(no)) => Ok(Typed::Number(Number::Choose(Box::new((asked, yes, no))))),
                    _ => Err(self.error(node, differ)),
                }
            }
            (yes, no) => match (yes.into_text(), no.into_text()) {
                (Ok(yes), Ok(no)) => Ok(Typed::Text(Text::Choose(Box::new((asked, yes, no))))),
                _ => Err(self.error(node, differ)),
            },
        }
    }

    fn is_in(&mut self, node: &IdedExpr, item: &IdedExpr, list: &IdedExpr) -> Result<Typed, Error> {
        let item = self.expression(item)?;
        match self.expression(list)? {
            Typed::Family(family) => {
                let text =
                    item.into_text().map_err(|is| self.error(node, format!("an element's name is text, not {is}")))?;
                Ok(Typed::Boolean(Boolean::IsElement(Box::new(text), family)))
            }
            Typed::List(list) if list.is_empty() => Err(self.error(node, "nothing is in an empty list")),
            Typed::List(list) => Ok(Typed::Boolean(among(item, list)?)),
            other => {
                let is = other.describe();
                Err(self.error(node, format!("'in' wants a list, host.disks or host.network on its right, not {is}")))
            }
        }
    }

    fn arithmetic(&self, node: &IdedExpr, operator: Operator, left: Typed, right: Typed) -> Result<Typed, Error> {
        let types = (left.describe(), right.describe());
        match (operator, left, right) {
            (Operator::Add, Typed::Captured(_), Typed::Captured(_)) => {
                Err(self.error(node, "sum or text? Write number(…) or text(…) around the captured texts"))
            }
            (Operator::Add, left @ Typed::Text(_), right) | (Operator::Add, left, right @ Typed::Text(_)) => {
                match (left.into_text(), right.into_text()) {
                    (Ok(left), Ok(right)) => Ok(Typed::Text(Text::Join(Box::new([left, right])))),
                    _ => Err(self.error(node, format!("{} and {} cannot be added: write text(…)", types.0, types.1))),
                }
            }
            (operator, left, right) => match (left.into_number(), right.into_number()) {
                (Ok(left), Ok(right)) => {
                    let offset = u32::try_from(self.places.offset(node)).unwrap_or(u32::MAX);
                    let operands = Box::new([left, right]);
                    Ok(Typed::Number(Number::Arithmetic { operator, operands, offset }))
                }
                _ => Err(self.error(node, format!("there is no arithmetic with {} and {}", types.0, types.1))),
            },
        }
    }

    fn function(
        &mut self,
        node: &IdedExpr,
        name: &str,
        target: Option<&IdedExpr>,
        arguments: &[IdedExpr],
    ) -> Result<Typed, Error> {
        if let Some(over) = over(name).filter(|_| target.is_none()) {
            return self.derived(node, over, arguments);
        }
        match (name, target, arguments) {
            ("size", None, [of]) | ("size", Some(of), []) => self.size(of),
            ("number" | "double", None, [of]) => self.as_number(of),
            ("text" | "string", None, [of]) => self.as_text(of),
            ("duration", None, [of]) => Ok(Typed::Number(Number::Constant(self.span(node, Some(of))?.as_secs_f64()))),
            ("acted", Some(ledger), [within]) if matches!(&ledger.expr, Expr::Ident(name) if name == "ledger") => {
                self.acted(node, within)
            }
            ("holds", Some(element), [path]) => self.holds(node, element, path),
            ("matches", Some(text), [pattern]) => self.matches(text, pattern),
            (name, Some(text), [part]) if text_test(name).is_some() => {
                let operands = Box::new([self.text(text)?, self.text(part)?]);
                let test = text_test(name).unwrap_or(TextTest::Contains);
                Ok(Typed::Boolean(Boolean::Test(test, operands)))
            }
            (name, _, _) if FUNCTIONS.contains(&name) => {
                Err(self.error(node, format!("{name} is used as {}", usage(name))))
            }
            (name, _, _) => {
                let near = suggestion(name, FUNCTIONS);
                Err(self.error(node, format!("there is no function {name}: {near}")))
            }
        }
    }

    fn size(&mut self, of: &IdedExpr) -> Result<Typed, Error> {
        let number = match self.expression(of)? {
            Typed::Family(family) => Number::FamilySize(family),
            Typed::List(list) => Number::Constant(list.len() as f64),
            other => match other.into_text() {
                Ok(text) => Number::TextSize(Box::new(text)),
                Err(is) => return Err(self.error(of, format!("{is} has no size"))),
            },
        };
        Ok(Typed::Number(number))
    }

    fn as_number(&mut self, of: &IdedExpr) -> Result<Typed, Error> {
        match self.expression(of)? {
            Typed::Number(number) => Ok(Typed::Number(number)),
            Typed::Captured(source) => Ok(Typed::Number(Number::Read(source))),
            Typed::Text(text) => Ok(Typed::Number(Number::FromText(Box::new(text)))),
            other => Err(self.error(of, format!("{} cannot be made a number", other.describe()))),
        }
    }

    fn as_text(&mut self, of: &IdedExpr) -> Result<Typed, Error> {
        match self.expression(of)? {
            Typed::Number(number) => Ok(Typed::Text(Text::FromNumber(Box::new(number)))),
            other => match other.into_text() {
                Ok(text) => Ok(Typed::Text(text)),
                Err(is) => Err(self.error(of, format!("{is} cannot be made a text"))),
            },
        }
    }

    fn span(&self, node: &IdedExpr, argument: Option<&IdedExpr>) -> Result<Duration, Error> {
        argument.and_then(literal_text).and_then(span::parse).ok_or_else(|| {
            self.error(
                argument.unwrap_or(node),
                "a span of time with its unit is wanted here, in quotes: \"1h\", \"90s\"",
            )
        })
    }

    fn acted(&mut self, node: &IdedExpr, within: &IdedExpr) -> Result<Typed, Error> {
        if !self.declared.in_rung {
            return Err(self.error(node, "the ledger is there in a rung of the ladder only"));
        }
        let within = self.span(node, Some(within))?;
        self.read(Reference::Acted(within));
        Ok(Typed::Number(Number::Acted(within)))
    }

    /// `increase(probe.orders.value, "1h")`: names a series of its own, so its argument is a field and no expression.
    fn derived(&mut self, node: &IdedExpr, over: Over, arguments: &[IdedExpr]) -> Result<Typed, Error> {
        let [of, within] = arguments else {
            return Err(self.error(node, format!("{0} is used as {1}", over.as_str(), usage(over.as_str()))));
        };
        let span = self.span(node, Some(within))?;
        let read_before = self.reads.len();
        let typed = self.expression(of)?;
        self.reads.truncate(read_before);
        let (Typed::Number(Number::Read(source)) | Typed::Captured(source)) = typed else {
            return Err(self.error(of, format!("{} wants a field that is a number", over.as_str())));
        };
        let (probe, field) = match (source, &self.declared.element) {
            (Source::Field { probe, field }, _) => (probe.into(), field.into()),
            (Source::Element { field }, Some((_, family))) => {
                ("host".to_owned(), format!("{}[$].{field}", family.prefix()))
            }
            _ => {
                let over = over.as_str();
                return Err(self.error(of, format!("{over} wants a field that is named outright: probe.NAME.FIELD")));
            }
        };
        let derived = Derived { over, probe, field, span };
        self.read(Reference::Derived(derived.clone()));
        Ok(Typed::Number(Number::Derived(Box::new(derived))))
    }

    fn holds(&mut self, node: &IdedExpr, element: &IdedExpr, path: &IdedExpr) -> Result<Typed, Error> {
        let family = match (&element.expr, &self.declared.element) {
            (Expr::Ident(name), Some((variable, family))) if name == variable => *family,
            _ => return Err(self.error(node, "holds is asked of the policy's element: disk.holds(\"/path\")")),
        };
        let path = self.text(path)?;
        self.uses_elements = true;
        if let Expr::Ident(variable) = &element.expr {
            self.read(Reference::Element { variable: variable.clone(), field: "name".to_owned() });
        }
        Ok(Typed::Boolean(Boolean::Holds(family, Box::new(path))))
    }

    fn matches(&mut self, text: &IdedExpr, pattern: &IdedExpr) -> Result<Typed, Error> {
        let text = self.text(text)?;
        let Some(written) = literal_text(pattern) else {
            return Err(
                self.error(pattern, "the pattern of matches is a literal: it is compiled when the policy is read")
            );
        };
        let regex = RegexBuilder::new(written)
            .size_limit(PATTERN_SIZE_LIMIT)
            .build()
            .map_err(|error| self.error(pattern, format!("not a pattern: {}", one_line(&error))))?;
        Ok(Typed::Boolean(Boolean::Matches(Box::new(text), regex)))
    }
}

/// The regex crate draws its errors over several lines; the last says what is wrong.
fn one_line(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("compiled it would need more than {limit} bytes: make it simpler")
        }
        other => {
            let text = other.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

fn order(name: &str) -> Option<Order> {
    Some(match name {
        operators::EQUALS => Order::Equal,
        operators::NOT_EQUALS => Order::NotEqual,
        operators::LESS => Order::Less,
        operators::LESS_EQUALS => Order::LessOrEqual,
        operators::GREATER => Order::Greater,
        operators::GREATER_EQUALS => Order::GreaterOrEqual,
        _ => return None,
    })
}

fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        operators::ADD => Operator::Add,
        operators::SUBSTRACT => Operator::Subtract,
        operators::MULTIPLY => Operator::Multiply,
        operators::DIVIDE => Operator::Divide,
        operators::MODULO => Operator::Remainder,
        _ => return None,
    })
}

fn over(name: &str) -> Option<Over> {
    [Over::Increase, Over::Max, Over::Min, Over::Avg, Over::Forecast].into_iter().find(|over| over.as_str() == name)
}

fn text_test(name: &str) -> Option<TextTest> {
    Some(match name {
        "contains" => TextTest::Contains,
        "startsWith" => TextTest::StartsWith,
        "endsWith" => TextTest::EndsWith,
        _ => return None,
    })
}

fn usage(name: &str) -> String {
    match name {
        "contains" | "startsWith" | "endsWith" => format!("x.{name}(\"…\")"),
        "matches" => "x.matches(\"PATTERN\")".to_owned(),
        "holds" => "ELEMENT.holds(\"/path\")".to_owned(),
        "duration" => "duration(\"14d\")".to_owned(),
        "size" | "number" | "double" | "text" | "string" => format!("{name}(x)"),
        _ => format!("{name}(probe.NAME.FIELD, \"1h\")"),
    }
}

/// A comparison. Captured text follows the other side; two captured texts are equal as texts and ordered as numbers.
fn compare(order: Order, left: Typed, right: Typed) -> Result<Typed, String> {
    let refusal = format!("{} cannot be compared with {}", left.describe(), right.describe());
    let is_equality = matches!(order, Order::Equal | Order::NotEqual);
    match (left, right) {
        (Typed::Boolean(left), Typed::Boolean(right)) if is_equality => {
            let same = Boolean::Same(Box::new([left, right]));
            Ok(Typed::Boolean(if order == Order::Equal { same } else { Boolean::Not(Box::new(same)) }))
        }
        (left @ Typed::Text(_), right) | (left, right @ Typed::Text(_)) => texts(order, left, right, refusal),
        (left @ Typed::Captured(_), right @ Typed::Captured(_)) if is_equality => texts(order, left, right, refusal),
        (left, right) => match (left.into_number(), right.into_number()) {
            (Ok(left), Ok(right)) => Ok(Typed::Boolean(Boolean::Numbers(order, Box::new([left, right])))),
            _ => Err(refusal),
        },
    }
}

fn texts(order: Order, left: Typed, right: Typed, refusal: String) -> Result<Typed, String> {
    match (left.into_text(), right.into_text()) {
        (Ok(left), Ok(right)) => Ok(Typed::Boolean(Boolean::Texts(order, Box::new([left, right])))),
        _ => Err(refusal),
    }
}

/// `item in [a, b]`: captured text is a number when some element is one.
fn among(item: Typed, list: Vec<(Typed, usize)>) -> Result<Boolean, Error> {
    let is_number = match &item {
        Typed::Number(_) => true,
        Typed::Captured(_) => list.iter().any(|(element, _)| matches!(element, Typed::Number(_))),
        _ => false,
    };
    let refusal =
        |is: &str, offset| Error::at(offset, format!("{is} cannot be in this list: its elements have one type"));
    let first = list.first().map_or(0, |(_, offset)| *offset);
    if is_number {
        let item = item.into_number().map_err(|is| refusal(is, first))?;
        let numbers = list.into_iter().map(|(element, offset)| element.into_number().map_err(|is| refusal(is, offset)));
        return Ok(Boolean::NumberIn(Box::new(item), numbers.collect::<Result<_, _>>()?));
    }
    let item = item.into_text().map_err(|is| refusal(is, first))?;
    let texts = list.into_iter().map(|(element, offset)| element.into_text().map_err(|is| refusal(is, offset)));
    Ok(Boolean::TextIn(Box::new(item), texts.collect::<Result<_, _>>()?))
}
