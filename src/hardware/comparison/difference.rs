//! Two profiles against each other: facts, coverage, and the calls both know.

use std::collections::{BTreeMap, BTreeSet};

use crate::estimate::Source;
use crate::hardware::comparison::facts::{self, Fact};
use crate::hardware::comparison::grid;
use crate::hardware::comparison::ratios::{Pair, Timing};
use crate::hardware::comparison::stretch;
use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::cost::{KernelCosts, Z90};
use crate::hardware::latency::kernel_model::device_model::{KernelModel, ModelError};
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::table::Row;
use crate::units::DType;

/// Two profiles, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Statements that differ.
    pub facts: Vec<Fact>,
    /// The devices are not the same: ratios compare machines as well as software.
    pub other_device: bool,
    /// Calls of each family and element type that either profile covers.
    pub sets: Vec<PairSet>,
}

/// Calls of one family and element type.
#[derive(Clone, Debug, PartialEq)]
pub struct PairSet {
    /// Kernel family.
    pub family: KernelFamily,
    /// Element type; none for all-reduce.
    pub dtype: Option<DType>,
    /// How the first profile came by its figures; none where it does not cover the calls.
    pub provenance_a: Option<Source>,
    /// The same of the second.
    pub provenance_b: Option<Source>,
    /// Calls measured in the first profile only.
    pub only_a: usize,
    /// Calls measured in the second profile only.
    pub only_b: usize,
    /// Calls measured in both.
    pub both: usize,
    /// What the pairs are, in words: measured calls, or estimates at a stated grid.
    pub basis: String,
    /// The calls compared.
    pub pairs: Vec<Pair>,
}

type Kind = (KernelFamily, Option<DType>);
type Measured = BTreeMap<KernelCall, Row>;

/// Compares two profiles. Calls that both measured are compared as measured; where a family has none of those,
/// both are asked for estimates at the calls of the one that has rows, or at a fixed grid.
///
/// # Errors
/// A defective table or fit.
pub fn compare(a: &HardwareProfile, b: &HardwareProfile) -> Result<Difference, ModelError> {
    let (rows_a, rows_b) = (by_kind(a)?, by_kind(b)?);
    let kinds: BTreeSet<Kind> = kinds(a).into_iter().chain(kinds(b)).collect();
    let none = Measured::new();
    let mut asked = Asked { a: Priced::of(a), b: Priced::of(b) };
    let mut sets = Vec::new();
    for (family, dtype) in kinds {
        let covers = |profile: &HardwareProfile| provenance(profile, family, dtype);
        let of = |rows: &'_ BTreeMap<Kind, Measured>| rows.get(&(family, dtype)).cloned();
        let (in_a, in_b) = (of(&rows_a), of(&rows_b));
        let (in_a, in_b) = (in_a.as_ref().unwrap_or(&none), in_b.as_ref().unwrap_or(&none));
        let pairs: Vec<Pair> =
            in_a.values().filter_map(|row| Some(measured(row, in_b.get(&row.call)?))).collect();
        let both = pairs.len();
        let mut set = PairSet {
            family,
            dtype,
            provenance_a: covers(a),
            provenance_b: covers(b),
            only_a: in_a.len() - both,
            only_b: in_b.len() - both,
            both,
            basis: "calls measured in both".to_string(),
            pairs,
        };
        if both == 0 && set.provenance_a.is_some() && set.provenance_b.is_some() {
            let (calls, basis) = calls_to_ask((family, dtype), in_a, in_b);
            set.basis = basis;
            set.pairs = asked.pairs(&calls)?;
        } else if both == 0 {
            let lacks = if set.provenance_a.is_none() { &a.name } else { &b.name };
            set.basis = format!("none: not covered by `{lacks}`");
        }
        sets.push(set);
    }
    let other_device = a.device.name != b.device.name;
    Ok(Difference { facts: facts::differing(a, b), other_device, sets })
}

fn measured(a: &Row, b: &Row) -> Pair {
    let timing = |row: &Row| Timing::measured(row.latency, row.spread);
    Pair { call: a.call, a: timing(a), b: timing(b) }
}

/// Families and element types a profile covers; elementwise kernels are a rule, which is among the facts.
fn kinds(profile: &HardwareProfile) -> Vec<Kind> {
    let tables = profile.tables.iter().filter(|(family, _)| **family != KernelFamily::Elementwise);
    let of = |(family, info): (&KernelFamily, &crate::hardware::profile::manifest::TableInfo)| match family {
        KernelFamily::AllReduce => vec![(*family, None)],
        _ => info.dtypes.iter().map(|dtype| (*family, Some(*dtype))).collect(),
    };
    tables.flat_map(of).collect()
}

fn provenance(profile: &HardwareProfile, family: KernelFamily, dtype: Option<DType>) -> Option<Source> {
    let info = profile.tables.get(&family)?;
    dtype.is_none_or(|dtype| info.dtypes.contains(&dtype)).then_some(info.provenance)
}

fn by_kind(profile: &HardwareProfile) -> Result<BTreeMap<Kind, Measured>, ModelError> {
    let mut found: BTreeMap<Kind, Measured> = BTreeMap::new();
    for family in KernelFamily::TABLES {
        if profile.provenance(family) == Some(Source::Measured) {
            for row in profile.rows(family)?.iter() {
                found.entry((family, row.call.dtype())).or_default().insert(row.call, *row);
            }
        }
    }
    Ok(found)
}

/// Calls for estimates, with what they are in words.
fn calls_to_ask((family, dtype): Kind, a: &Measured, b: &Measured) -> (Vec<KernelCall>, String) {
    let sample = |rows: &Measured| -> Vec<KernelCall> {
        let calls: Vec<KernelCall> = rows.keys().copied().collect();
        let picked = stretch::pick(calls.len(), grid::MOST);
        picked.into_iter().filter_map(|i| calls.get(i).copied()).collect()
    };
    let taken = |n: usize, of: usize| if n < of { format!("{n} of the {of}") } else { format!("the {n}") };
    match (a.is_empty(), b.is_empty()) {
        (true, true) => {
            let calls = grid::calls(family, dtype.unwrap_or(DType::Bf16));
            (calls, format!("estimates of both at a fixed grid: {}", grid::words(family)))
        }
        (false, true) => {
            let calls = sample(a);
            let words = format!("estimates of B at {} calls A measured", taken(calls.len(), a.len()));
            (calls, words)
        }
        (true, false) => {
            let calls = sample(b);
            let words = format!("estimates of A at {} calls B measured", taken(calls.len(), b.len()));
            (calls, words)
        }
        (false, false) => {
            let (mut calls, more) = (sample(a), sample(b));
            let words = format!(
                "no call is measured in both: at {} calls A measured and {} calls B measured, each with an estimate of the other",
                taken(calls.len(), a.len()),
                taken(more.len(), b.len())
            );
            calls.extend(more);
            (calls, words)
        }
    }
}

/// A profile whose estimators are opened when first asked.
struct Priced<'a> {
    profile: &'a HardwareProfile,
    models: BTreeMap<Option<DType>, KernelModel>,
}

struct Asked<'a> {
    a: Priced<'a>,
    b: Priced<'a>,
}

impl<'a> Priced<'a> {
    fn of(profile: &'a HardwareProfile) -> Self {
        Self { profile, models: BTreeMap::new() }
    }

    fn timing(&mut self, call: &KernelCall) -> Result<Option<Timing>, ModelError> {
        let dtype = call.dtype();
        if !self.models.contains_key(&dtype) {
            let types: Vec<DType> = dtype.into_iter().collect();
            self.models.insert(dtype, KernelModel::open(self.profile, &types, &types)?);
        }
        // A gap (a number of devices nobody measured, say) leaves the call out.
        let Some(cost) = self.models.get(&dtype).and_then(|model| model.cost(call).ok()) else {
            return Ok(None);
        };
        let factor = (Z90 * cost.log_sigma).exp();
        let (low, high) = (cost.latency / factor, cost.latency * factor);
        Ok(Some(Timing { latency: cost.latency, low, high, spread: None }))
    }
}

impl Asked<'_> {
    /// Calls that both can price.
    fn pairs(&mut self, calls: &[KernelCall]) -> Result<Vec<Pair>, ModelError> {
        let mut pairs = Vec::new();
        for call in calls {
            if let (Some(a), Some(b)) = (self.a.timing(call)?, self.b.timing(call)?) {
                pairs.push(Pair { call: *call, a, b });
            }
        }
        Ok(pairs)
    }
}
