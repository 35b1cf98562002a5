//! Walks a log, record by record: every hash recomputed, every number in its place, every signed head met.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::Head;
use crate::digest::Digest;

/// The kind of the record that says that retention removed the oldest records.
const TRIMMED: &str = "logTrimmed";

/// What a record must say to have its place in the chain; all else in it is what the hash protects.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    sequence: u64,
    time: Timestamp,
    previous: Digest,
    kind: String,
    #[serde(default)]
    data: serde_json::Value,
    #[serde(default)]
    data_blob: Option<Digest>,
    #[serde(default)]
    writes: Vec<LinkWrite>,
}

#[derive(Debug, Deserialize)]
struct LinkWrite {
    #[serde(default)]
    blob: Option<Digest>,
}

/// A record that was found in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its sequence number.
    pub sequence: u64,
    /// The SHA-256 of its line.
    pub hash: Digest,
    /// The line's `previous`.
    pub previous: Digest,
    /// When it was made.
    pub time: Timestamp,
    /// The files that it names by their SHA-256, because they are too large for the log.
    pub blobs: Vec<Digest>,
}

/// Why a log is not whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line is not a record.
    #[error("what stands where record {sequence} is expected is not a record: {reason}")]
    Unreadable {
        /// The number of the record that was expected; 0: any.
        sequence: u64,
        /// Why it cannot be read.
        reason: String,
    },
    /// A record stands in another's place.
    #[error("record {found} stands where record {expected} is expected: records were removed, repeated or reordered")]
    OutOfOrder {
        /// The number that was expected.
        expected: u64,
        /// The number that was found.
        found: u64,
    },
    /// A record does not name the hash of the one before.
    #[error("record {sequence} does not continue record {}: one of the two was changed", sequence - 1)]
    Broken {
        /// The later of the two.
        sequence: u64,
    },
    /// A signed head names another record of this number.
    #[error(
        "record {sequence} is not the one of which the installation signed the head ({}…, signed {}…): \
         the log up to it was changed, or was restored from a backup made before",
        found.short(), signed.short()
    )]
    OtherHead {
        /// The record.
        sequence: u64,
        /// Its hash.
        found: Digest,
        /// The signed one.
        signed: Digest,
    },
    /// Two signed heads contradict each other.
    #[error("two signed heads of record {sequence} name different records: there are two histories of this log")]
    TwoHistories {
        /// The record.
        sequence: u64,
    },
    /// The log ends before a signed head.
    #[error("the log ends with record {last}, and the head of record {signed} was signed: its end was cut off")]
    Cut {
        /// The last record.
        last: u64,
        /// The newest signed one.
        signed: u64,
    },
    /// Old records are missing, and no record says that retention removed them.
    #[error(
        "the log begins with record {first} instead of {expected}, and no record says that retention removed what is \
         missing"
    )]
    BeginsLate {
        /// The first record.
        first: u64,
        /// The one that should be.
        expected: u64,
    },
    /// A head that was kept elsewhere is older than all that is left.
    #[error(
        "the kept head is of record {sequence}, and retention has removed the records before {first}: \
         whether the log continues it cannot be shown any more; keep a newer head"
    )]
    Older {
        /// The record of the kept head.
        sequence: u64,
        /// The first record that is left.
        first: u64,
    },
    /// There is nothing to check it by.
    #[error("no signed head lies in records {first} to {last}, so nothing shows that they are the installation's")]
    Unsigned {
        /// The first record.
        first: u64,
        /// The last record.
        last: u64,
    },
    /// There is no record.
    #[error("there is no record")]
    Empty,
}

/// What a whole log is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The first record; everything before it was removed by retention, or was not asked for.
    pub first: u64,
    /// The last record.
    pub last: u64,
    /// Its hash.
    pub hash: Digest,
    /// Its time.
    pub time: Timestamp,
    /// The last record that retention has removed, as the log says; 0: none.
    pub removed: u64,
    /// How many signed heads were met.
    pub heads: usize,
    /// The newest of them.
    pub newest_head: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first, last, hash, removed, heads, newest_head, .. } = self;
        write!(f, "the audit log is whole: records {first} to {last} ({hash}), {heads} signed heads")?;
        if *removed > 0 {
            write!(f, "; retention removed the records up to {removed}")?;
        }
        match last - newest_head {
            0 => f.write_str("; the newest record is signed"),
            newer => write!(f, "; {newer} records are newer than the newest signed head, of record {newest_head}"),
        }
    }
}

/// Walks a log. Whoever makes one has checked the signatures of the heads.
#[derive(Debug)]
pub struct Verifier {
    wanted: u64,
    heads: BTreeMap<u64, Digest>,
    met: usize,
    newest_met: u64,
    first: Option<u64>,
    last: Option<Taken>,
    removed: u64,
    /// The oldest head that must be met, and not only must not be contradicted.
    kept: Option<u64>,
}

impl Verifier {
    /// For a log from the record `wanted` on, and the heads that were signed of it.
    ///
    /// # Errors
    /// The heads contradict each other.
    pub fn new(wanted: u64, heads: impl IntoIterator<Item = Head>) -> Result<Self, Fault> {
        let mut known = BTreeMap::new();
        for head in heads {
            if known.insert(head.sequence, head.hash).is_some_and(|hash| hash != head.hash) {
                return Err(Fault::TwoHistories { sequence: head.sequence });
            }
        }
        let wanted = wanted.max(1);
        Ok(Self { wanted, heads: known, met: 0, newest_met: 0, first: None, last: None, removed: 0, kept: None })
    }

    /// The log must continue a head that was kept elsewhere. Whoever calls has checked its signature.
    ///
    /// # Errors
    /// It contradicts another head.
    pub fn must_continue(&mut self, head: &Head) -> Result<(), Fault> {
        if self.heads.insert(head.sequence, head.hash).is_some_and(|hash| hash != head.hash) {
            return Err(Fault::TwoHistories { sequence: head.sequence });
        }
        self.kept = Some(self.kept.map_or(head.sequence, |kept| kept.min(head.sequence)));
        Ok(())
    }

    /// Takes the next record: the exact bytes that are hashed.
    ///
    /// # Errors
    /// It is not what follows.
    pub fn take(&mut self, line: &[u8]) -> Result<Taken, Fault> {
        let expected = self.last.as_ref().map_or(0, |last| last.sequence + 1);
        let link: Link = serde_json::from_slice(line)
            .map_err(|error| Fault::Unreadable { sequence: expected, reason: error.to_string() })?;
        let is_first = self.last.is_none();
        if is_first && link.sequence < self.wanted || !is_first && link.sequence != expected {
            return Err(Fault::OutOfOrder { expected: expected.max(self.wanted), found: link.sequence });
        }
        let before = self.last.as_ref().map(|last| last.hash);
        let before = before.or((link.sequence == 1).then(Digest::default));
        if before.is_some_and(|hash| hash != link.previous) {
            return Err(Fault::Broken { sequence: link.sequence });
        }
        if is_first {
            self.first = Some(link.sequence);
            // The first record that is left still names the one before it.
            self.meet(link.sequence - 1, link.previous)?;
        }
        if link.kind == TRIMMED
            && let Some(through) = link.data.get("through").and_then(serde_json::Value::as_u64)
        {
            self.removed = self.removed.max(through);
        }
        let blobs = link.data_blob.into_iter().chain(link.writes.into_iter().filter_map(|write| write.blob)).collect();
        let hash = Digest::of(line);
        let taken = Taken { sequence: link.sequence, hash, previous: link.previous, time: link.time, blobs };
        self.meet(taken.sequence, hash)?;
        self.last = Some(taken.clone());
        Ok(taken)
    }

    /// Compares a record with the head that was signed of it, if one was.
    fn meet(&mut self, sequence: u64, found: Digest) -> Result<(), Fault> {
        match self.heads.get(&sequence) {
            Some(signed) if *signed != found => Err(Fault::OtherHead { sequence, found, signed: *signed }),
            Some(_) => {
                self.met += 1;
                self.newest_met = sequence;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The last record that was taken.
    pub fn last(&self) -> Option<&Taken> {
        self.last.as_ref()
    }

    /// The log has come to its end.
    ///
    /// # Errors
    /// Something is missing.
    pub fn finish(self) -> Result<Summary, Fault> {
        let (Some(first), Some(last)) = (self.first, self.last) else { return Err(Fault::Empty) };
        if let Some((signed, _)) = self.heads.range(last.sequence + 1..).next_back() {
            return Err(Fault::Cut { last: last.sequence, signed: *signed });
        }
        if first > self.wanted && self.removed + 1 < first {
            return Err(Fault::BeginsLate { first, expected: self.wanted.max(self.removed + 1) });
        }
        if let Some(sequence) = self.kept.filter(|kept| kept + 1 < first) {
            return Err(Fault::Older { sequence, first });
        }
        if self.met == 0 {
            return Err(Fault::Unsigned { first, last: last.sequence });
        }
        Ok(Summary {
            first,
            last: last.sequence,
            hash: last.hash,
            time: last.time,
            removed: self.removed,
            heads: self.met,
            newest_head: self.newest_met,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn line(sequence: u64, previous: Digest, kind: &str, data: &serde_json::Value) -> Vec<u8> {
        json!({ "sequence": sequence, "time": "2026-11-22T10:00:00Z", "previous": previous, "kind": kind, "data": data })
            .to_string()
            .into_bytes()
    }

    /// A log of so many records.
    fn log(count: u64) -> Vec<Vec<u8>> {
        let mut previous = Digest::default();
        let lines = (1..=count).map(|sequence| {
            let line = line(sequence, previous, "numbered", &json!({ "number": sequence }));
            previous = Digest::of(&line);
            line
        });
        lines.collect()
    }

    fn head(sequence: u64, hash: Digest) -> Head {
        let (time, key) = (Timestamp::UNIX_EPOCH, Digest::default());
        Head { installation: "i".to_owned(), epoch: 0, sequence, hash, time, key }
    }

    fn heads(lines: &[Vec<u8>], of: &[u64]) -> Vec<Head> {
        of.iter().map(|sequence| head(*sequence, Digest::of(&lines[usize::try_from(*sequence).unwrap() - 1]))).collect()
    }

    fn verify(wanted: u64, lines: &[Vec<u8>], heads: Vec<Head>) -> Result<Summary, Fault> {
        let mut verifier = Verifier::new(wanted, heads)?;
        for line in lines {
            verifier.take(line)?;
        }
        verifier.finish()
    }

    #[test]
    fn a_whole_log_is_whole() {
        let lines = log(20);
        let summary = verify(1, &lines, heads(&lines, &[5, 20])).unwrap();
        assert_eq!((summary.first, summary.last, summary.heads, summary.newest_head), (1, 20, 2, 20));
        let summary = verify(10, &lines[9..], heads(&lines, &[5, 10])).unwrap();
        assert_eq!((summary.first, summary.last, summary.heads, summary.newest_head), (10, 20, 1, 10));
    }

    #[test]
    fn what_retention_removed_must_be_said_in_the_log() {
        let mut lines = log(20);
        let signed = heads(&lines, &[20]);
        assert_eq!(verify(1, &lines[9..], signed.clone()), Err(Fault::BeginsLate { first: 10, expected: 1 }));
        let said = line(21, Digest::of(&lines[19]), TRIMMED, &json!({ "through": 9 }));
        lines.push(said);
        let summary = verify(1, &lines[9..], signed.clone()).unwrap();
        assert_eq!((summary.first, summary.removed), (10, 9));
        assert_eq!(verify(1, &lines[10..], signed.clone()), Err(Fault::BeginsLate { first: 11, expected: 10 }));
        // The head before the first record still counts.
        let other = vec![head(9, Digest::of(b"another"))];
        assert!(matches!(verify(1, &lines[9..], other), Err(Fault::OtherHead { sequence: 9, .. })));
    }

    #[test]
    fn heads_are_needed_and_must_agree() {
        let lines = log(5);
        assert_eq!(verify(1, &lines, vec![]), Err(Fault::Unsigned { first: 1, last: 5 }));
        assert_eq!(verify(1, &[], heads(&lines, &[5])), Err(Fault::Empty));
        let mut two = heads(&lines, &[5]);
        two.push(head(5, Digest::of(b"another")));
        assert_eq!(verify(1, &lines, two), Err(Fault::TwoHistories { sequence: 5 }));
    }

    #[test]
    fn a_kept_head_is_met_or_the_answer_is_no() {
        let mut lines = log(20);
        lines.push(line(21, Digest::of(&lines[19]), TRIMMED, &json!({ "through": 9 })));
        let since = |kept: Head| {
            let mut verifier = Verifier::new(1, heads(&lines, &[21]))?;
            verifier.must_continue(&kept)?;
            lines[9..].iter().try_for_each(|line| verifier.take(line).map(drop))?;
            verifier.finish()
        };
        let of = |sequence: u64| heads(&lines, &[sequence]).remove(0);
        for sequence in 9..=21 {
            assert_eq!(since(of(sequence)).map(|summary| summary.last), Ok(21), "{sequence}");
        }
        assert_eq!(since(of(8)), Err(Fault::Older { sequence: 8, first: 10 }));
        assert!(matches!(since(head(15, Digest::of(b"x"))), Err(Fault::OtherHead { sequence: 15, .. })));
        assert_eq!(since(head(21, Digest::of(b"x"))), Err(Fault::TwoHistories { sequence: 21 }));
        assert_eq!(since(head(22, Digest::of(b"x"))), Err(Fault::Cut { last: 21, signed: 22 }));
    }

    /// What a forger with the whole log in hand can do: edit a record and make every later one follow from it.
    fn forge(lines: &[Vec<u8>], at: usize) -> Vec<Vec<u8>> {
        let mut forged = lines[..at].to_vec();
        let mut previous = lines.get(at.wrapping_sub(1)).map_or(Digest::default(), |line| Digest::of(line));
        for sequence in at + 1..=lines.len() {
            let kind = if sequence == at + 1 { "forged" } else { "numbered" };
            forged.push(line(sequence as u64, previous, kind, &json!({ "number": sequence })));
            previous = Digest::of(&forged[sequence - 1]);
        }
        forged
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(record in 0_usize..20, byte in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut lines = log(20);
            let signed = heads(&lines, &[20]);
            let byte = byte.index(lines[record].len());
            lines[record][byte] ^= 1 << bit;
            prop_assert!(verify(1, &lines, signed).is_err());
        }

        #[test]
        fn a_removed_record_is_found(record in 0_usize..20) {
            let mut lines = log(20);
            let signed = heads(&lines, &[20]);
            lines.remove(record);
            prop_assert!(verify(1, &lines, signed).is_err());
        }

        #[test]
        fn two_swapped_records_are_found(one in 0_usize..20, other in 0_usize..20) {
            prop_assume!(one != other);
            let mut lines = log(20);
            let signed = heads(&lines, &[20]);
            lines.swap(one, other);
            prop_assert!(verify(1, &lines, signed).is_err());
        }

        #[test]
        fn a_cut_tail_is_found(kept in 1_usize..20) {
            let lines = log(20);
            let cut = verify(1, &lines[..kept], heads(&lines, &[3, 20]));
            prop_assert_eq!(cut, Err(Fault::Cut { last: kept as u64, signed: 20 }));
        }

        #[test]
        fn a_rewritten_history_is_found_by_any_later_head(record in 0_usize..20, signed in 1_u64..=20) {
            let lines = log(20);
            let result = verify(1, &forge(&lines, record), heads(&lines, &[signed]));
            prop_assert_eq!(result.is_err(), record < usize::try_from(signed).unwrap());
        }
    }
}
