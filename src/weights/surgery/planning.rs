//! What will be done, decided before a weight is touched: the cut, the child's configuration, the post-norms.

use crate::model::architecture::{Architecture, LayerShape};
use crate::model::spec::{ModelSpec, NormLayout};
use crate::weights::checkpoint::Checkpoint;
use crate::weights::importance::criteria;
use crate::weights::importance::criteria::Criterion;
use crate::weights::importance::rankings::{self, HeadScore};
use crate::weights::importance::statistics::Sums;
use crate::weights::network::load::layer_from;
use crate::weights::network::settings::Settings;
use crate::weights::surgery::absorb::{self, LARGEST_LOSS, Site};
use crate::weights::surgery::child;
use crate::weights::surgery::choice;
use crate::weights::surgery::choice::compensated;
use crate::weights::surgery::choice::scores::{LayerScores, Scores};
use crate::weights::surgery::cut::Cut;
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::options::{AbsorbPostNorm, DepthMethod, NormInit, Options, Repair};

/// What will be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// What is kept.
    pub cut: Cut,
    /// The child.
    pub child: ModelSpec,
    /// Post-norms become part of the projections before them.
    pub absorbed: bool,
    /// The post-norms of the kept layers, where statistics of them are there.
    pub sites: Vec<Site>,
}

impl Planned {
    /// Something is cut away or absorbed, so that there is something to repair.
    pub fn changes(&self, parent: &ModelSpec) -> bool {
        self.absorbed || !self.cut.is_identity(parent)
    }
}

/// Plans the surgery of `parent` to the shape `target`.
///
/// # Errors
/// A target that cannot be cut out of the parent, a step that lacks its statistics, post-norms that cannot be absorbed.
pub fn plan(
    parent: &Checkpoint,
    target: &Architecture,
    options: &Options,
    sums: Option<&Sums>,
) -> Result<Planned, SurgeryError> {
    match sums {
        Some(sums) => {
            let scores = scores(parent, sums, options.criterion)?;
            let mut cut = choice::choose(parent.spec(), target, &scores, &options.depth, options.clap)?;
            compensated::refine(parent, sums, options.criterion, &mut cut)?;
            finish(parent, cut, options, Some(sums))
        }
        None => finish(parent, without_statistics(parent.spec(), target, options)?, options, None),
    }
}

/// The same with scores of the caller's, such as those of a mask.
///
/// # Errors
/// As [`plan`].
pub fn plan_by(
    parent: &Checkpoint,
    target: &Architecture,
    options: &Options,
    sums: &Sums,
    scores: &Scores,
) -> Result<Planned, SurgeryError> {
    let cut = choice::choose(parent.spec(), target, scores, &options.depth, options.clap)?;
    finish(parent, cut, options, Some(sums))
}

fn finish(
    parent: &Checkpoint,
    cut: Cut,
    options: &Options,
    sums: Option<&Sums>,
) -> Result<Planned, SurgeryError> {
    let spec = parent.spec();
    cut.check(spec)?;
    let narrower = cut.hidden.len() < spec.architecture.hidden as usize;
    if narrower && options.norm == NormInit::Energy && sums.is_none() {
        return Err(SurgeryError::NoImportance { step: "--norm energy" });
    }
    if options.repair == Repair::Bias {
        if !(spec.o_bias || spec.mlp_bias) {
            return Err(SurgeryError::NoBias { class: spec.family.class_name() });
        }
        sums.ok_or(SurgeryError::NoImportance { step: "--repair bias" })?;
    }
    let kept: Vec<u64> = cut.layers.iter().map(|layer| layer.parent).collect();
    let sites = sums.map(|sums| absorb::sites(sums, &kept)).unwrap_or_default();
    let absorbed = absorbs(spec, options.absorb, &sites)?;
    Ok(Planned { child: child::spec(spec, &cut, absorbed)?, cut, absorbed, sites })
}

/// All post-norms or none: a stock class cannot mix.
fn absorbs(spec: &ModelSpec, choice: AbsorbPostNorm, sites: &[Site]) -> Result<bool, SurgeryError> {
    match choice {
        AbsorbPostNorm::Off => Ok(false),
        AbsorbPostNorm::On => {
            child::check_absorbable(spec)?;
            match sites.is_empty() {
                true => Err(SurgeryError::NoImportance { step: "--absorb-post-norm on" }),
                false => Ok(true),
            }
        }
        AbsorbPostNorm::Auto => {
            let safe = !sites.is_empty() && sites.iter().all(|site| site.lost_share <= LARGEST_LOSS);
            Ok(spec.norms == NormLayout::Sandwich && safe && child::check_absorbable(spec).is_ok())
        }
    }
}

/// Only what needs no ranking: nothing cut, or layers, attentions and FFNs dropped whole.
fn without_statistics(
    spec: &ModelSpec,
    target: &Architecture,
    options: &Options,
) -> Result<Cut, SurgeryError> {
    let parent = &spec.architecture;
    target.check(spec).map_err(choice::error::ChoiceError::from)?;
    let dropped: &[u64] = match &options.depth {
        DepthMethod::Layers(layers) => layers,
        _ => &[],
    };
    if target.depth() < parent.depth() && (options.clap || dropped.is_empty()) {
        return Err(SurgeryError::NoImportance {
            step: "a cut in depth (but for listed layers with --clap off)",
        });
    }
    let kept = (0..).zip(parent.layer_shapes()).filter(|(layer, _)| !dropped.contains(layer));
    let whole = |(shape, (_, own)): (LayerShape, (u64, LayerShape))| {
        let attention = (shape.q_heads, shape.kv_heads);
        (shape.ffn == own.ffn || shape.ffn == 0)
            && (attention == (own.q_heads, own.kv_heads) || attention == (0, 0))
    };
    let widths = |of: &Architecture| (of.hidden, of.head_dim);
    if widths(target) != widths(parent) || !target.layer_shapes().zip(kept).all(whole) {
        return Err(SurgeryError::NoImportance { step: "a cut in width" });
    }
    let flat = |shape: LayerShape| LayerScores {
        ffn: vec![1.0; shape.ffn as usize],
        heads: vec![1.0; shape.q_heads as usize],
        groups: vec![1.0; shape.kv_heads as usize],
    };
    let depth = parent.depth() as usize;
    let scores = Scores {
        hidden: vec![1.0; parent.hidden as usize],
        layers: parent.layer_shapes().map(flat).collect(),
        influence: vec![1.0; depth],
        angular: vec![1.0; (depth + 1) * (depth + 1)],
    };
    Ok(choice::choose(spec, target, &scores, &options.depth, false)?)
}

/// Scores of everything, from statistics and, for criteria that look at them, weights.
///
/// # Errors
/// A tensor that cannot be read.
pub fn scores(parent: &Checkpoint, sums: &Sums, criterion: Criterion) -> Result<Scores, SurgeryError> {
    let spec = parent.spec();
    let settings = Settings::of(spec)?;
    let depth = spec.architecture.depth();
    let mut layers = Vec::new();
    for (index, of) in sums.layers.iter().enumerate() {
        let mut scores = LayerScores {
            ffn: rankings::neurons(of),
            heads: rankings::heads(of, HeadScore::Contribution),
            groups: rankings::groups(of, HeadScore::Contribution),
        };
        if criterion != Criterion::Minitron && (index as u64) < depth {
            let layer = layer_from(|role| parent.get(role, Some(index as u64)), &settings, index as u64)?;
            if let Some(ffn) = &layer.ffn {
                scores.ffn = criteria::neurons(criterion, of, sums.tokens, ffn);
            }
            if let Some(attention) = &layer.attention {
                scores.heads = criteria::heads(criterion, of, sums.tokens, attention, settings.head_dim);
                scores.groups = rankings::group_means(&scores.heads, scores.groups.len());
            }
        }
        layers.push(scores);
    }
    let boundaries = depth as usize + 1;
    let angle = |at: usize| {
        rankings::angular_distance(sums, at / boundaries, at % boundaries).unwrap_or(f64::INFINITY)
    };
    Ok(Scores {
        hidden: rankings::hidden(sums),
        layers,
        influence: rankings::block_influence(sums),
        angular: (0..boundaries * boundaries).map(angle).collect(),
    })
}
