//! A document as it was written: scalars, lists and maps with their places. What YAML and JSON have in common.

use serde_json::Value;

/// A place in a file, both from 1; the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    /// The beginning of a file.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Null,
    Flag(bool),
    Number(f64),
    Text {
        text: String,
        /// The column of the text's first character, when every character stands in the file as it is in the text.
        column: Option<u32>,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl Node {
    /// The node that a JSON value stands for; without places.
    pub(crate) fn from_json(value: &Value) -> Self {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(flag) => Content::Flag(*flag),
            Value::Number(number) => Content::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Content::Text { text: text.clone(), column: None },
            Value::Array(items) => Content::List(items.iter().map(Self::from_json).collect()),
            Value::Object(members) => Content::Map(
                members
                    .iter()
                    .map(|(key, value)| (Key { place: Place::START, text: key.clone() }, Self::from_json(value)))
                    .collect(),
            ),
        };
        Self { place: Place::START, content }
    }

    /// The JSON that the node stands for.
    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Flag(flag) => Value::Bool(*flag),
            Content::Number(number) => serde_json::Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Content::Text { text, .. } => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Content::Map(members) => {
                Value::Object(members.iter().map(|(key, value)| (key.text.clone(), value.to_json())).collect())
            }
        }
    }

    /// The member of a map.
    pub(crate) fn get(&self, wanted: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(members) => members.iter().find(|(key, _)| key.text == wanted).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, when it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Content::Text { text, .. } = &self.content { Some(text) } else { None }
    }

    /// The place of a byte of the text; the node's own when it is not known.
    pub(crate) fn place_in_text(&self, offset: usize) -> Place {
        match &self.content {
            Content::Text { text, column: Some(column) } => {
                let before = text.char_indices().take_while(|(index, _)| *index < offset).count();
                Place { line: self.place.line, column: column.saturating_add(u32::try_from(before).unwrap_or(0)) }
            }
            _ => self.place,
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Flag(_) => "true or false",
            Content::Number(_) => "a number",
            Content::Text { .. } => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    /// The same with every text replaced; places stay.
    pub(crate) fn map_texts(&self, replace: &mut impl FnMut(&str) -> Option<Content>) -> Self {
        let content = match &self.content {
            Content::Text { text, .. } => replace(text).unwrap_or_else(|| self.content.clone()),
            Content::List(items) => Content::List(items.iter().map(|item| item.map_texts(replace)).collect()),
            Content::Map(members) => {
                Content::Map(members.iter().map(|(key, value)| (key.clone(), value.map_texts(replace))).collect())
            }
            other => other.clone(),
        };
        Self { place: self.place, content }
    }

    /// Calls `visit` with every text in it.
    pub(crate) fn visit_texts<'a>(&'a self, visit: &mut impl FnMut(&'a Self, &'a str)) {
        match &self.content {
            Content::Text { text, .. } => visit(self, text),
            Content::List(items) => items.iter().for_each(|item| item.visit_texts(visit)),
            Content::Map(members) => members.iter().for_each(|(_, value)| value.visit_texts(visit)),
            _ => {}
        }
    }
}
