//! Who is meant. An empty or missing selector is nobody; everybody must be written out: an empty set that was
//! read as everything has wiped fleets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A host's labels.
pub type Labels = BTreeMap<String, String>;

/// A choice of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Selector {
    /// No host at all: what is left out means this.
    #[default]
    Nobody,
    /// Every host, because somebody wrote `all`.
    All,
    /// Hosts that bear every one of these labels; never empty. Values may hold `$(name)` before they are resolved.
    Labels(Labels),
}

impl Selector {
    /// A selector over labels; an empty map is nobody.
    pub fn labels(labels: Labels) -> Self {
        if labels.is_empty() { Self::Nobody } else { Self::Labels(labels) }
    }

    /// Whether a host with these labels is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nobody => false,
            Self::All => true,
            Self::Labels(wanted) => {
                !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
            }
        }
    }
}

/// The text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing was written, which is nobody; as an order that is a slip.
    #[error("an empty selector is no host at all; write key=value, or all for every host")]
    Empty,
    /// A part is not a pair.
    #[error("{0:?} in the selector is not key=value (all means every host)")]
    NotAPair(String),
    /// A label is there twice.
    #[error("label {0:?} is twice in the selector")]
    Twice(String),
}

/// The form that people type: `role=web,zone=a`, or `all`.
impl std::str::FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.trim() {
            "" => Err(ParseError::Empty),
            "all" => Ok(Self::All),
            pairs => {
                let mut labels = Labels::new();
                for pair in pairs.split(',') {
                    let (key, value) = pair.split_once('=').ok_or_else(|| ParseError::NotAPair(pair.to_owned()))?;
                    if labels.insert(key.trim().to_owned(), value.trim().to_owned()).is_some() {
                        return Err(ParseError::Twice(key.trim().to_owned()));
                    }
                }
                Ok(Self::labels(labels))
            }
        }
    }
}

/// A choice of hosts, of which at most `pick` are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Who may be taken.
    pub selector: Selector,
    /// How many are taken, in the order of host names among those that are online; all when absent.
    pub pick: Option<u32>,
}
