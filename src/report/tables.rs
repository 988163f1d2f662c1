//! A plan's shapes as CSV: one row per shape, units in every column name.

use crate::estimate::Estimate;
use crate::plan::record::Plan;
use crate::plan::record::candidate::{Candidate, Metrics, Point, Quality, Shape};
use crate::report::error::ReportError;

/// Columns every row starts with.
const START: [&str; 9] =
    ["class", "layers", "hidden", "ffn", "q_heads", "kv_heads", "head_dim", "params", "feasible"];

/// `front.csv`: the front, fastest first, with intervals.
///
/// # Errors
/// None that a plan could cause.
pub fn front(plan: &Plan) -> Result<String, ReportError> {
    const QUALITY: [&str; 2] = ["loss_increase_nats", "accuracy_retained_percent"];
    let mut header: Vec<String> = START.map(String::from).to_vec();
    header.extend(QUALITY.iter().flat_map(|name| triple(name)));
    for scenario in 0..plan.scenarios.len() {
        let columns = metrics_columns(None);
        header.extend(columns.iter().flat_map(|(name, _)| triple(&format!("s{scenario}_{name}"))));
    }
    let rows = plan.front.iter().map(|candidate| {
        let mut row = start("front", candidate.shape, candidate.params, candidate.feasible);
        let Quality { loss_increase_nats, accuracy_retained_percent, .. } = &candidate.quality;
        for estimate in [loss_increase_nats, accuracy_retained_percent] {
            row.extend(numbers(estimate));
        }
        for metrics in &candidate.metrics {
            row.extend(
                metrics_columns(Some(metrics))
                    .iter()
                    .flat_map(|(_, e)| e.iter().flat_map(numbers).collect::<Vec<_>>()),
            );
        }
        row
    });
    write("front.csv", &header, rows)
}

/// `candidates.csv`: parent, chosen shape, knee, front, finalists and the sample of the space; single values.
///
/// # Errors
/// None that a plan could cause.
pub fn candidates(plan: &Plan) -> Result<String, ReportError> {
    const PER_SCENARIO: [&str; 5] = ["ttft_ms", "tpot_ms", "latency_ms", "output_tokens_per_s", "memory_gib"];
    let mut header: Vec<String> = START.map(String::from).to_vec();
    header.push("accuracy_retained_percent".to_string());
    for scenario in 0..plan.scenarios.len() {
        header.extend(PER_SCENARIO.iter().map(|name| format!("s{scenario}_{name}")));
    }
    let named =
        [("parent", Some(&plan.parent)), ("chosen", plan.chosen.as_ref()), ("knee", plan.knee.as_ref())];
    let named = named.into_iter().filter_map(|(class, c)| Some(full(class, c?)));
    let front = plan.front.iter().map(|c| full("front", c));
    let finalists = plan.finalists.iter().map(|f| full("finalist", &f.candidate));
    let sample = plan.sample.iter().map(sampled);
    write("candidates.csv", &header, named.chain(finalists).chain(front).chain(sample))
}

fn triple(name: &str) -> [String; 3] {
    [name.to_string(), format!("{name}_low"), format!("{name}_high")]
}

fn start(class: &str, shape: Shape, params: u64, feasible: bool) -> Vec<String> {
    let Shape { layers, hidden, ffn, q_heads, kv_heads, head_dim } = shape;
    let mut row = vec![class.to_string()];
    row.extend([layers, hidden, ffn, q_heads, kv_heads, head_dim, params].map(|n| n.to_string()));
    row.push(feasible.to_string());
    row
}

fn numbers(estimate: &Estimate) -> [String; 3] {
    [estimate.value, estimate.low, estimate.high].map(number)
}

/// Seven significant digits: more than any estimate holds.
fn number(x: f64) -> String {
    significant(x, 7)
}

/// `x` with so many significant digits and no idle zeros.
pub(crate) fn significant(x: f64, digits: i64) -> String {
    if x == 0.0 || !x.is_finite() {
        return x.to_string();
    }
    let decimals = (digits - 1 - x.abs().log10().floor() as i64).clamp(0, 15) as usize;
    let text = format!("{x:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_string() }
}

fn metrics_columns(metrics: Option<&Metrics>) -> [(&'static str, Option<Estimate>); 6] {
    [
        ("ttft_ms", metrics.map(|m| m.ttft_ms)),
        ("tpot_ms", metrics.map(|m| m.tpot_ms)),
        ("latency_ms", metrics.map(|m| m.latency_ms)),
        ("output_tokens_per_s", metrics.map(|m| m.output_tokens_per_s)),
        ("memory_gib", metrics.map(|m| m.memory_gib)),
        ("speedup", metrics.map(|m| m.speedup)),
    ]
}

fn full(class: &str, candidate: &Candidate) -> Vec<String> {
    let mut row = start(class, candidate.shape, candidate.params, candidate.feasible);
    row.push(number(candidate.quality.accuracy_retained_percent.value));
    for m in &candidate.metrics {
        let values = [m.ttft_ms, m.tpot_ms, m.latency_ms, m.output_tokens_per_s, m.memory_gib];
        row.extend(values.map(|e| number(e.value)));
    }
    row
}

fn sampled(point: &Point) -> Vec<String> {
    let mut row = start("sample", point.shape, point.params, point.feasible);
    row.push(number(point.accuracy_retained_percent));
    for m in &point.metrics {
        let values = [m.ttft_ms, m.tpot_ms, m.latency_ms, m.output_tokens_per_s, m.memory_gib];
        row.extend(values.map(number));
    }
    row
}

/// A table as text.
///
/// # Errors
/// None that rows could cause.
pub(crate) fn write<H: AsRef<str>>(
    name: &'static str,
    header: &[H],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<String, ReportError> {
    let failed = |reason: String| ReportError::Format { name, reason };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header.iter().map(AsRef::as_ref)).map_err(|e| failed(e.to_string()))?;
    for row in rows {
        writer.write_record(&row).map_err(|e| failed(e.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_keep_seven_digits_and_no_idle_zeros() {
        let shown = [1234567.89, 0.1, 12.5, 0.00012345678, 3.0].map(number);
        assert_eq!(shown, ["1234568", "0.1", "12.5", "0.0001234568", "3"]);
    }
}
