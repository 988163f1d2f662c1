//! The CPU kernels: bytes and operations a second, to be read against what the machine can do at most.

use archplan::compute::attention::{self, Cache, Heads};
use archplan::compute::linear::{Shape, linear};
use archplan::compute::storage::{Buffer, Stored};
use archplan::hardware::measure::peaks;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;

/// Weights of 128 MiB in f32: read from memory each time.
const N: usize = 8192;
const K: usize = 4096;

fn weights() -> [Buffer; 2] {
    let value = |i: usize| (i % 1013) as f32 / 1013.0 - 0.5;
    [
        Buffer::F32((0..N * K).map(value).collect()),
        Buffer::Bf16((0..N * K).map(value).map(bf16::from_f32).collect()),
    ]
}

fn linear_layers(c: &mut Criterion) {
    let weights = weights();
    for (unit, rows) in [("bytes", [1, 4, 12]), ("flops", [16, 128, 1024])] {
        let mut group = c.benchmark_group(format!("linear_{N}x{K}_{unit}"));
        group.sample_size(10);
        for m in rows {
            let (x, mut out) = (vec![0.5f32; m * K], vec![0f32; m * N]);
            for (dtype, w) in ["f32", "bf16"].into_iter().zip(&weights) {
                let size = match w {
                    Buffer::F32(_) => 4,
                    Buffer::Bf16(_) => 2,
                };
                group.throughput(match unit {
                    "bytes" => Throughput::Bytes((N * K * size) as u64),
                    _ => Throughput::Elements((2 * m * N * K) as u64),
                });
                group.bench_function(BenchmarkId::new(dtype, m), |b| {
                    b.iter(|| linear(&x, w.as_stored(), &mut out, Shape { m, n: N, k: K }));
                });
            }
        }
        group.finish();
    }
}

fn one_token(c: &mut Criterion) {
    let heads = Heads { q_heads: 32, kv_heads: 8, head_dim: 128 };
    let (len, width) = (16_384, 8 * 128);
    let cache = vec![bf16::from_f32(0.25); 2 * len * width];
    let (keys, values) = cache.split_at(len * width);
    let (queries, mut out) = (vec![0.5f32; 32 * 128], vec![0f32; 32 * 128]);
    let mut group = c.benchmark_group("decode_attention_bytes");
    group.throughput(Throughput::Bytes((cache.len() * 2) as u64)).sample_size(10);
    group.bench_function("bf16_16384_tokens", |b| {
        let cache = Cache { keys: Stored::Bf16(keys), values: Stored::Bf16(values), capacity: len, len };
        b.iter(|| attention::decode(&queries, &[cache], heads, &mut out));
    });
    group.finish();
}

fn limits(c: &mut Criterion) {
    let memory = vec![1f32; 64 << 20];
    println!("arithmetic at most: {:.1} GFLOPS", peaks::arithmetic().tflops() * 1e3);
    println!("reading at most:    {:.1} GB/s", peaks::reading(&memory).gbps());
    linear_layers(c);
    one_token(c);
}

criterion_group!(benches, limits);
criterion_main!(benches);
