//! From YAML text to validated types, strictly; every error of a file at once, with its place.

use std::fmt;

use crate::policy::Manifest;

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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
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
pub fn parse(_files: &[File]) -> Result<Vec<Parsed>, Vec<Error>> {
    Err(Vec::new())
}

/// Reads back a manifest from its canonical JSON.
///
/// # Errors
/// The JSON is not a manifest that this version knows.
pub fn from_canonical(_canonical: &str) -> Result<Manifest, Vec<Error>> {
    Err(Vec::new())
}
