//! Sums over calibration samples, in f64. A *sample* is one sequence; its first tokens may be left out. Aggregation over
//! tokens and samples follows Model-Optimizer (`mean over tokens of |a|`, squared, summed over samples; a2fbac7).

use crate::model::architecture::{Architecture, LayerShape};

/// Sums per channel of some activation `a`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channels {
    /// Sum over samples of the square of (mean over tokens of `|a|`).
    pub mean_abs_squared: Vec<f64>,
    /// Sum over tokens of `a`.
    pub sum: Vec<f64>,
    /// Sum over tokens of `a^2`.
    pub sum_squares: Vec<f64>,
}

/// Sums at one pre-norm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormSums {
    /// Of the norm's output, gain included.
    pub output: Channels,
    /// Sum over tokens of `x_k^2 / |x|^2`: the share of each channel in the energy of the stream that enters.
    pub energy: Vec<f64>,
}

/// Sums at one post-norm: of the root mean square `r` of what enters it, and of the gained output's energy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PostNormSums {
    /// Sum over tokens of `r`.
    pub rms: f64,
    /// Sum over tokens of `r^2`.
    pub rms_squared: f64,
    /// Sum over tokens of `|gain * o|^2 / r`.
    pub gained_by_rms: f64,
    /// Sum over tokens of `|gain * o|^2`.
    pub gained: f64,
}

/// Sums of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerSums {
    /// Norm before attention.
    pub attention_norm: NormSums,
    /// Norm before the FFN.
    pub ffn_norm: NormSums,
    /// What the output projection reads, `q_heads * head_dim` channels.
    pub head_outputs: Channels,
    /// Per query head: sum over samples of the square of (mean over tokens of the head's output norm `|a_j|`).
    pub heads: Vec<f64>,
    /// Per query head, alike, of `|W_O a_j|` (with a post-norm: its gain applied, over the RMS of the whole output).
    pub head_contributions: Vec<f64>,
    /// Per KV group, alike, of the joint contribution of its heads.
    pub group_contributions: Vec<f64>,
    /// What the down projection reads, `ffn` channels.
    pub ffn_hidden: Channels,
    /// Sum over tokens of the cosine between the stream that enters the layer and the one that leaves it.
    pub cosine: f64,
    /// Sum over tokens of the norm of the stream that enters.
    pub stream_norm: f64,
    /// Sum over samples of that norm at the first token of the sequence, counted or not: many models keep an
    /// enormous value there.
    pub first_token_norm: f64,
    /// Post-norm of attention.
    pub attention_post_norm: Option<PostNormSums>,
    /// Post-norm of the FFN.
    pub ffn_post_norm: Option<PostNormSums>,
    /// Gram matrices `sum over tokens of a a^T` where asked for.
    pub grams: Option<Grams>,
}

/// Gram matrices of one layer's linear inputs, row-major and square.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grams {
    /// Of the attention norm's output, `hidden` square.
    pub attention_norm: Vec<f32>,
    /// Of the head outputs, `q_heads * head_dim` square.
    pub head_outputs: Vec<f32>,
    /// Of the FFN norm's output, `hidden` square.
    pub ffn_norm: Vec<f32>,
    /// Of the FFN's hidden values, `ffn` square.
    pub ffn_hidden: Vec<f32>,
}

/// Everything a calibration gathers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Samples.
    pub samples: u64,
    /// Tokens that were counted.
    pub tokens: u64,
    /// Per layer.
    pub layers: Vec<LayerSums>,
    /// The last norm.
    pub final_norm: NormSums,
    /// `(layers + 1)` square: `angular[from * (layers + 1) + to]`: sum over the tokens looked at of the angle, over pi, between the stream at
    /// boundary `from` (0 = embedding) and at boundary `to > from`.
    pub angular: Vec<f64>,
    /// Tokens the angles were taken at.
    pub angular_tokens: u64,
}

impl Channels {
    fn zeros(width: usize) -> Self {
        Self { mean_abs_squared: vec![0.0; width], sum: vec![0.0; width], sum_squares: vec![0.0; width] }
    }
}

impl NormSums {
    fn zeros(width: usize) -> Self {
        Self { output: Channels::zeros(width), energy: vec![0.0; width] }
    }
}

impl LayerSums {
    /// Nothing yet. What the layer lacks has no channels.
    fn zeros(shape: LayerShape, hidden: usize, head_dim: usize, sandwich: bool, grams: bool) -> Self {
        let (q_heads, kv_heads, ffn) = (shape.q_heads as usize, shape.kv_heads as usize, shape.ffn as usize);
        let attention_hidden = if q_heads > 0 { hidden } else { 0 };
        let ffn_norm = if ffn > 0 { hidden } else { 0 };
        let square = |width: usize| vec![0.0; width * width];
        Self {
            attention_norm: NormSums::zeros(attention_hidden),
            ffn_norm: NormSums::zeros(ffn_norm),
            head_outputs: Channels::zeros(q_heads * head_dim),
            heads: vec![0.0; q_heads],
            head_contributions: vec![0.0; q_heads],
            group_contributions: vec![0.0; kv_heads],
            ffn_hidden: Channels::zeros(ffn),
            attention_post_norm: (sandwich && q_heads > 0).then(PostNormSums::default),
            ffn_post_norm: (sandwich && ffn > 0).then(PostNormSums::default),
            grams: grams.then(|| Grams {
                attention_norm: square(attention_hidden),
                head_outputs: square(q_heads * head_dim),
                ffn_norm: square(ffn_norm),
                ffn_hidden: square(ffn),
            }),
            ..Self::default()
        }
    }
}

impl Sums {
    /// Nothing yet, for a model of this shape; `sandwich` where it has post-norms.
    pub fn zeros(architecture: &Architecture, sandwich: bool, grams: bool) -> Self {
        let (hidden, head_dim) = (architecture.hidden as usize, architecture.head_dim as usize);
        let layer = |shape| LayerSums::zeros(shape, hidden, head_dim, sandwich, grams);
        let layers: Vec<LayerSums> = architecture.layer_shapes().map(layer).collect();
        let boundaries = layers.len() + 1;
        Self {
            final_norm: NormSums::zeros(hidden),
            angular: vec![0.0; boundaries * boundaries],
            layers,
            ..Self::default()
        }
    }
}
