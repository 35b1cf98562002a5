//! OpenSSH's pattern lists: `alice@example.com,*@ops.example.com,!eve@*`.
//!
//! The rules are those of `match_pattern_list` in OpenSSH's `match.c`, on bytes and with regard to case, in time that
//! is at most the product of the lengths.

use crate::glob;

/// Subpatterns of this many bytes and more make OpenSSH give the whole list up.
const LONGEST: usize = 1023;

/// Whether a text is in a list: some subpattern matches it, and none of those with `!` does.
pub(super) fn list_matches(list: &str, text: &str) -> bool {
    let mut found = false;
    for subpattern in subpatterns(list) {
        let (negated, pattern) = match subpattern.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, subpattern),
        };
        if pattern.len() >= LONGEST {
            return false;
        }
        if glob::matches(pattern.as_bytes(), text.as_bytes()) {
            if negated {
                return false;
            }
            found = true;
        }
    }
    found
}

/// The names in a list: subpatterns without wildcards that the list itself lets through.
pub(super) fn names(list: &str) -> impl Iterator<Item = &str> {
    subpatterns(list)
        .filter(|name| !name.is_empty() && !name.contains(['*', '?', '!']))
        .filter(move |name| list_matches(list, name))
}

/// What stands between the commas; a comma at the end begins nothing.
fn subpatterns(list: &str) -> impl Iterator<Item = &str> {
    let inner = list.strip_suffix(',').unwrap_or(list);
    inner.split(',').filter(|_| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_match_as_openssh_matches_them() {
        for (list, text, wanted) in [
            ("alice", "alice", true),
            ("alice", "Alice", false),
            ("alice,bob", "bob", true),
            ("*@example.com", "bob@example.com", true),
            ("*@example.com,!bob@*", "bob@example.com", false),
            ("!bob@*,*@example.com", "bob@example.com", false),
            ("!bob", "alice", false),
            ("b?b", "bob", true),
            ("b?b", "bb", false),
            ("*", "", true),
            ("", "", false),
            (",", "", true),
            ("", "a", false),
            ("a,", "", false),
            ("a,,b", "", true),
            ("!!a", "!a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("*?", "x", true),
            ("*?", "", false),
        ] {
            assert_eq!(list_matches(list, text), wanted, "{list:?} {text:?}");
        }
    }

    #[test]
    fn a_subpattern_that_openssh_cannot_hold_ends_the_list() {
        let long = "x".repeat(LONGEST);
        assert!(!list_matches(&format!("alice,{long}"), "alice"));
        assert!(list_matches(&format!("alice,{}", &long[1..]), "alice"));
    }

    #[test]
    fn stars_cost_no_more_than_the_product() {
        assert!(!list_matches(&"*a".repeat(400), &"a".repeat(399)));
        assert!(!list_matches(&format!("{}b", "*a".repeat(400)), &"a".repeat(4_000)));
    }

    #[test]
    fn only_names_are_names() {
        let found: Vec<_> = names("*@x,!bob@x,bob@x,alice@x,a?b,carol").collect();
        assert_eq!(found, ["alice@x", "carol"]);
        assert_eq!(names("*,!eve").count(), 0);
    }
}
