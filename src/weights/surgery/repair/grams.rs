//! Repair from Gram matrices alone, without text: every layer is fitted on the parent's inputs, as if those before it
//! were perfect. What moved in from other layers stays as it is, and so do embedding, last norm and head.

use crate::compute::storage::SizeError;
use crate::weights::importance::statistics::Grams;
use crate::weights::network::layer::{Layer, Linear};
use crate::weights::surgery::cut::LayerCut;
use crate::weights::surgery::repair::moments::{Inputs, Targets};
use crate::weights::surgery::repair::ridge::{Freedom, refit_at};

/// Ridge, as a share of the inputs' mean square: nothing is kept out that could choose it.
const STRENGTH: f64 = 1e-2;

/// One layer's surroundings.
pub struct GramRepair<'a> {
    /// The parent's layer.
    pub parent: &'a Layer,
    /// Its Gram matrices.
    pub grams: &'a Grams,
    /// Kept hidden channels.
    pub hidden: &'a [u32],
    /// What is kept of the layer.
    pub cut: &'a LayerCut,
    /// Head size.
    pub head_dim: usize,
    /// What the child's norms before attention and FFN give in the kept channels, over what the parent's do.
    pub scales: [f64; 2],
    /// Factors on the kept outputs of o_proj and down_proj where post-norms were absorbed.
    pub outputs: [Option<Vec<f32>>; 2],
    /// What may change.
    pub freedom: Freedom,
}

impl GramRepair<'_> {
    /// Refits a layer of the child; names of the projections that were.
    ///
    /// # Errors
    /// Gram matrices of another size.
    pub fn repair(&self, layer: &mut Layer) -> Result<Vec<&'static str>, SizeError> {
        let mut done = Vec::new();
        let head_dim = self.head_dim as u32;
        let wide = |heads: &[u32]| -> Vec<u32> {
            heads.iter().flat_map(|head| head * head_dim..(head + 1) * head_dim).collect()
        };
        let queries: Vec<u32> = self.cut.own_groups().flat_map(|group| wide(&group.q_heads)).collect();
        let keys: Vec<u32> = self.cut.own_groups().flat_map(|group| wide(&[group.kv_head])).collect();
        let [attention_scale, ffn_scale] = self.scales;
        if let (Some(mine), Some(theirs), false) =
            (&mut layer.attention, &self.parent.attention, self.cut.is_pooled())
        {
            let inputs = Kept { gram: &self.grams.attention_norm, kept: self.hidden, scale: attention_scale };
            if self.hidden.len() < theirs.q.inputs {
                self.fit(&mut mine.q, &theirs.q, &queries, None, &inputs)?;
                self.fit(&mut mine.k, &theirs.k, &keys, None, &inputs)?;
                self.fit(&mut mine.v, &theirs.v, &keys, None, &inputs)?;
                done.extend(["q_proj", "k_proj", "v_proj"]);
            }
            let inputs = Kept { gram: &self.grams.head_outputs, kept: &queries, scale: 1.0 };
            self.fit(&mut mine.o, &theirs.o, self.hidden, self.outputs[0].as_deref(), &inputs)?;
            done.push("o_proj");
        }
        if let (Some(mine), Some(theirs)) = (&mut layer.ffn, &self.parent.ffn) {
            let inputs = Kept { gram: &self.grams.ffn_norm, kept: self.hidden, scale: ffn_scale };
            if self.hidden.len() < theirs.gate.inputs {
                self.fit(&mut mine.gate, &theirs.gate, &self.cut.ffn, None, &inputs)?;
                self.fit(&mut mine.up, &theirs.up, &self.cut.ffn, None, &inputs)?;
                done.extend(["gate_proj", "up_proj"]);
            }
            let inputs = Kept { gram: &self.grams.ffn_hidden, kept: &self.cut.ffn, scale: 1.0 };
            self.fit(&mut mine.down, &theirs.down, self.hidden, self.outputs[1].as_deref(), &inputs)?;
            done.push("down_proj");
        }
        Ok(done)
    }

    fn fit(
        &self,
        mine: &mut Linear,
        theirs: &Linear,
        rows: &[u32],
        factors: Option<&[f32]>,
        inputs: &Kept<'_>,
    ) -> Result<(), SizeError> {
        let mut target = theirs.rows(rows);
        target.bias = None;
        if let Some(factors) = factors {
            let width = target.inputs.max(1);
            for (row, factor) in target.weight.chunks_mut(width).zip(factors) {
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
        let (sums, targets) = inputs.moments(theirs.inputs)?;
        let through = targets.through(&target.weight, None, &sums)?;
        // Means are not known here: the bias stays as it is.
        let bias = mine.bias.take();
        refit_at(mine, &sums, &through, STRENGTH, self.freedom);
        mine.bias = bias;
        Ok(())
    }
}

/// Inputs of which some are kept.
struct Kept<'a> {
    gram: &'a [f32],
    kept: &'a [u32],
    scale: f64,
}

impl Kept<'_> {
    fn moments(&self, whole: usize) -> Result<(Inputs, Targets), SizeError> {
        if self.gram.len() != whole * whole {
            return Err(SizeError { what: "Gram matrix", found: self.gram.len(), expected: whole * whole });
        }
        let width = self.kept.len();
        let at = |i: usize, j: u32, scale: f64| {
            self.gram.get(i * whole + j as usize).map_or(0.0, |x| (f64::from(*x) * scale) as f32)
        };
        let row = |i: usize, scale: f64| self.kept.iter().map(move |j| at(i, *j, scale));
        let square = self.scale * self.scale;
        let gram = self.kept.iter().flat_map(|i| row(*i as usize, square)).collect();
        let cross = (0..whole).flat_map(|i| row(i, self.scale)).collect();
        let inputs = Inputs { width, tokens: 1.0, sum: vec![0.0; width], gram };
        Ok((inputs, Targets { width: whole, sum: vec![0.0; whole], cross }))
    }
}
