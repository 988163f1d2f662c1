//! Which layers stay, and which dropped ones each of them stands in for.

use crate::weights::importance::rankings::top;
use crate::weights::surgery::choice::error::ChoiceError;
use crate::weights::surgery::choice::scores::Scores;
use crate::weights::surgery::options::DepthMethod;

/// The kept layers, first layer first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Kept layers.
    pub kept: Vec<Kept>,
}

/// A kept layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The layer, from 0.
    pub layer: u64,
    /// Dropped layers that follow it up to the next kept one; before the first kept layer, those ahead of it as well.
    pub dropped: Vec<u64>,
}

impl Depth {
    /// Chooses `target` of `depth` layers.
    ///
    /// # Errors
    /// A list of layers that are not there or too few or many of them.
    pub fn choose(
        depth: u64,
        target: u64,
        scores: &Scores,
        method: &DepthMethod,
    ) -> Result<Self, ChoiceError> {
        let gone = depth.saturating_sub(target);
        let dropped = match method {
            DepthMethod::Layers(layers) => listed(layers, depth, target)?,
            _ if gone == 0 => Vec::new(),
            DepthMethod::BlockInfluence => {
                let least: Vec<f64> = scores.influence.iter().map(|influence| -influence).collect();
                top(&least, gone as usize).into_iter().map(u64::from).collect()
            }
            DepthMethod::Contiguous => run(depth, gone, scores),
        };
        Ok(Self::without(depth, &dropped))
    }

    fn without(depth: u64, dropped: &[u64]) -> Self {
        let mut kept: Vec<Kept> = Vec::new();
        let mut ahead = Vec::new();
        for layer in 0..depth {
            match (dropped.contains(&layer), kept.last_mut()) {
                (true, Some(last)) => last.dropped.push(layer),
                (true, None) => ahead.push(layer),
                (false, _) => kept.push(Kept { layer, dropped: std::mem::take(&mut ahead) }),
            }
        }
        Self { kept }
    }
}

fn listed(layers: &[u64], depth: u64, target: u64) -> Result<Vec<u64>, ChoiceError> {
    if let Some(&layer) = layers.iter().find(|layer| **layer >= depth) {
        return Err(ChoiceError::NoLayer { layer, depth });
    }
    let listed = layers.len() as u64;
    if depth - listed.min(depth) != target {
        let (left, needed) = (depth.saturating_sub(listed), depth.saturating_sub(target));
        return Err(ChoiceError::WrongNumber { listed, left, target, needed });
    }
    Ok(layers.to_vec())
}

/// The run of `gone` layers across which the stream turns least; the first layer always stays, as it makes a stream
/// out of bare embeddings.
fn run(depth: u64, gone: u64, scores: &Scores) -> Vec<u64> {
    let angle = |from: u64| {
        let at = from * (depth + 1) + from + gone;
        scores.angular.get(at as usize).copied().unwrap_or(f64::INFINITY)
    };
    let first = u64::from(gone < depth);
    let best = (first..=depth - gone).min_by(|a, b| angle(*a).total_cmp(&angle(*b))).unwrap_or(first);
    (best..best + gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(depth: &Depth) -> Vec<u64> {
        depth.kept.iter().flat_map(|kept| kept.dropped.clone()).collect()
    }

    #[test]
    fn each_method_drops_what_it_says() {
        let mut scores =
            Scores { influence: vec![0.9, 0.2, 0.5, 0.1], angular: vec![0.5; 25], ..Scores::default() };
        scores.angular[5 + 3] = 0.1;
        let choose = |method| Depth::choose(4, 2, &scores, &method).unwrap();
        let influence = choose(DepthMethod::BlockInfluence);
        assert_eq!(dropped(&influence), [1, 3]);
        assert_eq!(influence.kept[0], Kept { layer: 0, dropped: vec![1] });
        assert_eq!(dropped(&choose(DepthMethod::Contiguous)), [1, 2]);
        let first = choose(DepthMethod::Layers(vec![0, 2]));
        assert_eq!(first.kept[0], Kept { layer: 1, dropped: vec![0, 2] });
        assert!(matches!(
            Depth::choose(4, 2, &scores, &DepthMethod::Layers(vec![1])),
            Err(ChoiceError::WrongNumber { needed: 2, .. })
        ));
        assert!(matches!(
            Depth::choose(4, 3, &scores, &DepthMethod::Layers(vec![4])),
            Err(ChoiceError::NoLayer { layer: 4, .. })
        ));
    }
}
