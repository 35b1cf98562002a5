//! One SSHSIG signature, as `ssh-keygen -Y sign` makes it: read, and verified over exact bytes.
//!
//! See OpenSSH's `PROTOCOL.sshsig`. Two things are stricter than `ssh-keygen`: the version is 1 and nothing else, and
//! the reserved field, which `ssh-keygen` does not look at, is empty. So no byte of a signature can change unnoticed.

use ssh_key::{HashAlg, PublicKey, SshSig, public::KeyData};

use super::{arithmetic, fields::Fields, line::unarmour};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// What the bytes of every signature, and the bytes that are signed, begin with.
const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
/// Bytes of the longest armoured signature that is looked at; one of RSA 4096 has about 1,600.
const LONGEST: usize = 16 << 10;

/// A signature that has been read, not verified.
#[derive(Debug, Clone)]
pub struct Signature {
    key: KeyData,
    namespace: String,
    hash: HashAlg,
    /// Its kind and what was made, as SSH writes them.
    made: Vec<u8>,
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
        read(&blob).map_err(|why| malformed(&why))
    }

    /// The key that made it, as it says.
    pub(super) fn key(&self) -> &KeyData {
        &self.key
    }

    /// The fingerprint of that key: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// The namespace that it was made for.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Verifies it over exact bytes. Whose key it is does not matter here.
    ///
    /// # Errors
    /// It is for another namespace, or does not fit.
    pub fn verify(&self, namespace: &str, message: &[u8]) -> Result<(), Fault> {
        if self.namespace() != namespace {
            return Err(Fault::Namespace { found: self.namespace().to_owned(), wanted: namespace.to_owned() });
        }
        let signed = SshSig::signed_data(namespace, self.hash, message).map_err(|_| Fault::Wrong)?;
        arithmetic::fits(&self.key, &signed, &self.made).ok_or(Fault::Wrong)
    }
}

/// Reads a signature's fields; the error says which is wrong.
fn read(blob: &[u8]) -> Result<Signature, String> {
    let mut fields = Fields(blob.strip_prefix(MAGIC).ok_or("what it holds does not begin with SSHSIG")?);
    let short = || "it ends too early".to_owned();
    let version = fields.number().ok_or_else(short)?;
    if version != VERSION {
        return Err(format!("its version is {version}"));
    }
    let key = fields.string().ok_or_else(short)?;
    let namespace = fields.text().ok_or_else(short)?.to_owned();
    if !fields.string().ok_or_else(short)?.is_empty() {
        return Err("its reserved field is not empty".to_owned());
    }
    let hash = match fields.string().ok_or_else(short)? {
        b"sha256" => HashAlg::Sha256,
        b"sha512" => HashAlg::Sha512,
        other => return Err(format!("it is over a hash of kind {:?}", String::from_utf8_lossy(other))),
    };
    let made = fields.string().ok_or_else(short)?.to_vec();
    fields.end().ok_or("something follows it")?;
    let parsed = PublicKey::from_bytes(key).map_err(|error| format!("its key cannot be read: {error}"))?;
    // The library overlooks lengths that are too great; written again they are right.
    if parsed.to_bytes().ok().as_deref() != Some(key) {
        return Err("the lengths in its key are wrong".to_owned());
    }
    Ok(Signature { key: parsed.key_data().clone(), namespace, hash, made })
}
