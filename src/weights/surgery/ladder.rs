//! A ladder of surgeries for one target, each with one step more than the one before, so that every step's worth shows.

use crate::model::architecture::{Architecture, LayerShape};
use crate::weights::checkpoint::Checkpoint;
use crate::weights::importance::criteria::Criterion;
use crate::weights::importance::statistics::Sums;
use crate::weights::surgery::child;
use crate::weights::surgery::choice;
use crate::weights::surgery::choice::scores::{LayerScores, Scores};
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::options::{AbsorbPostNorm, DepthMethod, NormInit, Options, Repair};
use crate::weights::surgery::planning::{self, Planned};

/// One surgery of the ladder.
#[derive(Clone, Debug, PartialEq)]
pub struct Rung {
    /// What it is called.
    pub name: &'static str,
    /// Its steps.
    pub options: Options,
    /// The first channels, neurons, heads and layers are kept, whatever they do.
    pub naive: bool,
}

/// The ladder. `sandwich` models have a rung for absorbed post-norms.
pub fn rungs(depth: &DepthMethod, sandwich: bool) -> Vec<Rung> {
    let base = Options {
        depth: depth.clone(),
        clap: false,
        norm: NormInit::None,
        absorb: AbsorbPostNorm::Off,
        repair: Repair::None,
        criterion: Criterion::Minitron,
    };
    let rung = |name, options: Options| Rung { name, options, naive: false };
    let slnp = Options { norm: NormInit::Slnp, ..base.clone() };
    let clap = Options { clap: true, ..slnp.clone() };
    let absorbed = match sandwich {
        true => Options { absorb: AbsorbPostNorm::On, ..clap.clone() },
        false => clap.clone(),
    };
    let mut rungs = vec![
        Rung { name: "naive slice", options: base.clone(), naive: true },
        rung("Minitron-style", base),
        rung("+ SLNP", slnp),
        rung("+ CLAP", clap.clone()),
        rung("measured energy in place of SLNP", Options { norm: NormInit::Energy, ..clap.clone() }),
    ];
    if sandwich {
        rungs.push(rung("+ absorption", absorbed.clone()));
        rungs.push(rung(
            "least squares, no absorption",
            Options { repair: Repair::LeastSquares, ..clap.clone() },
        ));
    }
    rungs.push(rung("+ affine", Options { repair: Repair::Affine, ..absorbed.clone() }));
    rungs.push(rung("+ least squares", Options { repair: Repair::LeastSquares, ..absorbed.clone() }));
    let unpooled = Options { clap: false, repair: Repair::LeastSquares, ..absorbed };
    rungs.push(rung("least squares without CLAP", unpooled));
    rungs
}

/// Plans one rung.
///
/// # Errors
/// As [`planning::plan`].
pub fn plan(
    parent: &Checkpoint,
    target: &Architecture,
    rung: &Rung,
    sums: &Sums,
) -> Result<Planned, SurgeryError> {
    if !rung.naive {
        return planning::plan(parent, target, &rung.options, Some(sums));
    }
    let spec = parent.spec();
    let falling = |n: u64| (0..n).map(|i| -(i as f64)).collect::<Vec<f64>>();
    let layer = |shape: LayerShape| LayerScores {
        ffn: falling(shape.ffn),
        heads: falling(shape.q_heads),
        groups: falling(shape.kv_heads),
    };
    let depth = spec.architecture.depth();
    let scores = Scores {
        hidden: falling(spec.architecture.hidden),
        layers: spec.architecture.layer_shapes().map(layer).collect(),
        influence: falling(depth),
        angular: vec![0.0; (depth as usize + 1).pow(2)],
    };
    let depth = match &rung.options.depth {
        DepthMethod::Layers(_) => &rung.options.depth,
        _ => &DepthMethod::BlockInfluence,
    };
    let cut = choice::choose(spec, target, &scores, depth, false)?;
    let child = child::spec(spec, &cut, false)?;
    Ok(Planned { cut, child, absorbed: false, sites: Vec::new() })
}
