//! A signed change of a host's labels.
//!
//! Labels say which policies mean a host, so whoever could change them would choose targets: they are the host's own,
//! given by its join string, and changed by its root or by those who may change the root of trust.

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    Believed, Denied, Malformed, NAMESPACE_TRUST,
    document::{self, rule},
    root::LARGEST_NUMBER,
};
use crate::{digest::Digest, name::HostName, selector::Labels};

const KIND: &str = "change of labels";
/// The most labels that a host can bear.
const MOST: usize = 64;
/// Bytes of the longest key or value.
const LONGEST: usize = 253;

/// The labels that a host shall have from now on, all of them: signed in namespace `quell-trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelChange {
    /// The installation that the host is of.
    pub installation: String,
    /// Whose labels they are.
    pub host: HostName,
    /// Counts the changes of this host's labels: from 1, and each adds 1.
    pub version: u64,
    /// The labels.
    pub labels: Labels,
}

impl LabelChange {
    /// Its canonical bytes: what is signed.
    pub fn canonical(&self) -> String {
        document::write(self)
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// Reads a change from its canonical bytes. Verify their signatures before it is believed.
    ///
    /// # Errors
    /// The bytes are not canonical, or break a rule of a change.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let change: Self = document::read(KIND, bytes)?;
        change.check()?;
        Ok(change)
    }

    /// Checks what holds for every change; whoever makes one asks this before signing.
    ///
    /// # Errors
    /// A rule does not hold.
    pub fn check(&self) -> Result<(), Malformed> {
        rule(KIND, !self.installation.is_empty(), || "it names no installation".to_owned())?;
        rule(KIND, (1..=LARGEST_NUMBER).contains(&self.version), || format!("version {} cannot be", self.version))?;
        check_labels(&self.labels)
    }

    /// Verifies that enough of those who may change the root of trust signed it, then reads it. Whose labels they are
    /// and whether it is the next change is for those to compare who keep the last.
    ///
    /// # Errors
    /// Too few signed it, it cannot be read, or it is of another installation.
    pub fn verify(
        root: &Believed,
        bytes: &[u8],
        signatures: &[String],
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Self, Denied> {
        let signed = root.signed_by(NAMESPACE_TRUST, bytes, signatures, now, zone)?;
        let needed = root.required_for_trust();
        if signed.people.len() < needed as usize {
            return Err(signed.lacking(NAMESPACE_TRUST, needed));
        }
        let change = Self::parse(bytes)?;
        let wanted = &root.root().installation;
        if change.installation == *wanted {
            return Ok(change);
        }
        Err(Denied::Installation { what: KIND, found: change.installation, wanted: wanted.clone() })
    }
}

/// Checks the form of labels: not too many, keys and values of letters, digits and `-_./:`.
///
/// # Errors
/// Which one cannot be used.
pub fn check_labels(labels: &Labels) -> Result<(), Malformed> {
    let fits = |text: &str| {
        (1..=LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte))
    };
    rule(KIND, labels.len() <= MOST, || format!("{} labels are more than {MOST}", labels.len()))?;
    let wrong = labels.iter().find(|(key, value)| !fits(key) || !fits(value));
    rule(KIND, wrong.is_none(), || {
        let (key, value) = wrong.map_or(("", ""), |(key, value)| (key, value));
        format!("{key:?}={value:?}: keys and values are 1 to {LONGEST} of letters, digits and -_./:")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ssh_key::{
        HashAlg, LineEnding, PrivateKey, SshSig,
        private::{Ed25519Keypair, KeypairData},
    };

    use super::*;
    use crate::trust::TrustRoot;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
    }

    fn sign(key: &PrivateKey, namespace: &str, bytes: &[u8]) -> String {
        SshSig::sign(key, namespace, HashAlg::Sha512, bytes).unwrap().to_pem(LineEnding::LF).unwrap()
    }

    /// Mira and Noor may change the root, and it takes both; Eve is nobody.
    fn believed() -> Believed {
        let line = |name: &str, key: &PrivateKey| {
            format!("{name} namespaces=\"quell-trust\" {}\n", key.public_key().to_openssh().unwrap())
        };
        Believed::new(TrustRoot {
            installation: "shop".to_owned(),
            version: 1,
            allowed_signers: line("mira", &key(1)) + &line("noor", &key(2)),
            required: BTreeMap::from([("trust".parse().unwrap(), 2)]),
        })
        .unwrap()
    }

    fn change() -> LabelChange {
        LabelChange {
            installation: "shop".to_owned(),
            host: "web1".parse().unwrap(),
            version: 3,
            labels: [("role".to_owned(), "web".to_owned())].into(),
        }
    }

    fn verify(bytes: &[u8], signatures: &[String]) -> Result<LabelChange, Denied> {
        LabelChange::verify(&believed(), bytes, signatures, Timestamp::UNIX_EPOCH, &TimeZone::UTC)
    }

    #[test]
    fn as_many_people_sign_as_a_change_of_the_root_takes() {
        let text = change().canonical();
        let bytes = text.as_bytes();
        let signed = |seed: u8| sign(&key(seed), NAMESPACE_TRUST, bytes);
        assert_eq!(verify(bytes, &[signed(1), signed(2)]), Ok(change()));
        for too_few in [vec![], vec![signed(1)], vec![signed(1), signed(1)], vec![signed(1), signed(9)]] {
            assert!(matches!(verify(bytes, &too_few), Err(Denied::Signatures(_))), "{too_few:?}");
        }
        let elsewhere = sign(&key(2), "quell-policy", bytes);
        assert!(matches!(verify(bytes, &[signed(1), elsewhere]), Err(Denied::Signatures(_))));
        let other = LabelChange { version: 4, ..change() }.canonical();
        assert!(matches!(verify(other.as_bytes(), &[signed(1), signed(2)]), Err(Denied::Signatures(_))));
    }

    #[test]
    fn what_is_signed_must_be_a_change_of_this_installation() {
        let refused = |change: &LabelChange| {
            let bytes = change.canonical().into_bytes();
            verify(&bytes, &[1, 2].map(|seed| sign(&key(seed), NAMESPACE_TRUST, &bytes))).unwrap_err()
        };
        let elsewhere = LabelChange { installation: "other".to_owned(), ..change() };
        assert!(matches!(refused(&elsewhere), Denied::Installation { .. }));
        let labels = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        for wrong in [
            LabelChange { version: 0, ..change() },
            LabelChange { labels: labels("", "x"), ..change() },
            LabelChange { labels: labels("role", "a b"), ..change() },
            LabelChange { labels: (0..65).map(|n| (format!("k{n}"), "v".to_owned())).collect(), ..change() },
        ] {
            assert!(matches!(refused(&wrong), Denied::Malformed(_)), "{wrong:?}");
        }
    }

    #[test]
    fn a_root_is_no_change_of_labels_and_the_other_way_round() {
        assert!(LabelChange::parse(believed().root().canonical().as_bytes()).is_err());
        assert!(TrustRoot::parse(change().canonical().as_bytes()).is_err());
    }
}
