//! Parts that several kinds have: labels, selectors, placements, names.

use crate::{
    action::whole,
    manifest::{
        object::{Object, Short},
        schema::Shape,
    },
    selector::{Labels, Placement, Selector},
};

/// Reads a map of labels.
pub(super) fn labels(object: &Object<'_>, field: &str) -> Labels {
    let mut labels = Labels::new();
    for (key, node) in object.members(field) {
        if !is_label(&key.text) {
            object
                .report
                .fault(key.place, format!("{:?} is not a label: letters, digits and -_./, at most 63", key.text));
        }
        if let Some(value) = object.parse_node(field, node, &Shape::Text, &|text: &str| label_value(text)) {
            labels.insert(key.text.clone(), value);
        }
    }
    labels
}

pub(super) fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

fn label_value(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 253 || text.chars().any(char::is_control) {
        return Err(format!("{text:?} is not a label's value: one line, at most 253 characters"));
    }
    Ok(text.to_owned())
}

/// Reads a choice of hosts that must choose somebody.
pub(super) fn selector(object: &Object<'_>, field: &str) -> Selector {
    let Some(short) = object.short(field) else { return Selector::Nobody };
    let selector = chosen(&short);
    if selector == Selector::Nobody && object.report.is_clean() {
        let message = format!("`{field}` chooses nobody: name labels that hosts bear, or write `{field}: all`");
        object.report.fault(object.place_of(field), message);
    }
    refuse_values(object, field, &selector);
    selector
}

fn chosen(short: &Short<'_>) -> Selector {
    match short {
        Short::Text(_) => Selector::All,
        Short::Long(long) => Selector::labels(labels(long, "matchLabels")),
    }
}

/// Refuses `$(value)` where no plan has frozen any values yet.
fn refuse_values(object: &Object<'_>, field: &str, selector: &Selector) {
    let Selector::Labels(labels) = selector else { return };
    if let Some(value) = labels.values().find(|value| value.contains("$(")) {
        let message = format!("{value:?}: values are known in rungs and steps only, so here no host would ever match");
        object.report.fault(object.place_of(field), message);
    }
}

/// Reads the choice of hosts on which a probe runs.
pub(super) fn probe_placement(object: &Object<'_>, field: &str) -> Option<Placement> {
    let placement = placement(object, field)?;
    refuse_values(object, field, &placement.selector);
    Some(placement)
}

/// Reads a choice of hosts of which some are taken.
pub(super) fn placement(object: &Object<'_>, field: &str) -> Option<Placement> {
    let short = object.short(field)?;
    let pick = match &short {
        Short::Text(_) => None,
        Short::Long(long) => long.parsed("pick", |text| whole(text, 1, 10_000)),
    };
    let selector = chosen(&short);
    if selector == Selector::Nobody && object.report.is_clean() {
        let message = format!("`{field}` chooses nobody: name labels that hosts bear");
        object.report.fault(object.place_of(field), message);
    }
    Some(Placement { selector, pick })
}

/// A name that conditions can use: letters, digits and `_`, no digit first, at most 63.
pub(super) fn identifier(text: &str) -> Result<String, String> {
    let good = (1..=63).contains(&text.len())
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a name that conditions can use: letters, digits and _, no digit first"))
    }
}
