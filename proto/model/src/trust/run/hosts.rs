//! On which hosts a person's order is carried out: those that a selector means, or of those only the ones that it names.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    name::HostName,
    selector::{Labels, Selector},
};

/// The hosts of an order. Written `"all"`, `{"matchLabels": {…}}`, `{"names": […]}`, or with both keys, and then both hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    selector: Selector,
    /// Absent: all that the selector means. Empty: nobody.
    names: Option<BTreeSet<HostName>>,
}

impl Hosts {
    /// Of those that a selector means, the ones of these names.
    pub fn named(selector: Selector, names: BTreeSet<HostName>) -> Self {
        Self { selector, names: Some(names) }
    }

    /// The names, where it names hosts.
    pub fn names(&self) -> Option<&BTreeSet<HostName>> {
        self.names.as_ref()
    }

    /// Whether a host of this name and these labels is meant.
    pub fn include(&self, host: &HostName, labels: &Labels) -> bool {
        self.selector.matches(labels) && self.names.as_ref().is_none_or(|names| names.contains(host))
    }

    /// Whether nobody is meant, whatever hosts there are.
    pub fn is_nobody(&self) -> bool {
        self.selector == Selector::Nobody || self.names.as_ref().is_some_and(BTreeSet::is_empty)
    }
}

/// All that a selector means.
impl From<Selector> for Hosts {
    fn from(selector: Selector) -> Self {
        Self { selector, names: None }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    Chosen(Chosen),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Chosen {
    #[serde(skip_serializing_if = "Option::is_none")]
    match_labels: Option<Labels>,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<BTreeSet<HostName>>,
}

impl Serialize for Hosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = self.names.clone();
        let match_labels = match &self.selector {
            Selector::All if names.is_none() => return Written::Word("all".to_owned()).serialize(serializer),
            Selector::All => None,
            Selector::Labels(labels) => Some(labels.clone()),
            Selector::Nobody => Some(Labels::new()),
        };
        Written::Chosen(Chosen { match_labels, names }).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Chosen { match_labels, names } = match Written::deserialize(deserializer)? {
            Written::Word(word) if word == "all" => return Ok(Selector::All.into()),
            Written::Word(word) => return Err(D::Error::custom(format!("{word:?} is no choice of hosts"))),
            Written::Chosen(chosen) => chosen,
        };
        // Labels that are left out mean everybody only beside names.
        let selector = match (match_labels, &names) {
            (Some(labels), _) => Selector::labels(labels),
            (None, Some(_)) => Selector::All,
            (None, None) => Selector::Nobody,
        };
        Ok(Self { selector, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> serde_json::Result<Hosts> {
        serde_json::from_str(text)
    }

    fn includes(hosts: &Hosts, host: &str, role: &str) -> bool {
        hosts.include(&host.parse().unwrap(), &[("role".to_owned(), role.to_owned())].into())
    }

    #[test]
    fn names_only_narrow() {
        let both = read(r#"{"matchLabels":{"role":"web"},"names":["web1","web2"]}"#).unwrap();
        assert!(includes(&both, "web1", "web"));
        assert!(!includes(&both, "web3", "web"), "it is not named");
        assert!(!includes(&both, "web1", "db"), "its labels are others");
        let named = read(r#"{"names":["web1"]}"#).unwrap();
        assert!(includes(&named, "web1", "db") && !includes(&named, "web2", "db"));
        let all = read(r#""all""#).unwrap();
        assert!(includes(&all, "web9", "db"));
    }

    #[test]
    fn nothing_is_nobody() {
        for text in ["{}", r#"{"matchLabels":{}}"#, r#"{"names":[]}"#, r#"{"matchLabels":{"role":"web"},"names":[]}"#] {
            let hosts = read(text).unwrap();
            assert!(hosts.is_nobody() && !includes(&hosts, "web1", "web"), "{text}");
        }
        for text in [r#""everybody""#, "null", r#"{"name":["web1"]}"#, r#"{"names":["../web1"]}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        let web = || Selector::labels([("role".to_owned(), "web".to_owned())].into());
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<HostName>>();
        for selector in [Selector::All, web(), Selector::Nobody] {
            for hosts in [
                Hosts::from(selector.clone()),
                Hosts::named(selector.clone(), names(&["web1", "web2"])),
                Hosts::named(selector.clone(), names(&[])),
            ] {
                assert_eq!(read(&serde_json::to_string(&hosts).unwrap()).unwrap(), hosts);
            }
        }
    }
}
