//! The weights of one decoder layer, in f32, gains as they multiply (Gemma's `1 + w` is added already).

/// A linear layer: `y = W x + b`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linear {
    /// Output features.
    pub outputs: usize,
    /// Input features.
    pub inputs: usize,
    /// `[outputs, inputs]`, row-major.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Option<Vec<f32>>,
}

impl Linear {
    /// Some of the outputs, in the order of `rows`; those that are not there are left out.
    pub fn rows(&self, rows: &[u32]) -> Linear {
        let row = |row: &u32| {
            let at = *row as usize * self.inputs;
            self.weight.get(at..at + self.inputs)
        };
        let kept = |bias: &Vec<f32>| rows.iter().filter_map(|row| bias.get(*row as usize).copied()).collect();
        let weight: Vec<f32> = rows.iter().filter_map(row).flatten().copied().collect();
        Linear {
            outputs: weight.len().checked_div(self.inputs).unwrap_or(0),
            inputs: self.inputs,
            weight,
            bias: self.bias.as_ref().map(kept),
        }
    }
}

/// Attention of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Gain of the norm before it, `[hidden]`.
    pub norm: Vec<f32>,
    /// Queries, `[q_heads * head_dim, hidden]`.
    pub q: Linear,
    /// Keys, `[kv_heads * head_dim, hidden]`.
    pub k: Linear,
    /// Values, `[kv_heads * head_dim, hidden]`.
    pub v: Linear,
    /// Gain on each query head, `[head_dim]`.
    pub q_norm: Option<Vec<f32>>,
    /// Gain on each key head, `[head_dim]`.
    pub k_norm: Option<Vec<f32>>,
    /// Output projection, `[hidden, q_heads * head_dim]`.
    pub o: Linear,
    /// Gain of the post-norm, `[hidden]`.
    pub post_norm: Option<Vec<f32>>,
}

/// Gated FFN of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Ffn {
    /// Gain of the norm before it, `[hidden]`.
    pub norm: Vec<f32>,
    /// Gate, `[ffn, hidden]`.
    pub gate: Linear,
    /// Up, `[ffn, hidden]`.
    pub up: Linear,
    /// Down, `[hidden, ffn]`.
    pub down: Linear,
    /// Gain of the post-norm, `[hidden]`.
    pub post_norm: Option<Vec<f32>>,
}

/// One decoder layer: `x += post(attention(norm(x)))`, then `x += post(ffn(norm(x)))`; a part that is absent adds
/// nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    /// Attention.
    pub attention: Option<Attention>,
    /// FFN.
    pub ffn: Option<Ffn>,
}

/// What stands before and after the layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Ends {
    /// Embedding, `[vocabulary, hidden]`, without the factor some families multiply it by.
    pub embedding: Vec<f32>,
    /// Gain of the last norm, `[hidden]`.
    pub final_norm: Vec<f32>,
    /// LM head, `[vocabulary, hidden]`; none where it shares the embedding.
    pub head: Option<Vec<f32>>,
}
