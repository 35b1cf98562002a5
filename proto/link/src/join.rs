//! Join strings: what one operator hands to one machine, all of it in one word.
//!
//! A join string holds where the controller is, the fingerprint of its CA, the secret that the controller knows by hash
//! only, the digest of whom the host will believe, the labels that it will bear and the first allow-list. It is composed at the operator's end, so that
//! neither a machine in the middle nor the controller chooses any of it. A checksum tells a truncated paste from a wrong
//! one.

use std::{collections::BTreeMap, fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use quell_model::{digest::Digest, selector::Labels};
use serde::{Deserialize, Serialize};

/// The beginning of every join string; the number is that of the format.
const PREFIX: &str = "quell1.";
/// Bytes of SHA-256 in front of the content.
const CHECKSUM: usize = 4;
/// Longest join string that is looked at, in characters.
const LONGEST: usize = 16 * 1024;
/// Random bytes in a secret.
const SECRET: usize = 32;

/// A join string.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinString {
    /// Addresses of the controller, `host:port`, at least one.
    pub addresses: Vec<String>,
    /// SHA-256 of the public key info of the installation's CA.
    pub ca_fingerprint: Digest,
    /// Digest of the trust root that the host will believe first.
    pub trust: Digest,
    /// What the controller trades for a certificate.
    pub secret: String,
    /// The host's labels.
    pub labels: Labels,
    /// The first allow-list, by the keys of `agent.toml`: `actions`, `services`, `paths`, `reclaim`, `programs`,
    /// `addresses`, `environment`.
    pub allow: BTreeMap<String, Vec<String>>,
}

impl fmt::Debug for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinString")
            .field("addresses", &self.addresses)
            .field("ca_fingerprint", &self.ca_fingerprint)
            .field("trust", &self.trust)
            .field("labels", &self.labels)
            .field("allow", &self.allow)
            .finish_non_exhaustive()
    }
}

/// The text is not a join string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It begins otherwise.
    #[error("a join string begins with \"quell1.\"; make one with `quell token create`")]
    NotAJoinString,
    /// It is of a later format.
    #[error("the join string is of a newer format ({0}): update the agent")]
    Newer(String),
    /// Letters are missing or changed.
    #[error("the join string is damaged ({0}): copy the whole line that `quell token create` printed, and try again")]
    Damaged(&'static str),
}

/// What stands in the string. One letter a key: people see the string.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    a: Vec<String>,
    f: Digest,
    t: Digest,
    s: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    l: Labels,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    w: BTreeMap<String, Vec<String>>,
}

impl fmt::Display for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = Content {
            a: self.addresses.clone(),
            f: self.ca_fingerprint,
            t: self.trust,
            s: self.secret.clone(),
            l: self.labels.clone(),
            w: self.allow.clone(),
        };
        let json = serde_json::to_vec(&content).map_err(|_| fmt::Error)?;
        let mut bytes = Digest::of(&json).0[..CHECKSUM].to_vec();
        bytes.extend(json);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for JoinString {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let Some(encoded) = text.strip_prefix(PREFIX) else { return Err(other_format(text)) };
        if encoded.len() > LONGEST {
            return Err(ParseError::Damaged("it is too long"));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| ParseError::Damaged("it holds a character that does not belong, or lacks some at its end"))?;
        let (checksum, json) = bytes.split_at_checked(CHECKSUM).ok_or(ParseError::Damaged("its end is missing"))?;
        if Digest::of(json).0[..CHECKSUM] != *checksum {
            return Err(ParseError::Damaged("its checksum does not match: characters are missing or changed"));
        }
        let content: Content =
            serde_json::from_slice(json).map_err(|_| ParseError::Damaged("its content is not what it should be"))?;
        if content.a.is_empty() || content.s.is_empty() {
            return Err(ParseError::Damaged("it names no address or holds no secret"));
        }
        Ok(Self {
            addresses: content.a,
            ca_fingerprint: content.f,
            trust: content.t,
            secret: content.s,
            labels: content.l,
            allow: content.w,
        })
    }
}

/// Tells a later format from something else altogether.
fn other_format(text: &str) -> ParseError {
    let format = text.split('.').next().unwrap_or_default();
    match format.strip_prefix("quell") {
        Some(number) if text.contains('.') && number.parse::<u32>().is_ok() => ParseError::Newer(format.to_owned()),
        _ => ParseError::NotAJoinString,
    }
}

/// The system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// A new secret: 256 random bits, as text.
///
/// # Errors
/// The operating system gave no randomness.
pub fn new_secret() -> Result<String, NoRandomness> {
    let mut bytes = [0; SECRET];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What the controller keeps of a secret. One round of SHA-256 is enough: the secret is 256 random bits, not a password.
pub fn secret_hash(secret: &str) -> Digest {
    Digest::of(secret.as_bytes())
}

/// Digest of what a token grants, which both ends compute: the agent from its join string, the controller from what it
/// keeps of the token.
pub fn grant_digest(labels: &Labels) -> Digest {
    Digest::of(quell_model::digest::canonical(&serde_json::json!({ "labels": labels })).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quell_model::digest::Digest;

    use super::{JoinString, ParseError, new_secret, secret_hash};

    fn example() -> JoinString {
        JoinString {
            addresses: vec!["127.0.0.1:7443".into(), "[::1]:7443".into()],
            ca_fingerprint: Digest::of(b"ca"),
            trust: Digest::of(b"trust"),
            secret: new_secret().unwrap(),
            labels: BTreeMap::from([("role".into(), "orders".into())]),
            allow: BTreeMap::from([("actions".into(), vec!["service.restart".into()])]),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let join = example();
        let text = join.to_string();
        assert_eq!(text.parse::<JoinString>().unwrap(), join);
        assert_eq!(format!(" {text}\n").parse::<JoinString>().unwrap(), join, "white space of a paste");
        assert!(!text.contains(char::is_whitespace));
    }

    #[test]
    fn every_truncation_and_every_changed_letter_is_told() {
        let text = example().to_string();
        for end in 0..text.len() {
            assert!(text[..end].parse::<JoinString>().is_err(), "cut at {end}");
        }
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(changed.parse::<JoinString>().is_err(), "changed at {at}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        assert_eq!("hunter2".parse::<JoinString>(), Err(ParseError::NotAJoinString));
        assert_eq!("quell2.AAAA".parse::<JoinString>(), Err(ParseError::Newer("quell2".into())));
        let text = example().to_string();
        let error = text[..text.len() - 9].parse::<JoinString>().unwrap_err();
        assert!(error.to_string().contains("copy the whole line"), "{error}");
    }

    #[test]
    fn debug_output_does_not_show_the_secret() {
        let join = example();
        assert!(!format!("{join:?}").contains(&join.secret));
    }

    #[test]
    fn no_two_secrets_are_alike() {
        let (one, two) = (new_secret().unwrap(), new_secret().unwrap());
        assert_ne!(secret_hash(&one), secret_hash(&two));
        assert_eq!(one.len(), 43);
    }
}
