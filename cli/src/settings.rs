//! `key=value` as it is typed in several places, and spans of time.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::error::Error;

/// Reads `key=value`.
///
/// # Errors
/// There is no `=`, or nothing before it.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form key=value")),
    }
}

/// Pairs as a map.
///
/// # Errors
/// A key is there twice with different values: one of them would silently not count.
pub fn map(pairs: &[(String, String)]) -> Result<BTreeMap<String, String>, Error> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value.clone()).is_some_and(|earlier| earlier != *value) {
            return Err(Error::Usage(format!("{key} is given twice with different values")));
        }
    }
    Ok(map)
}

/// Labels of `-l key=value,key=value`, for reads: nothing given means no restriction.
///
/// # Errors
/// A part is not of the form `key=value`.
pub fn labels(selector: Option<&str>) -> Result<BTreeMap<String, String>, Error> {
    let parts = selector.unwrap_or_default().split(',').filter(|part| !part.trim().is_empty());
    let pairs: Vec<_> = parts.map(pair).collect::<Result<_, _>>().map_err(Error::Usage)?;
    map(&pairs)
}

/// Reads a span of time with its unit.
///
/// # Errors
/// As for [`quell_model::unit::duration`].
pub fn span(text: &str) -> Result<Duration, String> {
    quell_model::unit::duration(text).map_err(|error| error.to_string())
}

/// Reads a moment: a time with its offset, or how long ago it was ("10m ago").
///
/// # Errors
/// It is neither.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = text.trim().strip_suffix("ago") {
        let ago = SignedDuration::try_from(span(ago.trim())?).map_err(|error| error.to_string())?;
        return Timestamp::now().checked_sub(ago).map_err(|error| error.to_string());
    }
    text.parse().map_err(|_| format!("{text:?} is no time: write 2026-11-22T03:10:00Z, or \"10m ago\""))
}

/// A span in milliseconds, as the wire has it.
pub fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err() && pair("").is_err());
    }

    #[test]
    fn a_contradiction_is_an_error() {
        let pairs = |second: &str| [pair("a=1").unwrap(), pair(second).unwrap()];
        assert!(map(&pairs("a=2")).is_err());
        assert_eq!(map(&pairs("a=1")).unwrap().len(), 1);
        assert_eq!(map(&pairs("b=1")).unwrap().len(), 2);
    }

    #[test]
    fn selectors_of_reads() {
        assert_eq!(labels(None).unwrap().len(), 0);
        assert_eq!(labels(Some("role=web, zone=a")).unwrap()["zone"], "a");
        assert!(labels(Some("role")).is_err());
    }

    #[test]
    fn spans_need_a_unit() {
        assert_eq!(span("2h"), Ok(Duration::from_secs(7200)));
        assert!(span("2").is_err());
    }

    #[test]
    fn moments_are_times_or_how_long_ago() {
        assert_eq!(moment("2026-11-22T03:10:00+01:00"), Ok("2026-11-22T02:10:00Z".parse().unwrap()));
        let then = moment("10m ago").unwrap();
        let ago = Timestamp::now().duration_since(then).as_secs();
        assert!((600..660).contains(&ago), "{ago}");
        for wrong in ["10m", "yesterday", "2026-11-22", "2026-11-22T03:10:00", "2 ago"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
