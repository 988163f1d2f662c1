//! Reads the keys of one TOML section, noting every defect with its place.
//!
//! `serde` would stop at the first defect and tell an unknown key from a wrong type only in prose;
//! a profile's author wants all of them at once, each as its own variant.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::error::{Lines, Place, ProfileError};
use crate::names;

/// What a number must be.
#[derive(Clone, Copy)]
pub(super) enum Limits {
    /// Above zero and finite.
    Positive,
    /// Above zero, at most one.
    Share,
    /// One or more, finite.
    Factor,
}

impl Limits {
    fn hold(self, x: f64) -> bool {
        x.is_finite()
            && match self {
                Limits::Positive => x > 0.0,
                Limits::Share => x > 0.0 && x <= 1.0,
                Limits::Factor => x >= 1.0,
            }
    }

    fn expected(self) -> &'static str {
        match self {
            Limits::Positive => "a finite number above zero",
            Limits::Share => "a number above 0 and at most 1",
            Limits::Factor => "a finite number of at least 1",
        }
    }
}

const WHOLE: &str = "a whole number above zero";

/// Defects of one manifest, as they are found.
pub(super) struct Findings<'a> {
    file: &'a str,
    lines: Lines<'a>,
    pub(super) errors: Vec<ProfileError>,
}

impl<'a> Findings<'a> {
    pub(super) fn of(file: &'a str, text: &'a str) -> Self {
        Self { file, lines: Lines::of(text.as_bytes()), errors: Vec::new() }
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        self.lines.place(self.file, span.start)
    }

    pub(super) fn note(&mut self, span: &Range<usize>, defect: Defect) {
        self.errors.push(ProfileError::at(self.place(span), defect));
    }
}

/// One table of the manifest, being read. Every getter notes what is wrong and returns `None` then.
pub(super) struct Section<'t> {
    name: String,
    span: Range<usize>,
    table: &'t DeTable<'t>,
    known: Vec<&'static str>,
    /// Keys that must be there and are not, with what was expected.
    missing: Vec<(&'static str, &'static str)>,
}

/// A list of texts with its own place and that of each.
pub(super) struct Texts<'t> {
    pub(super) span: Range<usize>,
    pub(super) items: Vec<(&'t str, Range<usize>)>,
}

type Value<'t> = &'t Spanned<DeValue<'t>>;

impl<'t> Section<'t> {
    pub(super) fn new(name: impl Into<String>, span: Range<usize>, table: &'t DeTable<'t>) -> Self {
        Self { name: name.into(), span, table, known: Vec::new(), missing: Vec::new() }
    }

    pub(super) fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// Keys and values in the order of the file.
    pub(super) fn entries(&self) -> Vec<(&'t str, Range<usize>, Value<'t>)> {
        let mut all: Vec<_> =
            self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value)).collect();
        all.sort_by_key(|(_, span, _)| span.start);
        all
    }

    /// The value of a key that may be left out.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.known.push(key);
        self.table.iter().find(|(k, _)| k.get_ref() == key).map(|(_, value)| value)
    }

    /// The value of a key that must be there; [`Self::close`] notes its absence.
    fn required(&mut self, key: &'static str, expected: &'static str) -> Option<Value<'t>> {
        let value = self.optional(key);
        if value.is_none() {
            self.missing.push((key, expected));
        }
        value
    }

    pub(super) fn section(&mut self, key: &'static str, out: &mut Findings<'_>) -> Option<Section<'t>> {
        let value = self.required(key, "a section")?;
        as_section(&format!("[{key}]"), key, value, out)
    }

    pub(super) fn text(&mut self, key: &'static str, out: &mut Findings<'_>) -> Option<String> {
        let value = self.required(key, "text in quotes")?;
        as_text(key, value, out).map(str::to_string)
    }

    pub(super) fn optional_text(&mut self, key: &'static str, out: &mut Findings<'_>) -> Option<String> {
        let value = self.optional(key)?;
        as_text(key, value, out).map(str::to_string)
    }

    pub(super) fn date(&mut self, key: &'static str, out: &mut Findings<'_>) -> Option<String> {
        let expected = "a date without quotes, such as 2026-08-21";
        let value = self.required(key, expected)?;
        match value.get_ref().as_datetime() {
            Some(day) if day.date.is_some() && day.time.is_none() => Some(day.to_string()),
            _ => {
                out.note(&value.span(), wrong_type(key, value, expected));
                None
            }
        }
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        limits: Limits,
        out: &mut Findings<'_>,
    ) -> Option<f64> {
        let value = self.required(key, limits.expected())?;
        as_number(key, value, limits, out)
    }

    pub(super) fn optional_number(
        &mut self,
        key: &'static str,
        limits: Limits,
        out: &mut Findings<'_>,
    ) -> Option<f64> {
        let value = self.optional(key)?;
        as_number(key, value, limits, out)
    }

    pub(super) fn count(&mut self, key: &'static str, out: &mut Findings<'_>) -> Option<u64> {
        let value = self.required(key, WHOLE)?;
        as_count(key, value, out)
    }

    pub(super) fn optional_count(&mut self, key: &'static str, out: &mut Findings<'_>) -> Option<u64> {
        let value = self.optional(key)?;
        as_count(key, value, out)
    }

    /// A list of texts that is not empty.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        expected: &'static str,
        out: &mut Findings<'_>,
    ) -> Option<Texts<'t>> {
        let value = self.required(key, expected)?;
        let Some(list) = value.get_ref().as_array() else {
            out.note(&value.span(), wrong_type(key, value, expected));
            return None;
        };
        if list.is_empty() {
            out.note(&value.span(), Defect::EmptyList { key: key.to_string(), expected });
            return None;
        }
        let texts = list.iter().map(|item| as_text(key, item, out).map(|text| (text, item.span())));
        // All are read before any is missed, so that every bad one is noted.
        let texts: Vec<_> = texts.collect();
        Some(Texts { span: value.span(), items: texts.into_iter().collect::<Option<_>>()? })
    }

    /// Notes keys that nobody asked for and keys that were asked for in vain; one of each that differ in their unit
    /// only are one defect.
    pub(super) fn close(mut self, out: &mut Findings<'_>) {
        for (key, span, _) in self.entries() {
            if self.known.contains(&key) {
                continue;
            }
            let found = key.to_string();
            let defect = match self.meant_by(key) {
                Some(expected) => Defect::KeyUnit { found, expected: expected.to_string() },
                None => {
                    let closest = names::closest(key, self.known.iter().copied()).map(str::to_string);
                    Defect::UnknownKey { key: found, section: self.name.clone(), closest }
                }
            };
            out.note(&span, defect);
        }
        for (key, expected) in std::mem::take(&mut self.missing) {
            let section = self.name.clone();
            out.note(&self.span, Defect::MissingKey { key: key.to_string(), section, expected });
        }
    }

    /// The absent key that `found` gives in another unit; it is no longer missing then.
    fn meant_by(&mut self, found: &str) -> Option<&'static str> {
        let present = |key: &str| self.table.keys().any(|k| k.get_ref() == key);
        let alike = |key: &&'static str| same_but_for_unit(found, key);
        let missing = self.missing.iter().position(|(key, _)| alike(key));
        match missing {
            Some(i) => Some(self.missing.remove(i).0),
            None => self.known.iter().copied().filter(|key| !present(key)).find(alike),
        }
    }
}

pub(super) fn as_section<'t>(
    name: &str,
    key: &str,
    value: Value<'t>,
    out: &mut Findings<'_>,
) -> Option<Section<'t>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        out.note(&value.span(), wrong_type(key, value, "a section"));
    }
    Some(Section::new(name, value.span(), table?))
}

pub(super) fn as_text<'t>(key: &str, value: Value<'t>, out: &mut Findings<'_>) -> Option<&'t str> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        out.note(&value.span(), wrong_type(key, value, "text in quotes"));
    }
    text
}

pub(super) fn as_number(key: &str, value: Value<'_>, limits: Limits, out: &mut Findings<'_>) -> Option<f64> {
    let written = match value.get_ref() {
        DeValue::Integer(n) if n.radix() == 10 => n.as_str(),
        DeValue::Float(x) => x.as_str(),
        _ => {
            out.note(&value.span(), wrong_type(key, value, limits.expected()));
            return None;
        }
    };
    let number = written.parse().ok().filter(|x| limits.hold(*x));
    if number.is_none() {
        out.note(&value.span(), out_of_range(key, written, limits.expected()));
    }
    number
}

fn as_count(key: &str, value: Value<'_>, out: &mut Findings<'_>) -> Option<u64> {
    let Some(written) = value.get_ref().as_integer() else {
        out.note(&value.span(), wrong_type(key, value, WHOLE));
        return None;
    };
    let count = u64::from_str_radix(written.as_str(), written.radix()).ok().filter(|n| *n > 0);
    if count.is_none() {
        out.note(&value.span(), out_of_range(key, written.as_str(), WHOLE));
    }
    count
}

fn wrong_type(key: &str, value: Value<'_>, expected: &'static str) -> Defect {
    Defect::WrongType { key: key.to_string(), found: value.get_ref().type_str(), expected }
}

fn out_of_range(key: &str, found: &str, expected: &'static str) -> Defect {
    Defect::OutOfRange { key: key.to_string(), found: found.to_string(), expected }
}

/// Unit suffixes people write, ours among them.
const UNITS: [&str; 26] = [
    "ns", "us", "ms", "s", "sec", "b", "bytes", "kb", "kib", "mb", "mib", "gb", "gib", "tb", "tib", "gbps",
    "gibps", "tbps", "mbps", "gbitps", "flops", "gflops", "tflops", "pflops", "tops", "gops",
];

/// `hbm_gb` and `hbm_gib`; also `hbm`, which leaves its unit out.
pub(super) fn same_but_for_unit(found: &str, expected: &str) -> bool {
    let split = |name: &str| {
        let (stem, unit) = name.rsplit_once('_')?;
        UNITS.contains(&unit.to_lowercase().as_str()).then(|| stem.to_lowercase())
    };
    match split(expected) {
        Some(stem) => {
            found != expected && (split(found).as_ref() == Some(&stem) || found.to_lowercase() == stem)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_wrong_unit_from_another_key() {
        assert!(same_but_for_unit("hbm_gb", "hbm_gib"));
        assert!(same_but_for_unit("latency_ms", "latency_us"));
        assert!(same_but_for_unit("latency", "latency_us"));
        assert!(same_but_for_unit("peak_pflops", "peak_tflops"));
        assert!(!same_but_for_unit("hbm_gib", "hbm_gib"));
        assert!(!same_but_for_unit("l2_mib", "hbm_gib"));
        assert!(!same_but_for_unit("tile_s", "tile_m"));
        assert!(!same_but_for_unit("kv_len", "latency_us"));
    }
}
