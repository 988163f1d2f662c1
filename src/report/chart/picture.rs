//! What is to be drawn: points, marks, budget lines and words, taken from a plan; no pixels yet.

use crate::estimate::{Estimate, Source};
use crate::plan::record::candidate::{Candidate, Point};
use crate::plan::record::{Metric, Plan};
use crate::units::{self, Bytes, Seconds};

/// What the horizontal axis shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XAxis {
    /// Output tokens per second.
    Throughput,
    /// Output throughput against the parent's, in the worst scenario.
    Speedup,
    /// Time of one request.
    Latency,
    /// Time per output token.
    Tpot,
    /// Time to first token.
    Ttft,
    /// Parameters, in units of 10^9.
    Params,
    /// Memory of one device.
    Memory,
}

impl XAxis {
    /// Every axis, with its name on the command line.
    pub const ALL: [(&str, XAxis); 7] = [
        ("throughput", XAxis::Throughput),
        ("speedup", XAxis::Speedup),
        ("latency", XAxis::Latency),
        ("tpot", XAxis::Tpot),
        ("ttft", XAxis::Ttft),
        ("params", XAxis::Params),
        ("memory", XAxis::Memory),
    ];

    /// The axis a front is read on: throughput, or the worst speedup where there are several scenarios.
    pub fn default_for(plan: &Plan) -> Self {
        if plan.scenarios.len() > 1 { XAxis::Speedup } else { XAxis::Throughput }
    }

    fn label(self) -> &'static str {
        match self {
            XAxis::Throughput => "output throughput (tokens/s)",
            XAxis::Speedup => "output throughput against the parent (×, worst scenario)",
            XAxis::Latency => "request latency (ms)",
            XAxis::Tpot => "time per output token, TPOT (ms)",
            XAxis::Ttft => "time to first token, TTFT (ms)",
            XAxis::Params => "parameters (billions)",
            XAxis::Memory => "memory per device (GiB)",
        }
    }

    /// `value` on this axis, for a person.
    pub fn format(self, value: f64) -> String {
        match self {
            XAxis::Throughput => units::format_tokens_per_second(value),
            XAxis::Speedup => format!("{value:.3}×"),
            XAxis::Latency | XAxis::Tpot | XAxis::Ttft => Seconds::from_ms(value).to_string(),
            XAxis::Params => units::format_count(value * 1e9),
            XAxis::Memory => Bytes::from_gib(value).to_string(),
        }
    }
}

/// A value with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Best single value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl From<Estimate> for Interval {
    fn from(e: Estimate) -> Self {
        Self { value: e.value, low: e.low, high: e.high }
    }
}

/// One shape that carries a mark of its own.
#[derive(Clone, Debug)]
pub struct Mark<'a> {
    /// Where it stands on the horizontal axis.
    pub x: Interval,
    /// Accuracy retained, percent.
    pub y: Interval,
    /// The shape with all its numbers.
    pub candidate: &'a Candidate,
}

/// A budget that lies on the horizontal axis.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetLine {
    /// The limit on the axis.
    pub x: f64,
    /// The forbidden side is the left one.
    pub at_least: bool,
    /// Words beside the line.
    pub label: String,
}

/// Everything the drawing needs.
#[derive(Clone, Debug)]
pub struct Picture<'a> {
    /// The plan it is taken from.
    pub plan: &'a Plan,
    /// The horizontal axis.
    pub axis: XAxis,
    /// Words under the horizontal axis.
    pub x_label: &'static str,
    /// Words beside the vertical axis.
    pub y_label: String,
    /// Headline.
    pub title: String,
    /// Lines under the headline: the scenario.
    pub subtitle: Vec<String>,
    /// Lines under the picture: what the numbers rest on.
    pub caption: Vec<String>,
    /// Sampled shapes that break a budget.
    pub infeasible: Vec<(f64, f64)>,
    /// Sampled shapes that meet every budget but are beaten.
    pub dominated: Vec<(f64, f64)>,
    /// Shapes on the front in order along the axis, with whether they meet every budget.
    pub front: Vec<(f64, f64, bool)>,
    /// The front falls or rises all along this axis, so that it may be joined by a line.
    pub monotone: bool,
    /// The unpruned model.
    pub parent: Mark<'a>,
    /// The knee of the front.
    pub knee: Option<Mark<'a>>,
    /// The shape to prune to.
    pub chosen: Option<Mark<'a>>,
    /// Budgets that lie on this axis.
    pub budgets: Vec<BudgetLine>,
}

impl<'a> Picture<'a> {
    /// The picture of `plan` in one scenario (an index into `plan.scenarios`; one that is out of range
    /// shows the first).
    pub fn new(plan: &'a Plan, axis: XAxis, scenario: usize) -> Self {
        let scenario = if scenario < plan.scenarios.len() { scenario } else { 0 };
        let reader = Reader { plan, axis, scenario };
        let mut front: Vec<_> = plan.front.iter().filter_map(|c| reader.front_point(c)).collect();
        front.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let monotone =
            front.windows(2).all(|w| w[0].1 >= w[1].1) || front.windows(2).all(|w| w[0].1 <= w[1].1);
        Self {
            plan,
            axis,
            x_label: axis.label(),
            y_label: format!("accuracy retained (% of parent, {})", quality_source(plan)),
            title: title(plan),
            subtitle: reader.subtitle(),
            caption: reader.caption(),
            infeasible: reader.sampled(false),
            dominated: reader.sampled(true),
            front,
            monotone,
            parent: reader.mark(&plan.parent),
            knee: plan.knee.as_ref().map(|c| reader.mark(c)),
            chosen: plan.chosen.as_ref().map(|c| reader.mark(c)),
            budgets: plan.budgets.iter().filter_map(|b| reader.budget_line(b.metric, b.limit)).collect(),
        }
    }

    /// The marks, least important first.
    pub fn marks(&self) -> Vec<&Mark<'a>> {
        [Some(&self.parent), self.knee.as_ref(), self.chosen.as_ref()].into_iter().flatten().collect()
    }

    /// Frame that holds every point, the marks and the budget lines: `(x, y)` ranges.
    pub fn frame(&self) -> ((f64, f64), (f64, f64)) {
        let points = self.infeasible.iter().chain(&self.dominated).map(|&(x, y)| (x, y));
        let all: Vec<(f64, f64)> = points.chain(self.front.iter().map(|&(x, y, _)| (x, y))).collect();
        // Intervals may be far wider than the front: they are cut at the frame rather than shrinking it.
        let marks = self.marks();
        let xs = all.iter().map(|p| p.0).chain(marks.iter().map(|m| m.x.value));
        let ys = all.iter().map(|p| p.1).chain(marks.iter().map(|m| m.y.value));
        let (x, y) = (span(xs, 0.04), span(ys, 0.06));
        let near = |limit: f64| limit > x.0 - (x.1 - x.0) && limit < x.1 + (x.1 - x.0);
        let limits = self.budgets.iter().map(|b| b.x).filter(|&l| near(l));
        (span([x.0, x.1].into_iter().chain(limits), 0.01), y)
    }
}

/// Smallest and largest of `values`, with a margin on either side (a share of the span).
fn span(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    // Values that differ by rounding only are one value: ticks between them could not be told apart.
    let size = low.abs().max(high.abs()).max(1e-6);
    let pad = if high - low > 1e-6 * size { (high - low) * margin } else { size * margin };
    (low - pad, high + pad)
}

fn quality_source(plan: &Plan) -> Source {
    plan.chosen
        .as_ref()
        .or(plan.front.first())
        .unwrap_or(&plan.parent)
        .quality
        .accuracy_retained_percent
        .source
}

fn title(plan: &Plan) -> String {
    let name = &plan.recipe.model.name;
    match plan.chosen {
        Some(_) => format!("{name}: accuracy against speed"),
        None => format!("{name}: no allowed shape meets the budget"),
    }
}

/// Reads values of one axis and one scenario from a plan.
struct Reader<'a> {
    plan: &'a Plan,
    axis: XAxis,
    scenario: usize,
}

impl<'a> Reader<'a> {
    fn mark(&self, candidate: &'a Candidate) -> Mark<'a> {
        let x = self.x(candidate).unwrap_or(Interval { value: 0.0, low: 0.0, high: 0.0 });
        Mark { x, y: candidate.quality.accuracy_retained_percent.into(), candidate }
    }

    fn x(&self, c: &Candidate) -> Option<Interval> {
        let m = c.metrics.get(self.scenario)?;
        Some(match self.axis {
            XAxis::Throughput => m.output_tokens_per_s.into(),
            XAxis::Speedup => c.worst_speedup()?.into(),
            XAxis::Latency => m.latency_ms.into(),
            XAxis::Tpot => m.tpot_ms.into(),
            XAxis::Ttft => m.ttft_ms.into(),
            XAxis::Params => Estimate::exact(c.params as f64 / 1e9, Source::Measured).into(),
            XAxis::Memory => m.memory_gib.into(),
        })
    }

    fn front_point(&self, c: &Candidate) -> Option<(f64, f64, bool)> {
        Some((self.x(c)?.value, c.quality.accuracy_retained_percent.value, c.feasible))
    }

    fn sampled(&self, feasible: bool) -> Vec<(f64, f64)> {
        let points = self.plan.sample.iter().filter(|p| p.feasible == feasible);
        points.filter_map(|p| Some((self.point_x(p)?, p.accuracy_retained_percent))).collect()
    }

    fn point_x(&self, p: &Point) -> Option<f64> {
        let m = p.metrics.get(self.scenario)?;
        match self.axis {
            XAxis::Throughput => Some(m.output_tokens_per_s),
            XAxis::Speedup => p.worst_speedup(&self.plan.parent),
            XAxis::Latency => Some(m.latency_ms),
            XAxis::Tpot => Some(m.tpot_ms),
            XAxis::Ttft => Some(m.ttft_ms),
            XAxis::Params => Some(p.params as f64 / 1e9),
            XAxis::Memory => Some(m.memory_gib),
        }
    }

    fn budget_line(&self, metric: Metric, limit: f64) -> Option<BudgetLine> {
        let parent = self.plan.parent.metrics.get(self.scenario)?;
        let x = match (self.axis, metric) {
            (XAxis::Throughput, Metric::Speedup) => limit * parent.output_tokens_per_s.value,
            (XAxis::Throughput, Metric::OutputTokensPerS)
            | (XAxis::Speedup, Metric::Speedup)
            | (XAxis::Latency, Metric::LatencyMs)
            | (XAxis::Tpot, Metric::TpotMs)
            | (XAxis::Ttft, Metric::TtftMs)
            | (XAxis::Memory, Metric::MemoryGib) => limit,
            (XAxis::Params, Metric::Params) => limit / 1e9,
            _ => return None,
        };
        let relation = if metric.at_least() { "≥" } else { "≤" };
        let label = match (self.axis, metric) {
            (XAxis::Throughput, Metric::Speedup) => {
                format!("budget {relation} {limit}× parent = {}", self.axis.format(x))
            }
            _ => format!("budget: {}", metric.limit(limit)),
        };
        Some(BudgetLine { x, at_least: metric.at_least(), label })
    }

    fn subtitle(&self) -> Vec<String> {
        let several = self.axis == XAxis::Speedup && self.plan.scenarios.len() > 1;
        let shown = self.plan.scenarios.iter().enumerate().filter(|(i, _)| several || *i == self.scenario);
        shown.map(|(_, s)| s.name.clone()).collect()
    }

    fn caption(&self) -> Vec<String> {
        let plan = self.plan;
        let search = &plan.search;
        let proof = match plan.chosen {
            // What exactly is proven stands in the plan.
            Some(_) => search.optimality.split(':').next().unwrap_or_default(),
            None => &search.optimality,
        };
        let lines = [
            format!(
                "Budget: {}. {} of {} shapes meet it; {proof}.",
                budgets(plan),
                units::group_digits(search.feasible, units::THIN_SPACE),
                units::group_digits(search.enumerated, units::THIN_SPACE),
            ),
            format!(
                "Bars: {INTERVALS}. Accuracy: {}, not measured on this model's weights. archplan {}, seed {}, profile {}.",
                quality_source(plan),
                plan.recipe.version,
                plan.recipe.seed,
                profiles(plan)
            ),
        ];
        lines.iter().flat_map(|line| wrapped(line)).collect()
    }
}

/// Every budget once, with the chance asked for.
fn budgets(plan: &Plan) -> String {
    let mut limits: Vec<String> = Vec::new();
    for limit in plan.budgets.iter().map(|b| b.metric.limit(b.limit)) {
        if !limits.contains(&limit) {
            limits.push(limit);
        }
    }
    let chance = plan.recipe.request.confidence;
    let chance = chance
        .map(|c| format!("; those on times and rates hold with a chance of {c} at least"))
        .unwrap_or_default();
    if limits.is_empty() { "none".to_string() } else { limits.join(", ") + &chance }
}

/// What the intervals of a plan cover (those of cost: [`crate::hardware`]; of accuracy: [`crate::quality`]).
pub const INTERVALS: &str = "90 % intervals of cost, 80 % of accuracy";

/// Characters that fit the picture's width at the caption's size.
const CAPTION_WIDTH: usize = 165;

/// Breaks a line between words.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let full =
            lines.last().is_some_and(|l| !l.is_empty() && l.chars().count() + word.len() >= CAPTION_WIDTH);
        if full {
            lines.push(String::new());
        }
        if let Some(last) = lines.last_mut() {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

fn profiles(plan: &Plan) -> String {
    let short = |sha: &str| sha.chars().take(8).collect::<String>();
    let names = plan.recipe.profiles.iter().map(|p| format!("{} ({})", p.name, short(&p.sha256)));
    names.collect::<Vec<_>>().join(", ")
}
