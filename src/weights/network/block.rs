//! The parts of a decoder layer, each over a batch of whole sequences that stand one after the other.
//!
//! All values are `[tokens, width]`, row-major, f32; `lengths` holds the tokens of each sequence, which add up to
//! `tokens`. Every sequence starts at position 0.

use crate::compute::activation;
use crate::compute::attention::Heads;
use crate::compute::causal::{Pattern, causal};
use crate::compute::elementwise;
use crate::compute::linear::Shape;
use crate::compute::product::product;
use crate::compute::storage::SizeError;
use crate::weights::network::layer::{Attention, Ffn, Linear};
use crate::weights::network::room::{Room, sized};
use crate::weights::network::settings::Settings;

/// RMSNorm: `out = x / rms(x) * gain`; `out` is made as long as `x`, both `gain.len()` wide.
///
/// # Errors
/// `x` is not whole rows.
pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32, out: &mut Vec<f32>) -> Result<(), SizeError> {
    whole_rows("input of a norm", x, gain.len())?;
    elementwise::rms_norm(x, gain, epsilon, sized(out, x.len()));
    Ok(())
}

/// `out = x W^T + b`; `x` is `[tokens, inputs]`, `out` is made `[tokens, outputs]`.
///
/// # Errors
/// `x` is not whole rows, weights or bias are not of the size the layer says.
pub fn linear_into(linear: &Linear, x: &[f32], out: &mut Vec<f32>) -> Result<(), SizeError> {
    let tokens = whole_rows("input of a linear layer", x, linear.inputs)?;
    let shape = Shape { m: tokens, n: linear.outputs, k: linear.inputs };
    product(x, &linear.weight, linear.bias.as_deref(), sized(out, tokens * linear.outputs), shape)
}

/// What the output projection reads, `[tokens, q_heads * head_dim]`, from the normed stream: queries, keys and values
/// with their biases and QK-norms, turned to their positions, attended with the layer's window and cap. It stays in
/// `room` until the next call.
///
/// # Errors
/// Sizes that do not fit each other.
pub fn head_outputs<'r>(
    attention: &Attention,
    settings: &Settings,
    layer: usize,
    lengths: &[usize],
    normed: &[f32],
    room: &'r mut Room,
) -> Result<&'r [f32], SizeError> {
    let heads = heads(attention, settings)?;
    let tokens = whole_rows("normed stream", normed, attention.q.inputs)?;
    if tokens != lengths.iter().sum::<usize>() {
        return Err(SizeError { what: "tokens", found: tokens, expected: lengths.iter().sum() });
    }
    linear_into(&attention.q, normed, &mut room.q)?;
    linear_into(&attention.k, normed, &mut room.k)?;
    linear_into(&attention.v, normed, &mut room.v)?;
    for (gain, x) in [(&attention.q_norm, &mut room.q), (&attention.k_norm, &mut room.k)] {
        if let Some(gain) = gain {
            if gain.len() != settings.head_dim {
                return Err(SizeError { what: "QK-norm", found: gain.len(), expected: settings.head_dim });
            }
            elementwise::rms_norm_in_place(x, gain, settings.epsilon);
        }
    }
    let turned = [(room.q.as_mut_slice(), heads.q_heads), (room.k.as_mut_slice(), heads.kv_heads)];
    room.tables.turn(settings.rotary(layer), lengths, turned);
    let pattern = Pattern {
        heads,
        scale: settings.attention_scale,
        window: settings.window(layer),
        cap: settings.attention_cap,
    };
    let out = sized(&mut room.attended, tokens * attention.q.outputs);
    causal([&room.q, &room.k, &room.v], lengths, pattern, &mut room.packed, out)?;
    Ok(&room.attended)
}

/// Heads of an attention, from the sizes of its projections.
///
/// # Errors
/// Projections that are not whole heads, or do not fit each other.
pub fn heads(attention: &Attention, settings: &Settings) -> Result<Heads, SizeError> {
    let d = settings.head_dim;
    let whole = |what: &'static str, linear: &Linear| {
        let found = linear.outputs;
        let heads = found.checked_div(d).unwrap_or(0);
        let expected = heads.max(1) * d;
        if found == expected { Ok(heads) } else { Err(SizeError { what, found, expected }) }
    };
    let q_heads = whole("query projection", &attention.q)?;
    let kv_heads = whole("key projection", &attention.k)?;
    if attention.v.outputs != attention.k.outputs {
        let (found, expected) = (attention.v.outputs, attention.k.outputs);
        return Err(SizeError { what: "value projection", found, expected });
    }
    if attention.o.inputs != attention.q.outputs {
        let (found, expected) = (attention.o.inputs, attention.q.outputs);
        return Err(SizeError { what: "output projection", found, expected });
    }
    Ok(Heads { q_heads, kv_heads, head_dim: d })
}

/// What the down projection reads, `[tokens, ffn]`, from the normed stream: activated gate times up. It stays in `room`
/// until the next call.
///
/// # Errors
/// Sizes that do not fit each other.
pub fn ffn_hidden<'r>(
    ffn: &Ffn,
    settings: &Settings,
    normed: &[f32],
    room: &'r mut Room,
) -> Result<&'r [f32], SizeError> {
    for (what, found) in [("up projection", ffn.up.outputs), ("down projection", ffn.down.inputs)] {
        if found != ffn.gate.outputs {
            return Err(SizeError { what, found, expected: ffn.gate.outputs });
        }
    }
    linear_into(&ffn.gate, normed, &mut room.gate)?;
    linear_into(&ffn.up, normed, &mut room.up)?;
    activation::gate(settings.activation, &mut room.gate, &room.up);
    Ok(&room.gate)
}

/// Adds a part's output to the stream, behind its post-norm where there is one.
///
/// # Errors
/// `update` or the gain is not as wide as the stream.
pub fn add_update(
    stream: &mut [f32],
    update: &[f32],
    post_norm: Option<&[f32]>,
    settings: &Settings,
) -> Result<(), SizeError> {
    if stream.len() != update.len() {
        return Err(SizeError { what: "update", found: update.len(), expected: stream.len() });
    }
    match post_norm {
        None => elementwise::add(stream, update),
        Some(gain) => {
            whole_rows("input of a post-norm", update, gain.len())?;
            elementwise::add_normed(stream, update, gain, settings.epsilon);
        }
    }
    Ok(())
}

/// Rows in `x`.
pub(super) fn whole_rows(what: &'static str, x: &[f32], width: usize) -> Result<usize, SizeError> {
    let rows = x.len().checked_div(width).unwrap_or(0);
    let expected = rows * width;
    if x.len() == expected { Ok(rows) } else { Err(SizeError { what, found: x.len(), expected }) }
}
