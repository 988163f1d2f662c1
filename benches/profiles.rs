//! Loading a profile: the manifest, the largest shipped table (H200 GEMM, 64 352 rows), and its hash.

use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::profile::HardwareProfile;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn load(name: &str) -> HardwareProfile {
    HardwareProfile::builtin(name).expect("the shipped profile is sound")
}

fn profiles(c: &mut Criterion) {
    let mut group = c.benchmark_group("h200_sxm");
    group.bench_function("manifest", |b| b.iter(|| load("h200_sxm")));
    group.bench_function("hash", |b| b.iter(|| load("h200_sxm").hash().len()));
    let rows = |profile: &HardwareProfile| profile.rows(KernelFamily::Gemm).map(|rows| rows.len());
    let count = rows(&load("h200_sxm")).expect("the shipped table is sound");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("gemm rows", |b| b.iter(|| rows(&load("h200_sxm"))));
    group.finish();
}

criterion_group!(benches, profiles);
criterion_main!(benches);
