//! A plan file turned into stages: the command lines as a person would type them.

use std::path::{Path, PathBuf};

use crate::pipeline::plan_file::{PlanFile, ProfileSection, Typed, WorkloadSection};
use crate::pipeline::stage::{Action, Artefact, Place, Stage, StageName, Word, place};
use crate::weights::importance::calibrate;

/// All stages of a plan, and how its search is tried beforehand.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages {
    /// In the order they run.
    pub all: Vec<Stage>,
    /// The search as a dry run: it finds out in a moment whether profiles and space are what they must be.
    pub rehearsal: Vec<Word>,
}

/// Where things are.
struct Layout<'a> {
    plan: &'a PlanFile,
    /// Folder of the plan file.
    base: PathBuf,
    work: &'a Path,
    profile_dirs: Vec<Place>,
}

impl Stages {
    /// The stages of the plan read from `file`, writing to `work`. `profile_dirs`: further folders of hardware profiles, from
    /// where this process is.
    pub fn new(plan: &PlanFile, file: &Path, work: &Path, profile_dirs: &[PathBuf]) -> Self {
        let base = file.with_file_name("");
        let own = plan.profile_dirs.iter().map(|typed| place(typed, &base));
        let more = profile_dirs.iter().map(|dir| place(&dir.display().to_string(), Path::new("")));
        let layout = Layout { plan, work, profile_dirs: own.chain(more).collect(), base: base.clone() };
        let (search, rehearsal) = layout.search();
        let mut all = vec![layout.calibrate()];
        all.extend(layout.score());
        all.extend([search, layout.prune(), layout.evaluate(), layout.verify()]);
        all.push(layout.report(file));
        Self { all, rehearsal }
    }
}

impl Layout<'_> {
    /// Something the plan file names.
    fn given(&self, typed: &Typed) -> Place {
        place(typed.get_ref(), &self.base)
    }

    /// Something a run writes.
    fn made(&self, name: &str) -> Place {
        Place { typed: format!("WORK/{name}"), path: self.work.join(name) }
    }

    fn parent(&self) -> Place {
        self.given(&self.plan.parent)
    }

    fn calibrate(&self) -> Stage {
        let section = &self.plan.calibrate;
        let (data, out) = (self.given(&section.data), self.made(STATISTICS));
        let mut words = Words::new("calibrate");
        words.place("--model", self.parent()).place("--data", data.clone());
        words.option("--samples", section.samples).option("--seq-len", section.seq_len);
        words.option("--skip-first", section.skip_first).switch("--gram", section.gram);
        words.option("--batch-tokens", section.batch_tokens).threads(self.plan);
        words.place("--out", out.clone());
        Stage {
            name: StageName::Calibrate,
            words: words.0,
            action: Action::Command(None),
            inputs: vec![Artefact::Checkpoint(self.parent()), Artefact::File(data)],
            unfinished: Some(calibrate::partial_path(&out.path)),
            written: vec![out.path.clone()],
            outputs: vec![Artefact::File(out)],
        }
    }

    fn score(&self) -> Option<Stage> {
        let section = self.plan.score.as_ref()?;
        let data = self.given(&section.data);
        let repair = self.given(section.repair_data.as_ref().unwrap_or(&self.plan.calibrate.data));
        let (statistics, out) = (self.made(STATISTICS), self.made(SCORES));
        let mut words = Words::new("score");
        words.place("--model", self.parent()).place("--importance", statistics.clone());
        words.place("--data", data.clone()).place("--repair-data", repair.clone());
        words.option("--samples", section.samples).option("--seq-len", section.seq_len);
        words.option("--repair-samples", section.repair_samples);
        for (option, typed) in [
            ("--ffn-keep", &section.ffn_keep),
            ("--kv-keep", &section.kv_keep),
            ("--heads-keep", &section.heads_keep),
            ("--hidden-keep", &section.hidden_keep),
        ] {
            words.option(option, typed.as_ref().map(Typed::get_ref));
        }
        words.option("--runs", section.runs);
        self.surgery(&mut words);
        words.threads(self.plan).place("--out", out.clone());
        let unfinished = calibrate::partial_path(&out.path);
        let files = [statistics, data, repair].map(Artefact::File);
        Some(Stage {
            name: StageName::Score,
            words: words.0,
            action: Action::Command(None),
            inputs: std::iter::once(Artefact::Checkpoint(self.parent())).chain(files).collect(),
            written: vec![out.path.clone(), self.made(STUDY).path],
            outputs: vec![Artefact::File(out)],
            unfinished: Some(unfinished),
        })
    }

    /// The search, and its dry run.
    fn search(&self) -> (Stage, Vec<Word>) {
        let (plan, section) = (self.plan, &self.plan.search);
        let mut words = Words::new("search");
        for dir in &self.profile_dirs {
            words.place("--profile-dir", dir.clone());
        }
        words.place("--model", self.parent());
        for profile in plan.profile.get_ref() {
            words.option("--profile", Some(profile_words(profile)));
        }
        for workload in plan.workload.get_ref() {
            words.option("--workload", Some(workload_words(workload)));
        }
        for (option, _, limit) in plan.budget.given() {
            words.option(option, Some(limit.get_ref()));
        }
        words.option("--confidence", plan.budget.confidence.as_ref().map(|chance| *chance.get_ref()));
        for (option, typed) in [
            ("--multiple", &section.multiple),
            ("--bounds", &section.bounds),
            ("--skip", &section.skip),
            ("--recovery-tokens", &section.recovery_tokens),
        ] {
            words.option(option, typed.as_ref().map(Typed::get_ref));
        }
        words.option("--max-width-prune", section.max_width_prune);
        words.option("--max-depth-prune", section.max_depth_prune);
        words.switch("--merge-kv", section.merge_kv).option("--seed", section.seed);
        let mut rehearsal = words.0.clone();
        rehearsal.push(Word::Text("--dry-run".into()));
        let mut inputs = vec![Artefact::File(place_in(&self.parent(), "config.json"))];
        inputs.extend(self.profile_dirs.iter().cloned().map(Artefact::Folder));
        if plan.score.is_some() {
            words.place("--scores", self.made(SCORES));
            inputs.push(Artefact::File(self.made(SCORES)));
        }
        if let Some(tries) = &section.tries {
            words.option("--try", Some(*tries.get_ref())).place("--study", self.made(STUDY));
            words.place("--importance", self.made(STATISTICS)).threads(plan);
            inputs.push(Artefact::File(self.made(STATISTICS)));
            inputs.push(Artefact::Checkpoint(self.parent()));
        }
        words.place("--out", self.made(SEARCH));
        let stage = Stage {
            name: StageName::Search,
            words: words.0,
            action: Action::Command(None),
            inputs,
            outputs: [PLAN, self.target()].map(|name| Artefact::File(self.made(name))).into(),
            written: vec![self.made(SEARCH).path],
            unfinished: None,
        };
        (stage, rehearsal)
    }

    /// The file of the chosen shape: scores say which layers go, too.
    fn target(&self) -> &'static str {
        if self.plan.score.is_some() { SCORED_TARGET } else { TARGET }
    }

    fn prune(&self) -> Stage {
        let (section, calibrate) = (&self.plan.prune, &self.plan.calibrate);
        let data = self.given(section.data.as_ref().unwrap_or(&calibrate.data));
        // The shape alone, not the folder of the search: another budget that leads to the same shape changes nothing here.
        let (target, statistics, out) = (self.made(self.target()), self.made(STATISTICS), self.made(CHILD));
        let mut words = Words::new("prune");
        words.place("--model", self.parent()).place("--target", target.clone());
        words.place("--importance", statistics.clone()).place("--data", data.clone());
        words.option("--samples", section.samples).option("--seq-len", section.seq_len);
        self.surgery(&mut words);
        words.option("--shard-size", section.shard_size.as_ref().map(Typed::get_ref));
        words.threads(self.plan).place("--out", out.clone());
        let files = [target, statistics, data].map(Artefact::File);
        Stage {
            name: StageName::Prune,
            words: words.0,
            action: Action::Command(None),
            inputs: std::iter::once(Artefact::Checkpoint(self.parent())).chain(files).collect(),
            written: vec![out.path.clone()],
            outputs: vec![Artefact::Checkpoint(out)],
            unfinished: None,
        }
    }

    /// The switches of the surgery: cuts are scored as they are made.
    fn surgery(&self, words: &mut Words) {
        let section = &self.plan.prune;
        words.option("--depth-method", section.depth_method.as_ref().map(Typed::get_ref));
        words.option("--clap", section.clap.map(|on| if on { "on" } else { "off" }));
        words.option("--norm", section.norm).option("--absorb-post-norm", section.absorb_post_norm);
        words.option("--repair", section.repair).option("--criterion", section.criterion);
    }

    fn evaluate(&self) -> Stage {
        let section = &self.plan.evaluate;
        let (child, data, out) = (self.made(CHILD), self.given(&section.data), self.made(EVALUATION));
        let mut words = Words::new("evaluate");
        words.place("--model", child.clone()).place("--parent", self.parent()).place("--data", data.clone());
        words.option("--samples", section.samples).option("--seq-len", section.seq_len);
        words.option("--batch-tokens", section.batch_tokens).threads(self.plan).switch("--json", true);
        let checkpoints = [child, self.parent()].map(Artefact::Checkpoint);
        Stage {
            name: StageName::Evaluate,
            words: words.0,
            action: Action::Command(Some(out.clone())),
            inputs: checkpoints.into_iter().chain([Artefact::File(data)]).collect(),
            written: vec![out.path.clone()],
            outputs: vec![Artefact::File(out)],
            unfinished: None,
        }
    }

    fn verify(&self) -> Stage {
        let section = &self.plan.verify;
        let mut words = Words::new("verify");
        words.0.push(Word::Place(self.made(CHILD)));
        words.option("--engine", section.engine.as_ref().map(Typed::get_ref)).option("--tp", section.tp);
        Stage {
            name: StageName::Verify,
            words: words.0,
            action: Action::Command(None),
            inputs: vec![Artefact::Checkpoint(self.made(CHILD))],
            outputs: Vec::new(),
            written: Vec::new(),
            unfinished: None,
        }
    }

    fn report(&self, file: &Path) -> Stage {
        let mut words = Words::new("run");
        let typed = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        words.0.push(Word::Place(Place { typed, path: file.into() }));
        words.place("--work-dir", Place { typed: "WORK".into(), path: self.work.into() });
        words.option("--from", Some(StageName::Report));
        Stage {
            name: StageName::Report,
            words: words.0,
            action: Action::Summary,
            inputs: [PLAN, EVALUATION].map(|name| Artefact::File(self.made(name))).into(),
            outputs: [SUMMARY_JSON, SUMMARY_MD].map(|name| Artefact::File(self.made(name))).into(),
            written: [SUMMARY_JSON, SUMMARY_MD].map(|name| self.made(name).path).into(),
            unfinished: None,
        }
    }
}

/// The statistics of the parent, in the work directory, as all names here.
pub const STATISTICS: &str = "stats.safetensors";
/// Measured scores.
pub const SCORES: &str = "scores.csv";
/// Shapes that were tried; it outlives searches, not scores.
pub const STUDY: &str = "study.jsonl";
/// Folder of the search.
pub const SEARCH: &str = "search";
/// Its plan.
pub const PLAN: &str = "search/plan.json";
/// The shape it chose.
pub const TARGET: &str = "search/target/config.json";
/// The same by scores, with the parent's layers behind it.
pub const SCORED_TARGET: &str = "search/target.json";
/// The child.
pub const CHILD: &str = "child";
/// Its loss beside its parent's.
pub const EVALUATION: &str = "evaluation.json";
/// What came out, for programs.
pub const SUMMARY_JSON: &str = "summary.json";
/// What came out, for people.
pub const SUMMARY_MD: &str = "summary.md";

fn place_in(folder: &Place, name: &str) -> Place {
    Place { typed: format!("{}/{name}", folder.typed), path: folder.path.join(name) }
}

fn profile_words(profile: &ProfileSection) -> String {
    let text = |typed: &Option<Typed>| typed.as_ref().map(|typed| typed.get_ref().clone());
    let settings = [
        ("tp", profile.tp.map(|tp| tp.to_string())),
        ("dtype", text(&profile.dtype)),
        ("kv-dtype", text(&profile.kv_dtype)),
        ("engine", text(&profile.engine)),
    ];
    let given = settings.into_iter().filter_map(|(key, value)| Some(format!(",{key}={}", value?)));
    std::iter::once(profile.name.clone()).chain(given).collect()
}

fn workload_words(workload: &WorkloadSection) -> String {
    let settings = [
        ("batch", workload.batch.as_ref()),
        ("concurrency", workload.concurrency.as_ref()),
        ("prompt", Some(&workload.prompt)),
        ("output", Some(&workload.output)),
    ];
    let given = settings.into_iter().filter_map(|(key, n)| Some(format!("{key}={}", n?.get_ref())));
    given.collect::<Vec<_>>().join(",")
}

/// A command line that grows.
struct Words(Vec<Word>);

impl Words {
    fn new(command: &str) -> Self {
        Self(vec![Word::Text(command.into())])
    }

    fn option(&mut self, option: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value {
            self.0.extend([Word::Text(option.into()), Word::Text(value.to_string())]);
        }
        self
    }

    fn switch(&mut self, option: &str, on: bool) -> &mut Self {
        self.0.extend(on.then(|| Word::Text(option.into())));
        self
    }

    fn place(&mut self, option: &str, place: Place) -> &mut Self {
        self.0.extend([Word::Text(option.into()), Word::Place(place)]);
        self
    }

    /// Results do not depend on the number of threads.
    fn threads(&mut self, plan: &PlanFile) -> &mut Self {
        if let Some(threads) = &plan.threads {
            self.0.extend(["--threads".into(), threads.get_ref().to_string()].map(Word::Aside));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::stage::shell;

    const TEXT: &str = r#"
parent = "models/parent"
threads = 2
profile_dirs = ["mine"]
[calibrate]
data = "text.jsonl"
samples = 8
gram = true
[[profile]]
name = "h100_sxm"
tp = 2
kv_dtype = "fp8"
[[workload]]
concurrency = 16
prompt = 128
output = 32
[budget]
speedup = "1.2x"
confidence = 0.9
[search]
multiple = "hidden=8"
merge_kv = true
[prune]
clap = false
repair = "least-squares"
criterion = "fasp"
[evaluate]
data = "heldout.jsonl"
[verify]
engine = "vllm"
"#;

    fn stages(text: &str) -> Stages {
        let file = Path::new("jobs/plan.toml");
        Stages::new(&PlanFile::parse(text, file).unwrap(), file, Path::new("w"), &[])
    }

    #[test]
    fn stages_are_command_lines() {
        let lines: Vec<String> = stages(TEXT).all.iter().map(shell).collect();
        let expected = [
            "calibrate --model jobs/models/parent --data jobs/text.jsonl --samples 8 --gram --threads 2 --out w/stats.safetensors",
            "search --profile-dir jobs/mine --model jobs/models/parent --profile h100_sxm,tp=2,kv-dtype=fp8 \
             --workload concurrency=16,prompt=128,output=32 --speedup 1.2x --confidence 0.9 --multiple hidden=8 --merge-kv \
             --out w/search",
            "prune --model jobs/models/parent --target w/search/target/config.json --importance w/stats.safetensors \
             --data jobs/text.jsonl --clap off --repair least-squares --criterion fasp --threads 2 --out w/child",
            "evaluate --model w/child --parent jobs/models/parent --data jobs/heldout.jsonl --threads 2 --json > w/evaluation.json",
            "verify w/child --engine vllm",
            "run jobs/plan.toml --work-dir w --from report",
        ];
        assert_eq!(lines, expected.map(|line| format!("archplan {line}")));
    }

    #[test]
    fn scores_are_measured_where_they_are_asked_for() {
        let asked = stages(&format!("{TEXT}[score]\ndata = \"more.jsonl\"\nsamples = 4\n"));
        let lines: Vec<String> = asked.all.iter().map(shell).collect();
        assert_eq!(
            lines[1],
            "archplan score --model jobs/models/parent --importance w/stats.safetensors --data jobs/more.jsonl \
             --repair-data jobs/text.jsonl --samples 4 --clap off --repair least-squares --criterion fasp --threads 2 --out w/scores.csv"
        );
        assert!(lines[2].ends_with("--scores w/scores.csv --out w/search"), "{}", lines[2]);
        assert!(asked.all[2].inputs.iter().any(|input| input.place().typed == "WORK/scores.csv"));
        assert_eq!(
            asked.rehearsal,
            stages(TEXT).rehearsal,
            "there are no scores yet when the search is tried"
        );
    }

    #[test]
    fn shapes_are_tried_with_the_weights_at_hand() {
        let text = format!("{TEXT}[score]\ndata = \"more.jsonl\"\n").replace("merge_kv = true", "try = 4");
        let search = &stages(&text).all[2];
        let line = shell(search);
        let end = "--scores w/scores.csv --try 4 --study w/study.jsonl --importance w/stats.safetensors --threads 2 --out w/search";
        assert!(line.ends_with(end), "{line}");
        assert!(search.inputs.iter().any(|input| matches!(input, Artefact::Checkpoint(_))));
    }

    #[test]
    fn what_a_stage_reads_is_given_or_made_before_it() {
        let scored = format!("{TEXT}[score]\ndata = \"more.jsonl\"\n");
        for text in [TEXT.into(), scored.clone(), scored.replace("merge_kv = true", "try = 4")] {
            let mut made: Vec<Place> = Vec::new();
            let all = stages(&text).all;
            assert!(all.is_sorted_by_key(|stage| stage.name));
            for stage in all {
                for input in &stage.inputs {
                    let place = input.place();
                    assert!(!place.typed.starts_with("WORK") || made.contains(place), "{place:?}");
                }
                for word in &stage.words {
                    let Word::Place(place) = word else { continue };
                    let artefacts = stage.inputs.iter().chain(&stage.outputs).map(Artefact::place);
                    let covered = artefacts.map(|own| &own.path).any(|own| own.starts_with(&place.path));
                    // The study is added to, by one search after the other.
                    let grows = stage.name == StageName::Search && place.path.ends_with(STUDY);
                    assert!(covered || grows || stage.name == StageName::Report, "{}: {place:?}", stage.name);
                }
                made.extend(stage.outputs.iter().map(|output| output.place().clone()));
            }
        }
    }
}
