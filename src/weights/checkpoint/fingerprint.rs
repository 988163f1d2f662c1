//! A checkpoint's fingerprint: cheap, and changed by whatever training, pruning or merging changes.

use sha2::{Digest, Sha256};

use crate::weights::checkpoint::Checkpoint;

/// Bytes taken from each end of a tensor.
const SAMPLE: usize = 4096;

/// See [`Checkpoint::fingerprint`].
pub(crate) fn of(checkpoint: &Checkpoint) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&checkpoint.config);
    for shard in &checkpoint.shards {
        part(shard.name.as_bytes());
        part(&(shard.size() as u64).to_le_bytes());
    }
    for (name, (shard, entry)) in &checkpoint.entries {
        part(name.as_bytes());
        part(entry.dtype.to_string().as_bytes());
        part(&(entry.shape.len() as u64).to_le_bytes());
        entry.shape.iter().for_each(|dim| part(&(*dim as u64).to_le_bytes()));
        let Some(shard) = checkpoint.shards.get(*shard) else { continue };
        part(shard.bytes(entry.begin..entry.end.min(entry.begin + SAMPLE)));
        part(shard.bytes(entry.begin.max(entry.end.saturating_sub(SAMPLE))..entry.end));
        shard.release(entry.begin..entry.end);
    }
    hexadecimal(&hash.finalize())
}

/// Bytes in hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
