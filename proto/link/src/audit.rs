//! Signatures over heads of the audit log. The key is that of the installation's certificate authority: whoever has a
//! profile or a join string knows it already, and no other one need be told or lost.
//!
//! A certificate begins with the bytes of a DER sequence and a head with the words `quell-head-1`, so that neither can
//! be passed off as the other.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use jiff::Timestamp;
use quell_model::{
    audit::{Head, ParseError, SignedHead},
    digest::Digest,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    authority::{self, Authority},
    pem,
    profile::Profile,
};

/// Why a head is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not one.
    #[error(transparent)]
    Form(#[from] ParseError),
    /// It is of another installation.
    #[error("the head of record {sequence} is of the installation {found}, not of {expected}")]
    Installation {
        /// The record that it names.
        sequence: u64,
        /// Whose it says that it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// It was signed by somebody else, or changed afterwards.
    #[error("the head of record {sequence} was not signed by this installation, or was changed: it is forged")]
    Signature {
        /// The record that it names.
        sequence: u64,
    },
    /// There is no key to check it with.
    #[error("the certificate of the authority cannot be used: {0}")]
    Certificate(String),
}

/// The keys by which an installation's heads are known.
#[derive(Debug, Clone)]
pub struct Keys {
    installation: String,
    /// The digest of the public key info, and the key itself.
    keys: Vec<(Digest, Vec<u8>)>,
}

impl Keys {
    /// The keys in the certificates of an installation's authority.
    ///
    /// # Errors
    /// One is not a certificate.
    pub fn new(installation: &str, roots: &[CertificateDer<'_>]) -> Result<Self, Error> {
        let keys = roots.iter().map(|root| {
            let (_, certificate) =
                X509Certificate::from_der(root).map_err(|error| Error::Certificate(error.to_string()))?;
            let info = certificate.public_key();
            Ok((Digest::of(info.raw), info.subject_public_key.data.to_vec()))
        });
        Ok(Self { installation: installation.to_owned(), keys: keys.collect::<Result<_, Error>>()? })
    }

    /// The keys that a profile trusts.
    ///
    /// # Errors
    /// Its certificates cannot be read.
    pub fn of_profile(profile: &Profile) -> Result<Self, Error> {
        let roots = pem::certificates(profile.roots.as_bytes()).map_err(Error::Certificate)?;
        Self::new(&profile.installation, &roots)
    }

    /// Whether one of the keys has this digest: the fingerprint of join strings.
    pub fn has(&self, fingerprint: Digest) -> bool {
        self.keys.iter().any(|(known, _)| *known == fingerprint)
    }

    /// Reads a signed head and checks its signature.
    ///
    /// # Errors
    /// It is not one, or not one of this installation.
    pub fn check(&self, line: &str) -> Result<Head, Error> {
        let SignedHead { head, signature } = line.parse()?;
        let sequence = head.sequence;
        if head.installation != self.installation {
            return Err(Error::Installation {
                sequence,
                found: head.installation,
                expected: self.installation.clone(),
            });
        }
        let key = self.keys.iter().find(|(known, _)| *known == head.key).map(|(_, key)| key);
        let key = key.ok_or(Error::Signature { sequence })?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify(head.text().as_bytes(), &signature)
            .map_err(|_| Error::Signature { sequence })?;
        Ok(head)
    }
}

impl Authority {
    /// Signs the head of the log.
    ///
    /// # Errors
    /// The cryptographic library refused.
    pub fn sign_head(
        &self,
        epoch: u64,
        sequence: u64,
        hash: Digest,
        time: Timestamp,
    ) -> Result<SignedHead, authority::Error> {
        let installation = self.installation().to_owned();
        let head = Head { installation, epoch, sequence, hash, time, key: self.fingerprint() };
        let signature = self.sign(head.text().as_bytes())?;
        Ok(SignedHead { head, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(scratch: &tempfile::TempDir, name: &str, installation: &str) -> Authority {
        Authority::create(&scratch.path().join(name), installation, Timestamp::now()).unwrap()
    }

    #[test]
    fn a_head_is_believed_by_those_who_know_the_installation_and_nobody_elses_is() {
        let scratch = tempfile::tempdir().unwrap();
        let (ours, theirs) = (authority(&scratch, "a", "installation-1"), authority(&scratch, "b", "installation-1"));
        let other = authority(&scratch, "c", "installation-2");
        let keys = Keys::new("installation-1", &ours.roots()).unwrap();
        let sign =
            |authority: &Authority| authority.sign_head(1, 7, Digest::of(b"record"), Timestamp::UNIX_EPOCH).unwrap();
        let signed = sign(&ours);
        assert_eq!(keys.check(&signed.to_string()), Ok(signed.head.clone()));
        assert_eq!(keys.check(&sign(&theirs).to_string()), Err(Error::Signature { sequence: 7 }));
        assert!(matches!(keys.check(&sign(&other).to_string()), Err(Error::Installation { .. })));
        // Somebody else's signature under our key's name.
        let forged = SignedHead { head: signed.head.clone(), signature: sign(&theirs).signature };
        assert_eq!(keys.check(&forged.to_string()), Err(Error::Signature { sequence: 7 }));
    }

    #[test]
    fn no_bit_of_a_head_can_be_changed() {
        let scratch = tempfile::tempdir().unwrap();
        let ours = authority(&scratch, "a", "installation-1");
        let keys = Keys::new("installation-1", &ours.roots()).unwrap();
        let line = ours.sign_head(1, 7, Digest::of(b"record"), Timestamp::UNIX_EPOCH).unwrap().to_string();
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut bytes = line.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(keys.check(&changed).is_err(), "{changed}");
                }
            }
        }
    }
}
