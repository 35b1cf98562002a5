//! Files by which the host's administrator speaks to the agent: small texts that nobody else can have written.

use std::{
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Largest file that is read, in bytes.
const MAXIMUM_BYTES: u64 = 1024 * 1024;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("cannot read {path}: {source}; give the agent's user read access to it")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Somebody else could have written it.
    #[error(
        "{path} can be written by others than its owner, or is owned by somebody else; run: chown {owner} {path} && chmod 600 {path}"
    )]
    Writable {
        /// The file.
        path: PathBuf,
        /// The user that should own it.
        owner: u32,
    },
    /// Somebody else could read what is secret.
    #[error("{path} holds a secret, and others than its owner can read it; run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Nobody wrote that by hand.
    #[error("{path} is larger than {MAXIMUM_BYTES} bytes: put the right file there")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("{path} is not text, from its byte {byte} on; correct the file")]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first byte that is none, from 0.
        byte: usize,
    },
}

/// Reads such a file; absent when there is none.
///
/// # Errors
/// It cannot be read, is no text, is too large, or could have been written by others.
pub fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::File::open(path) {
        Ok(file) => text(path, file, false).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Reads a secret that lies in such a file, which has to be there.
///
/// # Errors
/// As for [`read`]; others than its owner can read it; or it is missing.
pub fn read_secret(path: &Path) -> Result<String, Error> {
    let file = std::fs::File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    text(path, file, true)
}

fn text(path: &Path, mut file: std::fs::File, secret: bool) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let metadata = file.metadata().map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.mode() & 0o022 != 0 || (metadata.uid() != own && metadata.uid() != 0) {
        return Err(Error::Writable { path: path.to_owned(), owner: own });
    }
    if secret && metadata.mode() & 0o044 != 0 {
        return Err(Error::Exposed { path: path.to_owned() });
    }
    if metadata.len() > MAXIMUM_BYTES {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8(bytes);
    text.map_err(|error| Error::NotText { path: path.to_owned(), byte: error.utf8_error().valid_up_to() })
}

/// Line and column, from 1, of a byte of a text.
pub fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
