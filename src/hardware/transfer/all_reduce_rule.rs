//! The rule of an all-reduce, fitted to rows of the relative or of the device itself.

use crate::hardware::kernel::{Backend, KernelCall};
use crate::hardware::profile::device::Device;
use crate::hardware::profile::rules::AllReduceRule;
use crate::hardware::profile::table::Row;
use crate::units::{Bytes, Seconds};

/// A rule may be off on another device by this much more than on the one it was fitted to. A judgement: links, switches
/// and libraries differ, and only three devices' tables were at hand to look at.
const ON_ANOTHER_DEVICE: f64 = 1.5;
/// Never narrower: curves of three backends stand behind one rule.
const NARROWEST: f64 = 1.3;
/// Largest and smallest share of the links that is tried, and the steps between.
const EFFICIENCIES: (f64, f64, usize) = (0.02, 1.0, 80);

/// Whether engines run it: kernels outside of captured graphs are left out of rules.
pub fn is_captured(row: &Row) -> bool {
    !matches!(row.call, KernelCall::AllReduce { backend: Backend::VllmEager, .. })
}

/// Latency and efficiency with the least absolute log error over the rows, and the factor within which 90 % of such rows
/// lie of the rule. Rows outside of captured graphs are left out where there are others. None without a row.
pub fn fit(rows: &[Row], device: &Device) -> Option<AllReduceRule> {
    let part = |row: &Row| match row.call {
        KernelCall::AllReduce { world, bytes, .. } => {
            let world = world.max(1) as f64;
            let moved = Bytes(2.0 * (world - 1.0) / world * bytes as f64) / device.interconnect;
            Some((moved.0, row.latency.0))
        }
        _ => None,
    };
    let captured: Vec<(f64, f64)> = rows.iter().filter(|row| is_captured(row)).filter_map(part).collect();
    let points = if captured.is_empty() { rows.iter().filter_map(part).collect() } else { captured };
    let fastest = points.iter().map(|p| p.1).min_by(f64::total_cmp)?;
    let errors = |latency: f64, efficiency: f64| -> Vec<f64> {
        points.iter().map(|(moved, t)| ((latency + moved / efficiency) / t).ln().abs()).collect()
    };
    let (low, high, steps) = EFFICIENCIES;
    let efficiencies = (0..=steps).map(|i| low * (high / low).powf(i as f64 / steps as f64));
    let latencies: Vec<f64> = (0..=40).map(|i| fastest * 0.5 * 20f64.powf(f64::from(i) / 40.0)).collect();
    let (latency, efficiency, _) = efficiencies
        .flat_map(|efficiency| latencies.iter().map(move |latency| (*latency, efficiency)))
        .map(|(latency, efficiency)| (latency, efficiency, errors(latency, efficiency).iter().sum::<f64>()))
        .min_by(|a, b| a.2.total_cmp(&b.2))?;
    let mut misses = errors(latency, efficiency);
    misses.sort_by(f64::total_cmp);
    // The conformal rank, less the two rows that two parameters could follow.
    let n = misses.len();
    let rank = ((0.9 * (n as f64 + 1.0)).ceil() as usize + 2).clamp(1, n);
    let held = misses.get(rank - 1).map_or(1.0, |miss| miss.exp());
    let rounded = |x: f64| format!("{x:.2e}").parse().unwrap_or(x);
    Some(AllReduceRule {
        latency: Seconds(rounded(latency)),
        efficiency: f64::min(rounded(efficiency), 1.0),
        full_mesh_devices: None,
        interval_factor: rounded((held * (1.0 + 2.0 / n as f64)).max(NARROWEST)),
    })
}

/// The same rule on another device: believed less.
pub fn carried(rule: AllReduceRule) -> AllReduceRule {
    let factor = rule.interval_factor * ON_ANOTHER_DEVICE;
    AllReduceRule { interval_factor: (factor * 100.0).round() / 100.0, ..rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::kernel::KernelFamily;
    use crate::hardware::profile::HardwareProfile;

    #[test]
    fn a_rule_finds_the_numbers_it_was_made_with() {
        let device = HardwareProfile::builtin("h100_sxm").unwrap().device;
        let row = |world: u64, bytes: u64| {
            let moved = 2.0 * (world - 1) as f64 / world as f64 * bytes as f64 / device.interconnect.0;
            let call = KernelCall::AllReduce { world, bytes, backend: Backend::Nccl };
            Row::new(call, Seconds(8e-6 + moved / 0.6))
        };
        let rows: Vec<Row> = (8..28).flat_map(|i| [row(2, 1 << i), row(8, 1 << i)]).collect();
        let rule = fit(&rows, &device).unwrap();
        assert!((rule.latency.us() - 8.0).abs() < 0.8 && (rule.efficiency - 0.6).abs() < 0.05, "{rule:?}");
        assert!(rule.interval_factor < 1.4);
        assert!(carried(rule).interval_factor > rule.interval_factor);
        assert!(fit(&[], &device).is_none());
    }

    #[test]
    fn real_rows_get_an_honest_factor() {
        let profile = HardwareProfile::builtin("a100_sxm").unwrap();
        let rows = profile.rows(KernelFamily::AllReduce).unwrap();
        let rule = fit(&rows, &profile.device).unwrap();
        assert!((1.3..4.0).contains(&rule.interval_factor), "{rule:?}");
    }
}
