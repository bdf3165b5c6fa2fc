//! "Did you mean": the nearest of some known words.

/// The most words that are compared; a name is looked up far quicker than its like.
const MAX_KNOWN: usize = 5000;

/// The word among `known`, the first [`MAX_KNOWN`] of them, that `word` is most likely a slip of, if any is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One slip in short words, a third of the letters in longer ones.
    let most = (word.chars().count() / 3).max(1);
    let lower = word.to_lowercase();
    known
        .into_iter()
        .take(MAX_KNOWN)
        .filter(|candidate| *candidate != word)
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(slips, candidate)| *slips <= most && *slips < candidate.chars().count().max(lower.chars().count()))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "…"?`, or nothing.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!("; did you mean {near:?}?"))
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other
/// (optimal string alignment distance).
fn distance(from: &str, to: &str) -> usize {
    // Names in files are bounded, but this one may not be: far apart is far apart.
    const MAX_WORD_LEN: usize = 100;
    let (a, b): (Vec<char>, Vec<char>) = (from.chars().take(MAX_WORD_LEN).collect(), to.chars().take(MAX_WORD_LEN).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word() {
        let known = ["interval", "timeout", "host", "fall", "fast", "rise", "A", "AAAA", "fra"];
        for (word, expected) in [
            ("intervall", Some("interval")),
            ("tiemout", Some("timeout")),
            ("hots", Some("host")),
            ("Interval", Some("interval")),
            ("far", Some("fra")),
            ("colour", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
