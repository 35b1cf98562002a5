//! Undoes the delta coding of samples: what a session remembers of each probe's last sample. A sample that says the same
//! as the one before shares its fields, so that nobody copies or compares them.
//!
//! The memory is bounded whatever an agent sends: so many probes, so many bytes; what is above ends the session.

use std::{collections::HashMap, sync::Arc};

use quell_engine::input::bound_counts;
use quell_model::{
    probe::ProbeKey,
    value::{Fields, Value},
};
use quell_wire::v1;

use crate::wire::{self, Invalid};

/// Most probes of one session.
const PROBES: usize = 1_024;
/// Most bytes of field names and values remembered in one session.
const BYTES: usize = 4 << 20;

/// The last sample of each probe of a session.
#[derive(Debug, Default)]
pub(super) struct Bases {
    samples: HashMap<ProbeKey, Base>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Base {
    fields: Arc<Fields>,
    bytes: usize,
}

impl Bases {
    /// Makes a sample whole, and remembers it.
    ///
    /// # Errors
    /// It is a difference to nothing, a field is malformed, or the session's memory is full.
    pub(super) fn undo(&mut self, sample: v1::Sample) -> Result<(ProbeKey, Arc<Fields>), Invalid> {
        let key = wire::probe_key(sample.probe)?;
        let mut changed = wire::fields(sample.fields)?;
        bound_counts(&mut changed);
        if !sample.full && !self.samples.contains_key(&key) {
            let reason = format!("the first sample of {key} in this session is a difference; it must be full");
            return Err(Invalid::malformed("sample", reason));
        }
        if !self.samples.contains_key(&key) && self.samples.len() >= PROBES {
            return Err(Invalid::TooMany { what: "probes of a session", count: PROBES + 1, most: PROBES });
        }
        let base = self.samples.entry(key.clone()).or_default();
        self.bytes -= base.bytes;
        base.take(sample.full, changed, &sample.gone);
        self.bytes += base.bytes;
        if self.bytes > BYTES {
            return Err(Invalid::TooMany { what: "bytes of a session's samples", count: self.bytes, most: BYTES });
        }
        Ok((key, base.fields.clone()))
    }
}

impl Base {
    fn take(&mut self, full: bool, changed: Fields, gone: &[String]) {
        let says_the_same = |(name, value)| self.fields.get(name) == Some(value);
        if full {
            self.fields = Arc::new(changed);
        } else if gone.is_empty() && changed.iter().all(says_the_same) {
            return;
        } else {
            let fields = Arc::make_mut(&mut self.fields);
            fields.extend(changed);
            for name in gone {
                fields.remove(name);
            }
        }
        self.bytes = self.fields.iter().map(|(name, value)| name.len() + size(value)).sum();
    }
}

/// About how many bytes a value takes.
fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() + size_of::<Value>(),
        Value::Flag(_) | Value::Number(_) => size_of::<Value>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(probe: &str, full: bool, fields: &[(&str, f64)], gone: &[&str]) -> v1::Sample {
        v1::Sample {
            probe: probe.to_owned(),
            full,
            fields: fields
                .iter()
                .map(|(name, number)| v1::Field {
                    name: (*name).to_owned(),
                    value: Some(v1::field::Value::Number(*number)),
                })
                .collect(),
            gone: gone.iter().map(|name| (*name).to_owned()).collect(),
            ..v1::Sample::default()
        }
    }

    fn numbers(fields: &Fields) -> Vec<(&str, f64)> {
        fields.iter().map(|(name, value)| (name.as_str(), value.number().unwrap())).collect()
    }

    #[test]
    fn differences_change_add_and_remove() {
        let mut bases = Bases::default();
        bases.undo(sample("p", true, &[("a", 1.0), ("b", 2.0)], &[])).unwrap();
        let (_, fields) = bases.undo(sample("p", false, &[("b", 3.0), ("c", 4.0)], &["a"])).unwrap();
        assert_eq!(numbers(&fields), [("b", 3.0), ("c", 4.0)]);
        let (_, fields) = bases.undo(sample("p", false, &[], &[])).unwrap();
        assert_eq!(numbers(&fields), [("b", 3.0), ("c", 4.0)]);
        let (_, fields) = bases.undo(sample("p", true, &[("z", 9.0)], &[])).unwrap();
        assert_eq!(numbers(&fields), [("z", 9.0)]);
    }

    #[test]
    fn a_sample_that_says_the_same_shares_its_fields() {
        let mut bases = Bases::default();
        let (_, first) = bases.undo(sample("p", true, &[("successes", 1_000.0), ("b", 2.0)], &[])).unwrap();
        let (_, again) = bases.undo(sample("p", false, &[("successes", 1_001.0)], &[])).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "one more success than anybody counts is no news");
        let (_, other) = bases.undo(sample("p", false, &[("b", 3.0)], &[])).unwrap();
        assert!(!Arc::ptr_eq(&again, &other));
        assert_eq!((numbers(&again)[0], numbers(&other)[0]), (("b", 2.0), ("b", 3.0)));
    }

    #[test]
    fn probes_do_not_mix() {
        let mut bases = Bases::default();
        bases.undo(sample("p", true, &[("a", 1.0)], &[])).unwrap();
        bases.undo(sample("q", true, &[("a", 2.0)], &[])).unwrap();
        let (key, fields) = bases.undo(sample("p", false, &[("b", 5.0)], &[])).unwrap();
        assert_eq!((key.as_str(), numbers(&fields)), ("p", vec![("a", 1.0), ("b", 5.0)]));
    }

    #[test]
    fn a_difference_to_nothing_is_refused() {
        let error = Bases::default().undo(sample("p", false, &[("a", 1.0)], &[])).unwrap_err();
        assert!(error.to_string().contains("must be full"), "{error}");
    }

    #[test]
    fn an_agent_cannot_fill_the_memory() {
        let mut bases = Bases::default();
        let flood = (0..=PROBES).map(|probe| bases.undo(sample(&probe.to_string(), true, &[("a", 1.0)], &[])));
        assert!(matches!(flood.last().unwrap(), Err(Invalid::TooMany { most: PROBES, .. })));

        let mut bases = Bases::default();
        let text = || v1::Sample {
            full: true,
            fields: (0..100)
                .map(|field| v1::Field {
                    name: field.to_string(),
                    value: Some(v1::field::Value::Text("x".repeat(16 << 10))),
                })
                .collect(),
            ..v1::Sample::default()
        };
        let mut flood = (0..4).map(|probe| bases.undo(v1::Sample { probe: probe.to_string(), ..text() }));
        assert!(flood.any(|result| matches!(result, Err(Invalid::TooMany { most: BYTES, .. }))));
    }

    #[test]
    fn bytes_of_a_replaced_sample_are_given_back() {
        let mut bases = Bases::default();
        for round in 0..10_000 {
            bases.undo(sample("p", true, &[("a", f64::from(round))], &[])).unwrap();
        }
        assert_eq!(bases.bytes, 1 + size_of::<Value>());
    }
}
