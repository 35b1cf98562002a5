//! Hostile text made harmless: what a terminal would obey is shown instead.

use std::borrow::Cow;

/// Whether a character must not reach a terminal: it is obeyed (C0, DEL, C1) or changes the order or look of what
/// stands around it without being seen (direction marks, isolates, invisible joiners, tags).
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// A text for one line.
pub fn line(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_hostile) { Cow::Owned(escaped(text, |_| false)) } else { Cow::Borrowed(text) }
}

/// A text whose line ends stay.
pub fn block(text: &str) -> Cow<'_, str> {
    let stays = |character| character == '\n';
    if text.chars().any(|character| is_hostile(character) && !stays(character)) {
        Cow::Owned(escaped(text, stays))
    } else {
        Cow::Borrowed(text)
    }
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            character if stays(character) || !is_hostile(character) => safe.push(character),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            character => safe.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_terminals_obey_is_shown() {
        for (text, safe) in [
            ("planthost1", "planthost1"),
            ("Grüße, 植物", "Grüße, 植物"),
            ("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("exe\u{202e}gpj.", "exe\\u{202e}gpj."),
            ("\u{7f}\u{0}\u{200b}", "\\u{7f}\\u{0}\\u{200b}"),
        ] {
            assert_eq!(line(text), safe);
        }
        assert_eq!(block("one\ntwo\u{1b}c\r\n"), "one\ntwo\\u{1b}c\\r\n");
    }

    proptest! {
        #[test]
        fn nothing_hostile_is_left(text in any::<String>()) {
            prop_assert!(!line(&text).chars().any(is_hostile));
            prop_assert!(!block(&text).chars().any(|character| character != '\n' && is_hostile(character)));
        }
    }
}
