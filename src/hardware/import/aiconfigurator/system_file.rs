//! `systems/<system>.yaml`: device facts and the elementwise rule of a database.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::estimate::Source;
use crate::hardware::import::device::{self, GivenFacts};
use crate::hardware::import::error::ImportError;
use crate::hardware::profile::device::{Device, Granularity};
use crate::hardware::profile::manifest::{DeviceSheet, TableInfo};
use crate::hardware::profile::rules::ElementwiseRule;
use crate::units::{Bytes, BytesPerSecond, DType, FlopsPerSecond, Seconds};

/// The keys that matter here; SI units throughout.
#[derive(Debug, Deserialize)]
struct SystemFile {
    gpu: Gpu,
    node: Node,
}

#[derive(Debug, Deserialize)]
struct Gpu {
    mem_bw: Option<f64>,
    mem_bw_empirical_scaling_factor: Option<f64>,
    mem_empirical_constant_latency: Option<f64>,
    mem_capacity: Option<f64>,
    bfloat16_tc_flops: Option<f64>,
    float16_tc_flops: Option<f64>,
    int8_tc_flops: Option<f64>,
    fp8_tc_flops: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Node {
    intra_node_bw: Option<f64>,
}

/// What surrounds the file.
pub(crate) struct Context<'a> {
    /// The file as a person would name it.
    pub(crate) file: &'a str,
    /// The system it describes.
    pub(crate) system: &'a str,
    /// How provenance names it, such as `aiconfigurator-core 0.12.0, systems/l40s.yaml`.
    pub(crate) cited: &'a str,
    pub(crate) given: &'a GivenFacts,
    /// Day of the import.
    pub(crate) date: &'a str,
    pub(crate) licence: &'a str,
}

/// Reads a device and its elementwise rule.
///
/// # Errors
/// Text that is no such YAML, or a fact that neither it, the table of known devices nor the user states.
pub(crate) fn read(text: &str, context: &Context<'_>) -> Result<DeviceSheet, ImportError> {
    let Context { file, system, cited, .. } = context;
    let read: SystemFile = serde_saphyr::from_str(text)
        .map_err(|e| ImportError::Malformed { file: file.to_string(), reason: e.to_string() })?;
    let shape = device::shape_of(system, context.given, file)?;
    let fact = |value: Option<f64>, fact: &'static str| {
        value.filter(|x| x.is_finite() && *x > 0.0).ok_or_else(|| ImportError::UnknownFact {
            source_name: file.to_string(),
            fact,
            device: system.to_string(),
            flag: "--device with a file of its facts",
        })
    };
    let gpu = &read.gpu;
    let bf16 = fact(gpu.bfloat16_tc_flops.or(gpu.float16_tc_flops), "the bf16 peak (bfloat16_tc_flops)")?;
    let others = [(DType::Fp8, gpu.fp8_tc_flops), (DType::Int8, gpu.int8_tc_flops)];
    let others = others.into_iter().filter_map(|(dtype, rate)| Some((dtype, rate?)));
    let peaks: BTreeMap<DType, FlopsPerSecond> = others
        .chain([(DType::Bf16, bf16)])
        .filter(|(_, rate)| rate.is_finite() && *rate > 0.0)
        .map(|(dtype, rate)| (dtype, FlopsPerSecond(rate)))
        .collect();
    let device = Device {
        name: shape.name,
        peaks,
        hbm: Bytes(fact(gpu.mem_capacity, "the memory (mem_capacity)")?),
        hbm_bandwidth: BytesPerSecond(fact(gpu.mem_bw, "the memory's bandwidth (mem_bw)")?),
        l2: shape.l2,
        cores: shape.cores,
        tile: shape.tile,
        interconnect: BytesPerSecond(fact(read.node.intra_node_bw, "the interconnect (intra_node_bw)")?),
        granularity: Granularity { hidden: 256, ffn: 512 },
    };
    let share = fact(gpu.mem_bw_empirical_scaling_factor, "mem_bw_empirical_scaling_factor")?;
    let launch = fact(gpu.mem_empirical_constant_latency, "mem_empirical_constant_latency")?;
    Ok(DeviceSheet {
        device,
        device_source: format!("{cited} (peaks, memory, links); {}", shape.source),
        stack: None,
        all_reduce: None,
        elementwise: elementwise(share, launch, context),
    })
}

/// Share of the bandwidth and launch cost, as the database's own roofline uses them.
fn elementwise(share: f64, launch: f64, context: &Context<'_>) -> (ElementwiseRule, TableInfo) {
    let rule = ElementwiseRule {
        launch: Seconds(launch),
        efficiency: share.min(1.0),
        interval_factor: INTERVAL_FACTOR,
    };
    let source = format!(
        "{}: {} of the memory bandwidth and {} a launch, by its authors' own word an unofficial correction from \
         observations",
        context.cited, share, rule.launch
    );
    let mut info = TableInfo::new(Source::Estimated, &source, context.licence, context.date);
    info.note = Some("interval_factor is a judgement: no measured rows stand behind this rule".to_string());
    (rule, info)
}

/// As in the profiles that ship.
const INTERVAL_FACTOR: f64 = 2.0;
