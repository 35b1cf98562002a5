//! People's SSH keys, and the signatures that they make.
//!
//! A key that lies open in a file is used here. Any other (one with a passphrase, one in `ssh-agent`, one in a hardware
//! token) signs through `ssh-keygen -Y sign`, which knows how to ask for it; the signatures are the same.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ssh_key::{
    Algorithm, HashAlg, LineEnding, PrivateKey, SshSig,
    private::{Ed25519Keypair, KeypairData},
};

use crate::files;

/// The program of OpenSSH that signs with keys that are not open here.
const SSH_KEYGEN: &str = "ssh-keygen";
/// Bytes of an Ed25519 seed.
const SEED: usize = 32;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key's file.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The key is none.
    #[error("{place} holds no SSH key: {reason}")]
    NotAKey {
        /// Where it was read.
        place: String,
        /// Why not.
        reason: String,
    },
    /// The system gave no randomness.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// The key does not sign.
    #[error("the key does not sign: {0}")]
    Key(String),
    /// The other program cannot be run.
    #[error(
        "cannot run ssh-keygen, which signs with {key}: {source}; install OpenSSH's client, or use an open Ed25519 key"
    )]
    NoProgram {
        /// The key.
        key: String,
        /// Why.
        source: std::io::Error,
    },
    /// The other program refused.
    #[error("ssh-keygen did not sign with {key}: {reason}")]
    Program {
        /// The key.
        key: String,
        /// What it said.
        reason: String,
    },
}

/// A key that a person signs with.
#[derive(Debug)]
pub struct SigningKey {
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// It is open here.
    Here(Box<PrivateKey>),
    /// `ssh-keygen` finds it by this file: a private key with a passphrase, or a public key whose private one is in the
    /// agent or a token.
    Program(PathBuf),
}

/// A new key, for somebody who has none yet.
#[derive(Debug)]
pub struct NewKey {
    /// The private key in OpenSSH's format, without a passphrase.
    pub private: String,
    /// The public key as a line of `allowed_signers` ends: `ssh-ed25519 AAAA…`.
    pub public: String,
}

impl NewKey {
    /// Makes an Ed25519 key.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn make(comment: &str) -> Result<Self, Error> {
        let mut seed = [0; SEED];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| Error::NoRandomness)?;
        let wrong = |error: ssh_key::Error| Error::Key(error.to_string());
        let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        let mut key = PrivateKey::new(pair, comment).map_err(wrong)?;
        let private = key.to_openssh(LineEnding::LF).map_err(wrong)?.to_string();
        key.set_comment("");
        Ok(Self { private, public: key.public_key().to_openssh().map_err(wrong)? })
    }
}

impl SigningKey {
    /// A key in OpenSSH's format that is at hand as text, such as a profile's.
    ///
    /// # Errors
    /// It is none, or has a passphrase.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let not_a_key = |reason: String| Error::NotAKey { place: "the profile".to_owned(), reason };
        let key = PrivateKey::from_openssh(text).map_err(|error| not_a_key(error.to_string()))?;
        if key.is_encrypted() {
            return Err(not_a_key("it has a passphrase: put it into a file and name that with --key".to_owned()));
        }
        Ok(Self { place: Place::Here(Box::new(key)) })
    }

    /// The key in a file: a private key, or a public one (`.pub`) whose private key `ssh-keygen` finds in the agent or a
    /// token. It blocks on the file.
    ///
    /// # Errors
    /// The file is not there, is no key, or is a private key that others can read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let not_a_key = |reason: String| Error::NotAKey { place: path.display().to_string(), reason };
        let program = || Ok(Self { place: Place::Program(path.to_owned()) });
        if path.extension().is_some_and(|end| end == "pub") {
            let text = String::from_utf8(files::read(path)?).map_err(|error| not_a_key(error.to_string()))?;
            ssh_key::PublicKey::from_openssh(text.trim()).map_err(|error| not_a_key(error.to_string()))?;
            return program();
        }
        let text = String::from_utf8(files::read_secret(path)?).map_err(|error| not_a_key(error.to_string()))?;
        let key = PrivateKey::from_openssh(&text).map_err(|error| not_a_key(error.to_string()))?;
        // Others are signed for by the program that their owner already trusts with them.
        let is_open = !key.is_encrypted() && key.algorithm() == Algorithm::Ed25519;
        if is_open { Ok(Self { place: Place::Here(Box::new(key)) }) } else { program() }
    }

    /// Signs bytes for a namespace: an armoured SSHSIG, as `ssh-keygen -Y sign` writes it. It may block on a passphrase
    /// or a touch.
    ///
    /// # Errors
    /// The key or the program refuses.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> Result<String, Error> {
        match &self.place {
            Place::Here(key) => SshSig::sign(key.as_ref(), namespace, HashAlg::Sha512, message)
                .and_then(|signature| signature.to_pem(LineEnding::LF))
                .map_err(|error| Error::Key(error.to_string())),
            Place::Program(path) => by_program(path, namespace, message),
        }
    }
}

/// Lets `ssh-keygen` sign; it asks for passphrases at the terminal by itself. That a token waits to be touched it says
/// only where its standard error is a terminal, so that is left to it where there is one.
fn by_program(path: &Path, namespace: &str, message: &[u8]) -> Result<String, Error> {
    let key = path.display().to_string();
    let no_program = |source| Error::NoProgram { key: key.clone(), source };
    let is_shown = std::io::stderr().is_terminal();
    let mut child = Command::new(SSH_KEYGEN)
        .args(["-Y", "sign", "-n", namespace, "-f"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(if is_shown { Stdio::inherit() } else { Stdio::piped() })
        .spawn()
        .map_err(no_program)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why on its standard error.
        let _ = stdin.write_all(message);
    }
    let output = child.wait_with_output().map_err(no_program)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && !text.is_empty() {
        return Ok(text);
    }
    let reason = match String::from_utf8_lossy(&output.stderr).trim() {
        "" if is_shown => format!("it said why above ({})", output.status),
        "" => output.status.to_string(),
        said => said.to_owned(),
    };
    Err(Error::Program { key, reason })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::{Timestamp, tz::TimeZone};
    use quell_model::trust::AllowedSigners;

    use super::*;

    fn verify(public: &str, signature: &str, message: &[u8]) -> bool {
        let signers = AllowedSigners::parse(&format!("mira {public}\n")).unwrap();
        signers.verify("quell-policy", message, signature, Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_ok()
    }

    #[test]
    fn a_new_key_signs_what_its_public_half_verifies() {
        let (one, other) = (NewKey::make("mira").unwrap(), NewKey::make("mira").unwrap());
        assert_ne!(one.private, other.private);
        let signature = SigningKey::from_text(&one.private).unwrap().sign("quell-policy", b"set").unwrap();
        assert!(verify(&one.public, &signature, b"set"));
        assert!(!verify(&one.public, &signature, b"Set"));
        assert!(!verify(&other.public, &signature, b"set"));
    }

    #[test]
    fn what_is_no_key_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("id");
        assert!(matches!(SigningKey::open(&path), Err(Error::File(_))));
        std::fs::write(&path, "no key").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = SigningKey::open(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("no SSH key"), "{error}");
        let key = NewKey::make("mira").unwrap();
        std::fs::write(&path, &key.private).unwrap();
        assert!(SigningKey::open(&path).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SigningKey::open(&path), Err(Error::File(_))), "others could read it");
    }
}
