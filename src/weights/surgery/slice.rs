//! Cuts a layer's tensors out of the parent: bytes are gathered as they are stored, and only what moved in from another
//! layer is changed.

use crate::model::tensors::Role;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::checkpoint::tensor::Tensor;
use crate::weights::surgery::clap::{self, Correction};
use crate::weights::surgery::cut::{Cut, GroupCut, LayerCut};
use crate::weights::surgery::error::SurgeryError;
use crate::weights::surgery::parts::Parts;

/// How the elements of a tensor are numbered along one side.
#[derive(Clone, Copy)]
enum Side {
    Hidden,
    Ffn,
    Queries,
    Keys,
    Whole,
}

/// Rows and columns of every tensor of a layer.
const SIDES: [(Role, Side, Side); 20] = [
    (Role::AttentionNorm, Side::Hidden, Side::Whole),
    (Role::Q, Side::Queries, Side::Hidden),
    (Role::QBias, Side::Queries, Side::Whole),
    (Role::K, Side::Keys, Side::Hidden),
    (Role::KBias, Side::Keys, Side::Whole),
    (Role::V, Side::Keys, Side::Hidden),
    (Role::VBias, Side::Keys, Side::Whole),
    (Role::QNorm, Side::Whole, Side::Whole),
    (Role::KNorm, Side::Whole, Side::Whole),
    (Role::O, Side::Hidden, Side::Queries),
    (Role::OBias, Side::Hidden, Side::Whole),
    (Role::AttentionPostNorm, Side::Hidden, Side::Whole),
    (Role::FfnNorm, Side::Hidden, Side::Whole),
    (Role::Gate, Side::Ffn, Side::Hidden),
    (Role::GateBias, Side::Ffn, Side::Whole),
    (Role::Up, Side::Ffn, Side::Hidden),
    (Role::UpBias, Side::Ffn, Side::Whole),
    (Role::Down, Side::Hidden, Side::Ffn),
    (Role::DownBias, Side::Hidden, Side::Whole),
    (Role::FfnPostNorm, Side::Hidden, Side::Whole),
];

/// The first so many of them are attention's.
const ATTENTION: usize = 12;

/// The indices a cut keeps along each side of one layer's tensors, of groups that stood in one layer of the parent.
struct Kept<'a> {
    hidden: &'a [u32],
    ffn: &'a [u32],
    queries: Vec<u32>,
    keys: Vec<u32>,
}

impl<'a> Kept<'a> {
    fn of(cut: &'a Cut, layer: &'a LayerCut, from: u64, head_dim: u32) -> Self {
        let groups = || layer.groups.iter().filter(|group| group.layer == from);
        let wide = |head: u32| head * head_dim..(head + 1) * head_dim;
        Self {
            hidden: &cut.hidden,
            ffn: &layer.ffn,
            queries: groups().flat_map(|group| group.q_heads.iter().copied()).flat_map(wide).collect(),
            keys: groups().map(|group| group.kv_head).flat_map(wide).collect(),
        }
    }

    fn along(&self, side: Side) -> Option<&[u32]> {
        match side {
            Side::Hidden => Some(self.hidden),
            Side::Ffn => Some(self.ffn),
            Side::Queries => Some(&self.queries),
            Side::Keys => Some(&self.keys),
            Side::Whole => None,
        }
    }

    fn select<'t>(
        &self,
        parent: &Checkpoint,
        tensor: Tensor<'t>,
        rows: Side,
        columns: Side,
    ) -> Result<Tensor<'t>, SurgeryError> {
        select(parent, tensor, self.along(rows), self.along(columns))
    }
}

/// The selection, or the tensor itself where it is whole.
fn select<'t>(
    parent: &Checkpoint,
    tensor: Tensor<'t>,
    rows: Option<&[u32]>,
    columns: Option<&[u32]>,
) -> Result<Tensor<'t>, SurgeryError> {
    let whole = |kept: Option<&[u32]>, of: usize| kept.is_none_or(|kept| kept.len() == of);
    match whole(rows, tensor.rows()) && whole(columns, tensor.row_len()) {
        true => Ok(tensor),
        false => {
            let selected = tensor.select(rows, columns)?.into_owned();
            parent.release(&tensor);
            Ok(selected)
        }
    }
}

/// Embedding and head lose columns, the last norm elements.
///
/// # Errors
/// A tensor that cannot be read.
pub fn ends<'a>(parent: &'a Checkpoint, cut: &Cut) -> Result<Parts<'a>, SurgeryError> {
    let mut parts = Parts::default();
    for role in [Role::Embedding, Role::LmHead, Role::FinalNorm] {
        if let Some(tensor) = parent.get(role, None)? {
            let (rows, columns) = match role {
                Role::FinalNorm => (Some(cut.hidden.as_slice()), None),
                _ => (None, Some(cut.hidden.as_slice())),
            };
            parts.store(role, select(parent, tensor, rows, columns)?);
        }
    }
    Ok(parts)
}

/// One layer of the child, before any re-initialisation. `correction` is asked for what changes groups from another
/// layer.
///
/// # Errors
/// A tensor that cannot be read.
pub fn layer<'a>(
    parent: &'a Checkpoint,
    cut: &Cut,
    layer: &LayerCut,
    correction: impl Fn(u64) -> Result<Correction, SurgeryError>,
) -> Result<Parts<'a>, SurgeryError> {
    let head_dim = parent.spec().architecture.head_dim as u32;
    let own = Kept::of(cut, layer, layer.parent, head_dim);
    let mut parts = Parts::default();
    for (at, (role, rows, columns)) in SIDES.into_iter().enumerate() {
        let absent = if at < ATTENTION { layer.groups.is_empty() } else { layer.ffn.is_empty() };
        if let (Some(tensor), false) = (parent.get(role, Some(layer.parent))?, absent) {
            parts.store(role, own.select(parent, tensor, rows, columns)?);
        }
    }
    for from in sources(&layer.groups, layer.parent) {
        let kept = Kept::of(cut, layer, from, head_dim);
        let correction = correction(from)?;
        for (role, rows, columns) in SIDES {
            if !matches!(rows, Side::Queries | Side::Keys) && !matches!(role, Role::O | Role::OBias) {
                continue;
            }
            if let Some(tensor) = parent.get(role, Some(from))? {
                let moved = kept.select(parent, tensor, rows, columns)?;
                clap::append(&mut parts, role, &moved, &correction)?;
            }
        }
    }
    Ok(parts)
}

/// Layers other than the own that groups come from, in order.
fn sources(groups: &[GroupCut], own: u64) -> Vec<u64> {
    let mut layers: Vec<u64> = groups.iter().map(|group| group.layer).filter(|layer| *layer != own).collect();
    layers.dedup();
    layers
}
