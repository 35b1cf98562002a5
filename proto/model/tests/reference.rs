//! The manifest reference is what the program reads: its tables are made from the tables in the code.
//!
//! `QUELL_WRITE_DOCS=1 cargo test -p quell-model --test reference` writes them anew.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic, and reads the repository")]

use std::{fmt::Write as _, path::Path};

use quell_model::{
    action::ACTIONS,
    manifest::{
        self, File,
        schema::{self, Entry, Field, KINDS, Need},
    },
    probe::{ProbeKind, common_fields, fields},
};

const MARK: &str = "<!-- From here on the text is made by `cargo test -p quell-model --test reference`. -->\n";

fn generated() -> String {
    let mut text = String::new();
    for kind in KINDS {
        writeln!(text, "\n## {}\n\n{}\n", kind.name, kind.about).unwrap();
        table(&mut text, schema::entries(kind).iter().map(|Entry { path, field }| (path.as_str(), *field)));
    }
    writeln!(text, "\n## Actions\n\nWhat a step's `with` may say; `quell run` takes the same.").unwrap();
    for action in ACTIONS {
        writeln!(text, "\n### {}\n\n{}\n", action.name, action.about).unwrap();
        let below = action.fields.iter().flat_map(|field| {
            let inner = field.shape.fields().iter().map(move |inner| (format!("{}.{}", field.name, inner.name), inner));
            std::iter::once((field.name.to_owned(), field)).chain(inner)
        });
        let rows: Vec<_> = below.collect();
        table(&mut text, rows.iter().map(|(path, field)| (path.as_str(), *field)));
    }
    writeln!(text, "\n## Fields of samples\n\nWhat conditions may name. Every probe has the common ones.").unwrap();
    samples(&mut text, "common", common_fields());
    for kind in ProbeKind::ALL {
        samples(&mut text, kind.as_str(), fields(kind));
    }
    text
}

fn table<'a>(text: &mut String, rows: impl Iterator<Item = (&'a str, &'a Field)>) {
    text.push_str("| field | what it takes | when left out | what it is |\n|---|---|---|---|\n");
    for (path, field) in rows {
        let path = path.strip_prefix("spec.").unwrap_or(path);
        let absent = match field.need {
            Need::Required => "**required**".to_owned(),
            Need::Optional => "—".to_owned(),
            Need::Default("{}") => "its fields' own".to_owned(),
            Need::Default(value) => format!("`{value}`"),
        };
        writeln!(text, "| `{path}` | {} | {absent} | {} |", field.shape.words(), field.about).unwrap();
    }
}

fn samples(text: &mut String, kind: &str, fields: &[quell_model::probe::FieldSpec]) {
    writeln!(text, "\n### {kind}\n\n| field | unit | what it is |\n|---|---|---|").unwrap();
    for field in fields {
        writeln!(text, "| `{}` | {} | {} |", field.name, field.unit, field.about).unwrap();
    }
}

#[test]
fn the_reference_is_what_the_program_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manifests.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let (prose, tables) = written.split_once(MARK).unwrap();
    let wanted = generated();
    if std::env::var_os("QUELL_WRITE_DOCS").is_some() && written != format!("{prose}{MARK}{wanted}") {
        std::fs::write(&path, format!("{prose}{MARK}{wanted}")).unwrap();
        return;
    }
    assert!(tables == wanted, "docs/manifests.md is not what the program reads: write it anew with QUELL_WRITE_DOCS=1");
}

#[test]
fn its_examples_are_manifests() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manifests.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let examples: Vec<_> = written.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    assert!(!examples.is_empty());
    for (example, _) in examples {
        let file = File { name: "example".to_owned(), text: example.to_owned() };
        if let Err(errors) = manifest::parse(&[file]) {
            panic!("{}\n{example}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
    }
}
