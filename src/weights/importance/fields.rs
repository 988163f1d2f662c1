//! The sums as named lists of numbers, the form in which they are stored, added and checked.

use crate::model::architecture::Architecture;
use crate::weights::importance::statistics::{Channels, Grams, LayerSums, NormSums, PostNormSums, Sums};

/// Numbers of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Numbers<'a> {
    /// Sums.
    F64(&'a [f64]),
    /// A Gram matrix, square.
    F32(&'a [f32]),
}

/// Numbers of one field, to be changed.
#[derive(Debug)]
pub enum NumbersMut<'a> {
    /// Sums.
    F64(&'a mut [f64]),
    /// A Gram matrix, square.
    F32(&'a mut [f32]),
}

/// One walk for reading and one for changing, so that they cannot differ.
macro_rules! walk {
    ($(#[$doc:meta])* $name:ident, $parts:ident, $numbers:ident, $iter:ident, $one:ident $(, $mutable:tt)?) => {
        $(#[$doc])*
        pub fn $name(sums: &$($mutable)? Sums) -> Vec<(String, $numbers<'_>)> {
            let mut found: Vec<(String, $numbers<'_>)> = Vec::new();
            let mut norms = Vec::new();
            let mut channels = Vec::new();
            for (index, layer) in sums.layers.$iter().enumerate() {
                let at = |field: &str| format!("layers.{index}.{field}");
                let LayerSums {
                    attention_norm,
                    ffn_norm,
                    head_outputs,
                    heads,
                    head_contributions,
                    group_contributions,
                    ffn_hidden,
                    cosine,
                    stream_norm,
                    first_token_norm,
                    attention_post_norm,
                    ffn_post_norm,
                    grams,
                } = layer;
                norms.push((at("attention_norm"), attention_norm));
                norms.push((at("ffn_norm"), ffn_norm));
                channels.push((at("head_outputs"), head_outputs));
                channels.push((at("ffn_hidden"), ffn_hidden));
                found.push((at("heads"), $numbers::F64(heads)));
                found.push((at("head_contributions"), $numbers::F64(head_contributions)));
                found.push((at("group_contributions"), $numbers::F64(group_contributions)));
                found.push((at("cosine"), $numbers::F64(std::slice::$one(cosine))));
                found.push((at("stream_norm"), $numbers::F64(std::slice::$one(stream_norm))));
                found.push((at("first_token_norm"), $numbers::F64(std::slice::$one(first_token_norm))));
                for (place, post_norm) in
                    [("attention_post_norm", attention_post_norm), ("ffn_post_norm", ffn_post_norm)]
                {
                    let Some(PostNormSums { rms, rms_squared, gained_by_rms, gained }) = post_norm else {
                        continue;
                    };
                    for (field, value) in [
                        ("rms", rms),
                        ("rms_squared", rms_squared),
                        ("gained_by_rms", gained_by_rms),
                        ("gained", gained),
                    ] {
                        let name = at(&format!("{place}.{field}"));
                        found.push((name, $numbers::F64(std::slice::$one(value))));
                    }
                }
                if let Some(Grams { attention_norm, head_outputs, ffn_norm, ffn_hidden }) = grams {
                    found.push((at("grams.attention_norm"), $numbers::F32(attention_norm)));
                    found.push((at("grams.head_outputs"), $numbers::F32(head_outputs)));
                    found.push((at("grams.ffn_norm"), $numbers::F32(ffn_norm)));
                    found.push((at("grams.ffn_hidden"), $numbers::F32(ffn_hidden)));
                }
            }
            norms.push(("final_norm".to_string(), &$($mutable)? sums.final_norm));
            $parts(norms, channels, &mut found);
            found.push(("angular".to_string(), $numbers::F64(&$($mutable)? sums.angular)));
            found
        }

        fn $parts<'a>(
            norms: Vec<(String, &'a $($mutable)? NormSums)>,
            mut channels: Vec<(String, &'a $($mutable)? Channels)>,
            found: &mut Vec<(String, $numbers<'a>)>,
        ) {
            for (place, NormSums { output, energy }) in norms {
                found.push((format!("{place}.energy"), $numbers::F64(energy)));
                channels.push((format!("{place}.output"), output));
            }
            for (place, Channels { mean_abs_squared, sum, sum_squares }) in channels {
                found.push((format!("{place}.mean_abs_squared"), $numbers::F64(mean_abs_squared)));
                found.push((format!("{place}.sum"), $numbers::F64(sum)));
                found.push((format!("{place}.sum_squares"), $numbers::F64(sum_squares)));
            }
        }
    };
}

walk!(
    /// Every field that has numbers or could have, with its name in the file.
    fields, parts, Numbers, iter, from_ref
);
walk!(
    /// The same, to be changed; see [`fields`].
    fields_mut, parts_mut, NumbersMut, iter_mut, from_mut, mut
);

/// Numbers that the sums of such a model hold: f64 ones, and f32 ones in Gram matrices.
pub fn sizes(architecture: &Architecture, sandwich: bool, grams: bool) -> (u128, u128) {
    let hidden = u128::from(architecture.hidden);
    let boundaries = u128::from(architecture.depth()) + 1;
    let mut sums = 4 * hidden + boundaries * boundaries;
    let mut squares = 0;
    let post_norm = if sandwich { 4 } else { 0 };
    for shape in architecture.layer_shapes() {
        sums += 3;
        if shape.q_heads > 0 {
            let channels = u128::from(shape.q_heads) * u128::from(architecture.head_dim);
            let heads = 2 * u128::from(shape.q_heads) + u128::from(shape.kv_heads);
            sums += 4 * hidden + 3 * channels + heads + post_norm;
            squares += hidden * hidden + channels * channels;
        }
        if shape.ffn > 0 {
            let ffn = u128::from(shape.ffn);
            sums += 4 * hidden + 3 * ffn + post_norm;
            squares += hidden * hidden + ffn * ffn;
        }
    }
    (sums, if grams { squares } else { 0 })
}

/// Whether a field may hold negative numbers.
pub fn may_be_negative(name: &str) -> bool {
    name.ends_with(".sum") || name.ends_with(".cosine") || name.contains(".grams.")
}

impl Sums {
    /// Adds the sums of other samples of the same model. False, and nothing is changed, where the two do not have the
    /// same fields of the same lengths.
    pub fn add(&mut self, other: &Sums) -> bool {
        let theirs = fields(other);
        let mut ours = fields_mut(self);
        let alike = |((name, ours), (theirs_name, theirs)): (&(String, NumbersMut), &(String, Numbers))| {
            let lengths = match (ours, theirs) {
                (NumbersMut::F64(a), Numbers::F64(b)) => a.len() == b.len(),
                (NumbersMut::F32(a), Numbers::F32(b)) => a.len() == b.len(),
                _ => false,
            };
            lengths && name == theirs_name
        };
        if ours.len() != theirs.len() || !ours.iter().zip(&theirs).all(alike) {
            return false;
        }
        for ((_, ours), (_, theirs)) in ours.iter_mut().zip(theirs) {
            match (ours, theirs) {
                (NumbersMut::F64(a), Numbers::F64(b)) => a.iter_mut().zip(b).for_each(|(a, b)| *a += b),
                (NumbersMut::F32(a), Numbers::F32(b)) => a.iter_mut().zip(b).for_each(|(a, b)| *a += b),
                _ => {}
            }
        }
        self.samples += other.samples;
        self.tokens += other.tokens;
        self.angular_tokens += other.angular_tokens;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::architecture::{LayerShape, Layers};

    #[test]
    fn sizes_are_those_of_the_fields() {
        let layer = |ffn, q_heads, kv_heads| LayerShape { ffn, q_heads, kv_heads };
        let ragged = Layers::PerLayer(vec![layer(12, 4, 2), layer(0, 2, 1), layer(8, 0, 0)]);
        for layers in [ragged, Layers::Uniform { count: 3, shape: layer(16, 4, 4) }] {
            let architecture = Architecture { hidden: 8, head_dim: 4, layers };
            for (sandwich, grams) in [(false, false), (true, false), (false, true), (true, true)] {
                let sums = Sums::zeros(&architecture, sandwich, grams);
                let mut found = (0, 0);
                for (_, numbers) in fields(&sums) {
                    match numbers {
                        Numbers::F64(values) => found.0 += values.len() as u128,
                        Numbers::F32(values) => found.1 += values.len() as u128,
                    }
                }
                assert_eq!(found, sizes(&architecture, sandwich, grams));
            }
        }
    }

    #[test]
    fn names_are_distinct_and_other_shapes_are_not_added() {
        let shape = Architecture::uniform(2, 8, 12, 4, 2, 4);
        let mut sums = Sums::zeros(&shape, true, true);
        let mut names: Vec<String> = fields(&sums).into_iter().map(|(name, _)| name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        let before = sums.clone();
        assert!(!sums.add(&Sums::zeros(&shape, false, true)));
        assert!(!sums.add(&Sums::zeros(&Architecture::uniform(2, 8, 14, 4, 2, 4), true, true)));
        assert_eq!(sums, before);
        assert!(sums.add(&before));
    }
}
