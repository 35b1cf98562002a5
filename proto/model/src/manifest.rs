//! From YAML text to validated types, strictly; every error of a file at once, with its place.
//!
//! There are two layers. What was typed is a tree of nodes with places, read by [`yaml`] alone and compared with the
//! table of [`schema`]. What is meant are the types of [`crate::policy`], made by [`check`] from that tree. Canonical
//! JSON is read back through the same checks, without places. Nothing here panics on input, and all of it is bounded.

use std::fmt;

use crate::{condition::stack, digest, policy::Manifest, probe::Probe};

mod ceilings;
pub(crate) mod check;
mod fill;
mod find;
mod looser;
mod mode;
pub(crate) mod node;
pub(crate) mod object;
mod print;
mod references;
pub mod schema;
pub(crate) mod yaml;

pub use ceilings::{check_limits, passed};
pub use fill::{Placeholder, fill, placeholders};
pub use looser::{Loosening, looser};
pub use mode::{WithMode, holds_policy, with_mode};
pub use print::to_yaml;
pub use references::{Dangling, check_references};

use node::{Node, Place};
use object::Report;

/// One manifest file as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, for messages.
    pub name: String,
    /// Its text, after [`fill`].
    pub text: String,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct Error {
    /// The file's name.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// What is wrong and how it would be right.
    pub message: String,
}

impl Error {
    fn at(file: &str, place: Place, message: String) -> Self {
        Self { file: file.to_owned(), line: place.line, column: place.column, message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// How closely a manifest is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Somebody wrote it, and hears all that is wrong with it.
    Written,
    /// Somebody signed it, after it was read so: conditions and what hangs on them are left until one is judged.
    Signed,
}

/// A manifest with the bytes that stand for it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The validated manifest.
    pub manifest: Manifest,
    /// Its canonical JSON: what is stored, sent, hashed and signed.
    pub canonical: String,
}

/// Reads files of manifests.
///
/// # Errors
/// Every error of every file, in the order of files and places.
pub fn parse(files: &[File]) -> Result<Vec<Parsed>, Vec<Error>> {
    let mut errors = Vec::new();
    let mut parsed: Vec<Parsed> = Vec::new();
    for file in files {
        let (documents, mut faults) = yaml::read(&file.text);
        for document in &documents {
            match manifest(document, Reading::Written) {
                Ok(one) => {
                    let same = |other: &&Parsed| {
                        other.manifest.kind() == one.manifest.kind() && other.manifest.name() == one.manifest.name()
                    };
                    if parsed.iter().any(|other| same(&other)) {
                        let message = format!("{} {} is there twice", one.manifest.kind(), one.manifest.name());
                        faults.push((document.place, message));
                    }
                    parsed.push(one);
                }
                Err(more) => faults.extend(more),
            }
        }
        faults.sort();
        faults.dedup();
        errors.extend(faults.into_iter().map(|(place, message)| Error::at(&file.name, place, message)));
    }
    if errors.is_empty() { Ok(parsed) } else { Err(errors) }
}

/// Reads back a manifest from its canonical JSON.
///
/// # Errors
/// The JSON is not a manifest that this version knows.
pub fn from_canonical(canonical: &str) -> Result<Manifest, Vec<Error>> {
    from_json(canonical, Reading::Written)
}

/// Reads back a manifest that people have signed, on a host: its conditions are compiled when they are first judged
/// ([`crate::condition::Condition::signed`]), for a host judges few of them, and its values keep the order of the JSON.
///
/// # Errors
/// The JSON is not a manifest that this version knows, as far as it was read.
pub fn from_signed(canonical: &str) -> Result<Manifest, Vec<Error>> {
    from_json(canonical, Reading::Signed)
}

fn from_json(canonical: &str, reading: Reading) -> Result<Manifest, Vec<Error>> {
    let errors =
        |faults: Vec<yaml::Fault>| faults.into_iter().map(|fault| Error::at("manifest", fault.0, fault.1)).collect();
    manifest(&json(canonical)?, reading).map(|parsed| parsed.manifest).map_err(errors)
}

/// Reads back a probe from its canonical JSON ([`Probe::canonical`]): what an agent is assigned.
///
/// # Errors
/// The JSON is not a probe that this version knows.
pub fn probe_from_canonical(canonical: &str) -> Result<Probe, Vec<Error>> {
    let node = json(canonical)?;
    let report = Report::default();
    let probe = object::Object::new(&node, schema::PROBE, "probe", &report).and_then(|object| check::probe(&object));
    let faults = report.into_faults();
    let errors = faults.iter().map(|(place, message)| Error::at("probe", *place, message.clone())).collect();
    probe.filter(|_| faults.is_empty()).ok_or(errors)
}

fn json(text: &str) -> Result<Node, Vec<Error>> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let place = Place { line: number(error.line()), column: number(error.column()) };
        vec![Error::at("manifest", place, format!("not JSON: {error}"))]
    })?;
    Ok(Node::from_json(&value))
}

fn manifest(document: &Node, reading: Reading) -> Result<Parsed, Vec<yaml::Fault>> {
    let canonical = digest::canonical(&document.to_json());
    let digest = digest::Digest::of(canonical.as_bytes());
    let check = || {
        let report = Report::default();
        let manifest = check::manifest(document, digest, reading, &report);
        manifest.filter(|_| report.is_clean()).ok_or_else(|| report.into_faults())
    };
    let checked = match reading {
        Reading::Written => stack::with_room(check).unwrap_or_else(|why| Err(vec![(document.place, why)])),
        Reading::Signed => check(),
    };
    Ok(Parsed { manifest: checked?, canonical })
}

#[cfg(test)]
mod tests;
