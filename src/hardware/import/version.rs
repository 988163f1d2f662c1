//! Versions of software, compared by their numbers: `1.10.0` is after `1.9.0`, `1.3.0rc20` after `1.3.0rc9` and
//! before `1.3.0`, `0.5.6.post2` after `0.5.6`.

use std::cmp::Ordering;

/// What decides the order of two versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// `dev`, `a`, `alpha`, `b`, `beta`, `rc` and the number after it: before the release.
    Before(u8, u64),
    /// Nothing more: the release itself.
    End,
    /// Any other word: after the release.
    After(String, u64),
    Number(u64),
}

/// Compares two versions by what they say; equal ones that are spelled differently by their spelling.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

fn parts(version: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = version;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let alike = |c: char| if digits { c.is_ascii_digit() } else { c.is_alphabetic() };
        if !digits && !first.is_alphabetic() {
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        let end = rest.find(|c| !alike(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if digits {
            parts.push(Part::Number(number(word)));
            continue;
        }
        without_zeros(&mut parts);
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (count, after) = rest.split_at(end);
        rest = after;
        parts.push(match word.to_ascii_lowercase().as_str() {
            "dev" => Part::Before(0, number(count)),
            "a" | "alpha" => Part::Before(1, number(count)),
            "b" | "beta" => Part::Before(2, number(count)),
            "rc" => Part::Before(3, number(count)),
            word => Part::After(word.to_string(), number(count)),
        });
    }
    without_zeros(&mut parts);
    parts.push(Part::End);
    parts
}

/// `1.2` and `1.2.0` are one version, and so are their release candidates.
fn without_zeros(parts: &mut Vec<Part>) {
    while parts.last() == Some(&Part::Number(0)) {
        parts.pop();
    }
}

fn number(digits: &str) -> u64 {
    if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) }
}

/// Whether a folder's name reads as a version: it starts with a digit, after a `v` perhaps.
pub(crate) fn is_version(name: &str) -> bool {
    name.strip_prefix('v').unwrap_or(name).starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_by_numbers_and_release_candidates() {
        let ordered = [
            "0.5.6",
            "0.5.6.post2",
            "0.5.10",
            "0.19.0",
            "1.0.0rc3",
            "1.0.0rc6",
            "1.0.0",
            "1.2.0rc5",
            "1.3.0rc9",
            "1.3.0rc20",
            "1.3.0",
            "1.10.0",
            "2021.15.9",
            "2021.17.2",
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(compare("2.27", "2.27.3"), Ordering::Less);
        assert!(is_version("v0.1") && is_version("0.18.0") && !is_version("vllm"));
    }

    proptest::proptest! {
        #[test]
        fn is_an_order(a in "[0-9a-z.é]{0,9}", b in "[0-9a-z.]{0,9}", c in "[0-9rc.]{0,9}") {
            proptest::prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                proptest::prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
