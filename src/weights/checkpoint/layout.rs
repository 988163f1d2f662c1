//! Where planned tensors go: into which shard, at which offset, under which header.

use std::collections::BTreeSet;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::weights::checkpoint::index::{INDEX, SINGLE};
use crate::weights::checkpoint::tensor::Tensor;
use crate::weights::checkpoint::write_error::WriteError;

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, rows first.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// What a tensor looks like.
    pub fn of(tensor: &Tensor<'_>) -> Self {
        TensorInfo { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone() }
    }

    /// Elements; none where they cannot be counted.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))
    }

    /// Bytes; none where they cannot be counted or are not whole.
    pub fn bytes(&self) -> Option<usize> {
        let bits = self.elements()?.checked_mul(self.dtype.bitsize())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

/// A tensor and its place in the file.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) info: TensorInfo,
    /// First byte, counted from the start of the file.
    pub(crate) begin: u64,
    pub(crate) bytes: usize,
}

/// One file to be written.
#[derive(Clone, Debug)]
pub(crate) struct ShardPlan {
    pub(crate) name: String,
    /// Length and JSON, padded to eight bytes.
    pub(crate) header: Vec<u8>,
    /// In the order they are written, which need not be the order they lie in.
    pub(crate) tensors: Vec<Placed>,
}

/// Divides tensors over shards of at most `limit` bytes of data (a larger tensor has one of its own), in order.
pub(crate) fn shards(plan: Vec<TensorInfo>, limit: u64) -> Result<Vec<ShardPlan>, WriteError> {
    let mut seen = BTreeSet::new();
    let mut parts: Vec<Vec<(TensorInfo, usize)>> = Vec::new();
    let mut filled = 0u64;
    for info in plan {
        if info.name == "__metadata__" || !seen.insert(info.name.clone()) {
            return Err(WriteError::PlannedTwice { tensor: info.name });
        }
        let Some(bytes) = info.bytes() else {
            return Err(WriteError::NoSize { tensor: info.name, dtype: info.dtype, shape: info.shape });
        };
        let fits = filled.saturating_add(bytes as u64) <= limit;
        filled = if fits { filled + bytes as u64 } else { bytes as u64 };
        match parts.last_mut() {
            Some(part) if fits => part.push((info, bytes)),
            _ => parts.push(vec![(info, bytes)]),
        }
    }
    let count = parts.len();
    let name = |at: usize| match count {
        1 => SINGLE.to_string(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", at + 1),
    };
    Ok(parts.into_iter().enumerate().map(|(at, part)| shard(name(at), part)).collect())
}

/// Lays wide elements before narrow ones, so that each tensor begins at a multiple of its element: readers that view
/// the bytes in place ask for that.
fn shard(name: String, part: Vec<(TensorInfo, usize)>) -> ShardPlan {
    let mut order: Vec<usize> = (0..part.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(part.get(*at).map(|(info, _)| info.dtype.bitsize())));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let (mut end, mut begins) = (0u64, vec![0u64; part.len()]);
    for at in order {
        let (Some((info, bytes)), Some(begin)) = (part.get(at), begins.get_mut(at)) else { continue };
        *begin = end;
        end += *bytes as u64;
        let place = json!({
            "dtype": info.dtype.to_string(), "shape": info.shape, "data_offsets": [*begin, end]
        });
        header.insert(info.name.clone(), place);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    let start = header.len() as u64;
    let placed = part.into_iter().zip(begins);
    let tensors = placed.map(|((info, bytes), begin)| Placed { info, begin: start + begin, bytes }).collect();
    ShardPlan { name, header, tensors }
}

/// The index of several shards, as text; none for a single file.
pub(crate) fn index(shards: &[ShardPlan]) -> Option<(&'static str, String)> {
    if shards.len() < 2 {
        return None;
    }
    let tensors = || shards.iter().flat_map(|shard| shard.tensors.iter().map(move |tensor| (shard, tensor)));
    let size: u64 = tensors().map(|(_, tensor)| tensor.bytes as u64).sum();
    let parameters: u64 = tensors().filter_map(|(_, t)| t.info.elements()).map(|n| n as u64).sum();
    let map: Map<String, Value> =
        tensors().map(|(shard, tensor)| (tensor.info.name.clone(), json!(shard.name))).collect();
    let metadata = json!({ "total_parameters": parameters, "total_size": size });
    Some((INDEX, format!("{:#}\n", json!({ "metadata": metadata, "weight_map": map }))))
}
