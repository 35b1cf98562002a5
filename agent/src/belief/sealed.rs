//! A file with a seal: its first line is the SHA-256 of what follows.

use std::path::Path;

use quell_link::files;
use quell_model::digest::Digest;
use serde::{Serialize, de::DeserializeOwned};

use super::Error;

/// Writes a file whole, synced with its directory.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut bytes = format!("{}\n", Digest::of(content)).into_bytes();
    bytes.extend_from_slice(content);
    Ok(files::write(path, &bytes)?)
}

/// A file's content; nothing when there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = match files::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let damaged = || Error::Damaged { path: path.to_owned(), why: "is not what was written".to_owned() };
    let line = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let content = bytes.split_off(line + 1);
    let fits = bytes[..line] == *Digest::of(&content).to_string().as_bytes();
    if fits { Ok(Some(content)) } else { Err(damaged()) }
}

/// A file's content as JSON; it has to be there.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let bytes = read(path)?.ok_or_else(|| damaged("is gone".to_owned()))?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(format!("is not understood ({error})")))
}

/// What a file holds as JSON.
pub(super) fn json<T: Serialize>(content: &T) -> Vec<u8> {
    // Plain data with text keys, which serde_json can always write.
    serde_json::to_vec(content).unwrap_or_default()
}
