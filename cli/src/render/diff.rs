//! Differences between manifests: coloured where the terminal wants it, and what became looser under each.

use clap::builder::styling::{AnsiColor, Style};

use quell_model::manifest::Loosening;

use super::escape;

/// What changes in one manifest.
#[derive(Debug, Clone)]
pub struct Difference {
    /// `created`, `changed`, `removed`.
    pub change: String,
    /// `Policy plants/dns-failover`.
    pub what: String,
    /// Its YAML before; empty when it was not there.
    pub before: String,
    /// Its YAML after; empty when it is removed.
    pub after: String,
    /// What it bounds less.
    pub looser: Vec<Loosening>,
    /// Whether that could be judged.
    pub is_judged: bool,
}

impl Difference {
    /// The unified difference of both texts.
    pub fn text(&self) -> String {
        let name = |text: &str, side: &str| match text {
            "" => "/dev/null".to_owned(),
            _ => format!("{} ({side})", self.what),
        };
        similar::TextDiff::from_lines(&self.before, &self.after)
            .unified_diff()
            .header(&name(&self.before, "in force"), &name(&self.after, "new"))
            .to_string()
    }
}

/// Draws differences. Colours are written always; the stream takes them out again where they are not wanted.
pub fn draw(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "no changes\n".to_owned();
    }
    let mut text = String::new();
    for difference in differences {
        text.push_str(&format!("{:9} {}\n", difference.change, escape::line(&difference.what)));
        for line in difference.text().lines() {
            styled(&mut text, style_of(line), line);
        }
        for one in &difference.looser {
            styled(&mut text, warning(), &format!("looser: {one}"));
        }
        if !difference.is_judged {
            let words = "looser? not judged: what is in force is not a manifest that this version knows";
            styled(&mut text, warning(), words);
        }
        text.push('\n');
    }
    let looser: usize = differences.iter().map(|difference| difference.looser.len()).sum();
    text.push_str(&format!(
        "{}; {}\n",
        count(differences.len(), "manifest changes", "manifests change"),
        match looser {
            0 => "nothing becomes looser".to_owned(),
            some => count(some, "thing becomes looser", "things become looser"),
        }
    ));
    text
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// One line, escaped before it is coloured: no text of a manifest reaches the terminal as more than text.
fn styled(text: &mut String, style: Style, line: &str) {
    text.push_str(&format!("{style}{}{style:#}\n", escape::line(line)));
}

fn style_of(line: &str) -> Style {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    match line.as_bytes() {
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => Style::new().bold(),
        [b'+', ..] => colour(AnsiColor::Green),
        [b'-', ..] => colour(AnsiColor::Red),
        [b'@', ..] => colour(AnsiColor::Cyan),
        _ => Style::new(),
    }
}

fn warning() -> Style {
    Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference() -> Difference {
        Difference {
            change: "changed".to_owned(),
            what: "Policy plants/backlog".to_owned(),
            before: "kind: Policy\nmode: propose\n".to_owned(),
            after: "kind: Policy\nmode: enforce\n".to_owned(),
            looser: vec![Loosening { field: "mode".to_owned(), from: "propose".to_owned(), to: "enforce".to_owned() }],
            is_judged: true,
        }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_difference_is_told_line_by_line_with_what_became_looser() {
        assert_eq!(
            plain(&draw(&[difference()])),
            "changed   Policy plants/backlog\n--- Policy plants/backlog (in force)\n+++ Policy plants/backlog (new)\n\
             @@ -1,2 +1,2 @@\n kind: Policy\n-mode: propose\n+mode: enforce\nlooser: mode: propose → enforce\n\n\
             1 manifest changes; 1 thing becomes looser\n"
        );
        assert_eq!(draw(&[]), "no changes\n");
    }

    #[test]
    fn what_is_made_or_removed_is_all_new_or_all_gone() {
        let made = Difference { before: String::new(), looser: Vec::new(), ..difference() };
        let text = plain(&draw(&[made]));
        assert!(text.contains("--- /dev/null\n") && text.contains("+kind: Policy\n"), "{text}");
        assert!(text.ends_with("nothing becomes looser\n"), "{text}");
        let gone = Difference { after: String::new(), ..difference() };
        assert!(plain(&draw(&[gone])).contains("+++ /dev/null\n"));
    }

    #[test]
    fn colours_are_ours_and_nothing_else_is_obeyed() {
        let hostile = Difference { after: "k: \u{1b}[2J\u{202e}x\u{9b}1m\n".to_owned(), ..difference() };
        let text = draw(&[hostile]);
        assert!(text.contains("\u{1b}[32m+k: \\u{1b}[2J\\u{202e}x\\u{9b}1m\u{1b}[0m\n"), "{text:?}");
    }
}
