//! Readings of all files -> one row a call.
//!
//! A database may hold one call several times. Which figure a profile gets is decided here, per element type and
//! head size, so that neighbouring calls come from one kernel:
//! 1. attention computed in bf16, unless less than half as many calls were measured that way as in fp8: then fp8,
//!    which is what that engine does with an fp8 cache;
//! 2. of several kernels the one asked for, else the one with the most calls, else the fastest: the collectors run
//!    the engine's own choice over the whole grid and alternatives over parts of it;
//! 3. of repeats by one kernel the mean.

use std::collections::{BTreeMap, BTreeSet};

use crate::hardware::import::report::FileReport;
use crate::hardware::kernel::{Backend, KernelCall, KernelFamily};
use crate::hardware::profile::table::Row;
use crate::units::{DType, Seconds};

/// Type an attention kernel multiplies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Compute {
    Bf16,
    Fp8,
}

/// One measured figure.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) call: KernelCall,
    pub(crate) latency: Seconds,
    kernel: usize,
    compute: Compute,
    file: usize,
}

/// Readings of all files so far.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    readings: Vec<Reading>,
    kernels: Vec<String>,
    pub(crate) files: Vec<FileReport>,
}

impl Readings {
    /// Starts a file; what is added or skipped after it belongs to it.
    pub(crate) fn file(&mut self, file: &str, family: KernelFamily) {
        self.files.push(FileReport::new(file, family));
    }

    /// The number of a kernel by its name.
    pub(crate) fn kernel(&mut self, name: &str) -> usize {
        let known = self.kernels.iter().position(|kernel| kernel == name);
        known.unwrap_or_else(|| {
            self.kernels.push(name.to_string());
            self.kernels.len() - 1
        })
    }

    /// A figure of the current file.
    pub(crate) fn add(&mut self, call: KernelCall, latency: Seconds, kernel: usize, compute: Compute) {
        let file = self.count();
        self.readings.push(Reading { call, latency, kernel, compute, file });
    }

    /// A row of the current file that does not become one.
    pub(crate) fn skip(&mut self, reason: impl Into<String>) {
        let file = self.count();
        self.skipped(file, reason.into());
    }

    fn count(&mut self) -> usize {
        let file = self.files.len().saturating_sub(1);
        if let Some(report) = self.files.get_mut(file) {
            report.rows += 1;
        }
        file
    }

    fn skipped(&mut self, file: usize, reason: String) {
        if let Some(report) = self.files.get_mut(file) {
            *report.skipped.entry(reason).or_default() += 1;
        }
    }

    /// Readings of the file started last.
    pub(crate) fn of_last_file(&self) -> impl Iterator<Item = &Reading> {
        let file = self.files.len().saturating_sub(1);
        self.readings.iter().rev().take_while(move |reading| reading.file == file)
    }

    /// One row a call; the readings are used up, the files' counts are complete then.
    pub(crate) fn merge(&mut self, prefer: Option<&str>) -> Merged {
        let mut readings = std::mem::take(&mut self.readings);
        // Stable: repeats keep the order of the files.
        readings.sort_by(|a, b| a.call.cmp(&b.call).then(a.kernel.cmp(&b.kernel)));
        let compute = self.computes(&readings);
        let ranks = self.ranks(&readings, &compute, prefer);
        let mut merged = Merged::default();
        for same in readings.chunk_by(|a, b| a.call == b.call) {
            self.decide(same, &compute, &ranks, &mut merged);
        }
        merged
    }

    /// The type attention is computed in, for each group.
    fn computes(&self, readings: &[Reading]) -> BTreeMap<Group, Compute> {
        let mut counts: BTreeMap<Group, [usize; 2]> = BTreeMap::new();
        for same in readings.chunk_by(|a, b| a.call == b.call) {
            let Some(first) = same.first() else { continue };
            let count = counts.entry(group(&first.call)).or_default();
            let [bf16, fp8] = count;
            *bf16 += usize::from(same.iter().any(|r| r.compute == Compute::Bf16));
            *fp8 += usize::from(same.iter().any(|r| r.compute == Compute::Fp8));
        }
        let choice = |[bf16, fp8]: [usize; 2]| if 2 * bf16 >= fp8 { Compute::Bf16 } else { Compute::Fp8 };
        counts.into_iter().map(|(group, count)| (group, choice(count))).collect()
    }

    /// How far up each kernel stands in its group: asked for or not, then calls.
    fn ranks(
        &self,
        readings: &[Reading],
        compute: &BTreeMap<Group, Compute>,
        prefer: Option<&str>,
    ) -> BTreeMap<(Group, usize), (bool, usize)> {
        let mut ranks = BTreeMap::new();
        for one in readings.chunk_by(|a, b| a.call == b.call && a.kernel == b.kernel) {
            let Some(first) = one.first() else { continue };
            let group = group(&first.call);
            if one.iter().any(|r| compute.get(&group) == Some(&r.compute)) {
                let asked = self.kernels.get(first.kernel).map(String::as_str) == prefer && prefer.is_some();
                let rank = ranks.entry((group, first.kernel)).or_insert((asked, 0));
                rank.1 += 1;
            }
        }
        ranks
    }

    fn decide(
        &mut self,
        same: &[Reading],
        compute: &BTreeMap<Group, Compute>,
        ranks: &BTreeMap<(Group, usize), (bool, usize)>,
        merged: &mut Merged,
    ) {
        let Some(first) = same.first() else { return };
        let group = group(&first.call);
        let fits = |r: &&Reading| compute.get(&group) == Some(&r.compute);
        let rank = |r: &Reading| ranks.get(&(group, r.kernel)).copied().unwrap_or_default();
        let best = same.iter().filter(fits).max_by(|a, b| {
            let faster = b.latency.0.total_cmp(&a.latency.0);
            rank(a).cmp(&rank(b)).then(faster).then(b.kernel.cmp(&a.kernel))
        });
        let Some(best) = best else {
            same.iter().for_each(|r| self.skipped(r.file, other_compute(r.compute)));
            return;
        };
        let kept: Vec<&Reading> = same.iter().filter(fits).filter(|r| r.kernel == best.kernel).collect();
        let mean = Seconds(kept.iter().map(|r| r.latency.0).sum::<f64>() / kept.len() as f64);
        merged.rows.entry(group.family).or_default().push(Row::new(first.call, mean));
        if let (Compute::Fp8, Some(dtype)) = (best.compute, group.dtype) {
            merged.fp8.insert((group.family, dtype, group.size));
        }
        if let Some(name) = self.kernels.get(best.kernel) {
            *merged.kernels.entry((group.family, name.clone())).or_default() += 1;
        }
        let kind = kind(&first.call);
        let mut first_kept = true;
        for reading in same {
            if !fits(&reading) {
                self.skipped(reading.file, other_compute(reading.compute));
            } else if reading.kernel != best.kernel {
                let name = |i: usize| self.kernels.get(i).cloned().unwrap_or_default();
                let reason = format!(
                    "same call by kernel `{}`; `{}` is kept",
                    name(reading.kernel),
                    name(best.kernel)
                );
                self.skipped(reading.file, reason);
            } else if first_kept {
                first_kept = false;
                if let Some(report) = self.files.get_mut(reading.file) {
                    *report.kept.entry(kind.clone()).or_default() += 1;
                }
            } else {
                self.skipped(reading.file, "same call measured again: the row kept is the mean".to_string());
            }
        }
    }
}

/// Rows of each family, and how many of them each kernel gave.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) rows: BTreeMap<KernelFamily, Vec<Row>>,
    pub(crate) kernels: BTreeMap<(KernelFamily, String), usize>,
    /// Caches whose attention is computed in fp8.
    fp8: BTreeSet<(KernelFamily, DType, u64)>,
}

impl Merged {
    /// What provenance says of the choice between kernels, for each family.
    pub(crate) fn notes(&self) -> Vec<(KernelFamily, String)> {
        let mut notes = Vec::new();
        for family in self.rows.keys() {
            let mut of: Vec<(&str, usize)> = self
                .kernels
                .iter()
                .filter(|((f, _), _)| f == family)
                .map(|((_, k), n)| (k.as_str(), *n))
                .collect();
            of.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            let of: Vec<String> = of.iter().map(|(kernel, rows)| format!("{kernel} ({rows} rows)")).collect();
            notes.push((*family, format!("kernels: {}", of.join(", "))));
            let sizes = self.fp8.iter().filter(|(f, ..)| f == family);
            let sizes: Vec<String> =
                sizes.map(|(_, dtype, size)| format!("{dtype} cache, head size {size}")).collect();
            if !sizes.is_empty() {
                notes.push((*family, format!("attention computed in fp8: {}", sizes.join("; "))));
            }
        }
        notes
    }
}

fn other_compute(compute: Compute) -> String {
    match compute {
        Compute::Fp8 => "attention computed in fp8; bf16 is kept for that cache type and head size",
        Compute::Bf16 => {
            "attention computed in bf16; fp8 is kept, which has most calls of that cache type and head size"
        }
    }
    .to_string()
}

/// Calls whose kernels are chosen together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    family: KernelFamily,
    dtype: Option<DType>,
    backend: Option<Backend>,
    /// Head size, or devices of an all-reduce.
    size: u64,
}

fn group(call: &KernelCall) -> Group {
    let (dtype, backend, size) = match *call {
        KernelCall::Gemm { dtype, .. } => (Some(dtype), None, 0),
        KernelCall::AttentionPrefill { head_dim, dtype, .. }
        | KernelCall::AttentionDecode { head_dim, dtype, .. } => (Some(dtype), None, head_dim),
        KernelCall::AllReduce { world, backend, .. } => (None, Some(backend), world),
        KernelCall::Elementwise { .. } => (None, None, 0),
    };
    Group { family: call.family(), dtype, backend, size }
}

/// Element type or backend, as reports name it.
pub(crate) fn kind(call: &KernelCall) -> String {
    match *call {
        KernelCall::Gemm { dtype, .. }
        | KernelCall::AttentionPrefill { dtype, .. }
        | KernelCall::AttentionDecode { dtype, .. } => dtype.name().to_string(),
        KernelCall::AllReduce { backend: Backend::Nccl, .. } => "nccl".to_string(),
        KernelCall::AllReduce { backend: Backend::VllmEager, .. } => "vllm_eager".to_string(),
        KernelCall::AllReduce { backend: Backend::VllmGraph, .. } => "vllm_graph".to_string(),
        KernelCall::Elementwise { .. } => String::new(),
    }
}
