//! Writing: what is written is read again; errors and deaths leave no half a checkpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use archplan::weights::checkpoint::Checkpoint;
use archplan::weights::checkpoint::extras::{self, Reason};
use archplan::weights::checkpoint::layout::TensorInfo;
use archplan::weights::checkpoint::tensor::Tensor;
use archplan::weights::checkpoint::verification::{self, Engine, Severity};
use archplan::weights::checkpoint::write_error::WriteError;
use archplan::weights::checkpoint::writer::{CheckpointWriter, SHARD_LIMIT, Written};
use safetensors::Dtype;
use serde_json::json;
use tempfile::tempdir;

use crate::checkpoint_files::{llama, weights, with, write};

const MIXED: &[Dtype] = &[Dtype::BF16, Dtype::F32, Dtype::F16];

/// Copies a checkpoint tensor by tensor.
fn copy(parent: &Path, out: &Path, limit: u64) -> Result<Written, WriteError> {
    let parent = Checkpoint::open(parent).unwrap();
    let names = parent.stored_order();
    let plan = names.iter().map(|name| TensorInfo::of(&parent.tensor(name).unwrap())).collect();
    let mut writer = CheckpointWriter::create(out, plan, limit)?;
    for name in names {
        let tensor = parent.tensor(name).unwrap();
        assert_eq!(writer.expected(), Some(&TensorInfo::of(&tensor)));
        match name.len() % 2 {
            0 => writer.write(&tensor)?,
            _ => writer.copy(&parent, &tensor)?,
        }
        parent.release(&tensor);
    }
    writer.add_file("config.json", parent.config())?;
    writer.finish()
}

fn left_over(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".")).collect()
}

fn info(name: &str, shape: &[usize]) -> TensorInfo {
    TensorInfo { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec() }
}

fn ones(name: &str, shape: &[usize]) -> Tensor<'static> {
    Tensor::from_f32(name, Dtype::F32, shape, &vec![1.0; shape.iter().product()]).unwrap()
}

#[test]
fn copies_are_identical_whatever_the_shards() {
    let root = tempdir().unwrap();
    let parent = root.path().join("parent");
    write(&parent, &llama(), &weights(&llama(), MIXED, 3), 2);
    for (limit, files) in [(SHARD_LIMIT, 1), (4000, 4), (1, 21)] {
        let out = root.path().join(format!("out-{limit}"));
        let written = copy(&parent, &out, limit).unwrap();
        let (ours, theirs) = (Checkpoint::open(&out).unwrap(), Checkpoint::open(&parent).unwrap());
        let comparison = verification::compare(&ours, &theirs, |_| {}).unwrap();
        assert_eq!(comparison.identical, written.tensors);
        assert!(comparison.is_identity() && comparison.reshaped.is_empty() && comparison.removed.is_empty());
        assert_eq!(
            (written.bytes, written.files.len()),
            (theirs.total_bytes(), files),
            "{:?}",
            written.files
        );
        assert_eq!(ours.stated_bytes(), (files > 1).then_some(written.bytes));
        assert!(written.files.iter().all(|file| ours.files().any(|name| name == file)));
        assert!(left_over(root.path()).is_empty());
        assert!(verification::weights(&ours, |_| {}).unwrap().is_empty());
        assert!(verification::surroundings(&ours, Engine::Vllm, 2).is_empty());
    }
}

/// Readers that view bytes in place need each tensor at a multiple of its element size.
#[test]
fn tensors_are_aligned() {
    let root = tempdir().unwrap();
    let out = root.path().join("out");
    let narrow = TensorInfo { dtype: Dtype::BF16, ..info("a", &[3]) };
    let mut writer = CheckpointWriter::create(&out, vec![narrow, info("b", &[2])], SHARD_LIMIT).unwrap();
    writer.write(&Tensor::from_f32("a", Dtype::BF16, &[3], &[1.0, 2.0, 3.0]).unwrap()).unwrap();
    writer.write(&ones("b", &[2])).unwrap();
    writer.finish().unwrap();
    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    let (length, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!((length % 8, metadata.info("b").unwrap().data_offsets), (0, (0, 8)));
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("a").unwrap().data(), [0x80, 0x3f, 0x00, 0x40, 0x40, 0x40]);
}

#[test]
fn another_tensor_than_planned_is_refused() {
    let root = tempdir().unwrap();
    let out = root.path().join("deep/out");
    let create = |plan: Vec<TensorInfo>| CheckpointWriter::create(&out, plan, SHARD_LIMIT);
    assert!(matches!(create(vec![]), Err(WriteError::NothingPlanned)));
    assert!(matches!(create(vec![info("a", &[1]); 2]), Err(WriteError::PlannedTwice { .. })));
    assert!(matches!(create(vec![info("a", &[usize::MAX, 2])]), Err(WriteError::NoSize { .. })));
    assert!(matches!(
        CheckpointWriter::create(Path::new("/"), vec![info("a", &[1])], 1),
        Err(WriteError::NoName { .. })
    ));

    let mut writer = create(vec![info("a", &[2]), info("b", &[1])]).unwrap();
    assert!(matches!(create(vec![info("a", &[2])]), Err(WriteError::InUse { .. })), "a second writer");
    assert!(matches!(writer.write(&ones("b", &[1])), Err(WriteError::OutOfTurn { .. })));
    assert!(matches!(writer.write(&ones("a", &[1, 2])), Err(WriteError::Differs { .. })));
    let half = Tensor::from_f32("a", Dtype::BF16, &[2], &[1.0, 1.0]).unwrap();
    assert!(matches!(writer.write(&half), Err(WriteError::Differs { .. })));
    let short = Tensor { data: vec![0; 7].into(), ..ones("a", &[2]) };
    assert!(matches!(writer.write(&short), Err(WriteError::Length { expected: 8, found: 7, .. })));
    writer.write(&ones("a", &[2])).unwrap();
    for name in ["", "..", "../x", "/x", "a/../b", "."] {
        assert!(matches!(writer.add_file(name, b""), Err(WriteError::FileName { .. })), "{name}");
    }
    assert!(matches!(writer.add_file("model.safetensors", b""), Err(WriteError::AddedTwice { .. })));
    writer.add_file("code/x.py", b"pass").unwrap();
    assert!(matches!(writer.add_file("code/x.py", b""), Err(WriteError::AddedTwice { .. })));
    assert!(matches!(writer.copy_file(Path::new("nowhere"), "y"), Err(WriteError::Io { .. })));
    let error = writer.finish().unwrap_err();
    assert!(matches!(&error, WriteError::Unfinished { next, missing: 1 } if next == "b"), "{error}");
    assert!(!out.exists() && left_over(out.parent().unwrap()).is_empty());

    let mut writer = create(vec![info("a", &[2])]).unwrap();
    writer.write(&ones("a", &[2])).unwrap();
    assert!(matches!(writer.write(&ones("a", &[2])), Err(WriteError::OutOfTurn { .. })));
    writer.finish().unwrap();
    assert!(matches!(create(vec![info("a", &[2])]), Err(WriteError::Exists { .. })));
}

#[test]
fn an_empty_directory_is_filled_and_nothing_else_touched() {
    let root = tempdir().unwrap();
    let out = root.path().join("out");
    fs::create_dir(&out).unwrap();
    let mut writer = CheckpointWriter::create(&out, vec![info("a", &[2])], 1).unwrap();
    writer.write(&ones("a", &[2])).unwrap();
    fs::write(out.join("mine"), "").unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::Exists { .. })), "something came meanwhile");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    fs::remove_file(out.join("mine")).unwrap();
    let mut writer = CheckpointWriter::create(&out, vec![info("a", &[2])], 1).unwrap();
    writer.write(&ones("a", &[2])).unwrap();
    writer.finish().unwrap();
    assert!(out.join("model.safetensors").exists() && !out.join(".lock").exists());
    assert!(left_over(root.path()).is_empty());
}

#[test]
fn extras_are_copied_or_dropped_with_a_reason() {
    let root = tempdir().unwrap();
    let parent = root.path().join("parent");
    write(&parent, &llama(), &weights(&llama(), MIXED, 3), 2);
    let kept = [
        "LICENSE",
        "NOTICE",
        "USE_POLICY.md",
        "chat_template.jinja",
        "code/tool.py",
        "generation_config.json",
        "merges.txt",
        "modeling_x.py",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
    ];
    let dropped = [
        (".git/", Reason::Repository),
        ("README.md", Reason::ModelCard),
        ("checklist.chk", Reason::NoLongerTrue),
        ("config.json", Reason::WrittenAnew),
        ("consolidated.00.pth", Reason::OtherFormat),
        ("model-00001-of-00002.safetensors", Reason::WrittenAnew),
        ("model-00002-of-00002.safetensors", Reason::WrittenAnew),
        ("model.safetensors.index.json", Reason::WrittenAnew),
        ("optimizer.pt", Reason::TrainingState),
        ("original/", Reason::OtherFormat),
        ("params.json", Reason::OtherFormat),
        ("pytorch_model.bin", Reason::OtherFormat),
        ("pytorch_model.bin.index.json", Reason::OtherFormat),
        ("sha256sums.txt", Reason::NoLongerTrue),
    ];
    for name in kept.iter().copied().chain(dropped.iter().map(|(name, _)| *name)) {
        let path = parent.join(name);
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
        if !name.ends_with('/') && !path.exists() {
            fs::write(&path, name).unwrap();
        }
    }
    let out = root.path().join("out");
    let mut writer = CheckpointWriter::create(&out, vec![info("a", &[2])], SHARD_LIMIT).unwrap();
    writer.write(&ones("a", &[2])).unwrap();
    let checkpoint = Checkpoint::open(&parent).unwrap();
    let files: Vec<&str> = checkpoint.files().collect();
    let found = extras::copy(&parent, &files, &mut writer).unwrap();
    writer.finish().unwrap();
    assert_eq!(found.copied, kept);
    let pairs: Vec<_> = found.dropped.iter().map(|d| (d.name.as_str(), d.reason)).collect();
    assert_eq!(pairs, dropped);
    assert!(kept.iter().all(|name| fs::read(out.join(name)).unwrap() == name.as_bytes()));
}

#[test]
fn verification_says_what_is_wrong() {
    let root = tempdir().unwrap();
    let mut tensors = weights(&llama(), MIXED, 3);
    tensors.get_mut("lm_head.weight").unwrap().bytes[..4].fill(0xff);
    let config = with(llama(), "tie_word_embeddings", json!(false));
    write(root.path(), &config, &tensors, 2);
    let checkpoint = Checkpoint::open(root.path()).unwrap();
    let mut seen = 0;
    let findings = verification::weights(&checkpoint, |_| seen += 1).unwrap();
    assert_eq!((findings.len(), findings[0].severity, seen), (1, Severity::Damaged, 21));
    assert!(findings[0].message.contains("lm_head.weight") && findings[0].message.contains("element 0"));
    let findings = verification::surroundings(&checkpoint, Engine::Any, 3);
    assert!(findings.iter().any(|f| f.severity == Severity::NotLoadable && f.message.contains("degree 3")));
    assert!(
        findings.iter().any(|f| f.severity == Severity::Note && f.message.contains("the index states 0"))
    );
    let other = tempdir().unwrap();
    tensors.remove("lm_head.weight");
    tensors.get_mut("model.norm.weight").unwrap().bytes[0] ^= 1;
    write(other.path(), &with(llama(), "tie_word_embeddings", json!(true)), &tensors, 1);
    let comparison =
        verification::compare(&checkpoint, &Checkpoint::open(other.path()).unwrap(), |_| {}).unwrap();
    assert_eq!((comparison.identical, comparison.is_identity()), (19, false));
    assert_eq!(
        (comparison.different, comparison.added),
        (vec!["model.norm.weight".to_string()], vec!["lm_head.weight".to_string()])
    );
}

const OUT: &str = "ARCHPLAN_TEST_OUT";
const PAUSE: &str = "ARCHPLAN_TEST_PAUSE_MS";

/// Not a test of its own: what the processes below run.
#[test]
fn writes_in_a_process_of_its_own() {
    let Ok(out) = std::env::var(OUT) else { return };
    let pause: u64 = std::env::var(PAUSE).unwrap().parse().unwrap();
    let shape = [64, 1024];
    let names: Vec<String> = (0..8).map(|i| format!("w{i}")).collect();
    let plan = names.iter().map(|name| info(name, &shape)).collect();
    let mut writer = CheckpointWriter::create(Path::new(&out), plan, 600_000).unwrap();
    for name in &names {
        writer.write(&ones(name, &shape)).unwrap();
        std::thread::sleep(Duration::from_millis(pause));
    }
    writer.add_file("config.json", b"{}").unwrap();
    writer.finish().unwrap();
}

fn start(out: &Path, pause: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["writing::writes_in_a_process_of_its_own", "--exact"]);
    command.env(OUT, out).env(PAUSE, pause.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn a_killed_run_leaves_the_target_absent() {
    let root = tempdir().unwrap();
    let out = root.path().join("out");
    let mut child = start(&out, 60_000);
    let began = Instant::now();
    let half =
        || left_over(root.path()).iter().any(|path| path.join("model-00001-of-00004.safetensors").exists());
    while !half() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(half(), "the child never began");
    let refused = CheckpointWriter::create(&out, vec![info("a", &[2])], 1);
    assert!(refused.is_ok(), "another process writes elsewhere meanwhile");
    drop(refused);
    assert!(half(), "the directory of a living run was removed");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!out.exists() && half());
    let mut writer = CheckpointWriter::create(&out, vec![info("a", &[2])], 1).unwrap();
    assert!(!half(), "the dead run's directory is removed");
    writer.write(&ones("a", &[2])).unwrap();
    writer.finish().unwrap();
    assert!(out.join("model.safetensors").exists() && left_over(root.path()).is_empty());
}

#[test]
fn killed_at_any_moment_the_target_is_absent_or_complete() {
    let root = tempdir().unwrap();
    for moment in 0..16 {
        let out = root.path().join(format!("out{moment}"));
        let mut child = start(&out, 0);
        std::thread::sleep(Duration::from_millis(7 * moment));
        let _ = child.kill();
        child.wait().unwrap();
        if out.exists() {
            let shards = (1..=4).map(|i| out.join(format!("model-{i:05}-of-00004.safetensors")));
            for shard in shards {
                let bytes = fs::read(&shard).unwrap();
                assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), 2);
            }
            assert!(out.join("model.safetensors.index.json").exists() && out.join("config.json").exists());
            assert!(!out.join(".lock").exists());
        }
    }
}
