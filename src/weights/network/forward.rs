//! A forward pass in steps: embedding, one layer after the other, last norm, logits.

use crate::compute::activation;
use crate::compute::linear::Shape;
use crate::compute::product::product;
use crate::compute::storage::SizeError;
use crate::weights::network::block::{
    add_update, ffn_hidden, head_outputs, linear_into, rms_norm, whole_rows,
};
use crate::weights::network::layer::{Attention, Ends, Ffn, Layer};
use crate::weights::network::probe::{Probe, Site};
use crate::weights::network::room::Room;
use crate::weights::network::settings::Settings;

/// The stream as it enters the first layer: `out` is made `[tokens, hidden]`.
///
/// # Errors
/// A token beyond the vocabulary.
pub fn embed(ends: &Ends, settings: &Settings, tokens: &[u32], out: &mut Vec<f32>) -> Result<(), SizeError> {
    out.clear();
    out.reserve(tokens.len() * settings.hidden);
    for &token in tokens {
        let at = token as usize * settings.hidden;
        let Some(row) = ends.embedding.get(at..at + settings.hidden) else {
            let (found, expected) = (ends.embedding.len(), at + settings.hidden);
            return Err(SizeError { what: "embedding", found, expected });
        };
        out.extend(row.iter().map(|x| x * settings.embedding_factor));
    }
    Ok(())
}

/// Runs one layer: `stream` is `[tokens, hidden]`, sequences of `lengths` tokens one after the other.
///
/// # Errors
/// Sizes that do not fit each other.
pub fn forward_layer(
    layer: &Layer,
    settings: &Settings,
    index: usize,
    lengths: &[usize],
    stream: &mut [f32],
    room: &mut Room,
    probe: &mut dyn Probe,
) -> Result<(), SizeError> {
    probe.see(index, Site::LayerInput, stream, settings.hidden);
    if let Some(attention) = &layer.attention {
        attention_update(attention, settings, index, lengths, stream, room, probe)?;
    }
    probe.see(index, Site::MiddleStream, stream, settings.hidden);
    if let Some(ffn) = &layer.ffn {
        ffn_update(ffn, settings, index, stream, room, probe)?;
    }
    probe.see(index, Site::LayerOutput, stream, settings.hidden);
    Ok(())
}

/// Adds the attention of one layer to the stream.
///
/// # Errors
/// Sizes that do not fit each other.
pub fn attention_update(
    attention: &Attention,
    settings: &Settings,
    index: usize,
    lengths: &[usize],
    stream: &mut [f32],
    room: &mut Room,
    probe: &mut dyn Probe,
) -> Result<(), SizeError> {
    // Taken out of the room while the parts work in it, and put back.
    let (mut normed, mut update) = (std::mem::take(&mut room.normed), std::mem::take(&mut room.update));
    rms_norm(stream, &attention.norm, settings.epsilon, &mut normed)?;
    probe.see(index, Site::AttentionNorm, &normed, settings.hidden);
    let outputs = head_outputs(attention, settings, index, lengths, &normed, room)?;
    probe.see(index, Site::HeadOutputs, outputs, attention.o.inputs);
    linear_into(&attention.o, outputs, &mut update)?;
    probe.see(index, Site::AttentionOutput, &update, settings.hidden);
    add_update(stream, &update, attention.post_norm.as_deref(), settings)?;
    (room.normed, room.update) = (normed, update);
    Ok(())
}

/// Adds the FFN of one layer to the stream.
///
/// # Errors
/// Sizes that do not fit each other.
pub fn ffn_update(
    ffn: &Ffn,
    settings: &Settings,
    index: usize,
    stream: &mut [f32],
    room: &mut Room,
    probe: &mut dyn Probe,
) -> Result<(), SizeError> {
    let (mut normed, mut update) = (std::mem::take(&mut room.normed), std::mem::take(&mut room.update));
    rms_norm(stream, &ffn.norm, settings.epsilon, &mut normed)?;
    probe.see(index, Site::FfnNorm, &normed, settings.hidden);
    let hidden = ffn_hidden(ffn, settings, &normed, room)?;
    probe.see(index, Site::FfnHidden, hidden, ffn.down.inputs);
    linear_into(&ffn.down, hidden, &mut update)?;
    probe.see(index, Site::FfnOutput, &update, settings.hidden);
    add_update(stream, &update, ffn.post_norm.as_deref(), settings)?;
    (room.normed, room.update) = (normed, update);
    Ok(())
}

/// Output of the last norm: `out` is made as long as `stream`.
///
/// # Errors
/// `stream` is not whole rows.
pub fn final_normed(
    ends: &Ends,
    settings: &Settings,
    stream: &[f32],
    out: &mut Vec<f32>,
) -> Result<(), SizeError> {
    rms_norm(stream, &ends.final_norm, settings.epsilon, out)
}

/// Logits of some rows of the last norm's output: `out` is made `[rows, vocabulary]`. Callers pass as many rows as they
/// have memory for.
///
/// # Errors
/// `normed` is not whole rows; a head of another size.
pub fn logits(ends: &Ends, settings: &Settings, normed: &[f32], out: &mut Vec<f32>) -> Result<(), SizeError> {
    let rows = whole_rows("normed stream", normed, settings.hidden)?;
    let head = ends.head.as_deref().unwrap_or(&ends.embedding);
    out.resize(rows * settings.vocabulary, 0.0);
    let shape = Shape { m: rows, n: settings.vocabulary, k: settings.hidden };
    product(normed, head, None, out, shape)?;
    if let Some(cap) = settings.logit_cap {
        activation::cap(out, cap);
    }
    Ok(())
}
