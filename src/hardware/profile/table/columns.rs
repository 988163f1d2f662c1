//! Columns of each family's table, and one record as a kernel call.

use crate::hardware::kernel::{Backend, KernelCall, KernelFamily};
use crate::hardware::profile::defect::Defect;
use crate::hardware::profile::section;
use crate::hardware::profile::table::{Row, SPREAD};
use crate::units::{DType, Seconds};

const LATENCY: &str = "latency_us";

/// No device runs more tokens, features or heads than this in one call; products of four stay far from
/// where `f64` loses count.
const DIMENSION_LIMIT: u64 = 1 << 30;
/// Repeats that disagree by more than ten times their median are no measurement; in percent.
const SPREAD_LIMIT: f64 = 1000.0;
/// 16 TiB: more than any device holds.
const BYTES_LIMIT: u64 = 1 << 44;

/// Column names of a family's table, in order.
pub(super) fn names(family: KernelFamily) -> &'static [&'static str] {
    match family {
        KernelFamily::Gemm => &["m", "n", "k", "dtype", LATENCY],
        KernelFamily::AttentionPrefill => {
            &["batch", "seq_len", "q_heads", "kv_heads", "head_dim", "dtype", LATENCY]
        }
        KernelFamily::AttentionDecode => {
            &["batch", "kv_len", "q_heads", "kv_heads", "head_dim", "dtype", LATENCY]
        }
        KernelFamily::AllReduce => &["world", "bytes", "backend", LATENCY],
        // Has no table.
        KernelFamily::Elementwise => &[],
    }
}

/// Whether a header has the column of spreads; or what is wrong with it, and at which byte of it.
pub(super) fn check_header(record: &csv::ByteRecord, family: KernelFamily) -> Result<bool, (usize, Defect)> {
    let expected = names(family);
    let found: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
    let same = found.iter().zip(expected.iter().chain([&SPREAD])).all(|(a, b)| a == b);
    if same && (expected.len()..=expected.len() + 1).contains(&found.len()) {
        return Ok(found.len() > expected.len());
    }
    if record.iter().any(|field| std::str::from_utf8(field).is_err()) {
        return Err((0, Defect::NotUtf8));
    }
    let differs = |i: &usize| found.get(*i).map(AsRef::as_ref) != expected.get(*i).copied();
    let i = (0..=expected.len()).find(differs).unwrap_or(0);
    let at = record.range(i).map_or(record.as_slice().len() + i, |range| range.start + i);
    let unit = found.get(i).zip(expected.get(i)).filter(|(a, b)| section::same_but_for_unit(a, b));
    let defect = match unit {
        Some((found, expected)) => Defect::ColumnUnit { found: found.to_string(), expected },
        None => Defect::Header { found: found.join(","), expected: expected.join(",") },
    };
    Err((at, defect))
}

/// One record being read; what is wrong with it is noted with its byte offset.
pub(super) struct Cells<'a> {
    record: &'a csv::ByteRecord,
    family: KernelFamily,
    /// There is a column of spreads.
    spread: bool,
    declared: Option<&'a [DType]>,
    start: usize,
    defects: &'a mut Vec<(usize, Defect)>,
}

impl<'a> Cells<'a> {
    pub(super) fn of(
        record: &'a csv::ByteRecord,
        (family, spread): (KernelFamily, bool),
        declared: Option<&'a [DType]>,
        start: usize,
        defects: &'a mut Vec<(usize, Defect)>,
    ) -> Self {
        Self { record, family, spread, declared, start, defects }
    }

    /// The record as a row, or nothing (and at least one defect noted).
    pub(super) fn row(mut self) -> Option<Row> {
        let columns = names(self.family).len();
        let (found, expected) = (self.record.len(), columns + usize::from(self.spread));
        if found != expected {
            self.defects.push((self.start, Defect::Ragged { found, expected }));
            return None;
        }
        // All cells are read before any is missed, so that every bad one is noted.
        let latency = self.latency(columns.saturating_sub(1));
        let spread = if self.spread { self.spread_at(columns) } else { Some(None) };
        let call = match self.family {
            KernelFamily::Gemm => {
                let (m, n, k, dtype) = (self.count(0), self.count(1), self.count(2), self.dtype(3));
                KernelCall::Gemm { m: m?, n: n?, k: k?, dtype: dtype? }
            }
            KernelFamily::AttentionPrefill => {
                let (batch, seq_len, (q_heads, kv_heads)) = (self.count(0), self.count(1), self.heads());
                let (head_dim, dtype) = (self.count(4)?, self.dtype(5)?);
                let (batch, seq_len, q_heads, kv_heads) = (batch?, seq_len?, q_heads?, kv_heads?);
                KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, dtype }
            }
            KernelFamily::AttentionDecode => {
                let (batch, kv_len, (q_heads, kv_heads)) = (self.count(0), self.count(1), self.heads());
                let (head_dim, dtype) = (self.count(4)?, self.dtype(5)?);
                let (batch, kv_len, q_heads, kv_heads) = (batch?, kv_len?, q_heads?, kv_heads?);
                KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, dtype }
            }
            KernelFamily::AllReduce => {
                let (world, bytes, backend) = (self.world(0), self.whole(1, BYTES_LIMIT), self.backend(2));
                KernelCall::AllReduce { world: world?, bytes: bytes?, backend: backend? }
            }
            KernelFamily::Elementwise => return None,
        };
        Some(Row { call, latency: Seconds::from_us(latency?), spread: spread? })
    }

    fn column(&self, i: usize) -> &'static str {
        names(self.family).get(i).copied().unwrap_or(SPREAD)
    }

    fn cell(&self, i: usize) -> &'a [u8] {
        self.record.get(i).unwrap_or_default()
    }

    fn text(&self, i: usize) -> String {
        String::from_utf8_lossy(self.cell(i)).into_owned()
    }

    /// Notes a defect of cell `i`; bytes that are no text outrank whatever else is wrong with it.
    fn note<T>(&mut self, i: usize, defect: Defect) -> Option<T> {
        let at = self.record.range(i).map_or(0, |range| range.start + i);
        let text = std::str::from_utf8(self.cell(i)).is_ok();
        self.defects.push((self.start + at, if text { defect } else { Defect::NotUtf8 }));
        None
    }

    fn count(&mut self, i: usize) -> Option<u64> {
        self.whole(i, DIMENSION_LIMIT)
    }

    fn whole(&mut self, i: usize, limit: u64) -> Option<u64> {
        let column = self.column(i);
        match digits(self.cell(i)) {
            None => self.note(i, Defect::NotAnInteger { column, found: self.text(i) }),
            Some(0) => self.note(i, Defect::ZeroDimension { column }),
            Some(n) if n > limit => self.note(i, Defect::TooLarge { column, found: self.text(i), limit }),
            found => found,
        }
    }

    fn heads(&mut self) -> (Option<u64>, Option<u64>) {
        let (q, kv) = (self.count(2), self.count(3));
        match (q, kv) {
            (Some(q_heads), Some(kv_heads)) if kv_heads > q_heads => {
                (q, self.note(3, Defect::MoreKvHeads { kv_heads, q_heads }))
            }
            (Some(q_heads), Some(kv_heads)) if q_heads % kv_heads != 0 => {
                (q, self.note(3, Defect::KvHeadsDivide { kv_heads, q_heads }))
            }
            both => both,
        }
    }

    fn world(&mut self, i: usize) -> Option<u64> {
        match self.count(i) {
            Some(found @ 1) => self.note(i, Defect::WorldTooSmall { found }),
            world => world,
        }
    }

    fn dtype(&mut self, i: usize) -> Option<DType> {
        let cell = self.cell(i);
        let Some(dtype) = DType::ALL.into_iter().find(|d| d.name().as_bytes() == cell) else {
            return self.note(i, Defect::UnknownDType { found: self.text(i) });
        };
        if self.declared.is_some_and(|types| !types.contains(&dtype)) {
            return self.note(i, Defect::UndeclaredDType { dtype, family: self.family });
        }
        Some(dtype)
    }

    fn backend(&mut self, i: usize) -> Option<Backend> {
        match self.cell(i) {
            b"nccl" => Some(Backend::Nccl),
            b"vllm_eager" => Some(Backend::VllmEager),
            b"vllm_graph" => Some(Backend::VllmGraph),
            _ => self.note(i, Defect::UnknownBackend { found: self.text(i) }),
        }
    }

    /// An empty cell is an unknown spread.
    fn spread_at(&mut self, i: usize) -> Option<Option<f64>> {
        if self.cell(i).is_empty() {
            return Some(None);
        }
        let column = self.column(i);
        let number = std::str::from_utf8(self.cell(i)).ok().and_then(|text| text.parse::<f64>().ok());
        match number {
            None => self.note(i, Defect::NotANumber { column, found: self.text(i) }),
            Some(found) if !found.is_finite() => self.note(i, Defect::NotFinite { column, found }),
            Some(found) if !(0.0..=SPREAD_LIMIT).contains(&found) => {
                self.note(i, Defect::Spread { found, limit: SPREAD_LIMIT })
            }
            Some(percent) => Some(Some(percent / 100.0)),
        }
    }

    fn latency(&mut self, i: usize) -> Option<f64> {
        let column = self.column(i);
        let number = std::str::from_utf8(self.cell(i)).ok().and_then(|text| text.parse::<f64>().ok());
        match number {
            None => self.note(i, Defect::NotANumber { column, found: self.text(i) }),
            Some(found) if !found.is_finite() => self.note(i, Defect::NotFinite { column, found }),
            Some(found) if found < 0.0 => self.note(i, Defect::NegativeLatency { column, found }),
            Some(0.0) => self.note(i, Defect::ZeroLatency { column }),
            found => found,
        }
    }
}

/// A plain run of digits as a number; saturates instead of overflowing.
fn digits(cell: &[u8]) -> Option<u64> {
    let digit = |b: &u8| b.is_ascii_digit().then(|| u64::from(b - b'0'));
    let add = |sum: u64, b: &u8| Some(sum.saturating_mul(10).saturating_add(digit(b)?));
    if cell.is_empty() { None } else { cell.iter().try_fold(0, add) }
}
