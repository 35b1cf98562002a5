//! Values in parameters, selectors and texts: `$(name)`. The engine fills by these rules, and agents check by them.

use std::collections::BTreeMap;

use crate::{selector::Selector, value::Value};

/// What a text names is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("$({0}) is not known")]
pub struct Missing(
    /// The name.
    pub String,
);

/// A value without quotes.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value as people are told it: numbers to a tenth, "CPU usage is 90.5%".
pub fn rounded(value: &Value) -> String {
    match value {
        Value::Number(number) => ((number * 10.0).round() / 10.0).to_string(),
        other => plain(other),
    }
}

/// Fills the names of a text from a source.
///
/// # Errors
/// A name that is not known.
pub fn fill(text: &str, mut source: impl FnMut(&str) -> Option<String>) -> Result<String, Missing> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$(") {
        let Some((name, after)) = after.split_once(')') else { break };
        filled.push_str(before);
        filled.push_str(&source(name).ok_or_else(|| Missing(name.to_owned()))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Fills a parameter: a text that is one `$(name)` becomes the value itself, with its type.
///
/// # Errors
/// A name that is not known.
pub fn fill_json(json: &serde_json::Value, values: &BTreeMap<String, Value>) -> Result<serde_json::Value, Missing> {
    Ok(match json {
        serde_json::Value::String(text) => {
            let whole = text.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')'));
            match whole {
                Some(name) if !name.contains(['(', ')']) => {
                    let value = values.get(name).ok_or_else(|| Missing(name.to_owned()))?;
                    serde_json::to_value(value).unwrap_or_default()
                }
                _ => serde_json::Value::String(fill(text, |name| values.get(name).map(plain))?),
            }
        }
        serde_json::Value::Array(items) => {
            serde_json::Value::Array(items.iter().map(|item| fill_json(item, values)).collect::<Result<_, _>>()?)
        }
        serde_json::Value::Object(object) => serde_json::Value::Object(fill_object(object, values)?),
        other => other.clone(),
    })
}

/// Fills every parameter of an action.
///
/// # Errors
/// A name that is not known.
pub fn fill_object(
    object: &serde_json::Map<String, serde_json::Value>,
    values: &BTreeMap<String, Value>,
) -> Result<serde_json::Map<String, serde_json::Value>, Missing> {
    object.iter().map(|(key, json)| Ok((key.clone(), fill_json(json, values)?))).collect()
}

/// Fills the label values of a selector.
///
/// # Errors
/// A name that is not known.
pub fn fill_selector(selector: &Selector, values: &BTreeMap<String, Value>) -> Result<Selector, Missing> {
    Ok(match selector {
        Selector::Labels(labels) => Selector::labels(
            labels
                .iter()
                .map(|(key, text)| Ok((key.clone(), fill(text, |name| values.get(name).map(plain))?)))
                .collect::<Result<_, Missing>>()?,
        ),
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values() -> BTreeMap<String, Value> {
        [("active".to_owned(), Value::from("dns1")), ("keep".to_owned(), Value::from(3.0))].into()
    }

    #[test]
    fn people_are_told_numbers_to_a_tenth() {
        let told: Vec<String> = [90.5, 85.742, 0.04, 80.0].map(|number| rounded(&Value::Number(number))).into();
        assert_eq!(told, ["90.5", "85.7", "0", "80"]);
        assert_eq!(rounded(&Value::from("dns1")), "dns1");
    }

    #[test]
    fn a_whole_argument_keeps_its_type_and_hostile_text_stays_one_argument() {
        assert_eq!(fill_json(&json!("$(keep)"), &values()), Ok(json!(3.0)));
        assert_eq!(
            fill_json(&json!(["-s", "$(active)", "x-$(active)"]), &values()),
            Ok(json!(["-s", "dns1", "x-dns1"]))
        );
        let hostile = [("active".to_owned(), Value::from("$(keep); rm -rf /"))].into();
        assert_eq!(fill_json(&json!("$(active)"), &hostile), Ok(json!("$(keep); rm -rf /")));
    }

    #[test]
    fn an_unknown_name_is_missing() {
        assert_eq!(fill_json(&json!({"to": "$(standby)"}), &values()), Err(Missing("standby".to_owned())));
        let selector = Selector::labels([("dns".to_owned(), "$(standby)".to_owned())].into());
        assert_eq!(fill_selector(&selector, &values()), Err(Missing("standby".to_owned())));
    }
}
