//! From what was typed to what is meant: the types of [`crate::policy`], one module per part.
//!
//! The checks report everything that is wrong and go on; a part that could not be made is left out, and the manifest is
//! refused as a whole because the report is not clean.

mod conditions;
mod limits;
mod others;
mod parts;
mod policy;
mod probe;
mod rung;
mod trigger;

use std::sync::Arc;

use crate::{
    digest::Digest,
    name::{FullName, ObjectName},
    policy::Manifest,
};

use super::{
    Reading,
    node::Node,
    object::{Object, Report, unknown},
    schema::{self, KINDS},
};

pub(crate) use probe::{RECORDS, probe};

/// Kinds that are declared and not yet known to this version.
const LATER: [&str; 1] = ["PolicyTest"];

/// What a manifest is called, and the digest of its canonical JSON.
struct Head {
    name: FullName,
    digest: Digest,
}

/// Checks a document.
pub(crate) fn manifest(document: &Node, digest: Digest, reading: Reading, report: &Report) -> Option<Manifest> {
    let object = Object::new(document, schema::DOCUMENT, "", report)?;
    object.parsed("apiVersion", |version| match version {
        "quell/v1" => Ok(()),
        other => Err(format!("`apiVersion` is quell/v1, not {other:?}")),
    });
    let name = object.object("metadata").and_then(|metadata| full_name(&metadata));
    let kind = object.parsed("kind", |kind| {
        let known = KINDS.iter().find(|known| known.name == kind);
        known.ok_or_else(|| {
            if LATER.contains(&kind) {
                format!("kind {kind} is not known yet to this version")
            } else {
                unknown("kind", kind, KINDS.iter().map(|known| known.name))
            }
        })
    });
    let (spec, kind) = (object.node("spec")?, kind?);
    let spec = Object::new(spec, kind.fields, "spec", report)?;
    let head = name.map(|name| Head { name, digest });
    match kind.name {
        "Policy" => policy::policy(head, &spec, reading).map(Arc::new).map(Manifest::Policy),
        "Service" => others::service(head, &spec).map(Arc::new).map(Manifest::Service),
        "Calendar" => others::calendar(head, &spec).map(Arc::new).map(Manifest::Calendar),
        "Window" => others::window(head, &spec).map(Arc::new).map(Manifest::Window),
        "Limits" => limits::limits(head, &spec).map(Arc::new).map(Manifest::Limits),
        _ => others::contact(head, &spec).map(Arc::new).map(Manifest::Contact),
    }
}

fn full_name(metadata: &Object<'_>) -> Option<FullName> {
    parts::labels(metadata, "labels");
    let namespace = metadata.parsed("namespace", str::parse::<ObjectName>);
    let name = metadata.parsed("name", str::parse::<ObjectName>);
    // The namespace's default is the same for every kind and no decision of a policy's.
    metadata.report.take_defaults();
    Some(FullName { namespace: namespace?, name: name? })
}
