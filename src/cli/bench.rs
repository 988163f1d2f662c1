//! A parent with the text to repair and to judge on, as typed: what scores and tries are measured with.

use std::path::{Path, PathBuf};

use archplan::compute::threads;
use archplan::model::counts;
use archplan::quality::scores::file::FORMAT;
use archplan::quality::scores::{Header, TextRecord};
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::importance::file::Importance;
use archplan::weights::network::source::{LayerSource, Resident, Streamed};
use archplan::weights::network::text::{self, Request, Samples};
use archplan::weights::scoring::Bench;
use archplan::weights::scoring::reference::Reference;
use archplan::weights::scoring::whole::IN_MEMORY;
use archplan::weights::surgery::options::Options;

use crate::cli::surgery_options::{DataArgs, repair_text};
use crate::cli::{Failure, arguments, prune};

/// Tokens run through a layer at a time.
const BATCH_TOKENS: usize = 8192;

/// The texts.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Text")]
pub struct BenchArgs {
    /// Held-out text that losses are measured on: .jsonl or .txt, as for `archplan evaluate`
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// How many samples of it, the first of the file [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub samples: Option<u64>,
    /// Tokens a sample of it has at most
    #[arg(long, value_name = "TOKENS", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(2..=1 << 20))]
    pub seq_len: u64,
    /// Text of the repair [default: what the statistics were gathered on]
    #[arg(long, value_name = "FILE")]
    pub repair_data: Option<PathBuf>,
    /// How many samples of it, the first of the file [default: as many as the statistics]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub repair_samples: Option<u64>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
}

/// What was typed, read.
pub struct Loaded {
    /// The parent.
    pub parent: Checkpoint,
    data: PathBuf,
    importance: Importance,
    importance_sha256: String,
    heldout: Samples,
    repair: Option<(PathBuf, Samples)>,
}

/// A model in memory, where it is small.
pub fn resident(model: &Streamed<'_>) -> Result<Option<Resident>, Failure> {
    let small = counts::parameters(model.spec(), &model.spec().architecture).total() <= IN_MEMORY;
    small.then(|| Resident::of(model)).transpose().map_err(Failure::bad_input)
}

impl BenchArgs {
    /// Threads to use.
    pub fn threads(&self) -> usize {
        arguments::threads(self.threads)
    }

    /// Reads the parent, its statistics and the texts.
    pub fn load(&self, model: &Path, importance: &Path, options: &Options) -> Result<Loaded, Failure> {
        let parent = Checkpoint::open(model).map_err(Failure::bad_input)?;
        let (importance, importance_sha256) = prune::statistics(importance, &parent)?;
        let request = Request {
            samples: self.samples.map(|n| n as usize),
            seq_len: self.seq_len as usize,
            vocabulary: parent.spec().vocab_size as usize,
        };
        let data = self
            .data
            .clone()
            .ok_or_else(|| Failure::bad_input("--data FILE is needed: held-out text to measure losses on"))?;
        let heldout = text::read(&data, model, request).map_err(Failure::bad_input)?;
        let of_repair = DataArgs {
            data: self.repair_data.clone(),
            samples: self.repair_samples,
            seq_len: None,
            threads: self.threads,
        };
        let repair = match options.repair.needs_text() {
            true => Some(repair_text(&of_repair, &parent, model, Some(&importance.header))?),
            false => None,
        };
        Ok(Loaded { parent, data, importance, importance_sha256, heldout, repair })
    }

    /// What scores measured with this belong to.
    pub fn header(
        &self,
        loaded: &Loaded,
        options: &Options,
        reference: &Reference<'_>,
    ) -> Result<Header, Failure> {
        let record = |path: &Path, samples: &Samples, seq_len: u64| TextRecord {
            path: path.display().to_string(),
            sha256: samples.data_hash.clone(),
            samples: samples.sequences.len() as u64,
            seq_len,
        };
        let statistics = &loaded.importance.header;
        Ok(Header {
            format: FORMAT,
            made_by: format!("archplan {}", env!("CARGO_PKG_VERSION")),
            fingerprint: loaded.parent.fingerprint(),
            architecture: loaded.parent.spec().architecture.clone(),
            importance_sha256: loaded.importance_sha256.clone(),
            data: record(&loaded.data, &loaded.heldout, self.seq_len),
            repair_data: loaded
                .repair
                .as_ref()
                .map(|(path, samples)| record(path, samples, statistics.seq_len)),
            surgery: serde_json::to_value(options).map_err(Failure::failed)?,
            parent_nll: reference.parent_nll().map_err(Failure::bad_input)?.into(),
            changes: 0,
            shards: 1,
            parts: vec![0],
        })
    }
}

impl Loaded {
    /// Does `work` on the parent, kept in memory where it is small, and the held-out text.
    pub fn with<T: Send>(
        &self,
        options: &Options,
        threads: usize,
        work: impl FnOnce(&Bench<'_>, &Reference<'_>) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let streamed = Streamed::new(&self.parent).map_err(Failure::bad_input)?;
        let resident = resident(&streamed)?;
        let source: &dyn LayerSource = match &resident {
            Some(resident) => resident,
            None => &streamed,
        };
        let bench = Bench {
            parent: &self.parent,
            source,
            sums: &self.importance.sums,
            options,
            repair_samples: self.repair.as_ref().map(|(_, s)| s.sequences.as_slice()).unwrap_or_default(),
        };
        let pool = threads::pinned(threads).map_err(Failure::failed)?;
        pool.install(|| {
            let reference =
                Reference::new(source, &self.heldout.sequences, BATCH_TOKENS).map_err(Failure::bad_input)?;
            work(&bench, &reference)
        })
    }
}
