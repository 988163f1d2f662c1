//! One point of the list, and how it is spelled: `gemm,1,4096,4096,bf16` or `["gemm", 1, 4096, 4096, "bf16"]`.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use crate::hardware::collector::target::Limits;
use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::units::DType;

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// A copy on the device that moves so many bytes in all, for the elementwise rule.
    Copy {
        /// Bytes read and written.
        bytes: u64,
    },
    /// A norm over bf16 values, for the elementwise rule.
    Norm {
        /// Rows.
        tokens: u64,
        /// Values of each.
        hidden: u64,
    },
    /// A call of a family with a table.
    Call(KernelCall),
    /// The sum of a buffer over however many devices the program is started on.
    AllReduce {
        /// Bytes of the buffer.
        bytes: u64,
    },
}

/// What is wrong with a point that was typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// Neither a list of points in JSON nor CSV.
    #[error("{place}: not a list of points: {reason}")]
    Syntax {
        /// File.
        place: String,
        /// What the reader said.
        reason: String,
    },
    /// No family, or another number of sizes.
    #[error("{place}: `{found}` is no point: expected {}", FORMS.join(" or "))]
    Form {
        /// File and number of the point.
        place: String,
        /// The point.
        found: String,
    },
    /// A size that is no whole number above zero, or no element type.
    #[error("{place}: `{found}` is not {expected}")]
    Cell {
        /// File and number of the point.
        place: String,
        /// The cell.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// KV heads that do not divide the query heads.
    #[error(
        "{place}: {kv_heads} KV heads do not divide {q_heads} query heads: give a multiple of {kv_heads}"
    )]
    Heads {
        /// File and number of the point.
        place: String,
        /// Query heads.
        q_heads: u64,
        /// KV heads.
        kv_heads: u64,
    },
    /// The list is empty.
    #[error("{place}: there is no point in it: give one at least")]
    Empty {
        /// File.
        place: String,
    },
}

const FORMS: [&str; 6] = [
    "gemm,M,N,K,DTYPE",
    "attention_prefill,BATCH,SEQ_LEN,Q_HEADS,KV_HEADS,HEAD_DIM,DTYPE",
    "attention_decode,BATCH,KV_LEN,Q_HEADS,KV_HEADS,HEAD_DIM,DTYPE",
    "all_reduce,BYTES",
    "copy,BYTES",
    "norm,TOKENS,HIDDEN",
];

/// No dimension and no buffer is larger.
const LARGEST: u64 = 1 << 44;

impl Point {
    /// The point as a list: family, sizes, element type.
    pub fn to_json(self) -> Value {
        match self {
            Point::Copy { bytes } => json!(["copy", bytes]),
            Point::Norm { tokens, hidden } => json!(["norm", tokens, hidden]),
            Point::AllReduce { bytes } => json!(["all_reduce", bytes]),
            Point::Call(call) => {
                let family = call.family().name();
                match call {
                    KernelCall::Gemm { m, n, k, dtype } => json!([family, m, n, k, dtype]),
                    KernelCall::AttentionPrefill {
                        batch,
                        seq_len: length,
                        q_heads,
                        kv_heads,
                        head_dim,
                        dtype,
                    }
                    | KernelCall::AttentionDecode {
                        batch,
                        kv_len: length,
                        q_heads,
                        kv_heads,
                        head_dim,
                        dtype,
                    } => {
                        json!([family, batch, length, q_heads, kv_heads, head_dim, dtype])
                    }
                    KernelCall::AllReduce { bytes, .. } | KernelCall::Elementwise { bytes, .. } => {
                        json!([family, bytes])
                    }
                }
            }
        }
    }

    /// Operations and bytes of the call.
    pub fn work(self) -> (f64, f64) {
        match self {
            Point::Copy { bytes } | Point::AllReduce { bytes } => (0.0, bytes as f64),
            Point::Norm { tokens, hidden } => (0.0, 4.0 * tokens as f64 * hidden as f64),
            Point::Call(call) => (call.flops().0, call.bytes().0),
        }
    }

    /// Whether the point keeps within limits.
    pub fn is_within(self, limits: &Limits) -> bool {
        let (flops, bytes) = self.work();
        let tokens = match self {
            Point::Call(KernelCall::AttentionPrefill { batch, seq_len, .. }) => batch * seq_len,
            _ => 0,
        };
        flops <= limits.flops && bytes <= limits.bytes && tokens <= limits.tokens
    }

    fn of_cells(cells: &[String], place: &str) -> Result<Self, PointError> {
        let form = || PointError::Form { place: place.to_string(), found: cells.join(",") };
        let size = |i: usize| {
            let cell = cells.get(i).ok_or_else(form)?;
            let expected = "a whole number from 1 to 2^44";
            let wrong = || PointError::Cell { place: place.to_string(), found: cell.clone(), expected };
            cell.parse().ok().filter(|n| (1..=LARGEST).contains(n)).ok_or_else(wrong)
        };
        let dtype = |i: usize| {
            let cell = cells.get(i).ok_or_else(form)?;
            let expected = "an element type: f32, bf16, fp8 or int8";
            let wrong = || PointError::Cell { place: place.to_string(), found: cell.clone(), expected };
            DType::ALL.into_iter().find(|dtype| dtype.name() == cell).ok_or_else(wrong)
        };
        let family = cells.first().map(String::as_str).unwrap_or_default();
        let point = match (family, cells.len()) {
            ("copy", 2) => Point::Copy { bytes: size(1)? },
            ("norm", 3) => Point::Norm { tokens: size(1)?, hidden: size(2)? },
            ("all_reduce", 2) => Point::AllReduce { bytes: size(1)? },
            ("gemm", 5) => {
                Point::Call(KernelCall::Gemm { m: size(1)?, n: size(2)?, k: size(3)?, dtype: dtype(4)? })
            }
            ("attention_prefill" | "attention_decode", 7) => {
                let (batch, length, q_heads, kv_heads) = (size(1)?, size(2)?, size(3)?, size(4)?);
                let (head_dim, dtype) = (size(5)?, dtype(6)?);
                if !q_heads.is_multiple_of(kv_heads) {
                    return Err(PointError::Heads { place: place.to_string(), q_heads, kv_heads });
                }
                Point::Call(if family == KernelFamily::AttentionPrefill.name() {
                    KernelCall::AttentionPrefill {
                        batch,
                        seq_len: length,
                        q_heads,
                        kv_heads,
                        head_dim,
                        dtype,
                    }
                } else {
                    KernelCall::AttentionDecode { batch, kv_len: length, q_heads, kv_heads, head_dim, dtype }
                })
            }
            _ => return Err(form()),
        };
        Ok(point)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cells(&self.to_json()).join(","))
    }
}

fn cells(value: &Value) -> Vec<String> {
    let cell = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_string);
    value.as_array().map(|list| list.iter().map(cell).collect()).unwrap_or_default()
}

/// Reads a list of points: JSON (a list of lists) or CSV (a point a line, no header). `place` names it in errors.
/// Points that come twice are kept once, where they stand first.
///
/// # Errors
/// The first point that is none.
pub fn read(text: &str, place: &str) -> Result<Vec<Point>, PointError> {
    let syntax = |reason: String| PointError::Syntax { place: place.to_string(), reason };
    let text = text.trim_start_matches('\u{feff}');
    let rows: Vec<Vec<String>> = if text.trim_start().starts_with('[') {
        let list: Vec<Value> = serde_json::from_str(text).map_err(|e| syntax(e.to_string()))?;
        list.iter().map(cells).collect()
    } else {
        let mut reader = csv::ReaderBuilder::new();
        let reader = reader.has_headers(false).flexible(true).trim(csv::Trim::All);
        let records = reader.from_reader(text.as_bytes()).into_records();
        records
            .map(|record| record.map(|record| record.iter().map(str::to_string).collect()))
            .collect::<Result<_, _>>()
            .map_err(|e: csv::Error| syntax(e.to_string()))?
    };
    let mut points = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, row) in rows.iter().enumerate() {
        let point = Point::of_cells(row, &format!("{place}, point {}", i + 1))?;
        if seen.insert(point) {
            points.push(point);
        }
    }
    if points.is_empty() { Err(PointError::Empty { place: place.to_string() }) } else { Ok(points) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_say_the_same() {
        let csv = "gemm,1,4096,4096,bf16\nattention_decode,8,1024,32,8,128,bf16\ncopy, 4096\ncopy,4096\n";
        let read_csv = read(csv, "p.csv").unwrap();
        assert_eq!(read_csv.len(), 3, "the copy comes twice");
        let json: Vec<Value> = read_csv.iter().map(|point| point.to_json()).collect();
        assert_eq!(read(&serde_json::to_string(&json).unwrap(), "p.json").unwrap(), read_csv);
        assert_eq!(read_csv[1].to_string(), "attention_decode,8,1024,32,8,128,bf16");
    }

    #[test]
    fn says_which_point_is_none() {
        let error = |text: &str| read(text, "p.csv").unwrap_err().to_string();
        assert!(error("copy,8\ngem,1,2,3,bf16").starts_with("p.csv, point 2: `gem,1,2,3,bf16` is no point"));
        assert!(error("gemm,1,2,3").contains("gemm,M,N,K,DTYPE"));
        assert!(error("gemm,1,0,3,bf16").contains("`0` is not a whole number"));
        assert!(error("gemm,1,2.5,3,bf16").contains("`2.5`"));
        assert!(error("gemm,1,2,3,bf8").contains("element type"));
        assert!(error("attention_prefill,1,16,8,3,64,bf16").contains("3 KV heads do not divide 8"));
        assert!(error("[[\"copy\", 8]").contains("not a list of points"));
        assert!(error("").contains("no point in it"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = read(&text, "p");
        }
    }
}
