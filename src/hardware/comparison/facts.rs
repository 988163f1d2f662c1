//! What two profiles say of their device, software and rules, where they differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::hardware::profile::HardwareProfile;

/// One statement of the two; `None` where a profile makes none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about, as a key of `profile.toml`.
    pub key: String,
    /// The first profile's words.
    pub a: Option<String>,
    /// The second profile's words.
    pub b: Option<String>,
}

/// Statements that differ, in the order of their keys.
pub fn differing(a: &HardwareProfile, b: &HardwareProfile) -> Vec<Fact> {
    let (a, b) = (statements(a), statements(b));
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter()
        .filter(|key| a.get(*key) != b.get(*key))
        .map(|key| Fact { key: key.clone(), a: a.get(key).cloned(), b: b.get(key).cloned() })
        .collect()
}

fn statements(profile: &HardwareProfile) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut say = |key: &str, value: String| {
        found.insert(key.to_string(), value);
    };
    let device = &profile.device;
    say("device.name", device.name.clone());
    for (dtype, peak) in &device.peaks {
        say(&format!("device.peak_tflops.{dtype}"), peak.tflops().to_string());
    }
    say("device.hbm_gib", device.hbm.gib().to_string());
    say("device.hbm_gbps", device.hbm_bandwidth.gbps().to_string());
    if let Some(l2) = device.l2 {
        say("device.l2_mib", l2.mib().to_string());
    }
    say("device.cores", device.cores.to_string());
    say("device.tile", format!("{} x {} x {}", device.tile.m, device.tile.n, device.tile.k));
    say("device.interconnect_gbps", device.interconnect.gbps().to_string());
    say("device.multiple_hidden", device.granularity.hidden.to_string());
    say("device.multiple_ffn", device.granularity.ffn.to_string());
    say("stack.engine", profile.stack.engine.clone());
    say("stack.engine_version", profile.stack.engine_version.clone());
    for (library, version) in &profile.stack.libraries {
        say(&format!("stack.libraries.{library}"), version.clone());
    }
    for (family, info) in &profile.tables {
        let mut of = |key: &str, value: String| say(&format!("tables.{family}.{key}"), value);
        of("provenance", info.provenance.name().to_string());
        of("source", info.source.clone());
        of("licence", info.licence.clone());
        of("date", info.date.clone());
        if !info.dtypes.is_empty() {
            let names: BTreeSet<&str> = info.dtypes.iter().map(|dtype| dtype.name()).collect();
            of("dtypes", names.into_iter().collect::<Vec<_>>().join(", "));
        }
    }
    rules(profile, &mut say);
    found
}

fn rules(profile: &HardwareProfile, say: &mut impl FnMut(&str, String)) {
    let rule = &profile.elementwise;
    say("tables.elementwise.launch_us", rule.launch.us().to_string());
    say("tables.elementwise.efficiency", rule.efficiency.to_string());
    say("tables.elementwise.interval_factor", rule.interval_factor.to_string());
    if let Some(rule) = &profile.all_reduce {
        say("tables.all_reduce.latency_us", rule.latency.us().to_string());
        say("tables.all_reduce.efficiency", rule.efficiency.to_string());
        say("tables.all_reduce.interval_factor", rule.interval_factor.to_string());
        if let Some(devices) = rule.full_mesh_devices {
            say("tables.all_reduce.full_mesh_devices", devices.to_string());
        }
    }
}
