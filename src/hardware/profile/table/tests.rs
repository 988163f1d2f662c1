//! Tests of reading tables.

use proptest::prelude::*;

use super::*;
use crate::hardware::kernel::Backend;

const GEMM: KernelFamily = KernelFamily::Gemm;

#[test]
fn reads_rows_in_the_order_of_the_file() {
    let rows = parse("t", b"m,n,k,dtype,latency_us\n8,16,32,fp8,2.5\n1,16,32,bf16,5\n", GEMM, None).unwrap();
    let call = |m, dtype| KernelCall::Gemm { m, n: 16, k: 32, dtype };
    assert_eq!(
        rows,
        [
            Row::new(call(8, DType::Fp8), Seconds::from_us(2.5)),
            Row::new(call(1, DType::Bf16), Seconds::from_us(5.0))
        ]
    );
}

#[test]
fn windows_files_read_the_same() {
    let plain = parse("t", b"world,bytes,backend,latency_us\n2,256,nccl,5\n", KernelFamily::AllReduce, None);
    let windows = b"\xEF\xBB\xBFworld,bytes,backend,latency_us\r\n\r\n2,256,nccl,5\r\n";
    assert_eq!(parse("t", windows, KernelFamily::AllReduce, None), plain);
}

#[test]
fn lines_are_counted_across_blank_and_windows_line_ends() {
    for text in [
        "m,n,k,dtype,latency_us\n\n1,1,1,bf16,1\n1,1,0,bf16,1\n",
        "m,n,k,dtype,latency_us\r\n\r\n1,1,1,bf16,1\r\n1,1,0,bf16,1\r\n",
    ] {
        let errors = parse("t", text.as_bytes(), GEMM, None).unwrap_err();
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["t:4:5: k is zero: expected a whole number above zero"]
        );
    }
}

fn call(family: KernelFamily) -> BoxedStrategy<KernelCall> {
    let n = 1u64..=(1 << 30);
    let dtype = prop::sample::select(DType::ALL.to_vec());
    let heads = (1u64..200, 1u64..9).prop_map(|(kv, group)| (kv, kv * group));
    match family {
        KernelFamily::Gemm => (n.clone(), n.clone(), n, dtype)
            .prop_map(|(m, n, k, dtype)| KernelCall::Gemm { m, n, k, dtype })
            .boxed(),
        KernelFamily::AttentionPrefill => {
            (n.clone(), n.clone(), heads, n, dtype)
                .prop_map(|(batch, seq_len, (kv_heads, q_heads), head_dim, dtype)| {
                    KernelCall::AttentionPrefill { batch, seq_len, q_heads, kv_heads, head_dim, dtype }
                })
                .boxed()
        }
        KernelFamily::AttentionDecode => {
            (n.clone(), n.clone(), heads, n, dtype)
                .prop_map(|(batch, kv_len, (kv_heads, q_heads), head_dim, dtype)| {
                    KernelCall::AttentionDecode { batch, kv_len, q_heads, kv_heads, head_dim, dtype }
                })
                .boxed()
        }
        _ => {
            let backend = prop::sample::select(vec![Backend::Nccl, Backend::VllmEager, Backend::VllmGraph]);
            (2u64..=(1 << 30), 1u64..=(1 << 44), backend)
                .prop_map(|(world, bytes, backend)| KernelCall::AllReduce { world, bytes, backend })
                .boxed()
        }
    }
}

/// The obvious writer: what a measuring script would print.
fn line(call: &KernelCall, latency_us: f64) -> String {
    match *call {
        KernelCall::Gemm { m, n, k, dtype } => format!("{m},{n},{k},{dtype},{latency_us}"),
        KernelCall::AttentionPrefill { batch, seq_len: length, q_heads, kv_heads, head_dim, dtype }
        | KernelCall::AttentionDecode { batch, kv_len: length, q_heads, kv_heads, head_dim, dtype } => {
            format!("{batch},{length},{q_heads},{kv_heads},{head_dim},{dtype},{latency_us}")
        }
        KernelCall::AllReduce { world, bytes, backend } => {
            let backend = serde_json::to_string(&backend).unwrap();
            format!("{world},{bytes},{},{latency_us}", backend.trim_matches('"'))
        }
        KernelCall::Elementwise { .. } => unreachable!("has no table"),
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        rows in prop::sample::select(KernelFamily::TABLES.to_vec()).prop_flat_map(|family| {
            let latency = prop::num::f64::POSITIVE.prop_filter("finite", |x| x.is_finite());
            (Just(family), prop::collection::vec((call(family), latency), 1..30))
        }),
        line_end in prop::sample::select(vec!["\n", "\r\n"]),
    ) {
        let (family, mut rows) = rows;
        rows.sort_by_key(|(call, _)| line(call, 0.0).split(',').map(|x| x.parse().unwrap_or(0u64)).collect::<Vec<_>>());
        rows.dedup_by_key(|(call, _)| *call);
        let lines = rows.iter().map(|(call, latency)| line(call, *latency));
        let lines: Vec<_> = std::iter::once(columns(family).join(",")).chain(lines).collect();
        let text = lines.join(line_end);
        let expected: Vec<_> =
            rows.into_iter().map(|(call, us)| Row::new(call, Seconds::from_us(us))).collect();
        prop_assert_eq!(parse("t", text.as_bytes(), family, None).unwrap(), expected);
    }
}
