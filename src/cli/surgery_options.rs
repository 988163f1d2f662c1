//! The switches of a surgery and the text it repairs on, as typed.

use std::path::{Path, PathBuf};

use archplan::model::per_layer::Target;
use archplan::model::spec::ModelSpec;
use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::importance::criteria::Criterion;
use archplan::weights::importance::header::Header;
use archplan::weights::network::text::{self, Request, Samples};
use archplan::weights::surgery::options::{AbsorbPostNorm, DepthMethod, NormInit, Options, Repair};
use clap::ValueEnum;

use crate::cli::{Failure, arguments};

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Do it.
    On,
    /// Leave it out.
    Off,
}

/// Criteria, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CriterionArg {
    /// Mean absolute activations (Minitron); heads after the output projection
    Minitron,
    /// Column sums of |weight| x input norm (FASP)
    Fasp,
    /// Input variance x squared column norm (FLAP)
    Flap,
    /// FFN neurons chosen with the weights that make up for the others, one after the other (needs calibrate --gram); heads as fasp
    Compensated,
    /// The same with mask and weights in turn: a reconstruction of SPAP, whose formulas are not public
    Spap,
    /// Norms of the weights alone
    Magnitude,
}

impl From<CriterionArg> for Criterion {
    fn from(typed: CriterionArg) -> Self {
        match typed {
            CriterionArg::Minitron => Criterion::Minitron,
            CriterionArg::Fasp => Criterion::Fasp,
            CriterionArg::Flap => Criterion::Flap,
            CriterionArg::Compensated => Criterion::Compensated,
            CriterionArg::Spap => Criterion::Spap,
            CriterionArg::Magnitude => Criterion::Magnitude,
        }
    }
}

/// The steps that can be switched.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Surgery")]
pub struct SurgeryArgs {
    /// Which layers go: block-influence, contiguous, or layer numbers from 0 such as 17,18,19
    #[arg(long, value_name = "METHOD", default_value = "contiguous")]
    depth_method: DepthMethod,
    /// KV groups of dropped layers compete for the places in the layer before them (CLAP)
    #[arg(long, value_enum, default_value_t = Switch::On)]
    clap: Switch,
    /// Norm gains after a cut in width: slnp (keep the L2 norm), energy (measured), none
    #[arg(long, default_value_t = NormInit::Slnp)]
    norm: NormInit,
    /// Post-norms become part of the projections before them: on, off, or auto (where all are nearly constant factors)
    #[arg(long, value_name = "CHOICE", default_value_t = AbsorbPostNorm::Auto)]
    absorb_post_norm: AbsorbPostNorm,
    /// What is refitted: none, bias (FLAP: means of what was dropped), affine (a factor per output),
    /// least-squares (every weight that lost inputs)
    #[arg(long, default_value_t = Repair::None)]
    repair: Repair,
    /// What decides which FFN neurons and heads stay
    #[arg(long, value_enum, default_value_t = CriterionArg::Minitron)]
    criterion: CriterionArg,
}

impl SurgeryArgs {
    /// The options as meant.
    pub fn options(&self) -> Options {
        Options {
            depth: self.depth_method.clone(),
            clap: self.clap == Switch::On,
            norm: self.norm,
            absorb: self.absorb_post_norm,
            repair: self.repair,
            criterion: self.criterion.into(),
        }
    }
}

/// The steps for a target that may say itself which layers stay.
pub fn with_parents(options: Options, target: &Target, parent: &ModelSpec) -> Result<Options, Failure> {
    match &target.parents {
        None => Ok(options),
        Some(parents) => options.keeping(parents, parent.architecture.depth()).map_err(Failure::bad_input),
    }
}

/// Text to repair on.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Text of the repair")]
pub struct DataArgs {
    /// Text [default: what the statistics were gathered on]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// How many samples, the first of the file [default: as many as the statistics]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub samples: Option<u64>,
    /// Tokens a sample has at most [default: as the statistics, else 1024]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(2..=1 << 20))]
    pub seq_len: Option<u64>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
}

impl DataArgs {
    /// Threads to use.
    pub fn threads(&self) -> usize {
        arguments::threads(self.threads)
    }
}

/// The text: what was typed, or what the statistics were gathered on, if it is still the same.
pub fn repair_text(
    args: &DataArgs,
    parent: &Checkpoint,
    model: &Path,
    statistics: Option<&Header>,
) -> Result<(PathBuf, Samples), Failure> {
    let known = statistics.map(|header| PathBuf::from(&header.data.path)).filter(|path| path.is_file());
    let Some(path) = args.data.clone().or(known) else {
        let was =
            statistics.map_or_else(String::new, |header| format!(" ({} is not there)", header.data.path));
        return Err(Failure::bad_input(format!("a repair needs calibration text{was}: give it with --data")));
    };
    let of_header = |value: fn(&Header) -> u64| statistics.map(value);
    let request = Request {
        samples: args.samples.or(of_header(|h| h.samples)).map(|n| n as usize),
        seq_len: args.seq_len.or(of_header(|h| h.seq_len)).unwrap_or(1024) as usize,
        vocabulary: parent.spec().vocab_size as usize,
    };
    let samples = text::read(&path, model, request).map_err(Failure::bad_input)?;
    if let (None, Some(header)) = (&args.data, statistics)
        && samples.data_hash != header.data.sha256
    {
        return Err(Failure::bad_input(format!(
            "{} is not the text any more that the statistics were gathered on: give the text of the repair with --data",
            path.display()
        )));
    }
    Ok((path, samples))
}
