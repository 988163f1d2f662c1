//! Scores and tries of `archplan search`: what it is judged by, and the best shapes really pruned.

use std::path::{Path, PathBuf};

use archplan::model::spec::ModelSpec;
use archplan::plan::pool::{self, Sizes};
use archplan::plan::request::Request;
use archplan::quality::scores::{Scores, TextRecord};
use archplan::quality::study::ask;
use archplan::quality::study::estimator::Site;
use archplan::quality::study::judge::Judge;
use archplan::quality::study::line::{Asked, Candidate, FORMAT, Header, Line, Told};
use archplan::weights::scoring::Bench;
use archplan::weights::scoring::reference::Reference;
use archplan::weights::surgery::options::Options;
use sha2::{Digest, Sha256};

use crate::cli::bench::BenchArgs;
use crate::cli::device::DeviceArgs;
use crate::cli::progress::Steps;
use crate::cli::search_layers::LoadableArg;
use crate::cli::study::{self, StudyFile};
use crate::cli::{Failure, output, score_files, tries};

/// The study in the folder of a result.
const STUDY: &str = "study.jsonl";

/// Whether a folder is that of a search that tries shapes, finished or not.
pub fn is_ours(dir: &Path) -> bool {
    dir.join(STUDY).is_file()
}

/// How many shapes a new study begins with.
const BEGINNING: Sizes = Sizes { best: 200, sample: 400 };

/// How many of the best are added once more is known.
const ADDED: Sizes = Sizes { best: 50, sample: 0 };

/// Shapes tried between two looks at what was learned.
const BATCH: u64 = 4;

/// What shapes are judged by instead of the prior.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Scores and tries")]
pub struct ScoreArgs {
    /// Scores of the model, from `archplan score`: losses then come from them, before any training
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// Study of tried shapes; what it holds is learned from, and it goes on [default with --try: study.jsonl in --out]
    #[arg(long, value_name = "FILE", requires = "scores")]
    pub study: Option<PathBuf>,
    /// Really prune to the N most promising shapes and measure them (those in the study count); the best of all tried
    /// ones is chosen
    #[arg(long = "try", value_name = "N", requires = "scores", requires = "importance", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub tries: Option<u64>,
    /// Also find a shape for each layer, exact by the scores; layers choose among what they were scored as
    #[arg(long, requires = "scores")]
    pub per_layer: bool,
    /// What is to load a child whose layers differ
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = LoadableArg::Any, requires = "per_layer")]
    pub loadable: LoadableArg,
    /// Statistics of the model the scores were made with
    #[arg(long, value_name = "FILE")]
    importance: Option<PathBuf>,
    /// Held-out text [default: that of the scores, where it was]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Text of the repair [default: that of the scores, where it was]
    #[arg(long, value_name = "FILE")]
    repair_data: Option<PathBuf>,
    /// Threads of the tries [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Device of the tries.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Scores as read.
pub struct Scored {
    /// The scores.
    pub scores: Scores,
    sha256: String,
    /// Where the study is, if there is one.
    pub study: Option<PathBuf>,
}

impl ScoreArgs {
    /// Reads the scores of `spec`.
    pub fn load(&self, spec: &ModelSpec, out: Option<&Path>) -> Result<Option<Scored>, Failure> {
        let Some(path) = &self.scores else { return Ok(None) };
        let scores = score_files::read(path)?;
        if scores.header.architecture != spec.architecture {
            return Err(Failure::bad_input(format!(
                "{}: scores of {}, but the parent is {}: score it with archplan score",
                path.display(),
                scores.header.architecture,
                spec.architecture
            )));
        }
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::bad_input(format!("{}: {error}", path.display())))?;
        let in_out = out.map(|dir| dir.join(STUDY));
        let study = self.study.clone().or(in_out.filter(|_| self.tries.is_some()));
        if study.is_none() && self.tries.is_some() {
            return Err(Failure::bad_input(
                "--try needs --study FILE or --out DIR: tries are kept in a file",
            ));
        }
        Ok(Some(Scored { scores, sha256: hex(&bytes), study }))
    }
}

fn said(told: &Told) -> String {
    match (told.loss_increase_nats, &told.failed) {
        (Some(nats), _) => format!("measured {nats:+.4} nats a token"),
        (None, problem) => format!("failed: {}", problem.as_deref().unwrap_or("it is not said why")),
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Scored {
    /// What shapes are judged by: the scores, and what was tried so far.
    pub fn judge(&self) -> Result<Judge, Failure> {
        let known = self.study.as_deref().filter(|path| path.exists());
        let study = known.map(study::read).transpose()?;
        if let Some(study) = &study {
            study.header.same(&self.header()).map_err(Failure::bad_input)?;
        }
        Judge::new(&self.scores, self.sha256.clone(), study.as_ref()).map_err(Failure::bad_input)
    }

    fn header(&self) -> Header {
        let of = &self.scores.header;
        Header {
            format: FORMAT,
            made_by: format!("archplan {}", env!("CARGO_PKG_VERSION")),
            command: output::command_line(),
            fingerprint: of.fingerprint.clone(),
            parent: of.architecture.clone(),
            scores_sha256: self.sha256.clone(),
        }
    }

    /// Begins the study, or adds the best of `request` to it.
    pub fn fill(&self, request: &Request<'_>) -> Result<(), Failure> {
        let Some(path) = &self.study else { return Ok(()) };
        let of = |sizes| -> Result<Vec<Line>, Failure> {
            let pool = pool::pool(request, sizes).map_err(Failure::bad_input)?;
            Ok(pool.into_iter().map(Line::Candidate).collect())
        };
        if !path.exists() {
            let header = std::iter::once(Line::Study(self.header()));
            return study::begin(path, &header.chain(of(BEGINNING)?).collect::<Vec<_>>());
        }
        let mut file = StudyFile::open(path)?;
        let mut lines = of(ADDED)?;
        lines.retain(|line| match line {
            Line::Candidate(candidate) => file.study.find(&candidate.id).is_none(),
            _ => true,
        });
        // Tries made for other budgets count for these.
        let restated = pool::restated(request, &file.study.candidates).map_err(Failure::bad_input)?;
        lines.extend(restated.into_iter().map(Line::Candidate));
        file.append(lines)
    }

    /// Tries shapes until `count` that keep the budgets have been, over all runs of the study; `refill` adds what a judge finds best.
    pub fn tried(
        &self,
        args: &ScoreArgs,
        model: &Path,
        refill: &(dyn Fn(&Judge) -> Result<(), Failure> + Sync),
        besides: &(dyn Fn(&Judge) -> Result<Option<Candidate>, Failure> + Sync),
    ) -> Result<(), Failure> {
        let (Some(count), Some(path), Some(importance)) = (args.tries, &self.study, &args.importance) else {
            return Ok(());
        };
        let options: Options = serde_json::from_value(self.scores.header.surgery.clone())
            .map_err(|error| Failure::bad_input(format!("the scores' surgery: {error}")))?;
        let text = self.text(args)?;
        let loaded = text.load(model, importance, &options)?;
        loaded.with(&options, text.threads(), |bench, reference| {
            let mut header = text.header(&loaded, &options, reference)?;
            header.changes = self.scores.header.changes;
            header.shards = self.scores.header.shards;
            header.made_by.clone_from(&self.scores.header.made_by);
            if let Some(what) = self.scores.header.difference(&header) {
                return Err(Failure::bad_input(format!(
                    "the {what} is not that of the scores: tries would not be comparable with them"
                )));
            }
            self.run(count, path, bench, reference, refill)?;
            let judge = self.judge()?;
            match besides(&judge)? {
                Some(candidate) if judge.tried.iter().all(|tried| tried.child != candidate.child) => {
                    self.try_one(path, bench, reference, &candidate, &judge)
                }
                _ => Ok(()),
            }
        })
    }

    fn run(
        &self,
        count: u64,
        path: &Path,
        bench: &Bench<'_>,
        reference: &Reference<'_>,
        refill: &(dyn Fn(&Judge) -> Result<(), Failure> + Sync),
    ) -> Result<(), Failure> {
        let study = study::read(path)?;
        let done =
            study.candidates.iter().filter(|c| c.feasible && study.told.contains_key(&c.id)).count() as u64;
        let bar = Steps::new(count.saturating_sub(done));
        let scratch = path.with_extension("scratch");
        let mut left = count.saturating_sub(done);
        while left > 0 {
            let judge = self.judge()?;
            refill(&judge)?;
            let mut file = StudyFile::open(path)?;
            // A shape that an interrupted run asked for is asked for again.
            file.study.pending.clear();
            let choices = ask::next(&file.study, BATCH.min(left) as usize);
            if choices.is_empty() {
                log::warn!("every candidate within the budgets has been tried");
                break;
            }
            left -= choices.len() as u64;
            let asked: Vec<_> = choices.iter().map(|choice| choice.asked(None)).collect();
            let children: Vec<_> = choices.iter().map(|choice| choice.candidate.clone()).collect();
            file.append(asked.iter().cloned().map(Line::Asked).collect())?;
            drop(file);
            for (candidate, asked) in children.iter().zip(asked) {
                let told = tries::measure(bench, reference, &candidate.id, &candidate.child, &scratch);
                let predicted = asked.predicted_nats.unwrap_or(f64::NAN);
                bar.say(&format!("{}: predicted {predicted:+.4}, {}", candidate.id, said(&told)));
                StudyFile::open(path)?.append(vec![Line::Told(told)])?;
                bar.done();
            }
        }
        Ok(())
    }

    /// Tries a shape that no list of candidates has.
    fn try_one(
        &self,
        path: &Path,
        bench: &Bench<'_>,
        reference: &Reference<'_>,
        candidate: &Candidate,
        judge: &Judge,
    ) -> Result<(), Failure> {
        let predicted = judge.estimator.predict(&Site::from(candidate));
        let asked = Asked {
            id: candidate.id.clone(),
            worker: None,
            predicted_nats: Some(predicted.mean),
            deviation_nats: Some(predicted.deviation),
        };
        StudyFile::open(path)?.append(vec![Line::Candidate(candidate.clone()), Line::Asked(asked)])?;
        let scratch = path.with_extension("scratch");
        let told = tries::measure(bench, reference, &candidate.id, &candidate.child, &scratch);
        log::info!("layer by layer: predicted {:+.4}, {}", predicted.mean, said(&told));
        StudyFile::open(path)?.append(vec![Line::Told(told)])
    }

    /// The texts of the scores, unless others are typed.
    fn text(&self, args: &ScoreArgs) -> Result<BenchArgs, Failure> {
        let header = &self.scores.header;
        let file = |typed: &Option<PathBuf>, record: &TextRecord, flag: &str| {
            let path = typed.clone().unwrap_or_else(|| PathBuf::from(&record.path));
            match path.is_file() {
                true => Ok(path),
                false => Err(Failure::bad_input(format!(
                    "{} is not there: say where the text of the scores is with {flag}",
                    path.display()
                ))),
            }
        };
        let repair = header.repair_data.as_ref();
        Ok(BenchArgs {
            data: Some(file(&args.data, &header.data, "--data")?),
            samples: Some(header.data.samples),
            seq_len: header.data.seq_len,
            repair_data: repair.map(|record| file(&args.repair_data, record, "--repair-data")).transpose()?,
            repair_samples: repair.map(|record| record.samples),
            threads: args.threads,
        })
    }
}
