//! Calibration: samples through the model, layer by layer, in batches; interrupted it goes on where it was.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::compute::storage::SizeError;
use crate::weights::importance::error::{Mismatch, StatisticsError};
use crate::weights::importance::file::Importance;
use crate::weights::importance::gather::{Collector, GatherError};
use crate::weights::importance::header::Header;
use crate::weights::importance::statistics::Sums;
use crate::weights::network::block::rms_norm;
use crate::weights::network::evaluation::batches;
use crate::weights::network::forward::forward_layer;
use crate::weights::network::room::Room;
use crate::weights::network::source::{LayerSource, SourceError, WeightsError};

/// Saving takes at most this share of the time.
const SAVING: u32 = 20;

/// A calibration that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// Weights of the model cannot be loaded.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Tokens that cannot be embedded.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Weights that do not fit each other.
    #[error("the model's weights do not fit each other: {0}")]
    Size(#[from] SizeError),
    /// A batch that cannot be counted.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// A file of statistics.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// Not the samples the header promises.
    #[error("{found} samples: expected {expected} in this part")]
    Samples {
        /// Samples given.
        found: usize,
        /// Samples of the part.
        expected: u64,
    },
    /// A sample without counted tokens.
    #[error(
        "sample {sample} has {tokens} tokens, of which the first {skip_first} are not counted: expected more; take the sample out or lower --skip-first"
    )]
    ShortSample {
        /// Which sample of all parts, from 1.
        sample: usize,
        /// Its tokens.
        tokens: usize,
        /// Tokens left out.
        skip_first: u64,
    },
    /// The partial file of another run is in the way.
    #[error(
        "{}: left by an interrupted run whose {mismatch}; delete it to start over, or name another --out",
        path.display()
    )]
    OtherRun {
        /// The partial file.
        path: PathBuf,
        /// What differs.
        mismatch: Mismatch,
    },
}

/// One part of a calibration.
pub struct Run<'a> {
    /// The model.
    pub source: &'a dyn LayerSource,
    /// The samples of the part, in their order.
    pub samples: &'a [Vec<u32>],
    /// What the statistics are about; one part.
    pub header: Header,
    /// Tokens run through a layer at a time, at least one sample: bounds memory.
    pub batch_tokens: usize,
    /// File the statistics go to; what is unfinished goes to the same name with `.partial`.
    pub out: &'a Path,
}

/// Where a calibration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Samples that are done and saved or about to be.
    pub samples: usize,
    /// Samples of the part.
    pub of: usize,
    /// Layers times batches that are done.
    pub done: usize,
    /// Of how many.
    pub total: usize,
}

/// Name of the file that holds an unfinished run.
pub fn partial_path(out: &Path) -> PathBuf {
    let mut name = out.file_name().map(OsString::from).unwrap_or_default();
    name.push(".partial");
    out.with_file_name(name)
}

/// Runs a part to its end, from where an interrupted run left it, and writes its statistics. The numbers do not depend on
/// interruptions or on the number of threads.
///
/// # Errors
/// Weights that cannot be loaded, samples that are too short, a model that overflows, files that cannot be written, the
/// partial file of another run.
pub fn run(run: &Run<'_>, progress: &mut dyn FnMut(Step)) -> Result<Importance, CalibrateError> {
    check(run)?;
    let partial = partial_path(run.out);
    let model = &run.header.model;
    let sums = match fs::exists(&partial) {
        Ok(true) => taken_up(&partial, &run.header)?,
        _ => Sums::zeros(&model.architecture, model.sandwich, run.header.grams),
    };
    let mut done = sums.samples as usize;
    let rest = run.samples.get(done..).unwrap_or_default();
    let batches = batches(rest, run.batch_tokens);
    let mut step =
        Step { samples: done, of: run.samples.len(), done: 0, total: batches.len() * run.source.depth() };
    progress(step);
    let mut collector = Collector::new(sums, &model.architecture, run.header.skip_first as usize);
    let final_norm = run.source.final_norm()?;
    let mut memory = Memory::default();
    let mut saving = Saving::new();
    let last = batches.len().saturating_sub(1);
    for (index, batch) in batches.into_iter().enumerate() {
        let mut advance = || {
            step.done += 1;
            progress(step);
        };
        gather(run.source, &final_norm, batch, &mut collector, &mut memory, &mut advance)?;
        done += batch.len();
        step.samples = done;
        if index < last && saving.is_due() {
            let sums = collector.into_sums();
            let sums = saving.save(Importance { header: run.header.clone(), sums }, &partial)?;
            collector = Collector::new(sums, &model.architecture, run.header.skip_first as usize);
        }
    }
    let importance = Importance { header: run.header.clone(), sums: collector.into_sums() };
    importance.save(run.out)?;
    if let Ok(true) = fs::exists(&partial) {
        fs::remove_file(&partial).map_err(|error| StatisticsError::Io { path: partial, error })?;
    }
    Ok(importance)
}

fn check(run: &Run<'_>) -> Result<(), CalibrateError> {
    let expected = run.header.samples_inside();
    if run.samples.len() as u64 != expected {
        return Err(CalibrateError::Samples { found: run.samples.len(), expected });
    }
    let skip_first = run.header.skip_first;
    let first = run.header.first_sample() as usize;
    let short = run.samples.iter().position(|sample| sample.len() as u64 <= skip_first);
    match short {
        None => Ok(()),
        Some(index) => {
            let tokens = run.samples.get(index).map_or(0, Vec::len);
            Err(CalibrateError::ShortSample { sample: first + index + 1, tokens, skip_first })
        }
    }
}

/// Sums of an interrupted run.
fn taken_up(partial: &Path, header: &Header) -> Result<Sums, CalibrateError> {
    let found = Importance::load_unfinished(partial)?;
    let other = |mismatch| CalibrateError::OtherRun { path: partial.into(), mismatch };
    header.check_same_run(&found.header).map_err(other)?;
    if header.parts != found.header.parts {
        let shown = |parts: &[u64]| format!("{parts:?}");
        let (expected, found) = (shown(&header.parts), shown(&found.header.parts));
        return Err(other(Mismatch { what: "part", expected, found }));
    }
    Ok(found.sums)
}

/// What a forward pass works in.
#[derive(Default)]
struct Memory {
    room: Room,
    stream: Vec<f32>,
    normed: Vec<f32>,
}

fn gather(
    source: &dyn LayerSource,
    final_norm: &[f32],
    batch: &[Vec<u32>],
    collector: &mut Collector,
    memory: &mut Memory,
    advance: &mut dyn FnMut(),
) -> Result<(), CalibrateError> {
    let settings = source.settings();
    let lengths: Vec<usize> = batch.iter().map(Vec::len).collect();
    let tokens: Vec<u32> = batch.iter().flatten().copied().collect();
    source.embed(&tokens, &mut memory.stream)?;
    collector.begin_batch(&lengths)?;
    for index in 0..source.depth() {
        let layer = source.layer(index)?;
        collector.prepare(index, &layer)?;
        forward_layer(&layer, settings, index, &lengths, &mut memory.stream, &mut memory.room, collector)?;
        advance();
    }
    rms_norm(&memory.stream, final_norm, settings.epsilon, &mut memory.normed)?;
    collector.see_final(&memory.stream, &memory.normed);
    Ok(collector.end_batch()?)
}

/// When to save: after every batch, unless that would take more than a small share of the time.
struct Saving {
    last: Instant,
    cost: Duration,
}

impl Saving {
    fn new() -> Self {
        Self { last: Instant::now(), cost: Duration::ZERO }
    }

    fn is_due(&self) -> bool {
        self.last.elapsed() >= self.cost * SAVING
    }

    fn save(&mut self, importance: Importance, path: &Path) -> Result<Sums, StatisticsError> {
        let start = Instant::now();
        importance.save(path)?;
        self.last = Instant::now();
        self.cost = self.last.duration_since(start);
        Ok(importance.sums)
    }
}
