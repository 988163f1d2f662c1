//! Properties: any checkpoint survives a round trip, gathers equal the naive ones, no header makes the reader panic.

use std::collections::BTreeMap;
use std::fs;

use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::checkpoint::gather::SelectError;
use archplan::weights::checkpoint::header;
use archplan::weights::checkpoint::layout::TensorInfo;
use archplan::weights::checkpoint::tensor::Tensor;
use archplan::weights::checkpoint::writer::CheckpointWriter;
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use tempfile::tempdir;

use crate::checkpoint_files::{file, llama, weights, with, write};

fn dtypes() -> impl Strategy<Value = Vec<Dtype>> {
    let one = prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::BF16]);
    prop::collection::vec(one, 1..6)
}

/// Elements as numbers, for any width.
fn naive(tensor: &Tensor, rows: Option<&[u32]>, columns: Option<&[u32]>) -> Vec<u8> {
    let size = tensor.dtype.bitsize() / 8;
    let (height, width) = (tensor.rows(), tensor.row_len());
    let all = |n: usize| (0..n as u32).collect::<Vec<_>>();
    let (rows, columns) = (rows.map_or(all(height), Vec::from), columns.map_or(all(width), Vec::from));
    let mut bytes = Vec::new();
    for row in &rows {
        for column in &columns {
            let at = (*row as usize * width + *column as usize) * size;
            bytes.extend(&tensor.data[at..at + size]);
        }
    }
    bytes
}

/// Indices below `n`: sorted subsets, runs, or anything with repeats.
fn indices(n: usize) -> impl Strategy<Value = Option<Vec<u32>>> {
    let n = n as u32;
    prop_oneof![
        Just(None),
        Just(Some((0..n).collect())),
        prop::collection::btree_set(0..n, 0..=n as usize).prop_map(|set| Some(set.into_iter().collect())),
        (0..n, 0..n).prop_map(|(a, b)| Some((a.min(b)..a.max(b)).collect())),
        prop::collection::vec(0..n, 0..2 * n as usize).prop_map(Some),
    ]
}

fn selections() -> impl Strategy<Value = (usize, usize, Option<Vec<u32>>, Option<Vec<u32>>, Dtype)> {
    let types = vec![Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::U8, Dtype::I64];
    (1usize..40, 1usize..70, prop::sample::select(types))
        .prop_flat_map(|(h, w, dtype)| (Just(h), Just(w), indices(h), indices(w), Just(dtype)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_checkpoint_survives_a_round_trip(
        dtypes in dtypes(), seed in any::<u64>(), shards in 1usize..4, limit in 1u64..20_000, tied in any::<bool>(),
        vocab in 1u64..50, layers in 1u64..4, ffn in 1u64..20,
    ) {
        let config = with(with(llama(), "tie_word_embeddings", json!(tied)), "vocab_size", json!(vocab));
        let config = with(with(config, "num_hidden_layers", json!(layers)), "intermediate_size", json!(ffn));
        let root = tempdir().unwrap();
        let tensors = weights(&config, &dtypes, seed);
        write(&root.path().join("in"), &config, &tensors, shards);
        let parent = Checkpoint::open(&root.path().join("in")).unwrap();
        let plan = parent.names().map(|name| TensorInfo::of(&parent.tensor(name).unwrap())).collect();
        let out = root.path().join("out");
        let mut writer = CheckpointWriter::create(&out, plan, limit).unwrap();
        for name in parent.names() {
            writer.write(&parent.tensor(name).unwrap().into_owned()).unwrap();
        }
        writer.add_file("config.json", parent.config()).unwrap();
        let written = writer.finish().unwrap();
        let read = Checkpoint::open(&out).unwrap();
        prop_assert_eq!(read.spec().architecture.clone(), parent.spec().architecture.clone());
        let mut count = BTreeMap::new();
        for (name, expected) in &tensors {
            let tensor = read.tensor(name).unwrap();
            prop_assert_eq!((tensor.dtype, &tensor.shape), (expected.dtype, &expected.shape));
            prop_assert_eq!(&*tensor.data, &expected.bytes);
            let sizes = count.entry(read.file_of(name).unwrap()).or_insert((0, 0));
            *sizes = (sizes.0 + 1, sizes.1 + expected.bytes.len() as u64);
        }
        prop_assert_eq!(count.len(), written.files.len());
        prop_assert!(count.values().all(|(tensors, bytes)| *tensors == 1 || *bytes <= limit));
    }

    #[test]
    fn gathers_equal_the_naive_ones((height, width, rows, columns, dtype) in selections(), seed in any::<u8>()) {
        let size = dtype.bitsize() / 8;
        let data: Vec<u8> = (0..height * width * size).map(|i| (i * 31) as u8 ^ seed).collect();
        let tensor = Tensor { name: "w".into(), dtype, shape: vec![height, width], data: data.into() };
        let (rows, columns) = (rows.as_deref(), columns.as_deref());
        let chosen = tensor.select(rows, columns).unwrap();
        prop_assert_eq!(&*chosen.data, &naive(&tensor, rows, columns));
        prop_assert_eq!(chosen.shape.clone(), vec![rows.map_or(height, <[u32]>::len), columns.map_or(width, <[u32]>::len)]);
        let identity = |kept: Option<&[u32]>, n: usize| kept.is_none_or(|kept| kept.iter().copied().eq(0..n as u32));
        let untouched = identity(rows, height) && identity(columns, width);
        prop_assert_eq!(matches!(chosen.data, std::borrow::Cow::Borrowed(_)), untouched);

        let vector = Tensor { shape: vec![height * width], ..tensor.clone() };
        if let Some(kept) = columns {
            let chosen = vector.select(Some(kept), None).unwrap();
            prop_assert_eq!(&*chosen.data, &naive(&vector, Some(kept), None));
            prop_assert_eq!(chosen.shape, vec![kept.len()]);
        }
    }

    #[test]
    fn no_bytes_make_the_header_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0u64..220) {
        let _ = header::read(&bytes);
        let mut file = length.to_le_bytes().to_vec();
        file.extend(&bytes);
        let _ = header::read(&file);
    }

    /// What is accepted is what the format's reference reader reads.
    #[test]
    fn changed_files_are_refused_or_read_equal(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = file(&weights(&llama(), &[Dtype::BF16, Dtype::F32], 1));
        let header_end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, byte, kind) in changes {
            let at = at.index(header_end);
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] = b"0123456789[]{},:\""[byte as usize % 17],
                2 => drop(bytes.remove(at)),
                _ => bytes[at] ^= 1 << (byte % 8),
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match header::read(&bytes) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(entries) => {
                let reference = SafeTensors::deserialize(&bytes).unwrap();
                prop_assert_eq!(entries.len(), reference.len());
                for entry in entries {
                    let view = reference.tensor(&entry.name).unwrap();
                    prop_assert_eq!((view.dtype(), view.shape()), (entry.dtype, entry.shape.as_slice()));
                    prop_assert_eq!(view.data(), &bytes[entry.begin..entry.end]);
                }
            }
        }
        let root = tempdir().unwrap();
        write(root.path(), &llama(), &BTreeMap::new(), 1);
        fs::write(root.path().join("model.safetensors"), &bytes).unwrap();
        let _ = Checkpoint::open(root.path());
    }
}

#[test]
fn selections_out_of_range_are_refused() {
    let matrix = Tensor::from_f32("w", Dtype::F32, &[2, 3], &[0.0; 6]).unwrap();
    let error = matrix.select(Some(&[0, 2]), None).unwrap_err();
    assert!(matches!(error, SelectError::OutOfRange { axis: "rows", position: 1, index: 2, size: 2, .. }));
    let error = matrix.select(None, Some(&[3])).unwrap_err();
    assert!(matches!(error, SelectError::OutOfRange { axis: "columns", .. }));
    let vector = Tensor::from_f32("w", Dtype::F32, &[6], &[0.0; 6]).unwrap();
    assert!(matches!(vector.select(None, Some(&[0])), Err(SelectError::NoSuchAxis { axis: "columns", .. })));
    let scalar = Tensor::from_f32("w", Dtype::F32, &[], &[0.0]).unwrap();
    assert!(matches!(scalar.select(Some(&[0]), None), Err(SelectError::NoSuchAxis { axis: "rows", .. })));
    let packed = Tensor { name: "w".into(), dtype: Dtype::F4, shape: vec![4], data: vec![0; 2].into() };
    assert!(matches!(packed.select(Some(&[1]), None), Err(SelectError::Packed { .. })));
    let empty = matrix.select(Some(&[]), Some(&[])).unwrap();
    assert_eq!((empty.shape, empty.data.len()), (vec![0, 0], 0));
    let cube = Tensor::from_f32("w", Dtype::F32, &[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!(cube.select(Some(&[1]), None).unwrap().to_f32().unwrap(), [3.0, 4.0]);
}
