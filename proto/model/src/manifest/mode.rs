//! Changing a policy's mode in the text of its manifest, and nothing else: comments, order and placeholders stay.

use super::{
    fill::hidden,
    find::policy_spec,
    node::{Content, Node, Place},
    yaml,
};
use crate::{name::FullName, policy::Mode};

/// A text with another mode, and where that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithMode {
    /// The whole text.
    pub text: String,
    /// The line of the mode, from 1.
    pub line: u32,
}

/// Whether a text holds the manifest of a policy, before anything is filled in.
pub fn holds_policy(text: &str, name: &FullName) -> bool {
    policy_spec(&yaml::read(&hidden(text)).0, name).is_some()
}

/// The text of a manifest file with a policy in another mode. Where it says none, the line is added.
///
/// # Errors
/// The text does not hold the policy, or its mode cannot be changed here: it is filled in, or the specification is not
/// written as keys and values. Says which line it is.
pub fn with_mode(text: &str, name: &FullName, mode: Mode) -> Result<WithMode, String> {
    let (documents, _) = yaml::read(&hidden(text));
    let spec = policy_spec(&documents, name).ok_or_else(|| format!("there is no policy {name} with a spec"))?;
    match spec.get("mode") {
        Some(node) => replaced(text, node, mode),
        None => added(text, spec, mode),
    }
}

fn replaced(text: &str, node: &Node, mode: Mode) -> Result<WithMode, String> {
    let line = node.place.line;
    match &node.content {
        Content::Text { text: old, column: Some(column) }
            if [Mode::Observe, Mode::Propose, Mode::Enforce].iter().any(|mode| mode.as_str() == old) =>
        {
            let place = Place { line, column: *column };
            let at = offset(text, place).ok_or_else(|| format!("line {line}: the mode is not found again"))?;
            Ok(WithMode { text: format!("{}{}{}", &text[..at], mode.as_str(), &text[at + old.len()..]), line })
        }
        _ => Err(format!(
            "line {line}: the mode is filled in, or written so that it cannot be changed here: make it {} yourself, and \
             apply the file",
            mode.as_str()
        )),
    }
}

fn added(text: &str, spec: &Node, mode: Mode) -> Result<WithMode, String> {
    let line = spec.place.line;
    let by_hand = || format!("line {line}: write `mode: {}` into the spec yourself, and apply the file", mode.as_str());
    let Content::Map(members) = &spec.content else { return Err(by_hand()) };
    let place = members.first().map(|(key, _)| key.place).ok_or_else(by_hand)?;
    let at = offset(text, place).ok_or_else(by_hand)?;
    let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let before = &text[begin..at];
    let addition = if before.chars().all(|character| character == ' ') {
        format!("mode: {}\n{before}", mode.as_str())
    } else if before.trim_end().ends_with('{') {
        format!("mode: {}, ", mode.as_str())
    } else {
        return Err(by_hand());
    };
    Ok(WithMode { text: format!("{}{addition}{}", &text[..at], &text[at..]), line: place.line })
}

/// The byte at which a place is.
fn offset(text: &str, place: Place) -> Option<usize> {
    let lines = text.split_inclusive('\n');
    let before: usize = lines.clone().take(place.line.checked_sub(1)? as usize).map(str::len).sum();
    let line = lines.clone().nth(place.line.checked_sub(1)? as usize)?;
    let (column, _) = line.char_indices().nth(place.column.checked_sub(1)? as usize)?;
    Some(before + column)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# ünïcode\napiVersion: quell/v1\nkind: Policy\nmetadata: { namespace: plants, name: x }\n";

    fn to(text: &str, mode: Mode) -> Result<(String, u32), String> {
        let name = "plants/x".parse().unwrap();
        with_mode(text, &name, mode).map(|with| (with.text, with.line))
    }

    #[test]
    fn the_word_is_changed_and_nothing_else() {
        for (before, after, line) in [
            ("spec:\n  mode: observe # until May\n  a: 1\n", "spec:\n  mode: enforce # until May\n  a: 1\n", 6),
            (
                "spec: { ünï: a, mode: 'propose', b: \"mode: observe\" }\n",
                "spec: { ünï: a, mode: 'enforce', b: \"mode: observe\" }\n",
                5,
            ),
            (
                "spec:\n    description: ${what:-mode: observe}\n    mode: observe\n",
                "spec:\n    description: ${what:-mode: observe}\n    mode: enforce\n",
                7,
            ),
            (
                "spec:\n  # what it is\n  description: x\n",
                "spec:\n  # what it is\n  mode: enforce\n  description: x\n",
                7,
            ),
            ("spec: { description: '${a}' }\n", "spec: { mode: enforce, description: '${a}' }\n", 5),
        ] {
            let other = "---\nkind: Policy\nmetadata: { namespace: plants, name: y }\nspec: { mode: observe }\n";
            let changed = to(&format!("{HEAD}{before}{other}"), Mode::Enforce);
            assert_eq!(changed, Ok((format!("{HEAD}{after}{other}"), line)));
            let behind = to(&format!("{}---\n{HEAD}{before}", &other[4..]), Mode::Enforce).unwrap();
            assert_eq!(behind, (format!("{}---\n{HEAD}{after}", &other[4..]), line + 4));
        }
    }

    #[test]
    fn what_is_filled_in_is_left_to_people_with_its_line() {
        for spec in ["spec:\n  mode: ${mode:-observe}\n", "spec: ${spec}\n", "spec: {}\n"] {
            let refused = to(&format!("{HEAD}{spec}"), Mode::Propose).unwrap_err();
            assert!(refused.starts_with("line ") && refused.contains("propose"), "{refused}");
        }
        assert!(to("kind: Policy\n", Mode::Propose).unwrap_err().contains("no policy plants/x"));
        let other = format!("{}spec: {{ a: b }}\n", HEAD.replace("name: x", "name: y"));
        assert!(!holds_policy(&other, &"plants/x".parse().unwrap()));
        assert!(holds_policy(&format!("{HEAD}spec: {{ a: ${{b}} }}\n"), &"plants/x".parse().unwrap()));
        let unnamed = format!("{}spec: {{ a: b }}\n", HEAD.replace("namespace: plants, ", ""));
        assert!(holds_policy(&unnamed, &"default/x".parse().unwrap()), "the namespace is left out");
    }
}
