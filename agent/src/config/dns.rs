//! `[[dns]]`: the records that `dns.failover` may update, each with the key that signs it.
//!
//! The secret itself stands in a file of its own, which is read when it is needed and never shown.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use quell_model::{action::DnsUpdate, name};
use serde::{Deserialize, Deserializer, de::Error as _};

/// A record that may be updated, and with which key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct DnsRecord {
    /// The zone's primary: an address, with its port unless that is 53.
    #[serde(deserialize_with = "server")]
    pub server: SocketAddr,
    /// The zone, in lower case and without the dot at its end.
    #[serde(deserialize_with = "domain")]
    pub zone: String,
    /// The record's name within the zone, in lower case; `@` is the zone itself.
    #[serde(deserialize_with = "record")]
    pub record: String,
    /// The name of the TSIG key, in lower case and without the dot at its end.
    #[serde(deserialize_with = "domain")]
    pub key: String,
    /// How the key signs.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The file that holds the key's secret, in base64. Nobody but its owner may read it.
    pub secret_file: PathBuf,
}

/// How a TSIG key signs (RFC 8945, section 6). The older ones are not to be had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        })
    }
}

impl DnsRecord {
    /// Whether it is the one that an order wants to update, there and with that key.
    pub fn allows(&self, update: &DnsUpdate) -> bool {
        (self.server, &self.zone, &self.record, &self.key) == (update.server, &update.zone, &update.record, &update.key)
    }

    /// The lines that would allow an update. Where its secret lies only the host's administrator knows.
    pub fn lines_for(update: &DnsUpdate) -> String {
        let DnsUpdate { server, zone, record, key, .. } = update;
        format!(
            "[[dns]]\nserver = \"{server}\"\nzone = \"{zone}\"\nrecord = \"{record}\"\nkey = \"{key}\"\nsecret_file = \"/etc/quell/{key}.secret\""
        )
    }
}

/// Sees that every record is meant once, and that every secret is named by a whole path.
pub(super) fn check(records: &[DnsRecord], absolute: impl Fn(&str, &Path) -> Result<(), String>) -> Result<(), String> {
    for (index, one) in records.iter().enumerate() {
        absolute("dns.secret_file", &one.secret_file)?;
        let same = |other: &&DnsRecord| {
            (other.server, &other.zone, &other.record, &other.key) == (one.server, &one.zone, &one.record, &one.key)
        };
        if records[..index].iter().any(|other| same(&other)) {
            return Err(format!(
                "the record {} of the zone {} is there twice with the key {}",
                one.record, one.zone, one.key
            ));
        }
    }
    Ok(())
}

fn server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    name::name_server(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    name::canonical_domain(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn record<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "@" { Ok(text) } else { name::canonical_domain(&text).map_err(D::Error::custom) }
}

#[cfg(test)]
mod tests {
    use super::Algorithm;
    use crate::config::Config;
    use std::path::Path;

    const RECORD: &str =
        "[[dns]]\nserver = \"192.0.2.1\"\nzone = \"Exoticplant.plant.\"\nrecord = \"WWW\"\nkey = \"failover\"\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("agent.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn records_are_read_in_one_spelling() {
        let text = format!("{RECORD}secret_file = \"/etc/quell/failover.secret\"\nalgorithm = \"hmac-sha512\"\n");
        let config = parse(&text).unwrap();
        let record = &config.records[0];
        assert_eq!(record.server, "192.0.2.1:53".parse().unwrap());
        assert_eq!((record.zone.as_str(), record.record.as_str()), ("exoticplant.plant", "www"));
        assert_eq!(record.algorithm, Algorithm::HmacSha512);
    }

    #[test]
    fn mistakes_are_named() {
        let file = "secret_file = \"/etc/quell/failover.secret\"\n";
        for (text, expected) in [
            (RECORD.to_owned(), "missing field `secret_file`"),
            (format!("{RECORD}secret_file = \"failover.secret\"\n"), "must be absolute"),
            (format!("{RECORD}{file}secret = \"c2VjcmV0\"\n"), "unknown field `secret`"),
            (format!("{RECORD}{file}algorithm = \"hmac-md5\"\n"), "unknown variant `hmac-md5`"),
            (format!("{RECORD}{file}").replace("192.0.2.1", "ns1"), "not a name server's address"),
            (format!("{RECORD}{file}").replace("WWW", "a b"), "not a domain name"),
            (format!("{RECORD}{file}{RECORD}{file}"), "there twice"),
        ] {
            let message = parse(&text).unwrap_err();
            assert!(message.contains(expected), "{text:?} gave {message:?}, without {expected:?}");
        }
    }
}
