//! One SSHSIG signature, as `ssh-keygen -Y sign` makes it: read, and verified over exact bytes.
//!
//! See OpenSSH's `PROTOCOL.sshsig`. Two things are stricter than `ssh-keygen`: the version is 1 and nothing else, and
//! the reserved field, which `ssh-keygen` does not look at, is empty. So no byte of a signature can change unnoticed.

use base64::Engine as _;
use ssh_key::{HashAlg, LineEnding, SshSig, public::KeyData};

use super::{arithmetic, line::unarmour};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// Bytes of the longest armoured signature that is looked at; one of RSA 4096 has about 1,600.
const LONGEST: usize = 16 << 10;

/// A signature that has been read, not verified.
#[derive(Debug, Clone)]
pub struct Signature {
    inner: SshSig,
}

/// Why a text is no signature, or none over these bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("not a signature as `ssh-keygen -Y sign` writes it: {0}")]
    Malformed(String),
    /// It speaks of another matter.
    #[error("made for namespace {found:?}, not for {wanted:?}: sign again with `-n {wanted}`")]
    Namespace {
        /// The namespace that it was made for.
        found: String,
        /// The one that counts here.
        wanted: String,
    },
    /// It is over other bytes, or by another key than it says.
    #[error("does not fit what is signed: the bytes or the signature have been changed")]
    Wrong,
}

impl Signature {
    /// Reads an armoured signature.
    ///
    /// # Errors
    /// It is not one, or of a kind that is not known.
    pub fn parse(armoured: &str) -> Result<Self, Fault> {
        let malformed = |why: &dyn std::fmt::Display| Fault::Malformed(why.to_string());
        if armoured.len() > LONGEST {
            return Err(malformed(&format!("{} bytes are too many", armoured.len())));
        }
        let body = armoured.strip_prefix(BEGIN).ok_or_else(|| malformed(&format!("it does not begin with {BEGIN}")))?;
        let end = body.find(&format!("\n{END}")).ok_or_else(|| malformed(&format!("there is no line {END}")))?;
        let blob = unarmour(&body[..end]).ok_or_else(|| malformed(&"what it holds is not base64"))?;
        // The library reads lines of 70 characters only; OpenSSH does not care, and other tools write other lengths.
        let pem = rewrap(&blob);
        let inner = SshSig::from_pem(&pem).map_err(|error| malformed(&error))?;
        // The library overlooks lengths that are too great; written again they are right.
        if inner.to_pem(LineEnding::LF).map_err(|error| malformed(&error))? != pem {
            return Err(malformed(&"its lengths are wrong"));
        }
        if inner.version() != SshSig::VERSION {
            return Err(malformed(&format!("its version is {}", inner.version())));
        }
        if !inner.reserved().is_empty() {
            return Err(malformed(&"its reserved field is not empty"));
        }
        Ok(Self { inner })
    }

    /// The key that made it, as it says.
    pub(super) fn key(&self) -> &KeyData {
        self.inner.public_key()
    }

    /// The fingerprint of that key: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// The namespace that it was made for.
    pub fn namespace(&self) -> &str {
        self.inner.namespace()
    }

    /// Verifies it over exact bytes. Whose key it is does not matter here.
    ///
    /// # Errors
    /// It is for another namespace, or does not fit.
    pub fn verify(&self, namespace: &str, message: &[u8]) -> Result<(), Fault> {
        if self.namespace() != namespace {
            return Err(Fault::Namespace { found: self.namespace().to_owned(), wanted: namespace.to_owned() });
        }
        let signed = SshSig::signed_data(namespace, self.inner.hash_alg(), message).map_err(|_| Fault::Wrong)?;
        arithmetic::fits(self.key(), &signed, self.inner.signature()).then_some(()).ok_or(Fault::Wrong)
    }
}

fn rewrap(blob: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(blob);
    let mut pem = format!("{BEGIN}\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(70));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(END);
    pem.push('\n');
    pem
}
