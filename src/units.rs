//! Physical units: seconds, bytes, FLOPs, rates and element types.
//!
//! The only place that converts between units, reads what a person typed
//! (`20ms`, `40GiB`, `2500tok/s`) or formats a quantity for a person.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl $name {
            /// Zero of this quantity.
            pub const ZERO: Self = Self(0.0);
            /// The larger of two.
            pub fn max(self, other: Self) -> Self { Self(self.0.max(other.0)) }
            /// The smaller of two.
            pub fn min(self, other: Self) -> Self { Self(self.0.min(other.0)) }
        }
        impl Add for $name { type Output = Self; fn add(self, o: Self) -> Self { Self(self.0 + o.0) } }
        impl Sub for $name { type Output = Self; fn sub(self, o: Self) -> Self { Self(self.0 - o.0) } }
        impl AddAssign for $name { fn add_assign(&mut self, o: Self) { self.0 += o.0 } }
        impl Mul<f64> for $name { type Output = Self; fn mul(self, o: f64) -> Self { Self(self.0 * o) } }
        impl Div<f64> for $name { type Output = Self; fn div(self, o: f64) -> Self { Self(self.0 / o) } }
        impl Div for $name { type Output = f64; fn div(self, o: Self) -> f64 { self.0 / o.0 } }
        impl Sum for $name { fn sum<I: Iterator<Item = Self>>(it: I) -> Self { Self(it.map(|x| x.0).sum()) } }
    };
}

quantity!(
    /// A duration in seconds.
    Seconds
);
quantity!(
    /// A number of bytes (fractional: sub-byte element types and averages occur).
    Bytes
);
quantity!(
    /// A number of floating-point (or integer) operations; one multiply-add is two.
    Flops
);
quantity!(
    /// A rate in bytes per second.
    BytesPerSecond
);
quantity!(
    /// A rate in operations per second.
    FlopsPerSecond
);

impl Seconds {
    /// From microseconds.
    pub fn from_us(us: f64) -> Self {
        Self(us * 1e-6)
    }
    /// From milliseconds.
    pub fn from_ms(ms: f64) -> Self {
        Self(ms * 1e-3)
    }
    /// In microseconds.
    pub fn us(self) -> f64 {
        self.0 * 1e6
    }
    /// In milliseconds.
    pub fn ms(self) -> f64 {
        self.0 * 1e3
    }
}

/// Bytes in one GiB.
pub const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

impl Bytes {
    /// From MiB.
    pub fn from_mib(mib: f64) -> Self {
        Self(mib * 1024.0 * 1024.0)
    }
    /// In MiB.
    pub fn mib(self) -> f64 {
        self.0 / 1024.0 / 1024.0
    }
    /// From GiB.
    pub fn from_gib(gib: f64) -> Self {
        Self(gib * GIB)
    }
    /// In GiB.
    pub fn gib(self) -> f64 {
        self.0 / GIB
    }
}

impl BytesPerSecond {
    /// From GB/s (10^9 bytes per second).
    pub fn from_gbps(gbps: f64) -> Self {
        Self(gbps * 1e9)
    }
    /// In GB/s (10^9 bytes per second).
    pub fn gbps(self) -> f64 {
        self.0 / 1e9
    }
}

impl FlopsPerSecond {
    /// From TFLOPS (10^12 operations per second).
    pub fn from_tflops(tflops: f64) -> Self {
        Self(tflops * 1e12)
    }
    /// In TFLOPS (10^12 operations per second).
    pub fn tflops(self) -> f64 {
        self.0 / 1e12
    }
}

impl Div<BytesPerSecond> for Bytes {
    type Output = Seconds;
    fn div(self, rate: BytesPerSecond) -> Seconds {
        Seconds(self.0 / rate.0)
    }
}

impl Div<FlopsPerSecond> for Flops {
    type Output = Seconds;
    fn div(self, rate: FlopsPerSecond) -> Seconds {
        Seconds(self.0 / rate.0)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        match s.abs() {
            0.0 => write!(f, "0 s"),
            a if a < 1e-6 => write!(f, "{} ns", three_digits(s * 1e9)),
            a if a < 1e-3 => write!(f, "{} µs", three_digits(s * 1e6)),
            a if a < 1.0 => write!(f, "{} ms", three_digits(s * 1e3)),
            _ => write!(f, "{} s", three_digits(s)),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0;
        match b.abs() {
            a if a < 1024.0 => write!(f, "{b:.0} B"),
            a if a < 1024.0 * 1024.0 => write!(f, "{} KiB", three_digits(b / 1024.0)),
            a if a < GIB => write!(f, "{} MiB", three_digits(b / 1024.0 / 1024.0)),
            _ => write!(f, "{} GiB", three_digits(b / GIB)),
        }
    }
}

/// `x` with three significant digits at least, and no needless decimals.
pub fn three_digits(x: f64) -> String {
    match x.abs() {
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}

/// `8030261248` as `8.03B`, for parameter counts.
pub fn format_count(n: f64) -> String {
    match n.abs() {
        a if a >= 999.5e6 => format!("{}B", three_digits(n / 1e9)),
        a if a >= 999.5e3 => format!("{}M", three_digits(n / 1e6)),
        a if a >= 1e3 => format!("{}K", three_digits(n / 1e3)),
        _ => format!("{n:.0}"),
    }
}

/// Between groups of digits in pictures: a narrow space that does not break.
pub const THIN_SPACE: char = '\u{202f}';

/// `5242880` as `5,242,880` where the separator is a comma, for counts of things.
pub fn group_digits(n: u64, separator: char) -> String {
    let digits = n.to_string();
    let lead = digits.len() % 3;
    let groups = digits.as_bytes().iter().enumerate();
    groups.fold(String::new(), |mut out, (i, &digit)| {
        if i > 0 && i % 3 == lead {
            out.push(separator);
        }
        out.push(char::from(digit));
        out
    })
}

/// `2585.4` as `2585 tok/s`.
pub fn format_tokens_per_second(rate: f64) -> String {
    format!("{} tok/s", three_digits(rate))
}

/// Element type of an operand, of the weights or of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// bfloat16; IEEE half precision is read as this (same cost).
    Bf16,
    /// 8-bit float (E4M3), per-tensor scales.
    Fp8,
    /// 8-bit integer, W8A8 with dynamic activation quantisation.
    Int8,
}

impl DType {
    /// Every type, in the order they are listed to people.
    pub const ALL: [DType; 4] = [DType::F32, DType::Bf16, DType::Fp8, DType::Int8];

    /// Size of one element.
    pub fn bytes(self) -> f64 {
        match self {
            DType::F32 => 4.0,
            DType::Bf16 => 2.0,
            DType::Fp8 | DType::Int8 => 1.0,
        }
    }

    /// Name as it stands in data files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::Fp8 => "fp8",
            DType::Int8 => "int8",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What was typed is not a quantity of the kind asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{found}` is not {expected}")]
pub struct UnitError {
    /// What was typed.
    pub found: String,
    /// What would have been understood, with an example.
    pub expected: &'static str,
}

impl FromStr for DType {
    type Err = UnitError;
    fn from_str(s: &str) -> Result<Self, UnitError> {
        match s.to_ascii_lowercase().as_str() {
            "f32" | "fp32" | "float32" => Ok(DType::F32),
            "bf16" | "bfloat16" | "f16" | "fp16" | "float16" => Ok(DType::Bf16),
            "fp8" | "float8" | "e4m3" => Ok(DType::Fp8),
            "int8" | "w8a8" => Ok(DType::Int8),
            _ => {
                Err(UnitError { found: s.to_string(), expected: "an element type (f32, bf16, fp8 or int8)" })
            }
        }
    }
}

fn number_and_unit(s: &str) -> Option<(f64, &str)> {
    let s = s.trim();
    let end = s
        .char_indices()
        .find(|&(i, c)| {
            let exponent = matches!(c, 'e' | 'E')
                && s[i + 1..].starts_with(|d: char| d.is_ascii_digit() || d == '-' || d == '+');
            let sign = matches!(c, '-' | '+') && (i == 0 || s[..i].ends_with(['e', 'E']));
            !(c.is_ascii_digit() || c == '.' || c == '_' || exponent || sign)
        })
        .map_or(s.len(), |(i, _)| i);
    let value: f64 = s[..end].replace('_', "").parse().ok()?;
    value.is_finite().then(|| (value, s[end..].trim()))
}

/// Nothing anybody means lies outside, and what lies inside stays finite in every unit.
const TYPED: std::ops::RangeInclusive<f64> = 1e-9..=1e18;

fn positive(s: &str, expected: &'static str, unit: impl Fn(&str) -> Option<f64>) -> Result<f64, UnitError> {
    let wrong = |expected| UnitError { found: s.to_string(), expected };
    let typed = number_and_unit(s).and_then(|(x, u)| unit(u).map(|scale| x * scale));
    let value = typed.filter(|x| *x > 0.0).ok_or_else(|| wrong(expected))?;
    match TYPED.contains(&value) {
        true => Ok(value),
        false => Err(wrong("between 1e-9 and 1e18 in its base unit (s, B, tok/s, 1)")),
    }
}

/// Reads a duration with its unit: `20ms`, `350us`, `1.5s`, `2min`, `1h`.
pub fn parse_duration(s: &str) -> Result<Seconds, UnitError> {
    positive(s, "a positive duration with its unit, such as 20ms, 350us, 1.5s, 2min or 1h", |u| match u {
        "ns" => Some(1e-9),
        "us" | "µs" | "μs" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" | "sec" => Some(1.0),
        "m" | "min" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    })
    .map(Seconds)
}

/// Reads a memory size with its unit: `40GiB`, `80GB`, `512MiB`.
pub fn parse_bytes(s: &str) -> Result<Bytes, UnitError> {
    positive(s, "a positive size with its unit, such as 40GiB, 80GB or 512MiB", |u| {
        match u.to_ascii_lowercase().as_str() {
            "b" => Some(1.0),
            "kb" => Some(1e3),
            "mb" => Some(1e6),
            "gb" => Some(1e9),
            "tb" => Some(1e12),
            "kib" => Some(1024.0),
            "mib" => Some(1024.0 * 1024.0),
            "gib" => Some(GIB),
            "tib" => Some(GIB * 1024.0),
            _ => None,
        }
    })
    .map(Bytes)
}

/// Reads a count with an optional suffix: `6B`, `500M`, `8030261248`.
pub fn parse_count(s: &str) -> Result<f64, UnitError> {
    positive(s, "a positive count, such as 6B, 500M or 8030261248", |u| match u {
        "" => Some(1.0),
        "k" | "K" => Some(1e3),
        "m" | "M" => Some(1e6),
        "b" | "B" | "g" | "G" => Some(1e9),
        "t" | "T" => Some(1e12),
        _ => None,
    })
}

/// Reads a throughput in tokens per second: `2500tok/s`, `2.5ktok/s`.
pub fn parse_tokens_per_second(s: &str) -> Result<f64, UnitError> {
    positive(s, "a positive throughput with its unit, such as 2500tok/s", |u| match u {
        "tok/s" | "tokens/s" | "tps" => Some(1.0),
        "ktok/s" => Some(1e3),
        _ => None,
    })
}

/// Reads a ratio: `1.3x` or `1.3`.
pub fn parse_ratio(s: &str) -> Result<f64, UnitError> {
    positive(s, "a positive ratio, such as 1.3x", |u| matches!(u, "" | "x" | "×").then_some(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        assert_eq!(parse_duration("20ms").unwrap(), Seconds(0.02));
        assert!((parse_duration("1e2 us").unwrap().us() - 100.0).abs() < 1e-9);
        assert_eq!(parse_bytes("40GiB").unwrap().gib(), 40.0);
        assert_eq!(parse_bytes("80GB").unwrap(), Bytes(80e9));
        assert_eq!(parse_count("6B").unwrap(), 6e9);
        assert_eq!(parse_count("8_030_261_248").unwrap(), 8030261248.0);
        assert_eq!(parse_tokens_per_second("2500tok/s").unwrap(), 2500.0);
        assert_eq!(parse_ratio("1.3x").unwrap(), 1.3);
    }

    #[test]
    fn groups_digits_from_the_right() {
        let shown = [0, 12, 999, 1000, 123456, 2124584].map(|n| group_digits(n, ','));
        assert_eq!(shown, ["0", "12", "999", "1,000", "123,456", "2,124,584"]);
        assert_eq!(group_digits(5242880, THIN_SPACE), "5\u{202f}242\u{202f}880");
    }

    #[test]
    fn refuses_numbers_without_their_unit_and_worse() {
        for bad in ["20", "ms", "", "-3ms", "0ms", "nanms", "infs", "1e999s", "20 parsecs", "é", "1.2.3s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for bad in ["1e-10s", "1e19s", "1e308s"] {
            assert!(parse_duration(bad).unwrap_err().to_string().contains("between"), "{bad}");
        }
        assert!(parse_bytes("40").is_err());
        assert!(parse_tokens_per_second("2500").is_err());
        assert!(parse_ratio("0x").is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(s in "\\PC*") {
            let _ = (parse_duration(&s), parse_bytes(&s), parse_count(&s), parse_ratio(&s), s.parse::<DType>());
        }
    }
}
