//! Did-you-mean: the known name closest to one that is not known.

/// Similarity below which a suggestion would only confuse (Jaro-Winkler, 0 to 1).
const SIMILAR_ENOUGH: f64 = 0.75;

/// The candidate most like `name` (case is ignored), if any is alike enough to be what was meant.
/// Among equals the first wins.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let similarity = strsim::jaro_winkler(&wanted, &candidate.to_lowercase());
        if similarity >= SIMILAR_ENOUGH && best.is_none_or(|(so_far, _)| similarity > so_far) {
            best = Some((similarity, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// `; did you mean `x`?` for the end of an error message, or nothing.
pub fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["h200_sxm", "h100_sxm", "a100_sxm", "ascend_910b"];

    #[test]
    fn finds_the_name_that_was_meant() {
        assert_eq!(closest("h200-sxm", NAMES), Some("h200_sxm"));
        assert_eq!(closest("Ascend910B", NAMES), Some("ascend_910b"));
        assert_eq!(closest("A100", NAMES), Some("a100_sxm"));
    }

    #[test]
    fn suggests_nothing_when_nothing_is_alike() {
        assert_eq!(closest("tpu", NAMES), None);
        assert_eq!(closest("", NAMES), None);
        assert_eq!(closest("h200", []), None);
    }

    #[test]
    fn ends_a_message() {
        assert_eq!(did_you_mean(Some("h200_sxm")), "; did you mean `h200_sxm`?");
        assert_eq!(did_you_mean(None), "");
    }
}
