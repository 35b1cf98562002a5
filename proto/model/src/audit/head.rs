//! A signed head: one line of text that fixes the log up to one record.
//!
//! ```text
//! quell-head-1 INSTALLATION EPOCH SEQUENCE HASH TIME KEY SIGNATURE
//! ```
//!
//! The signature is over the line up to the blank before it, so that it can be checked with a shell and OpenSSL.

use std::str::FromStr;

use jiff::Timestamp;

use crate::digest::Digest;

/// The first word. No certificate and no other thing that is signed begins like this.
const FORM: &str = "quell-head-1";

/// The end of the chain at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The installation's identifier.
    pub installation: String,
    /// How often the log had been restored from a backup.
    pub epoch: u64,
    /// The sequence number of the newest record.
    pub sequence: u64,
    /// The SHA-256 of that record.
    pub hash: Digest,
    /// When it was signed, by the controller's clock.
    pub time: Timestamp,
    /// SHA-256 of the public key info of the key that signs.
    pub key: Digest,
}

/// A head and the signature over its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// The head.
    pub head: Head,
    /// The signature.
    pub signature: Vec<u8>,
}

/// A text is not a signed head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a signed head: it is one line that begins with {FORM} and has eight words")]
pub struct ParseError(String);

impl Head {
    /// What is signed.
    pub fn text(&self) -> String {
        let Self { installation, epoch, sequence, hash, time, key } = self;
        format!("{FORM} {installation} {epoch} {sequence} {hash} {time} {key}")
    }
}

impl std::fmt::Display for SignedHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.head.text())?;
        self.signature.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for SignedHead {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Self, ParseError> {
        let read = || {
            let mut words = line.split(' ');
            words.next().filter(|word| *word == FORM)?;
            let head = Head {
                installation: words.next().filter(|word| !word.is_empty())?.to_owned(),
                epoch: words.next()?.parse().ok()?,
                sequence: words.next()?.parse().ok()?,
                hash: words.next()?.parse().ok()?,
                time: words.next()?.parse().ok()?,
                key: words.next()?.parse().ok()?,
            };
            let signature = bytes(words.next()?)?;
            words.next().is_none().then_some(Self { head, signature })
        };
        // What does not read back as it stands could be signed in one form and shown in another.
        read().filter(|signed| signed.to_string() == line).ok_or_else(|| {
            let shown: String = line.chars().take(80).collect();
            ParseError(shown)
        })
    }
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    if !hexadecimal.is_ascii() || !hexadecimal.len().is_multiple_of(2) {
        return None;
    }
    let pairs = (0..hexadecimal.len()).step_by(2).map(|at| &hexadecimal[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> SignedHead {
        let head = Head {
            installation: "c0ffee".to_owned(),
            epoch: 2,
            sequence: 41,
            hash: Digest::of(b"record"),
            time: "2026-11-22T10:00:00.5Z".parse().unwrap(),
            key: Digest::of(b"key"),
        };
        SignedHead { head, signature: vec![0, 1, 254, 255] }
    }

    #[test]
    fn a_head_is_one_line_and_reads_back() {
        let line = signed().to_string();
        assert_eq!(line.lines().count(), 1);
        assert!(line.ends_with(" 0001feff"), "{line}");
        assert_eq!(line.rsplit_once(' ').unwrap().0, signed().head.text());
        assert_eq!(line.parse(), Ok(signed()));
    }

    #[test]
    fn another_spelling_of_a_head_is_none() {
        let line = signed().to_string();
        for other in [
            String::new(),
            line.replace("head-1", "head-2"),
            line.replace(" 41 ", " 041 "),
            line.replace(" 41 ", " +41 "),
            line.replace("10:00:00.5Z", "10:00:00.50Z"),
            line.replace("0001feff", "0001FEFF"),
            line.replace("0001feff", "0001fef"),
            line.replace(" 41 ", "  "),
            format!("{line} "),
            format!("{line}\n"),
            line[..line.len() - 9].to_owned(),
        ] {
            assert!(other.parse::<SignedHead>().is_err(), "{other:?}");
        }
    }
}
