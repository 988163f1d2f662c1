//! The plan file: parent, data, deployments, budgets and method, read strictly.
//!
//! Everything that can be judged without another file is judged on reading, with line and column: a run of hours must
//! not end at a typing error of its last stage. Keys: `docs/run.md`.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::hardware::profile::engine::EngineParameters;
use crate::pipeline::plan_error::PlanError;
use crate::plan::budget::Budget;
use crate::plan::record::Metric;
use crate::search::space::options::SpaceOptions;
use crate::units::{self, DType};
use crate::weights::checkpoint::verification::Engine;
use crate::weights::importance::criteria::Criterion;
use crate::weights::surgery::options::{AbsorbPostNorm, DepthMethod, NormInit, Repair};

/// Words as typed, and where.
pub type Typed = Spanned<String>;

/// A plan file. Paths are meant from the folder it lies in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Checkpoint directory to prune.
    pub parent: Typed,
    /// Folder for everything that is written; default: the file's name with `.run`.
    pub work_dir: Option<String>,
    /// Threads; default: one per core. Results do not depend on it.
    pub threads: Option<Spanned<u64>>,
    /// Folders with further hardware profiles.
    #[serde(default)]
    pub profile_dirs: Vec<String>,
    /// Text and size of the calibration.
    pub calibrate: CalibrateSection,
    /// Measured scores of cuts; without it the search goes by the prior alone.
    pub score: Option<ScoreSection>,
    /// Where the shape must run, one device group each.
    pub profile: Spanned<Vec<ProfileSection>>,
    /// The work it is given.
    pub workload: Spanned<Vec<WorkloadSection>>,
    /// Budgets, AND-combined.
    #[serde(default)]
    pub budget: BudgetSection,
    /// The space of shapes.
    #[serde(default)]
    pub search: SearchSection,
    /// The surgery.
    #[serde(default)]
    pub prune: PruneSection,
    /// Held-out text.
    pub evaluate: EvaluateSection,
    /// What must load the child.
    #[serde(default)]
    pub verify: VerifySection,
}

/// `[calibrate]`: see `archplan calibrate --help`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrateSection {
    /// Calibration text.
    pub data: Typed,
    /// Samples, the first of the file.
    pub samples: Option<u64>,
    /// Tokens a sample has at most.
    pub seq_len: Option<u64>,
    /// Tokens at the start of each sample that are not counted.
    pub skip_first: Option<u64>,
    /// Gather Gram matrices too.
    #[serde(default)]
    pub gram: bool,
    /// Tokens run through a layer at a time.
    pub batch_tokens: Option<u64>,
}

/// `[score]`: see `archplan score --help`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreSection {
    /// Text that the cuts are scored on.
    pub data: Typed,
    /// Text of the repair; default: that of the calibration.
    pub repair_data: Option<Typed>,
    /// Samples of the text that is scored on; default: all.
    pub samples: Option<u64>,
    /// Tokens a sample of it has at most.
    pub seq_len: Option<u64>,
    /// Samples of the text of the repair; default: as many as the calibration.
    pub repair_samples: Option<u64>,
    /// Shares of the FFN that stay, such as `75%,50%`.
    pub ffn_keep: Option<Typed>,
    /// Shares of the KV groups that stay.
    pub kv_keep: Option<Typed>,
    /// Shares of each group's query heads that stay.
    pub heads_keep: Option<Typed>,
    /// Shares of the hidden size that stay.
    pub hidden_keep: Option<Typed>,
    /// Runs of 1 to so many layers are dropped.
    pub runs: Option<u64>,
}

/// `[[profile]]`: one device group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileSection {
    /// Name of the hardware profile.
    pub name: String,
    /// Devices of a tensor-parallel group.
    pub tp: Option<u64>,
    /// Type of weights and matrix operands.
    pub dtype: Option<Typed>,
    /// Type of the KV cache.
    pub kv_dtype: Option<Typed>,
    /// Serving engine.
    pub engine: Option<Typed>,
}

/// `[[workload]]`: `batch` or `concurrency`, with `prompt` and `output`, all counts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSection {
    /// Sequences of one static batch.
    pub batch: Option<Spanned<u64>>,
    /// Requests always in flight.
    pub concurrency: Option<Spanned<u64>>,
    /// Prompt tokens per request.
    pub prompt: Spanned<u64>,
    /// Output tokens per request.
    pub output: Spanned<u64>,
}

/// `[budget]`: limits as on the command line of `archplan search`, with their units.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSection {
    /// Time to first token at most.
    pub max_ttft: Option<Typed>,
    /// Time per output token at most.
    pub max_tpot: Option<Typed>,
    /// Time of a whole request at most.
    pub max_latency: Option<Typed>,
    /// Output throughput of the replica at least.
    pub min_throughput: Option<Typed>,
    /// Parameters at most.
    pub max_params: Option<Typed>,
    /// Memory of one device at most.
    pub max_memory: Option<Typed>,
    /// Output throughput against the parent's at least.
    pub speedup: Option<Typed>,
    /// Chance with which each budget on a time or rate must hold.
    pub confidence: Option<Spanned<f64>>,
}

/// `[search]`: see `archplan search --help`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchSection {
    /// Multiples each axis keeps, such as `hidden=128,ffn=128`.
    pub multiple: Option<Typed>,
    /// Bounds of axes, such as `hidden=2048..5120,layers=48`.
    pub bounds: Option<Typed>,
    /// Axes to leave as they are, such as `kv_heads`.
    pub skip: Option<Typed>,
    /// Largest share of hidden size, FFN width and heads to prune.
    pub max_width_prune: Option<f64>,
    /// Largest share of the layers to prune.
    pub max_depth_prune: Option<f64>,
    /// Also allow more query heads per KV head than the parent has.
    #[serde(default)]
    pub merge_kv: bool,
    /// Tokens of recovery training that the prior assumes, such as `100B`; `0` = none.
    pub recovery_tokens: Option<Typed>,
    /// Shapes that are really tried before one is chosen; needs `[score]`.
    #[serde(rename = "try")]
    pub tries: Option<Spanned<u64>>,
    /// Seed of the sample that is drawn in the picture.
    pub seed: Option<u64>,
}

/// `[prune]`: see `archplan prune --help`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneSection {
    /// Which layers go.
    pub depth_method: Option<Typed>,
    /// KV groups of dropped layers compete for the places of the layer before them.
    pub clap: Option<bool>,
    /// Norm gains after a cut in width.
    pub norm: Option<NormInit>,
    /// Whether post-norms become part of the projections before them.
    pub absorb_post_norm: Option<AbsorbPostNorm>,
    /// What is refitted.
    pub repair: Option<Repair>,
    /// What decides which FFN neurons and heads stay.
    pub criterion: Option<Criterion>,
    /// Text of the repair; default: that of the calibration.
    pub data: Option<Typed>,
    /// Samples of that text; default: as many as the calibration.
    pub samples: Option<u64>,
    /// Tokens a sample has at most; default: as the calibration.
    pub seq_len: Option<u64>,
    /// Largest weight file.
    pub shard_size: Option<Typed>,
}

/// `[evaluate]`: see `archplan evaluate --help`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSection {
    /// Held-out text.
    pub data: Typed,
    /// Samples, the first of the file; default: all.
    pub samples: Option<u64>,
    /// Tokens a sample has at most.
    pub seq_len: Option<u64>,
    /// Tokens run through a layer at a time.
    pub batch_tokens: Option<u64>,
}

/// `[verify]`: see `archplan verify --help`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifySection {
    /// Engine that must load the child.
    pub engine: Option<Typed>,
    /// Devices that must be able to share it.
    pub tp: Option<u64>,
}

impl BudgetSection {
    /// The limits that were given: option of `archplan search`, metric, value.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, Metric, &Typed)> {
        let all = [
            ("--max-ttft", Metric::TtftMs, &self.max_ttft),
            ("--max-tpot", Metric::TpotMs, &self.max_tpot),
            ("--max-latency", Metric::LatencyMs, &self.max_latency),
            ("--min-throughput", Metric::OutputTokensPerS, &self.min_throughput),
            ("--max-params", Metric::Params, &self.max_params),
            ("--max-memory", Metric::MemoryGib, &self.max_memory),
            ("--speedup", Metric::Speedup, &self.speedup),
        ];
        all.into_iter().filter_map(|(option, metric, typed)| Some((option, metric, typed.as_ref()?)))
    }
}

impl PlanFile {
    /// Reads a plan file.
    ///
    /// # Errors
    /// A file that cannot be read; the first thing that is wrong in it, with line and column.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let failed = |error| PlanError::Io { path: path.into(), error };
        let text = fs::read(path).map_err(failed)?;
        let text = String::from_utf8(text).map_err(|e| failed(std::io::Error::other(e.utf8_error())))?;
        Self::parse(&text, path)
    }

    /// Reads the text of a plan file; `path` names it in errors.
    ///
    /// # Errors
    /// The first thing that is wrong, with line and column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanError> {
        let plan: Self = toml::from_str(text).map_err(|error| PlanError::syntax(path, text, &error))?;
        plan.check().map_err(|(span, reason)| PlanError::at(path, text, span, reason))?;
        Ok(plan)
    }

    /// The folder for everything that is written, from the folder of the plan file at `path`.
    pub fn work_dir(&self, path: &Path) -> PathBuf {
        match &self.work_dir {
            Some(dir) => path.with_file_name("").join(dir),
            None => path.with_extension("run"),
        }
    }

    /// The first value that no command would take.
    fn check(&self) -> Result<(), (Range<usize>, String)> {
        let spaces: [(&Option<Typed>, SetSpace); 3] = [
            (&self.search.multiple, |s, t| s.set_multiples(t).map_err(|e| e.to_string())),
            (&self.search.bounds, |s, t| s.set_bounds(t).map_err(|e| e.to_string())),
            (&self.search.skip, |s, t| s.set_skip(t).map_err(|e| e.to_string())),
        ];
        for (typed, set) in spaces {
            judge(typed, |text| set(&mut SpaceOptions::default(), text))?;
        }
        for (_, metric, typed) in self.budget.given() {
            wrong_at(typed, Budget::parse(metric, typed.get_ref()))?;
        }
        let trained = self.search.recovery_tokens.as_ref().filter(|typed| typed.get_ref().trim() != "0");
        trained.map_or(Ok(()), |typed| wrong_at(typed, units::parse_count(typed.get_ref())))?;
        match &self.search.tries {
            Some(tries) if self.score.is_none() => {
                return Err((tries.span(), "shapes are tried where they are scored: add [score]".into()));
            }
            tries => tries.as_ref().map_or(Ok(()), at_least_one)?,
        }
        if let (Some(typed), Some(_)) = (&self.search.recovery_tokens, &self.score) {
            let reason =
                "losses are scored without training: leave recovery_tokens out where there is a [score]";
            return Err((typed.span(), reason.into()));
        }
        judge(&self.prune.depth_method, str::parse::<DepthMethod>)?;
        judge(&self.prune.shard_size, units::parse_bytes)?;
        judge(&self.verify.engine, str::parse::<Engine>)?;
        self.check_deployments()
    }

    fn check_deployments(&self) -> Result<(), (Range<usize>, String)> {
        let empty = |span, what: &str| Err((span, format!("no {what}: give at least one [[{what}]]")));
        if self.profile.get_ref().is_empty() {
            return empty(self.profile.span(), "profile");
        }
        if self.workload.get_ref().is_empty() {
            return empty(self.workload.span(), "workload");
        }
        for profile in self.profile.get_ref() {
            judge(&profile.dtype, str::parse::<DType>)?;
            judge(&profile.kv_dtype, str::parse::<DType>)?;
            judge(&profile.engine, EngineParameters::built_in)?;
        }
        for workload in self.workload.get_ref() {
            let load = match (&workload.batch, &workload.concurrency) {
                (Some(load), None) | (None, Some(load)) => load,
                _ => {
                    let reason = "a workload has either `batch` or `concurrency`".to_string();
                    return Err((workload.prompt.span(), reason));
                }
            };
            for count in [load, &workload.prompt, &workload.output] {
                at_least_one(count)?;
            }
        }
        self.threads.as_ref().map_or(Ok(()), at_least_one)
    }
}

/// Reads a setting of the space into its options.
type SetSpace = fn(&mut SpaceOptions, &str) -> Result<(), String>;

fn at_least_one(count: &Spanned<u64>) -> Result<(), (Range<usize>, String)> {
    match count.get_ref() {
        0 => Err((count.span(), "0: expected 1 or more".into())),
        _ => Ok(()),
    }
}

fn judge<T, E: ToString>(
    typed: &Option<Typed>,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<(), (Range<usize>, String)> {
    typed.as_ref().map_or(Ok(()), |typed| wrong_at(typed, read(typed.get_ref())))
}

fn wrong_at<T, E: ToString>(typed: &Typed, read: Result<T, E>) -> Result<(), (Range<usize>, String)> {
    read.map(|_| ()).map_err(|error| (typed.span(), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "parent = \"model\"\n[calibrate]\ndata = \"a.jsonl\"\n[evaluate]\ndata = \"b.jsonl\"\n\
        [[profile]]\nname = \"h200_sxm\"\n[[workload]]\nbatch = 4\nprompt = 128\noutput = 32\n";

    fn parse(text: &str) -> Result<PlanFile, String> {
        PlanFile::parse(text, Path::new("plan.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_least_that_is_needed() {
        let plan = parse(SMALLEST).unwrap();
        assert!(plan.score.is_none() && plan.budget.given().next().is_none());
        assert_eq!(plan.work_dir(Path::new("a/plan.toml")), Path::new("a/plan.run"));
        let named = parse(&format!("work_dir = \"w\"\n{SMALLEST}")).unwrap();
        assert_eq!(named.work_dir(Path::new("a/plan.toml")), Path::new("a/w"));
        assert_eq!(named.work_dir(Path::new("plan.toml")), Path::new("w"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let budget = |line: &str| format!("{SMALLEST}[budget]\n{line}\n");
        let cases = [
            (SMALLEST.replace("batch", "btach"), ":9:1: unknown field `btach`", "did you mean `batch`?"),
            (SMALLEST.replace("[calibrate]", "[calibrat]"), ":2:2: unknown field `calibrat`", "`calibrate`?"),
            (SMALLEST.replace("batch = 4", "batch = 0"), ":9:9: 0: expected 1 or more", ""),
            (SMALLEST.replace("batch = 4\n", ""), ":9:10: a workload has either", "`concurrency`"),
            (SMALLEST.replace("parent = \"model\"", ""), "missing field `parent`", ""),
            (budget("max_tpot = \"20\""), ":13:12: ", "20"),
            (budget("max_tpot = 20"), ":13:12: invalid type", "string"),
            (budget("speedup = \"1.3"), ":13:", ""),
            (format!("{SMALLEST}[search]\nmultiple = \"hiden=8\"\n"), ":13:12: ", "did you mean `hidden`?"),
            (
                format!("{SMALLEST}[prune]\nrepair = \"least-square\"\n"),
                ":13:10: unknown variant",
                "`least-squares`?",
            ),
            (format!("{SMALLEST}[prune]\ndepth_method = \"contigous\"\n"), ":13:16: ", "`contiguous`?"),
            (format!("{SMALLEST}[search]\ntry = 4\n"), ":13:7: ", "add [score]"),
            (SMALLEST.replace("\"h200_sxm\"", "\"h200_sxm\"\ndtype = \"bf17\""), ":8:9: ", "bf17"),
        ];
        for (text, place, more) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with("plan.toml:") && error.contains(place), "{error}");
            assert!(error.contains(more) && !error.contains('\n'), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(at in 0..SMALLEST.len(), with in "\\PC{0,4}") {
            let _ = parse(&format!("{}{with}{}", &SMALLEST[..at], &SMALLEST[at..]));
        }
    }
}
