//! Canonical manifests as YAML in block style: what `describe` and `diff` show, and what can be applied again.
//!
//! Texts stand bare only when no reader of YAML could take them for anything else; otherwise they are quoted as JSON
//! quotes them, which YAML reads the same way.

use serde_json::{Map, Value};

/// A manifest's canonical JSON as a YAML document, which reads back as the same manifest.
pub fn to_yaml(canonical: &str) -> String {
    // Canonical text comes from a manifest that was read; what is no JSON is shown as the text that it is.
    print(&serde_json::from_str(canonical).unwrap_or_else(|_| Value::String(canonical.to_owned())))
}

/// A value as a YAML document.
fn print(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(&mut out, map, 0),
        Value::Array(items) if !items.is_empty() => array(&mut out, items, 0),
        scalar => {
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
    out
}

fn object(out: &mut String, map: &Map<String, Value>, depth: usize) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 || depth == 0 {
            indent(out, depth);
        }
        out.push_str(&text(key));
        out.push(':');
        nested(out, value, depth);
    }
}

/// What follows a key: on the same line when it is short enough to be one thing, else below.
fn nested(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            indent(out, depth + 1);
            object(out, map, depth + 1);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            array(out, items, depth + 1);
        }
        scalar => {
            out.push(' ');
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
}

fn array(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(out, depth);
        out.push('-');
        match item {
            Value::Object(map) if !map.is_empty() => {
                out.push(' ');
                object(out, map, depth + 1);
            }
            Value::Array(inner) if !inner.is_empty() => {
                out.push('\n');
                array(out, inner, depth + 1);
            }
            scalar => {
                out.push(' ');
                out.push_str(&inline(scalar));
                out.push('\n');
            }
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    out.push_str(&"  ".repeat(depth));
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        other => other.to_string(),
    }
}

fn text(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

/// Letters first, then nothing that means something in YAML, and no word that means a value.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf"];
    text.starts_with(|character: char| character.is_ascii_alphabetic())
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "-_./".contains(character))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_things_are_indented() {
        let value = json!({
            "kind": "Policy",
            "spec": { "waves": [1, 2], "do": [{ "action": "service.restart", "with": { "service": "named" } }], "x": {} },
        });
        let expected = "kind: Policy\nspec:\n  do:\n    - action: service.restart\n      with:\n        service: named\n  waves:\n    - 1\n    - 2\n  x: {}\n";
        assert_eq!(print(&value), expected);
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_quoted() {
        for hostile in
            ["yes", "1", "a: b", "a #b", "!x", "", " a", "- a", "a\nb", "~", "0x1", "null", "2026-01-01", "\u{1b}[0m"]
        {
            let printed = print(&json!({ "k": hostile }));
            assert!(printed.starts_with("k: \"") && printed.ends_with("\"\n"), "{printed:?}");
        }
        assert_eq!(print(&json!({ "k": "/var/log" })), "k: \"/var/log\"\n");
        assert_eq!(print(&json!({ "k": "orders-1.service" })), "k: orders-1.service\n");
    }
}
