//! Legal holds: files that no action may delete, whoever ordered and approved it.
//!
//! They stand in a file of their own beside `agent.toml`, which root may edit at any time: it is read anew at each look
//! and again before each deletion. Without the file nothing is held; a file that cannot be read or understood holds
//! everything, for doubt never lets anything go.

use std::path::{Path, PathBuf};

use quell_model::glob::PathGlob;
use serde::{Deserialize, Deserializer};

use crate::own_file;

/// The file's name in the agent's data directory.
pub const FILE_NAME: &str = "legal-holds.toml";

/// What is held, and why.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegalHold {
    /// Which paths, with all that lies beneath them.
    #[serde(deserialize_with = "pattern")]
    pub path: PathGlob,
    /// Why: what is told whenever it keeps a file.
    pub reason: String,
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathGlob, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// The holds of a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LegalHolds {
    /// Each of them.
    #[serde(default, rename = "legal-hold")]
    pub holds: Vec<LegalHold>,
}

/// Why it is not known what is held.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file was not read.
    #[error("what a legal hold keeps is not known, so nothing is deleted: {0}")]
    File(#[from] own_file::Error),
    /// It is not a list of holds.
    #[error(
        "what a legal hold keeps is not known, so nothing is deleted: {path}:{line}:{column}: {message}; correct the file"
    )]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A hold says nothing of its reason.
    #[error(
        "what a legal hold keeps is not known, so nothing is deleted: {path}: the hold of {hold} has no reason; say who asked for it"
    )]
    NoReason {
        /// The file.
        path: PathBuf,
        /// What it holds.
        hold: String,
    },
}

/// Where the holds stand.
#[derive(Debug, Clone)]
pub struct LegalHoldFile(PathBuf);

impl LegalHoldFile {
    /// The holds of the agent with this data directory.
    pub fn new(data_directory: &Path) -> Self {
        Self(data_directory.join(FILE_NAME))
    }

    /// Reads what is held now. Blocks.
    ///
    /// # Errors
    /// It is not known: then nothing may be deleted.
    pub fn read(&self) -> Result<LegalHolds, Error> {
        let Some(text) = own_file::read(&self.0)? else { return Ok(LegalHolds::default()) };
        let holds: LegalHolds = toml::from_str(&text).map_err(|error| {
            let (line, column) = own_file::place(&text, error.span().map_or(0, |span| span.start));
            Error::Syntax { path: self.0.clone(), line, column, message: error.message().replace('\n', ", ") }
        })?;
        match holds.holds.iter().find(|hold| hold.reason.trim().is_empty()) {
            Some(hold) => Err(Error::NoReason { path: self.0.clone(), hold: hold.path.to_string() }),
            None => Ok(holds),
        }
    }
}

impl LegalHolds {
    /// The hold that keeps a path.
    pub fn of(&self, path: &Path) -> Option<&LegalHold> {
        self.holds.iter().find(|hold| hold.path.covers(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn read(text: &str) -> Result<LegalHolds, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        LegalHoldFile::new(directory.path()).read().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_held_is_kept_with_its_reason() {
        let holds = read("[[legal-hold]]\npath = \"/var/log/*/audit-*\"\nreason = \"case 17\"\n").unwrap();
        assert_eq!(holds.of(Path::new("/var/log/app/audit-1.gz")).unwrap().reason, "case 17");
        assert_eq!(holds.of(Path::new("/var/log/app/app.log")), None);
        let none = LegalHoldFile::new(Path::new("/nowhere")).read().unwrap();
        assert_eq!(none, LegalHolds::default());
    }

    #[test]
    fn what_is_not_understood_holds_everything() {
        for (text, expected) in [
            ("[[legal-hold]]\npath = \"/a\"", "missing field `reason`"),
            ("[[legal-hold]]\npath = \"/a\"\nreason = \" \"", "has no reason"),
            ("[[legal-hold]]\npath = \"a/*\"\nreason = \"x\"", "is not a pattern for paths"),
            ("[[legal-holds]]\npath = \"/a\"\nreason = \"x\"", "unknown field"),
            ("[[legal-hold]]\npath = \"/a\"\nreason = \"x\"\nuntil = \"2027\"", "unknown field"),
            ("[[legal-hold]\n", "legal-holds.toml:1:"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("nothing is deleted"), "{text:?}: {error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let error = LegalHoldFile::new(directory.path()).read().unwrap_err().to_string();
        assert!(error.contains("can be written by others"), "{error}");
    }
}
