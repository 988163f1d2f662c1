//! The shipped data files: published pairs of parent and child, rankings, what is believed beforehand, and
//! the fitted coefficients. Embedded in the binary; every defect is a typed error.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::architecture::Architecture;
use crate::quality::benchmark::Benchmark;
use crate::quality::error::QualityError;
use crate::quality::interval::IntervalScales;
use crate::quality::law::{self, Law};

/// Name of the table of pruned models.
pub const PRUNED: &str = "quality/data/pruned_dense.csv";
/// Name of the table of rankings.
pub const RANKINGS: &str = "quality/data/rankings.csv";
/// Name of the file of laws.
pub const LAWS: &str = "quality/data/laws.toml";
/// Name of the file of coefficients.
pub const COEFFICIENTS: &str = "quality/data/coefficients.toml";

const PRUNED_TEXT: &str = include_str!("data/pruned_dense.csv");
const RANKINGS_TEXT: &str = include_str!("data/rankings.csv");
const LAWS_TEXT: &str = include_str!("data/laws.toml");
const COEFFICIENTS_TEXT: &str = include_str!("data/coefficients.toml");

/// Head size written into the shapes of the tables. They do not state it; it never changes from parent to
/// child there, and only ratios enter the law.
const TABLE_HEAD_DIM: u64 = 128;

/// What a row of the table of pruned models is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// The coefficients are fitted on it.
    Fit,
    /// Kept out, to judge the fit by.
    HeldOut,
}

/// One published figure: a parent, a child, and how much of a benchmark's accuracy was left.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is for.
    pub usage: Use,
    /// Name of the parent.
    pub parent: String,
    /// Name of the child.
    pub child: String,
    /// Shape of the parent.
    pub parent_shape: Architecture,
    /// Shape of the child.
    pub child_shape: Architecture,
    /// Tokens the child was retrained on, in billions.
    pub tokens_b: f64,
    /// The benchmark.
    pub benchmark: Benchmark,
    /// The parent's accuracy in percent.
    pub parent_percent: f64,
    /// The child's accuracy in percent.
    pub child_percent: f64,
    /// Where the figure was published.
    pub source: String,
}

/// Candidates of one parent, pruned to about one size and scored without retraining.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// Name of the list.
    pub name: String,
    /// Where it was published, and what it leaves out.
    pub source: String,
    /// Shape of the parent.
    pub parent: Architecture,
    /// The candidates: shape, published parameters in billions, MMLU in percent.
    pub candidates: Vec<(Architecture, f64, f64)>,
}

/// What is believed of one parameter before the table is seen.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Belief {
    /// Parameter, as in [`law::NAMES`].
    pub name: String,
    /// Central value.
    pub prior: f64,
    /// Standard deviation of its natural logarithm.
    pub spread: f64,
    /// Where it is from.
    pub source: String,
}

/// One fitted parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coefficient {
    /// Parameter, as in [`law::NAMES`].
    pub name: String,
    /// Fitted value.
    pub value: f64,
    /// Share of what is known of it that came from the table, 0 (all from the law) to 1.
    pub from_table: f64,
}

/// The file of fitted coefficients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// Rows of the table (and means of them) the fit used.
    pub rows: usize,
    /// Half-widths of the interval, from parents left out of the fit.
    pub interval_scale: IntervalScales,
    /// The parameters, in the order of [`law::NAMES`].
    pub coefficient: Vec<Coefficient>,
}

#[derive(Deserialize)]
struct PrunedRow {
    #[serde(rename = "use")]
    usage: Use,
    parent: String,
    p_layers: u64,
    p_hidden: u64,
    p_ffn: u64,
    p_heads: u64,
    p_kv: u64,
    child: String,
    layers: u64,
    hidden: u64,
    ffn: u64,
    heads: u64,
    kv: u64,
    kd_tokens_b: f64,
    metric: Benchmark,
    parent_value: f64,
    child_value: f64,
    source: String,
}

#[derive(Deserialize)]
struct RankingRow {
    list: String,
    p_layers: u64,
    p_hidden: u64,
    p_ffn: u64,
    p_heads: u64,
    p_kv: u64,
    layers: u64,
    hidden: u64,
    ffn: u64,
    heads: u64,
    kv: u64,
    params_b: f64,
    score_percent: f64,
    source: String,
}

fn shape(layers: u64, hidden: u64, ffn: u64, heads: u64, kv: u64) -> Architecture {
    Architecture::uniform(layers, hidden, ffn, heads, kv, TABLE_HEAD_DIM)
}

/// The shipped table of pruned models.
pub fn samples() -> Result<Vec<Sample>, QualityError> {
    parse_samples(PRUNED_TEXT)
}

/// Reads a table of pruned models.
pub fn parse_samples(text: &str) -> Result<Vec<Sample>, QualityError> {
    csv_rows::<PrunedRow>(PRUNED, text)?
        .into_iter()
        .map(|(line, r)| {
            let wrong = |problem: String| Err(QualityError::Table { file: PRUNED, line, problem });
            let chance = r.metric.chance_percent();
            if !(r.parent_value > chance && r.parent_value <= 100.0) {
                return wrong(format!(
                    "parent_value is {}: expected above chance ({chance}) and at most 100",
                    r.parent_value
                ));
            }
            if !(0.0..=100.0).contains(&r.child_value) {
                return wrong(format!("child_value is {}: expected a percentage", r.child_value));
            }
            if !(r.kd_tokens_b.is_finite() && r.kd_tokens_b >= 0.0) {
                return wrong(format!("kd_tokens_b is {}: expected 0 or more", r.kd_tokens_b));
            }
            Ok(Sample {
                usage: r.usage,
                parent: r.parent,
                child: r.child,
                parent_shape: shape(r.p_layers, r.p_hidden, r.p_ffn, r.p_heads, r.p_kv),
                child_shape: shape(r.layers, r.hidden, r.ffn, r.heads, r.kv),
                tokens_b: r.kd_tokens_b,
                benchmark: r.metric,
                parent_percent: r.parent_value,
                child_percent: r.child_value,
                source: r.source,
            })
        })
        .collect()
}

/// The shipped rankings.
pub fn rankings() -> Result<Vec<Ranking>, QualityError> {
    let mut lists: Vec<Ranking> = Vec::new();
    for (_, r) in csv_rows::<RankingRow>(RANKINGS, RANKINGS_TEXT)? {
        let candidate = (shape(r.layers, r.hidden, r.ffn, r.heads, r.kv), r.params_b, r.score_percent);
        match lists.iter_mut().find(|list| list.name == r.list) {
            Some(list) => list.candidates.push(candidate),
            None => lists.push(Ranking {
                name: r.list,
                source: r.source,
                parent: shape(r.p_layers, r.p_hidden, r.p_ffn, r.p_heads, r.p_kv),
                candidates: vec![candidate],
            }),
        }
    }
    Ok(lists)
}

fn csv_rows<T: DeserializeOwned>(file: &'static str, text: &str) -> Result<Vec<(u64, T)>, QualityError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    (2..)
        .zip(reader.deserialize())
        .map(|(line, row)| match row {
            Ok(row) => Ok((line, row)),
            Err(e) => Err(QualityError::Table { file, line, problem: e.to_string() }),
        })
        .collect()
}

/// The shipped beliefs, in the order of [`law::NAMES`].
pub fn beliefs() -> Result<Vec<Belief>, QualityError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        parameter: Vec<Belief>,
    }
    let file: File = from_toml(LAWS, LAWS_TEXT)?;
    in_order(LAWS, file.parameter, |b| &b.name, |b| b.prior.min(b.spread))
}

/// The shipped coefficients.
pub fn fitted() -> Result<Fitted, QualityError> {
    parse_fitted(COEFFICIENTS_TEXT)
}

/// Reads a file of coefficients.
pub fn parse_fitted(text: &str) -> Result<Fitted, QualityError> {
    let file: Fitted = from_toml(COEFFICIENTS, text)?;
    let coefficient = in_order(COEFFICIENTS, file.coefficient, |c| &c.name, |c| c.value)?;
    Ok(Fitted { coefficient, ..file })
}

impl Fitted {
    /// The law with these coefficients.
    pub fn law(&self) -> Law {
        let mut values = [1.0; law::PARAMETERS];
        for (value, coefficient) in values.iter_mut().zip(&self.coefficient) {
            *value = coefficient.value;
        }
        Law { values }
    }
}

fn from_toml<T: DeserializeOwned>(file: &'static str, text: &str) -> Result<T, QualityError> {
    toml::from_str(text).map_err(|e| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() as u64 + 1;
        QualityError::Table { file, line, problem: e.message().to_string() }
    })
}

/// The entries in the order of the parameters: each there once, positive and finite, none unknown.
fn in_order<T>(
    file: &'static str,
    entries: Vec<T>,
    name: impl Fn(&T) -> &str,
    least: impl Fn(&T) -> f64,
) -> Result<Vec<T>, QualityError> {
    let wrong = |name: &str, problem| QualityError::Parameter { file, name: name.to_string(), problem };
    let mut slots: Vec<Option<T>> = law::NAMES.iter().map(|_| None).collect();
    for entry in entries {
        let at = law::NAMES.iter().position(|known| *known == name(&entry));
        let Some(slot) = at.and_then(|i| slots.get_mut(i)) else {
            return Err(wrong(name(&entry), "is not one of the law's"));
        };
        if !(least(&entry) > 0.0 && least(&entry).is_finite()) {
            return Err(wrong(name(&entry), "must be positive and finite"));
        }
        if slot.is_some() {
            return Err(wrong(name(&entry), "is given twice"));
        }
        *slot = Some(entry);
    }
    slots
        .into_iter()
        .zip(law::NAMES)
        .map(|(slot, name)| slot.ok_or_else(|| wrong(name, "is missing")))
        .collect()
}
