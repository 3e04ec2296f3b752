//! What was probably meant.

/// A sentence to be put behind a message of serde's about an unknown name, which lists those that are known; or nothing.
pub(crate) fn of(message: &str) -> String {
    if !message.starts_with("unknown ") {
        return String::new();
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(written) = names.next() else { return String::new() };
    let nearest = names.map(|name| (distance(written, name), name)).min();
    match nearest {
        // A third of a name may be wrong.
        Some((distance, name)) if distance <= 1.max(name.len() / 3) => format!("\ndid you mean `{name}`?"),
        _ => String::new(),
    }
}

/// How many letters have to be put in, left out, replaced or exchanged with their neighbour to make one name of another.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters() {
        for (a, b, expected) in [
            ("", "", 0),
            ("join", "join", 0),
            ("jion", "join", 1),
            ("joi", "join", 1),
            ("emitt", "emit", 1),
            ("", "abc", 3),
            ("abc", "xyz", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn other_messages_have_no_hint() {
        assert_eq!(of("missing field `match`"), "");
        assert_eq!(of("unknown field `jion`, expected one of `match`, `join`"), "\ndid you mean `join`?");
        assert_eq!(of("unknown field `x`, there are no fields"), "");
    }
}
