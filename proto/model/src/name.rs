//! Names of things, each a type of its own, with one grammar each that is checked when it is parsed.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A text that is not a name of the kind wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {rule}")]
pub struct Invalid {
    /// What was wanted.
    pub kind: &'static str,
    /// What came.
    pub text: String,
    /// The grammar, in words.
    pub rule: &'static str,
}

/// Lower-case letters, digits and `-`, in labels joined by `.`, as in RFC 1123.
fn is_dns_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Invalid { kind: $kind, text: text.to_owned(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The name of a host.
    HostName,
    "host name",
    is_dns_name,
    "lower-case letters, digits and '-', in labels joined by '.', at most 253 characters"
);

name!(
    /// A namespace, or the name of a policy or another manifest inside one.
    ObjectName,
    "name",
    |text| text.len() <= 63 && !text.contains('.') && is_dns_name(text),
    "lower-case letters, digits and '-', at most 63 characters, neither first nor last a '-'"
);

/// A manifest's full name: `plants/dns-failover`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FullName {
    /// The namespace.
    pub namespace: ObjectName,
    /// The name inside it.
    pub name: ObjectName,
}

impl FromStr for FullName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| Invalid {
            kind: "full name",
            text: text.to_owned(),
            rule: "namespace/name",
        })?;
        Ok(Self { namespace: namespace.parse()?, name: name.parse()? })
    }
}

impl TryFrom<String> for FullName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<FullName> for String {
    fn from(name: FullName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is judged: a host, the fleet, or one thing on a host. Alerts, ladder places, cool-downs and verdicts hang on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// The fleet as a whole.
    Fleet,
    /// A host.
    Host(HostName),
    /// One element of a host: a mount, an interface.
    Element(HostName, String),
}

impl Target {
    /// The host, unless the target is the fleet.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Fleet => None,
            Self::Host(host) | Self::Element(host, _) => Some(host),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.pad("fleet"),
            Self::Host(host) => write!(f, "{host}"),
            Self::Element(host, element) => write!(f, "{host}:{element}"),
        }
    }
}

impl FromStr for Target {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "fleet" {
            return Ok(Self::Fleet);
        }
        match text.split_once(':') {
            Some((host, element)) => Ok(Self::Element(host.parse()?, element.to_owned())),
            None => Ok(Self::Host(text.parse()?)),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}
