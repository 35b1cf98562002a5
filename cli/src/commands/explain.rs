//! `quell explain`: what fields mean, from the same tables that manifests and conditions are checked against.

use clap::Args;
use quell_model::{
    manifest::schema::{self, Need},
    probe::{FieldSpec, FieldType, ProbeKind, all_fields, outcome_fields, plan_fields},
};

use crate::{error::Error, exit::Exit, output, render::page::Page};

/// What is explained.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// A path of a manifest (policy.trigger, service), or of a sample (probe.dns, host.disks); without it: what there is.
    #[arg(value_name = "FIELD")]
    pub field: Option<String>,
}

/// Explains.
///
/// # Errors
/// There is no such field.
pub fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let path = arguments.field.as_deref().unwrap_or_default();
    let text = explain(path).ok_or_else(|| {
        Error::NotFound(format!("there is no field {path}; `quell explain` without a field lists where to begin"))
    })?;
    output::text(&text)?;
    Ok(Exit::Done)
}

fn explain(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(overview());
    }
    match path.split_once('.').unwrap_or((path, "")) {
        ("probe", rest) => probe(rest),
        ("host", rest) => samples(ProbeKind::Host, rest),
        ("outcome", rest) => fields("outcome.", rest, outcome_fields().iter()),
        ("plan", rest) => fields("plan.", rest, plan_fields().iter()),
        _ => manifest(path),
    }
}

fn overview() -> String {
    let mut page = Page::new();
    page.heading("manifests");
    for kind in schema::KINDS {
        page.line(&format!("{:14} {}", kind.name.to_lowercase(), kind.about));
    }
    page.heading("samples, for conditions");
    for kind in ProbeKind::ALL {
        let path = if kind == ProbeKind::Host { "host".to_owned() } else { format!("probe.{kind}") };
        let names: Vec<_> = quell_model::probe::fields(kind).iter().map(|field| field.name).collect();
        page.value(&path, &names.join(", "));
    }
    let names: Vec<_> = outcome_fields().iter().map(|field| field.name).collect();
    page.value("outcome", &names.join(", "));
    let names: Vec<_> = plan_fields().iter().map(|field| field.name).collect();
    page.value("plan", &names.join(", "));
    page.into_text()
}

/// A path of a manifest and what is directly below it.
fn manifest(path: &str) -> Option<String> {
    let entries = schema::explain(path);
    if entries.is_empty() {
        return None;
    }
    let mut page = Page::new();
    for entry in entries {
        let need = match entry.field.need {
            Need::Required => "required".to_owned(),
            Need::Optional => "optional".to_owned(),
            Need::Default(default) => format!("default {default}"),
        };
        page.heading(&entry.path);
        page.line(&format!("{}; {need}", entry.field.shape.words())).line(entry.field.about);
    }
    Some(page.into_text())
}

/// `dns`, `dns.rcode`.
fn probe(path: &str) -> Option<String> {
    let (kind, field) = path.split_once('.').unwrap_or((path, ""));
    let kind = ProbeKind::ALL.into_iter().find(|known| known.as_str() == kind && *known != ProbeKind::Host)?;
    samples(kind, field)
}

/// The fields of a kind of probe that are, or lie below, a name.
fn samples(kind: ProbeKind, name: &str) -> Option<String> {
    let before = if kind == ProbeKind::Host { "host." } else { "probe.NAME." };
    fields(before, name, all_fields(kind))
}

fn fields(before: &str, name: &str, all: impl Iterator<Item = &'static FieldSpec>) -> Option<String> {
    let plain = |name: &str| name.replace("[]", "");
    let is_wanted = |field: &&FieldSpec| {
        let (field, name) = (plain(field.name), plain(name));
        name.is_empty() || field == name || field.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.'))
    };
    let fields: Vec<_> = all.filter(is_wanted).collect();
    if fields.is_empty() {
        return None;
    }
    let mut page = Page::new();
    for field in fields {
        page.heading(&format!("{before}{}", field.name.replace("[]", "[\"NAME\"]")));
        page.line(&type_of(field)).line(field.about);
    }
    Some(page.into_text())
}

fn type_of(field: &FieldSpec) -> String {
    match field.kind {
        FieldType::Number if field.unit.is_empty() => "number".to_owned(),
        FieldType::Number => format!("number, in {}", field.unit),
        FieldType::Text => "text".to_owned(),
        FieldType::Flag => "true or false".to_owned(),
        FieldType::Captured => "text; a number where one is wanted, unknown if it reads as none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::page::plain;

    #[test]
    fn fields_of_samples_are_explained() {
        let text = plain(&explain("probe.dns.rcode").unwrap());
        assert_eq!(
            text,
            "probe.NAME.rcode\n  text\n  Response code (NOERROR, SERVFAIL, …); missing without an answer.\n"
        );
        let disks = plain(&explain("host.disks").unwrap());
        assert_eq!(disks.matches("host.disks[\"NAME\"].").count(), 3, "{disks}");
        assert!(plain(&explain("outcome.exit").unwrap()).starts_with("outcome.exit\n"));
        assert!(explain("probe.http").unwrap().contains("failures"), "common fields too");
    }

    #[test]
    fn fields_of_manifests_are_explained() {
        let text = plain(&explain("policy.trigger").unwrap());
        assert!(text.contains("spec.trigger") && text.contains("spec.trigger.when"), "{text}");
        let overview = plain(&explain("").unwrap());
        assert!(overview.contains("policy") && overview.contains("probe.logMatch"), "{overview}");
    }

    #[test]
    fn what_is_not_there_is_not_explained() {
        for path in [
            "polcy",
            "policy.nothing",
            "probe",
            "probe.nothing",
            "probe.dns.nothing",
            "host.nothing",
            "probe.host",
            "outcome.nothing",
        ] {
            assert!(explain(path).is_none(), "{path}");
        }
    }
}
