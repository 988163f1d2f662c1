//! Changes of single blocks: each is made where it stands, and only what comes after it is run again.

use std::borrow::Cow;

use crate::model::architecture::{Architecture, LayerShape, Layers};
use crate::model::spec::ModelSpec;
use crate::quality::scores::{Change, Score};
use crate::weights::importance::rankings::top;
use crate::weights::network::forward::forward_layer;
use crate::weights::network::layer::Layer;
use crate::weights::network::probe::Blind;
use crate::weights::network::room::Room;
use crate::weights::network::settings::Settings;
use crate::weights::scoring::Bench;
use crate::weights::scoring::error::ScoringError;
use crate::weights::scoring::reference::{Reference, lengths};
use crate::weights::surgery::choice;
use crate::weights::surgery::choice::compensated;
use crate::weights::surgery::choice::heads;
use crate::weights::surgery::choice::scores::Scores as Rankings;
use crate::weights::surgery::cut::{Cut, GroupCut, LayerCut};
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::operation::{Fit, Operation, freedom};
use crate::weights::surgery::options::DepthMethod;
use crate::weights::surgery::planning::{self, Planned};
use crate::weights::surgery::repair::lockstep::{Lockstep, Sides};
use crate::weights::surgery::repair::ridge::Freedom;

/// What scoring took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Layers run over the held-out text.
    pub layers_run: u64,
    /// What it would have been with every change run from the first layer on.
    pub naive_layers: u64,
}

/// A child that differs from the parent in one block.
struct Variant {
    change: Change,
    layer: Layer,
    /// The layer of the parent it stands for.
    index: usize,
    /// The parent's first layer after it that runs.
    next: usize,
    /// Streams, batch by batch.
    streams: Vec<Vec<f32>>,
}

/// Scores `changes` of single layers and dropped runs, from the first layer to the last. `memory` in bytes bounds how many
/// children are run side by side, not results. `done` is told every score as it is known.
///
/// # Errors
/// A surgery that cannot be done; weights that cannot be loaded; what `done` returns.
pub fn score(
    bench: &Bench<'_>,
    reference: &Reference<'_>,
    changes: &[Change],
    memory: usize,
    done: &mut dyn FnMut(Score) -> Result<(), ScoringError>,
) -> Result<Work, ScoringError> {
    let settings = bench.source.settings().clone();
    let spec = bench.parent.spec();
    let rankings =
        planning::scores(bench.parent, bench.sums, bench.options.criterion).map_err(wrap("rankings"))?;
    let cuts: Vec<(Change, Cut, usize)> = changes
        .iter()
        .filter_map(|change| cut(bench, &rankings, *change).transpose())
        .collect::<Result<_, _>>()?;
    let whole: Vec<u32> = (0..spec.architecture.hidden as u32).collect();
    let mut repair = lockstep(bench, &settings, &whole)?;
    let mut streams = reference.embedded(bench.source)?;
    let mut scorer =
        Scorer { bench, reference, settings: &settings, room: Room::default(), work: Work::default() };
    let stream_bytes: usize = streams.iter().map(|stream| 4 * stream.len()).sum();
    for index in 0..bench.source.depth() {
        let here: Vec<&(Change, Cut, usize)> =
            cuts.iter().filter(|(_, cut, at)| start(cut, *at) == index).collect();
        let own = bench.source.layer(index)?;
        let at_a_time = (memory / (stream_bytes + bytes(&own)).max(1)).clamp(1, 64);
        // Sums for the down projection alone are not enough where the up projection is refitted as well.
        let neurons = match freedom(bench.options.repair) {
            Some(Freedom::Alternating) => None,
            _ => neurons(repair.as_ref(), &own, &here, spec)?,
        };
        for group in here.chunks(at_a_time) {
            let mut variants = Vec::new();
            for (change, cut, at) in group {
                let repaired = Repaired { lockstep: repair.as_ref(), neurons: neurons.as_ref() };
                variants.push(scorer.variant(*change, cut, *at, &repaired, &streams)?);
            }
            for score in scorer.run(variants)? {
                done(score)?;
            }
        }
        if cuts.iter().all(|(_, cut, at)| start(cut, *at) <= index) {
            break;
        }
        if let Some(repair) = &mut repair {
            repair.pass(&own, index)?;
        }
        scorer.pass(&own, index, &mut streams)?;
    }
    scorer.work.naive_layers = cuts.len() as u64 * bench.source.depth() as u64;
    Ok(scorer.work)
}

/// The first layer of the parent that a cut touches: that of its changed layer at `at`, or the first dropped one.
fn start(cut: &Cut, at: usize) -> usize {
    let Some(layer) = cut.layers.get(at) else { return usize::MAX };
    layer.dropped.iter().copied().chain([layer.parent]).min().unwrap_or(0) as usize
}

/// What repairs the children of one layer.
struct Repaired<'r, 'p> {
    lockstep: Option<&'r Lockstep<'p>>,
    /// Sums of all the layer's neurons, for children that keep its attention as it is: all the groups.
    neurons: Option<&'r (Vec<GroupCut>, Sides)>,
}

/// Sums of a layer's neurons, where some change needs nothing else.
fn neurons(
    lockstep: Option<&Lockstep<'_>>,
    own: &Layer,
    here: &[&(Change, Cut, usize)],
    spec: &ModelSpec,
) -> Result<Option<(Vec<GroupCut>, Sides)>, ScoringError> {
    let (Some(lockstep), Some((_, cut, at))) = (lockstep, here.first()) else { return Ok(None) };
    let index = start(cut, *at);
    let Some(whole) = Cut::identity(spec).layers.into_iter().nth(index) else { return Ok(None) };
    let narrowed = |(_, cut, at): &&(Change, Cut, usize)| {
        cut.layers.get(*at).is_some_and(|of| of.groups == whole.groups && !of.ffn.is_empty())
    };
    if !here.iter().any(narrowed) {
        return Ok(None);
    }
    let sides = lockstep.fork().neurons(own, &whole).map_err(wrap("the repair of a layer"))?;
    Ok(sides.map(|sides| (whole.groups, sides)))
}

struct Scorer<'a, 's> {
    bench: &'a Bench<'a>,
    reference: &'a Reference<'s>,
    settings: &'a Settings,
    room: Room,
    work: Work,
}

impl Scorer<'_, '_> {
    fn variant(
        &mut self,
        change: Change,
        cut: &Cut,
        at: usize,
        repaired: &Repaired<'_, '_>,
        streams: &[Vec<f32>],
    ) -> Result<Variant, ScoringError> {
        let Some(of) = cut.layers.get(at) else {
            return Err(ScoringError::Taken(format!("{change}: no layer")));
        };
        let Bench { parent, sums, options, .. } = *self.bench;
        let child = parent.spec().clone();
        let planned = Planned { cut: cut.clone(), child, absorbed: false, sites: Vec::new() };
        let operation = Operation {
            parent,
            planned: &planned,
            options,
            sums: Some(sums),
            samples: self.bench.repair_samples,
        };
        let index = of.parent as usize;
        let settings = [self.settings; 2];
        let made = match (repaired.lockstep, repaired.neurons, freedom(options.repair)) {
            (Some(_), Some((groups, sides)), Some(freedom))
                if of.groups == *groups && of.dropped.is_empty() =>
            {
                let sides = sides.select(&of.ffn);
                operation.one_layer(of, index, settings, Fit::Down(&sides, freedom))
            }
            (Some(lockstep), ..) => {
                operation.one_layer(of, index, settings, Fit::Beside(&mut lockstep.fork()))
            }
            (None, ..) => operation.one_layer(of, index, settings, Fit::None),
        };
        let layer = made.map_err(wrap(&change.to_string()))?;
        let next = of.dropped.iter().copied().chain([of.parent]).max().unwrap_or(0) as usize + 1;
        Ok(Variant { change, layer, index, next, streams: streams.to_vec() })
    }

    /// Runs children side by side to the end, every layer of the parent loaded once for all of them.
    fn run(&mut self, mut variants: Vec<Variant>) -> Result<Vec<Score>, ScoringError> {
        for variant in &mut variants {
            let Variant { layer, index, streams, .. } = variant;
            self.pass(layer, *index, streams)?;
        }
        let first = variants.iter().map(|variant| variant.next).min().unwrap_or(0);
        for index in first..self.bench.source.depth() {
            let layer: Cow<'_, Layer> = self.bench.source.layer(index)?;
            for variant in variants.iter_mut().filter(|variant| variant.next <= index) {
                self.pass(&layer, index, &mut variant.streams)?;
            }
        }
        let changes: Vec<Change> = variants.iter().map(|variant| variant.change).collect();
        let costs = self.reference.costs(variants.into_iter().map(|variant| variant.streams).collect())?;
        Ok(changes.into_iter().zip(costs).map(|(change, cost)| cost.score(change)).collect())
    }

    fn pass(&mut self, layer: &Layer, index: usize, streams: &mut [Vec<f32>]) -> Result<(), ScoringError> {
        for (stream, batch) in streams.iter_mut().zip(&self.reference.batches) {
            forward_layer(layer, self.settings, index, &lengths(batch), stream, &mut self.room, &mut Blind)?;
        }
        self.work.layers_run += 1;
        Ok(())
    }
}

/// The repair's text on the parent, before its first layer; none where nothing is repaired.
fn lockstep<'a>(
    bench: &Bench<'a>,
    settings: &'a Settings,
    whole: &'a [u32],
) -> Result<Option<Lockstep<'a>>, ScoringError> {
    let Some(freedom) = freedom(bench.options.repair) else { return Ok(None) };
    let ends = bench.source.ends()?;
    let started = Lockstep::new(
        bench.parent,
        [settings, settings],
        [&ends, &ends],
        whole,
        bench.repair_samples,
        freedom,
    );
    started.map(Some).map_err(wrap("the text of the repair"))
}

/// The cut that makes one change, and the place of the changed layer in it; none for a change of the whole model.
fn cut(
    bench: &Bench<'_>,
    rankings: &Rankings,
    change: Change,
) -> Result<Option<(Change, Cut, usize)>, ScoringError> {
    let spec = bench.parent.spec();
    let parents: Vec<LayerShape> = spec.architecture.layer_shapes().collect();
    let refused = |error| ScoringError::Choice { what: change.to_string(), error: Box::new(error) };
    let refine = |cut: &mut Cut| {
        compensated::refine(bench.parent, bench.sums, bench.options.criterion, cut)
            .map_err(wrap(&change.to_string()))
    };
    match change {
        Change::Hidden { .. } => Ok(None),
        Change::Layer { layer, shape } => {
            let mut cut = Cut::identity(spec);
            let at = layer as usize;
            let (Some(of), Some(ranked)) = (cut.layers.get_mut(at), rankings.layers.get(at)) else {
                return Ok(None);
            };
            if shape.kv_heads == 0 {
                of.groups = Vec::new();
            } else if parents
                .get(at)
                .is_some_and(|own| own.kv_heads != shape.kv_heads || own.q_heads != shape.q_heads)
            {
                of.groups = heads::choose(layer, shape, &[layer], &parents, rankings).map_err(refused)?;
            }
            of.ffn = top(&ranked.ffn, shape.ffn as usize);
            refine(&mut cut)?;
            Ok(Some((change, cut, at)))
        }
        Change::Drop { first, count } => {
            let kept = |index: &usize| !(first..first + count).contains(&(*index as u64));
            let shapes = (0..parents.len()).filter(kept).filter_map(|index| parents.get(index).copied());
            let target =
                Architecture { layers: Layers::PerLayer(shapes.collect()), ..spec.architecture.clone() };
            let method = DepthMethod::Layers((first..first + count).collect());
            let mut cut =
                choice::choose(spec, &target, rankings, &method, bench.options.clap).map_err(refused)?;
            refine(&mut cut)?;
            let at = cut.layers.iter().position(|layer: &LayerCut| !layer.dropped.is_empty());
            Ok(at.map(|at| (change, cut, at)))
        }
    }
}

fn bytes(layer: &Layer) -> usize {
    let linears = [
        layer
            .attention
            .as_ref()
            .map_or(0, |a| a.q.weight.len() + a.k.weight.len() + a.v.weight.len() + a.o.weight.len()),
        layer.ffn.as_ref().map_or(0, |f| f.gate.weight.len() + f.up.weight.len() + f.down.weight.len()),
    ];
    4 * linears.iter().sum::<usize>()
}

fn wrap(what: &str) -> impl Fn(SurgeryError) -> ScoringError + use<> {
    let what = what.to_string();
    move |error| ScoringError::Surgery { what: what.clone(), error: Box::new(error) }
}
