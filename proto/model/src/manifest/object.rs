//! Reading a map by the table of its fields: unknown and missing ones, wrong types, defaults. Nothing stops at an error;
//! what could not be read is absent, and the report says why.

use std::{cell::RefCell, fmt::Display};

use super::{
    node::{Content, Key, Node, Place},
    schema::{Field, Need, Shape},
    yaml::Fault,
};

/// What has been found wrong, and what was filled in.
#[derive(Debug, Default)]
pub(crate) struct Report {
    faults: RefCell<Vec<Fault>>,
    defaults: RefCell<Vec<String>>,
}

impl Report {
    /// Notes a fault.
    pub(crate) fn fault(&self, place: Place, message: impl Into<String>) {
        self.faults.borrow_mut().push((place, message.into()));
    }

    /// Notes a value that the manifest left out.
    pub(crate) fn filled_in(&self, path: &str, value: &str) {
        let path = path.strip_prefix("spec.").unwrap_or(path);
        self.defaults.borrow_mut().push(format!("{path}={value}"));
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults.borrow().is_empty()
    }

    /// What was wrong.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }

    /// What was filled in so far.
    pub(crate) fn take_defaults(&self) -> Vec<String> {
        self.defaults.take()
    }
}

/// A map and the table of its fields.
pub(crate) struct Object<'a> {
    pub(crate) place: Place,
    /// From the manifest's `spec`: `guards.disturb`.
    pub(crate) path: String,
    fields: &'static [Field],
    members: &'a [(Key, Node)],
    pub(crate) report: &'a Report,
    #[cfg(test)]
    read: RefCell<std::collections::BTreeSet<&'static str>>,
}

/// The short or the long way of saying something.
pub(crate) enum Short<'a> {
    Text(String),
    Long(Object<'a>),
}

impl<'a> Object<'a> {
    /// Takes a node as a map with these fields; reports what is unknown or missing.
    pub(crate) fn new(node: &'a Node, fields: &'static [Field], path: &str, report: &'a Report) -> Option<Self> {
        let Content::Map(members) = &node.content else {
            let names: Vec<_> = fields.iter().take(4).map(|field| field.name).collect();
            report
                .fault(node.place, format!("{} is {}, not a map with {}", shown(path), node.kind(), names.join(", ")));
            return None;
        };
        let object = Self::over(node.place, members, fields, path, report);
        for (key, _) in members {
            if !fields.iter().any(|field| field.name == key.text) {
                let message = match later(path, &key.text) {
                    Some(what) => format!("{what} is not known yet to this version"),
                    None => unknown("field", &key.text, fields.iter().map(|field| field.name)),
                };
                report.fault(key.place, message);
            }
        }
        for field in fields {
            if field.need == Need::Required && !members.iter().any(|(key, _)| key.text == field.name) {
                let about = field.about.trim_end_matches(['.', ',', ';']);
                report.fault(node.place, format!("{} lacks `{}` ({about})", shown(path), field.name));
            }
        }
        Some(object)
    }

    fn over(
        place: Place,
        members: &'a [(Key, Node)],
        fields: &'static [Field],
        path: &str,
        report: &'a Report,
    ) -> Self {
        Self {
            place,
            path: path.to_owned(),
            fields,
            members,
            report,
            #[cfg(test)]
            read: RefCell::default(),
        }
    }

    /// The declaration of a field. Asking for one that is not declared is a fault of the program, found by any test
    /// that reads such a manifest.
    fn field(&self, name: &str) -> &'static Field {
        let found = self.fields.iter().find(|field| field.name == name);
        debug_assert!(found.is_some(), "{} has no field {name}", self.path);
        let field = found.unwrap_or(&MISSING);
        #[cfg(test)]
        self.read.borrow_mut().insert(field.name);
        field
    }

    /// The shape of a field.
    pub(crate) fn shape(&self, name: &str) -> &'static Shape {
        &self.field(name).shape
    }

    /// The node of a field, when it is there and is something.
    pub(crate) fn node(&self, name: &str) -> Option<&'a Node> {
        let field = self.field(name);
        let (key, node) = self.members.iter().find(|(key, _)| key.text == field.name)?;
        if node.content == Content::Null {
            self.report.fault(key.place, format!("`{name}` has no value: give it one, or leave it out"));
            return None;
        }
        Some(node)
    }

    /// Whether the field was written.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(key, _)| key.text == name)
    }

    /// The place of a field's value; the map's own when it was left out.
    pub(crate) fn place_of(&self, name: &str) -> Place {
        self.members.iter().find(|(key, _)| key.text == name).map_or(self.place, |(_, node)| node.place)
    }

    /// The place of a field's key; the map's own when it was left out.
    pub(crate) fn place_of_key(&self, name: &str) -> Place {
        self.members.iter().find(|(key, _)| key.text == name).map_or(self.place, |(key, _)| key.place)
    }

    /// The path of a field.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A scalar, parsed; its default when it was left out.
    pub(crate) fn parsed<T, E: Display>(&self, name: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let field = self.field(name);
        if !self.has(name) {
            let Need::Default(value) = field.need else { return None };
            self.report.filled_in(&self.path_of(name), value);
            return parse(value).ok();
        }
        self.parse_node(name, self.node(name)?, &field.shape, &parse)
    }

    /// A node that holds a scalar of a shape, parsed.
    pub(crate) fn parse_node<T, E: Display>(
        &self,
        name: &str,
        node: &Node,
        shape: &Shape,
        parse: &impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let parsed = scalar(name, node, shape).and_then(|text| parse(&text).map_err(|error| error.to_string()));
        parsed.map_err(|message| self.report.fault(node.place, message)).ok()
    }

    /// Text, as it is.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.parsed(
            name,
            |text| {
                if text.trim().is_empty() { Err(format!("`{name}` is empty")) } else { Ok(text.to_owned()) }
            },
        )
    }

    /// A list of scalars, parsed; its default when it was left out.
    pub(crate) fn list<T, E: Display>(&self, name: &str, parse: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        let field = self.field(name);
        if !self.has(name) {
            let Need::Default(value) = field.need else { return Vec::new() };
            self.report.filled_in(&self.path_of(name), value);
            return value.split(", ").filter_map(|item| parse(item).ok()).collect();
        }
        let Shape::List(shape) = &field.shape else { return Vec::new() };
        self.items(name).into_iter().filter_map(|node| self.parse_node(name, node, shape, &parse)).collect()
    }

    /// The nodes of a list.
    pub(crate) fn items(&self, name: &str) -> Vec<&'a Node> {
        match self.node(name) {
            None => Vec::new(),
            Some(Node { content: Content::List(items), .. }) => items.iter().collect(),
            Some(other) => {
                self.report.fault(other.place, format!("`{name}` is {}, not a list: write [ … ]", other.kind()));
                Vec::new()
            }
        }
    }

    /// The members of a map of names.
    pub(crate) fn members(&self, name: &str) -> &'a [(Key, Node)] {
        match self.node(name) {
            None => &[],
            Some(Node { content: Content::Map(members), .. }) => members,
            Some(other) => {
                self.report.fault(other.place, format!("`{name}` is {}, not a map of names", other.kind()));
                &[]
            }
        }
    }

    /// A map with fields; one that has a default is there, empty, when it was left out.
    pub(crate) fn object(&self, name: &str) -> Option<Object<'a>> {
        let field = self.field(name);
        let path = self.path_of(name);
        if self.has(name) {
            return Self::new(self.node(name)?, field.shape.fields(), &path, self.report);
        }
        let has_default = matches!(field.need, Need::Default(_));
        has_default.then(|| Self::over(self.place, &[], field.shape.fields(), &path, self.report))
    }

    /// A list of maps with fields.
    pub(crate) fn objects(&self, name: &str) -> Vec<Object<'a>> {
        let fields = self.field(name).shape.fields();
        let items = self.items(name).into_iter().enumerate();
        items
            .filter_map(|(index, node)| {
                Self::new(node, fields, &format!("{}[{index}]", self.path_of(name)), self.report)
            })
            .collect()
    }

    /// A field with a short and a long way of saying it.
    pub(crate) fn short(&self, name: &str) -> Option<Short<'a>> {
        let field = self.field(name);
        if !self.has(name) {
            let Need::Default(value) = field.need else { return None };
            self.report.filled_in(&self.path_of(name), value);
            return Some(Short::Text(value.to_owned()));
        }
        self.short_node(name, self.node(name)?, &field.shape)
    }

    /// A node with a short and a long way of saying it.
    pub(crate) fn short_node(&self, name: &str, node: &'a Node, shape: &Shape) -> Option<Short<'a>> {
        if let (Content::Map(_), Shape::Short(_, fields)) = (&node.content, shape) {
            return Self::new(node, fields, &self.path_of(name), self.report).map(Short::Long);
        }
        let Shape::Short(short, fields) = shape else { return None };
        let text = self.parse_node(name, node, short, &|text: &str| match short {
            Shape::Choice(words) if !words.contains(&text) => {
                let keys: Vec<_> = fields.iter().map(|field| format!("{}: …", field.name)).collect();
                Err(format!("`{name}` is {}, or {{ {} }}, not {text:?}", words.join(" or "), keys.join(", ")))
            }
            _ => Ok(text.to_owned()),
        });
        text.map(Short::Text)
    }

    /// The one of some fields that was written; reports when there is none, or more than one.
    pub(crate) fn exactly_one(&self, names: &[&'static str]) -> Option<&'static str> {
        let there: Vec<_> = names.iter().copied().filter(|name| self.has(name)).collect();
        match there.as_slice() {
            [one] => Some(one),
            [] => {
                self.report.fault(self.place, format!("{} needs one of {}", shown(&self.path), names.join(", ")));
                None
            }
            [_, second, ..] => {
                let message = format!("{} takes only one of {}", shown(&self.path), there.join(", "));
                self.report.fault(self.place_of_key(second), message);
                None
            }
        }
    }
}

/// What is meant by a field that a later version knows.
fn later(path: &str, name: &str) -> Option<&'static str> {
    match (path, name) {
        ("spec", "health") => Some("a service's `health`"),
        ("spec", "iCalendar") => Some("a calendar from an iCalendar file"),
        _ => None,
    }
}

/// What a field that nobody declared is taken for in a release.
static MISSING: Field = Field { name: "", shape: Shape::Any, need: Need::Optional, about: "" };

/// A declared field that a clean manifest has and nobody reads is a fault of the program.
#[cfg(test)]
impl Drop for Object<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.report.is_clean() {
            return;
        }
        for field in self.fields {
            assert!(
                !self.has(field.name) || self.read.borrow().contains(field.name),
                "{} is declared and never read",
                self.path_of(field.name)
            );
        }
    }
}

/// A path for messages.
fn shown(path: &str) -> String {
    if path.is_empty() { "the manifest".to_owned() } else { format!("`{path}`") }
}

/// The text of a scalar, when it is of the kind that its shape wants.
fn scalar(name: &str, node: &Node, shape: &Shape) -> Result<String, String> {
    let is_number = matches!(shape, Shape::Integer | Shape::Number);
    match (&node.content, shape) {
        (Content::Number(number), Shape::Integer | Shape::Number | Shape::Percent | Shape::Duration | Shape::Size) => {
            Ok(number.to_string())
        }
        (Content::Flag(flag), Shape::Flag) => Ok(flag.to_string()),
        (_, Shape::Flag) => Err(format!("`{name}` is true or false, not {}", said(node))),
        (Content::Text { text, .. }, _) if is_number => Err(format!("`{name}` is a number, not {text:?}")),
        (Content::Text { text, .. }, _) => Ok(text.clone()),
        (Content::Number(_) | Content::Flag(_), _) if !is_number => {
            Err(format!("`{name}` is text, and this reads as {}: put it in quotes", node.kind()))
        }
        _ => Err(format!("`{name}` is {}, not {}", shape.words(), node.kind())),
    }
}

fn said(node: &Node) -> String {
    node.text().map_or_else(|| node.kind().to_owned(), |text| format!("{text:?}"))
}

/// A message for a name that is not known, with the nearest that is.
pub(crate) fn unknown(what: &str, name: &str, known: impl Iterator<Item = &'static str>) -> String {
    let known: Vec<_> = known.collect();
    let nearest = known.iter().map(|known| (distance(name, known), *known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 1 + nearest.len() / 3 => {
            format!("unknown {what} `{name}`: did you mean `{nearest}`?")
        }
        _ => format!("unknown {what} `{name}`: there are {}", known.join(", ")),
    }
}

/// Edits between two names, letters of the wrong case half as dear as wrong ones would be: none.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().chars().take(64).collect(), b.to_lowercase().chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
