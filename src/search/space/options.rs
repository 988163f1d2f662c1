//! What a person may set about a search space, and how it is typed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::search::space::axis::{Axis, PerAxis};
use crate::search::space::error::SpaceError;

/// Inclusive bounds of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Smallest allowed value.
    pub low: u64,
    /// Largest allowed value.
    pub high: u64,
}

/// What a person may set about a search space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpaceOptions {
    /// Multiples each axis keeps (the parent's own value is allowed all the same).
    pub multiples: PerAxis<u64>,
    /// Explicit bounds, which take the place of the largest prune fraction of that axis.
    pub bounds: PerAxis<Option<Bounds>>,
    /// Axes that stay as the parent has them.
    pub skip: BTreeSet<Axis>,
    /// Largest fraction of the parent's hidden size, FFN width, query heads and KV heads to prune.
    pub max_width_prune: f64,
    /// Largest fraction of the parent's layers to prune.
    pub max_depth_prune: f64,
    /// Allow more query heads per KV head than the parent has (KV heads are then merged, not selected).
    pub merge_kv: bool,
    /// Tensor-parallel degrees every shape must divide over.
    pub tp: Vec<u64>,
}

impl Default for SpaceOptions {
    /// Multiples of NVIDIA Model-Optimizer's Minitron mode (hidden 256, FFN 512), but any depth and head count.
    /// Half of each axis at most, the deepest single cut in published uniform children (Llama-3.1-8B to
    /// Minitron-4B-Depth, 32 to 16 layers: arXiv 2408.11796).
    fn default() -> Self {
        Self {
            multiples: PerAxis { layers: 1, hidden: 256, ffn: 512, q_heads: 1, kv_heads: 1 },
            bounds: PerAxis::default(),
            skip: BTreeSet::new(),
            max_width_prune: 0.5,
            max_depth_prune: 0.5,
            merge_kv: false,
            tp: vec![1],
        }
    }
}

impl SpaceOptions {
    /// Sets multiples as typed: `hidden=128,ffn=128`.
    pub fn set_multiples(&mut self, typed: &str) -> Result<(), SpaceError> {
        const EXPECTED: &str = "axis=multiple, such as hidden=128,ffn=128";
        for (axis, value) in settings(typed, EXPECTED)? {
            let multiple = number(value, typed, EXPECTED)?;
            if multiple == 0 {
                return Err(SpaceError::MultipleZero { axis });
            }
            *self.multiples.get_mut(axis) = multiple;
        }
        Ok(())
    }

    /// Sets bounds as typed: `hidden=2048..5120,layers=48` (inclusive; one number pins the axis).
    pub fn set_bounds(&mut self, typed: &str) -> Result<(), SpaceError> {
        const EXPECTED: &str = "axis=low..high, such as hidden=2048..5120 or layers=48";
        for (axis, value) in settings(typed, EXPECTED)? {
            let (low, high) = value.split_once("..").unwrap_or((value, value));
            let high = high.strip_prefix('=').unwrap_or(high);
            let bounds = Bounds { low: number(low, typed, EXPECTED)?, high: number(high, typed, EXPECTED)? };
            *self.bounds.get_mut(axis) = Some(bounds);
        }
        Ok(())
    }

    /// Skips axes as typed: `kv_heads,layers`.
    pub fn set_skip(&mut self, typed: &str) -> Result<(), SpaceError> {
        for name in typed.split(',') {
            self.skip.insert(name.parse()?);
        }
        Ok(())
    }
}

fn settings<'a>(typed: &'a str, expected: &'static str) -> Result<Vec<(Axis, &'a str)>, SpaceError> {
    let mut read: Vec<(Axis, &str)> = Vec::new();
    for part in typed.split(',') {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| SpaceError::NotASetting { found: part.trim().to_string(), expected })?;
        let axis: Axis = name.parse()?;
        if read.iter().any(|(earlier, _)| *earlier == axis) {
            return Err(SpaceError::GivenTwice { axis });
        }
        read.push((axis, value.trim()));
    }
    Ok(read)
}

fn number(value: &str, typed: &str, expected: &'static str) -> Result<u64, SpaceError> {
    value.trim().parse().map_err(|_| SpaceError::NotASetting { found: typed.trim().to_string(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        let mut options = SpaceOptions::default();
        options.set_multiples("hidden=128, ffn=64").unwrap();
        assert_eq!((options.multiples.hidden, options.multiples.ffn, options.multiples.layers), (128, 64, 1));
        options.set_bounds("hidden=2048..5120,layers=48").unwrap();
        assert_eq!(options.bounds.hidden, Some(Bounds { low: 2048, high: 5120 }));
        assert_eq!(options.bounds.layers, Some(Bounds { low: 48, high: 48 }));
        options.set_bounds("ffn=512..=1024").unwrap();
        assert_eq!(options.bounds.ffn, Some(Bounds { low: 512, high: 1024 }));
        options.set_skip("kv_heads,q-heads").unwrap();
        assert_eq!(options.skip, BTreeSet::from([Axis::QHeads, Axis::KvHeads]));
    }

    #[test]
    fn refuses_what_nobody_means() {
        let mut options = SpaceOptions::default();
        let unknown = options.set_multiples("hiden=128").unwrap_err();
        assert_eq!(
            unknown,
            SpaceError::UnknownAxis { found: "hiden".into(), suggestion: Some("hidden".into()) }
        );
        assert!(unknown.to_string().ends_with("did you mean `hidden`?"), "{unknown}");
        assert_eq!(options.set_multiples("ffn=0"), Err(SpaceError::MultipleZero { axis: Axis::Ffn }));
        assert_eq!(options.set_multiples("ffn=1,ffn=2"), Err(SpaceError::GivenTwice { axis: Axis::Ffn }));
        assert!(matches!(options.set_multiples("ffn"), Err(SpaceError::NotASetting { .. })));
        assert!(matches!(options.set_multiples("ffn=-1"), Err(SpaceError::NotASetting { .. })));
        assert!(matches!(options.set_bounds("ffn=1..x"), Err(SpaceError::NotASetting { .. })));
        assert!(matches!(options.set_bounds(""), Err(SpaceError::NotASetting { .. })));
        assert!(matches!(options.set_skip("width"), Err(SpaceError::UnknownAxis { .. })));
        assert_eq!(options, SpaceOptions::default());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(s in "\\PC*") {
            let mut options = SpaceOptions::default();
            let _ = (options.set_multiples(&s), options.set_bounds(&s), options.set_skip(&s));
        }
    }
}
