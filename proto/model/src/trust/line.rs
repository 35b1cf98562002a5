//! One line of `allowed_signers`: principals, options, a key, a comment.
//!
//! The steps are those of `parse_principals_key_and_options` and `sshsigopt_parse` in OpenSSH's `sshsig.c`, oddities
//! included, so that a line means the same to both.

use base64::Engine as _;
use ssh_key::{HashAlg, PublicKey, public::KeyData};

use super::{moment::Moment, pattern};

/// What separates the principals from the rest.
const WHITESPACE: [char; 4] = [' ', '\t', '\r', '\n'];
/// What separates options, key and comment.
const BLANK: [char; 2] = [' ', '\t'];
/// Kinds of key that can be told from an option.
const KINDS: [&str; 9] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "rsa-sha2-256",
    "rsa-sha2-512",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];
/// Lengths of RSA keys that are taken, in bits: weaker ones are not safe, longer ones only slow.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// A line that means somebody.
#[derive(Debug, Clone)]
pub struct Line {
    pub(super) number: u32,
    pub(super) principals: String,
    pub(super) key: KeyData,
    pub(super) fingerprint: String,
    pub(super) namespaces: Option<String>,
    pub(super) valid_after: Option<Moment>,
    pub(super) valid_before: Option<Moment>,
}

/// What is wrong with a line: the byte at which it is, and why.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) message: String,
}

/// Reads a line; nothing when it is empty or a comment.
pub(super) fn parse(number: u32, line: &str) -> Result<Option<Line>, Fault> {
    let fault = |rest: &str, message: String| Fault { offset: line.len().saturating_sub(rest.len()), message };
    if let Some(offset) = line.find('\0') {
        return Err(Fault { offset, message: "a zero byte: no program writes that here".to_owned() });
    }
    let begin = line.trim_start_matches(WHITESPACE);
    if begin.is_empty() || begin.starts_with('#') {
        return Ok(None);
    }
    let (principals, rest) = split_principals(begin).map_err(|message| fault(begin, message.to_owned()))?;
    let (options, key) = match read_key(rest) {
        Ok(key) => (Options::default(), key),
        Err(first) => {
            let (options, after) =
                split_options(rest).ok_or_else(|| fault(rest, "a quote of the options is never closed".to_owned()))?;
            let missing = || fault(rest, first.clone().unwrap_or_else(|| "there is no key on the line".to_owned()));
            let after = after.ok_or_else(missing)?;
            let parsed = parse_options(options).map_err(|(offset, message)| Fault {
                offset: line.len() - rest.len() + offset,
                message: first.clone().unwrap_or(message),
            })?;
            let key = read_key(after).map_err(|why| {
                fault(after, why.unwrap_or_else(|| format!("not a key: it begins with one of {}", KINDS.join(", "))))
            })?;
            (parsed, key)
        }
    };
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let Options { namespaces, valid_after, valid_before, .. } = options;
    Ok(Some(Line { number, principals, key, fingerprint, namespaces, valid_after, valid_before }))
}

/// The principals, with quotes taken away, and what follows them; OpenSSH's `strdelimw`.
fn split_principals(text: &str) -> Result<(String, &str), &'static str> {
    let is_delimiter = |character: char| character == '"' || WHITESPACE.contains(&character);
    let at = text.find(is_delimiter).ok_or("there is no key after the principals")?;
    let (before, rest) = text.split_at(at);
    let Some(quoted) = rest.strip_prefix('"') else {
        return Ok((before.to_owned(), rest.trim_start_matches(WHITESPACE)));
    };
    // The first pair of quotes is taken away, and what it holds ends the principals, whatever follows.
    let (inside, after) = quoted.split_once('"').ok_or("a quote of the principals is never closed")?;
    Ok((format!("{before}{inside}"), after.trim_start_matches(WHITESPACE)))
}

/// Reads a key at the beginning of a text; the error says why, when it began as one.
fn read_key(text: &str) -> Result<KeyData, Option<String>> {
    let (kind, rest) = text.split_once(BLANK).ok_or(None)?;
    if kind == "ssh-dss" || kind.contains("-cert-v01@") {
        return Err(Some(format!("keys of kind {kind} are not taken: use ed25519, ecdsa, rsa or a hardware key")));
    }
    if !KINDS.contains(&kind) {
        return Err(None);
    }
    let blob = rest.trim_start_matches(BLANK).split(BLANK).next().unwrap_or_default();
    let broken = |why: &dyn std::fmt::Display| Some(format!("the {kind} key cannot be read: {why}"));
    let blob = unarmour(blob).ok_or_else(|| broken(&"not base64"))?;
    let key = PublicKey::from_bytes(&blob).map_err(|error| broken(&error))?;
    // The library overlooks lengths that are too great; written again they are right.
    if key.to_bytes().ok().as_ref() != Some(&blob) {
        return Err(broken(&"its lengths are wrong"));
    }
    let key = key.key_data().clone();
    let plain = if kind.starts_with("rsa-sha2-") { "ssh-rsa" } else { kind };
    if key.algorithm().as_str() != plain {
        return Err(broken(&format!("it is of kind {}", key.algorithm())));
    }
    if let Some(rsa) = key.rsa() {
        let bits = rsa.n.as_positive_bytes().map_or(0, bits);
        if !RSA_BITS.contains(&bits) {
            let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
            return Err(Some(format!("an RSA key of {bits} bits is not taken: {least} to {most}, or an ed25519 key")));
        }
    }
    Ok(key)
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

/// Base64 in which white space means nothing, as OpenSSH reads it.
pub(super) fn unarmour(text: &str) -> Option<Vec<u8>> {
    let compact: String =
        text.chars().filter(|character| !character.is_ascii_whitespace() && *character != '\u{b}').collect();
    base64::engine::general_purpose::STANDARD.decode(compact).ok()
}

/// Options up to the first blank outside quotes, and what follows it, if anything.
fn split_options(text: &str) -> Option<(&str, Option<&str>)> {
    let mut quoted = false;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((offset, byte)) = bytes.next() {
        match byte {
            b' ' | b'\t' if !quoted => {
                return Some((&text[..offset], Some(text[offset..].trim_start_matches(BLANK))));
            }
            b'\\' if bytes.peek().is_some_and(|(_, next)| *next == b'"') => {
                bytes.next();
            }
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    (!quoted).then_some((text, None))
}

#[derive(Debug, Default)]
struct Options {
    namespaces: Option<String>,
    valid_after: Option<Moment>,
    valid_before: Option<Moment>,
}

/// Reads options; an error has its offset.
fn parse_options(text: &str) -> Result<Options, (usize, String)> {
    let mut options = Options::default();
    let mut rest = text;
    while !rest.is_empty() {
        let offset = text.len() - rest.len();
        let fault = |message: String| (offset, message);
        if strip_prefix(rest, "cert-authority").is_some() {
            let message = "`cert-authority` is not taken: certificates for signing are not supported, name each key";
            return Err(fault(message.to_owned()));
        }
        if let Some(value) = strip_prefix(rest, "namespaces=") {
            let (value, after) = dequote("namespaces", value).map_err(fault)?;
            set(&mut options.namespaces, "namespaces", value).map_err(fault)?;
            rest = after;
        } else if let Some(value) = strip_prefix(rest, "valid-after=") {
            let (value, after) = moment("valid-after", value).map_err(fault)?;
            set(&mut options.valid_after, "valid-after", value).map_err(fault)?;
            rest = after;
        } else if let Some(value) = strip_prefix(rest, "valid-before=") {
            let (value, after) = moment("valid-before", value).map_err(fault)?;
            set(&mut options.valid_before, "valid-before", value).map_err(fault)?;
            rest = after;
        }
        if rest.is_empty() {
            break;
        }
        let unknown = || "not an option: there are namespaces=\"…\", valid-after=\"…\" and valid-before=\"…\"";
        rest = rest.strip_prefix(',').ok_or_else(|| fault(unknown().to_owned()))?;
        if rest.is_empty() {
            return Err((text.len(), "the options end in a comma".to_owned()));
        }
    }
    if let (Some(after), Some(before)) = (options.valid_after, options.valid_before)
        && after.is_before(before) == Some(false)
    {
        return Err((0, "`valid-before` is not later than `valid-after`: the key would never be valid".to_owned()));
    }
    Ok(options)
}

/// Takes a prefix away, whatever its case.
fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.get(..prefix.len()).filter(|begin| begin.eq_ignore_ascii_case(prefix)).map(|_| &text[prefix.len()..])
}

fn set<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    if slot.is_some() {
        return Err(format!("`{name}` is there twice"));
    }
    *slot = Some(value);
    Ok(())
}

fn moment<'a>(name: &str, text: &'a str) -> Result<(Moment, &'a str), String> {
    let (value, after) = dequote(name, text)?;
    let moment = Moment::parse(&value).ok_or_else(|| {
        format!("`{name}` is YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z for UTC, not {value:?}")
    })?;
    Ok((moment, after))
}

/// A text in quotes, in which `\"` is a quote, and what follows it.
fn dequote<'a>(name: &str, text: &'a str) -> Result<(String, &'a str), String> {
    let mut rest = text.strip_prefix('"').ok_or_else(|| format!("`{name}` has its value in quotes: {name}=\"…\""))?;
    let mut value = String::new();
    while let Some(character) = rest.chars().next() {
        if character == '"' {
            return Ok((value, &rest[1..]));
        }
        let taken = if rest.starts_with("\\\"") { '"' } else { character };
        rest = &rest[if rest.starts_with("\\\"") { 2 } else { character.len_utf8() }..];
        value.push(taken);
    }
    Err(format!("the quote of `{name}` is never closed"))
}

impl Line {
    /// Its place in the file, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The fingerprint of its key: `SHA256:…`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The list of principals as it is written, without quotes.
    pub fn principals(&self) -> &str {
        &self.principals
    }

    /// Whose key it is: the first name among its principals; nobody's when there are patterns only.
    pub fn principal(&self) -> Option<&str> {
        pattern::names(&self.principals).next()
    }

    /// Whether its key may sign in a namespace: any, unless it says which.
    pub fn permits(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|list| pattern::list_matches(list, namespace))
    }

    /// Whether its key is somebody's of this name, patterns included.
    pub fn is_of(&self, principal: &str) -> bool {
        pattern::list_matches(&self.principals, principal)
    }

    /// When its key stops being valid, in seconds since the epoch; absent: never.
    pub fn valid_before(&self, zone: &jiff::tz::TimeZone) -> Option<i64> {
        self.valid_before.map(|moment| moment.instant(zone))
    }

    /// Whether its key is valid at a time.
    pub fn is_valid(&self, at: jiff::Timestamp, zone: &jiff::tz::TimeZone) -> bool {
        let instant = |moment: &Option<Moment>| moment.map(|moment| moment.instant(zone));
        let (after, before) = (instant(&self.valid_after), instant(&self.valid_before));
        let at = at.as_second();
        // A time at or before the epoch, or an end before the beginning, makes OpenSSH drop the line; here the zone is
        // known for the first time.
        after.is_none_or(|after| after > 0 && at >= after)
            && before.is_none_or(|before| before > 0 && at <= before)
            && after.zip(before).is_none_or(|(after, before)| after < before)
    }
}
