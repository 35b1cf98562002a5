//! Names of things, each a type of its own, with one grammar each that is checked when it is parsed.

use std::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

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

/// Reads a name where it stands, without a copy of the text.
struct Text<T> {
    kind: &'static str,
    read: PhantomData<T>,
}

impl<T: FromStr<Err = Invalid>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", self.kind)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text { kind: $kind, read: PhantomData })
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

/// Reads the name of a service or unit: letters, digits and `:_.-@` or a backslash, at most 255, as systemd has it.
///
/// # Errors
/// The text is not such a name.
pub fn unit(text: &str) -> Result<String, Invalid> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || ":_.-@\\".contains(character);
    let good = (1..=255).contains(&text.len())
        && text.chars().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
    let rule = "letters, digits and :_.-@\\, at most 255, the first a letter, digit or _";
    checked(text, good, "name of a service or unit", rule)
}

/// Reads the name that a DNS tool gives a server: letters, digits and `-._`, the first neither `-` nor `.`, at most 253.
///
/// # Errors
/// The text is not such a name.
pub fn server(text: &str) -> Result<String, Invalid> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    let good = (1..=253).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with(['-', '.']);
    checked(text, good, "server name", "letters, digits and -._, the first a letter, digit or _")
}

/// Reads the name of a user of a host.
///
/// # Errors
/// The text is not such a name.
pub fn user(text: &str) -> Result<String, Invalid> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    let good = (1..=32).contains(&text.len())
        && text.chars().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    checked(text, good, "user name", "letters, digits, _, - and ., at most 32, the first a letter or _")
}

/// Reads an absolute path that does not lead up.
///
/// # Errors
/// The text is relative, has a `..` or an empty component, a control character, or is longer than 4095 bytes.
pub fn path(text: &str) -> Result<std::path::PathBuf, Invalid> {
    let good = text.starts_with('/')
        && text.len() < 4096
        && !text.chars().any(char::is_control)
        && (text == "/" || text[1..].split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
    let rule = "it begins with / and has no '..', '.' or empty part";
    checked(text, good, "path", rule).map(std::path::PathBuf::from)
}

/// Reads a host or address with a port: `planthost1:80`, `192.0.2.1:53`, `[2001:db8::1]:443`.
///
/// # Errors
/// The text is not of this form.
pub fn address(text: &str) -> Result<String, Invalid> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = literal
            .map_or_else(|| is_dns_name(&host.to_ascii_lowercase()), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
        is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    checked(text, good, "address", "host:port, with an IPv6 address in brackets")
}

/// Reads an absolute http or https URL without a password in it.
///
/// # Errors
/// The text is not of this form.
pub fn url(text: &str) -> Result<String, Invalid> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let good = text.len() <= 2048
        && !text.chars().any(|character| character.is_whitespace() || character.is_control())
        && rest.is_some_and(|rest| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
            let with_port =
                authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
            let whole = if with_port { authority.to_owned() } else { format!("{authority}:80") };
            address(&whole).is_ok()
        });
    checked(text, good, "URL", "http:// or https://, a host, perhaps a port and a path; no user or password")
}

/// Reads a name to ask a DNS server for.
///
/// # Errors
/// The text is not such a name.
pub fn domain(text: &str) -> Result<String, Invalid> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let good = (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
    checked(text, good, "domain name", "labels of letters, digits, - and _, joined by dots")
}

/// Reads a domain name and writes it in one way: in lower case, without the dot at its end.
///
/// # Errors
/// The text is not such a name.
pub fn canonical_domain(text: &str) -> Result<String, Invalid> {
    domain(text).map(|name| name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase())
}

/// Reads the address of a name server: `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`; without a port it is 53.
///
/// # Errors
/// The text is not of this form; a name is none, for it would have to be resolved while DNS is down.
pub fn name_server(text: &str) -> Result<SocketAddr, Invalid> {
    let alone = || text.parse().map(|address: IpAddr| SocketAddr::new(address, 53));
    let found = text.parse().or_else(|_| alone()).ok().filter(|address: &SocketAddr| address.port() > 0);
    found.ok_or_else(|| Invalid {
        kind: "name server's address",
        text: text.to_owned(),
        rule: "an IP address, perhaps with a port: 192.0.2.1, 192.0.2.1:5353, [2001:db8::1]:53",
    })
}

/// Reads a regular expression, compiled once within [`crate::probe::PATTERN_SIZE_LIMIT`] to see that it can be.
///
/// # Errors
/// It is none, or it needs more memory than that.
pub fn pattern(text: &str) -> Result<String, String> {
    let built = regex::RegexBuilder::new(text).size_limit(crate::probe::PATTERN_SIZE_LIMIT).nest_limit(64).build();
    match built {
        Ok(_) => Ok(text.to_owned()),
        Err(regex::Error::CompiledTooBig(limit)) => {
            Err(format!("the regular expression needs more than {limit} bytes: use smaller repetitions"))
        }
        Err(error) => {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or("").trim_start_matches("error: ");
            Err(format!("{text:?} is not a regular expression: {last}"))
        }
    }
}

fn checked(text: &str, good: bool, kind: &'static str, rule: &'static str) -> Result<String, Invalid> {
    if good { Ok(text.to_owned()) } else { Err(Invalid { kind, text: text.to_owned(), rule }) }
}
