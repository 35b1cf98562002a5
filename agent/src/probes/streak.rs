//! From attempts to samples: `ok`, `failures` and `successes` in a row, and `error`, the same way for every kind.

use quell_model::value::Fields;

use super::Attempt;

/// Longest `error` that is sent, in bytes.
const ERROR_BYTES: usize = 512;

/// Attempts in a row with the same result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streak {
    failures: u32,
    successes: u32,
}

impl Streak {
    /// Counts an attempt and gives its sample's fields. An attempt that was not judged breaks no streak and is no
    /// evidence: its sample has an `error`, and no `ok`.
    pub fn count(&mut self, attempt: Attempt) -> Fields {
        let (result, mut fields) = match attempt {
            Attempt::Judged { result, fields } => (result, fields),
            Attempt::Unjudged { reason, mut fields } => {
                fields.insert("error".to_owned(), shortened(&reason).into());
                return fields;
            }
        };
        if result.is_ok() {
            *self = Self { failures: 0, successes: self.successes.saturating_add(1) };
        } else {
            *self = Self { failures: self.failures.saturating_add(1), successes: 0 };
        }
        fields.insert("ok".to_owned(), result.is_ok().into());
        fields.insert("failures".to_owned(), f64::from(self.failures).into());
        fields.insert("successes".to_owned(), f64::from(self.successes).into());
        fields.insert("error".to_owned(), shortened(&result.err().unwrap_or_default()).into());
        fields
    }
}

/// At most [`ERROR_BYTES`], cut at a character.
fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(ERROR_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(fields: &Fields) -> (f64, f64) {
        (fields["failures"].number().unwrap(), fields["successes"].number().unwrap())
    }

    #[test]
    fn results_in_a_row_are_counted() {
        let mut streak = Streak::default();
        assert_eq!(numbers(&streak.count(Attempt::good(Fields::new()))), (0.0, 1.0));
        assert_eq!(numbers(&streak.count(Attempt::good(Fields::new()))), (0.0, 2.0));
        let failed = streak.count(Attempt::bad("no route", Fields::new()));
        assert_eq!(numbers(&failed), (1.0, 0.0));
        assert_eq!((&failed["ok"], &failed["error"]), (&false.into(), &"no route".into()));
        assert_eq!(numbers(&streak.count(Attempt::bad("", Fields::new()))), (2.0, 0.0));
        let good = streak.count(Attempt::good(Fields::new()));
        assert_eq!((numbers(&good), &good["error"]), ((0.0, 1.0), &"".into()));
    }

    #[test]
    fn an_attempt_that_was_not_made_is_no_evidence() {
        let mut streak = Streak::default();
        streak.count(Attempt::bad("down", Fields::new()));
        let fields = streak.count(Attempt::not_made("not allowed"));
        assert_eq!(fields, Fields::from([("error".to_owned(), "not allowed".into())]));
        assert_eq!(numbers(&streak.count(Attempt::bad("down", Fields::new()))), (2.0, 0.0));
    }

    #[test]
    fn a_long_error_is_cut_at_a_character() {
        let fields = Streak::default().count(Attempt::bad("ü".repeat(1000), Fields::new()));
        assert_eq!(fields["error"].text().unwrap().len(), ERROR_BYTES);
    }
}
