//! YAML for `-o yaml`: block style, every text quoted as JSON quotes it, which YAML reads the same.

use serde_json::Value;

use crate::output;

/// Writes a value as one document.
pub fn write(value: &Value) -> String {
    let mut text = String::new();
    node(value, 0, &mut text);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Writes a value where the line has begun already.
fn node(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                indent(index, depth, text);
                text.push_str(&key_text(key));
                text.push(':');
                below(value, depth + 1, text);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (index, value) in list.iter().enumerate() {
                indent(index, depth, text);
                text.push_str("- ");
                node(value, depth + 1, text);
                end_line(text);
            }
        }
        scalar => text.push_str(&output::json(scalar, false)),
    }
}

/// The first entry goes on where the line has begun.
fn indent(index: usize, depth: usize, text: &mut String) {
    if index > 0 {
        end_line(text);
        text.push_str(&"  ".repeat(depth));
    }
}

fn below(value: &Value, depth: usize, text: &mut String) {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    } else {
        text.push(' ');
    }
    node(value, depth, text);
    end_line(text);
}

fn end_line(text: &mut String) {
    if !text.ends_with('\n') {
        text.push('\n');
    }
}

/// Keys of views are plain words; those of labels and facts may be anything and are quoted unless they are words too.
fn key_text(key: &str) -> String {
    let mut letters = key.chars();
    let is_word = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric())
        && !matches!(
            key.to_ascii_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n"
        );
    if is_word { key.to_owned() } else { output::json(&Value::from(key), false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_in_blocks() {
        let value = serde_json::json!({
            "items": [
                { "name": "a", "labels": { "role": "dns", "no": "x", "a.b/c": "y" }, "list": [1, [true, null], []], "none": {} },
                "text: with # signs\nand lines\u{9b}",
            ],
        });
        assert_eq!(
            write(&value),
            "items:\n  - labels:\n      \"a.b/c\": \"y\"\n      \"no\": \"x\"\n      role: \"dns\"\n    list:\n      - 1\n      - - true\n        - null\n      - []\n    name: \"a\"\n    none: {}\n  - \"text: with # signs\\nand lines\\u009b\"\n"
        );
        assert_eq!(write(&serde_json::json!([])), "[]\n");
    }
}
