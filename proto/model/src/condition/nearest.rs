//! "Did you mean": the nearest of the names that exist.

/// What an error says after a name that is not known: the nearest one, when it is near, or all when there are few.
pub(crate) fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let near = known.iter().map(|name| (distance(wrong, name), *name)).min();
    match near {
        None => "there are none".to_owned(),
        Some((distance, name)) if distance <= 1 + wrong.chars().count() / 3 => format!("did you mean {name}?"),
        Some(_) => format!("there are {}", known.join(", ")),
    }
}

/// Characters to insert, delete or replace to make one text of the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        assert_eq!(suggestion("failurs", ["ok", "failures", "successes"]), "did you mean failures?");
        assert_eq!(suggestion("kaboom", ["ok", "error"]), "there are error, ok");
        assert_eq!(suggestion("x", []), "there are none");
    }

    #[test]
    fn distance_counts_edits() {
        for (left, right, edits) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("dns1", "dns2", 1)] {
            assert_eq!(distance(left, right), edits, "{left} {right}");
            assert_eq!(distance(right, left), edits, "{right} {left}");
        }
    }
}
