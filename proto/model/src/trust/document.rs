//! Documents that are signed or hashed: canonical bytes (RFC 8785), read strictly.
//!
//! A document has one way of being written. What is read is written again and has to come out the same, byte for byte:
//! so there are no unknown or doubled fields, no second spelling of a time or a digest, and no number that a double
//! does not hold.

use serde::{Serialize, de::DeserializeOwned};

use crate::digest::canonical;

/// Bytes of the largest document that is looked at.
pub(crate) const LARGEST: usize = 4 << 20;

/// Bytes that are not the canonical form of the document wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind} in its canonical form: {why}")]
pub struct Malformed {
    /// What was wanted.
    pub kind: &'static str,
    /// What is wrong.
    pub why: String,
}

/// A document's canonical bytes.
pub(crate) fn write<T: Serialize>(document: &T) -> String {
    canonical(document)
}

/// Reads a document from its canonical bytes.
pub(crate) fn read<T: Serialize + DeserializeOwned>(kind: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    let malformed = |why: String| Malformed { kind, why };
    if bytes.len() > LARGEST {
        return Err(malformed(format!("{} bytes are too many", bytes.len())));
    }
    let document: T = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if write(&document).as_bytes() == bytes {
        Ok(document)
    } else {
        Err(malformed("it is written differently (RFC 8785: sorted keys, no white space, one form of a number)".into()))
    }
}

/// A rule of a document that does not hold.
pub(crate) fn rule(kind: &'static str, holds: bool, why: impl FnOnce() -> String) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(Malformed { kind, why: why() }) }
}
