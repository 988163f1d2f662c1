//! The stack and its kernels against a plain f64 implementation.

use super::*;

const SHAPE: DecoderShape = DecoderShape {
    hidden: 96,
    ffn: 176,
    heads: Heads { q_heads: 6, kv_heads: 2, head_dim: 16 },
    layers: 2,
    vocab: 131,
};

fn numbers(buffer: &Buffer) -> Vec<f64> {
    let mut scratch = Vec::new();
    buffer.as_stored().widened(&mut scratch).iter().map(|x| f64::from(*x)).collect()
}

fn matvec(w: &[f64], x: &[f64]) -> Vec<f64> {
    w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn norm(x: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().map(|v| v / (mean + f64::from(EPSILON)).sqrt()).collect()
}

fn turned(head: &[f64], position: usize) -> Vec<f64> {
    let half = head.len() / 2;
    let angle = |i: usize| position as f64 * THETA.powf(-2.0 * i as f64 / head.len() as f64);
    let low = (0..half).map(|i| head[i] * angle(i).cos() - head[i + half] * angle(i).sin());
    let high = (0..half).map(|i| head[i + half] * angle(i).cos() + head[i] * angle(i).sin());
    low.chain(high).collect()
}

/// Logits after one sequence of tokens, from the definition.
fn reference(decoder: &Decoder, tokens: &[u32]) -> Vec<f64> {
    let DecoderShape { hidden, ffn, heads, .. } = decoder.shape;
    let (d, q) = (heads.head_dim, heads.q_heads * heads.head_dim);
    let embedding = numbers(&decoder.embedding);
    let mut states: Vec<Vec<f64>> =
        tokens.iter().map(|t| embedding[*t as usize * hidden..][..hidden].to_vec()).collect();
    for layer in &decoder.layers {
        let (w_qkv, w_o) = (numbers(&layer.qkv), numbers(&layer.o));
        let qkv: Vec<Vec<f64>> = states.iter().map(|x| matvec(&w_qkv, &norm(x))).collect();
        let head = |t: usize, h: usize| turned(&qkv[t][h * d..][..d], t);
        let attended: Vec<Vec<f64>> = (0..tokens.len())
            .map(|t| {
                (0..heads.q_heads)
                    .flat_map(|h| {
                        let kv = h / (heads.q_heads / heads.kv_heads);
                        let query = head(t, h);
                        let score = |s: usize| {
                            let key = head(s, heads.q_heads + kv);
                            (query.iter().zip(&key).map(|(a, b)| a * b).sum::<f64>() / (d as f64).sqrt())
                                .exp()
                        };
                        let scores: Vec<f64> = (0..=t).map(score).collect();
                        let total: f64 = scores.iter().sum();
                        let value = |s: usize, i: usize| qkv[s][q + (heads.kv_heads + kv) * d + i];
                        let sum =
                            move |i: usize| (0..=t).map(|s| scores[s] * value(s, i)).sum::<f64>() / total;
                        (0..d).map(sum).collect::<Vec<_>>()
                    })
                    .collect()
            })
            .collect();
        let (gate_up, down) = (numbers(&layer.gate_up), numbers(&layer.down));
        for (x, a) in states.iter_mut().zip(&attended) {
            x.iter_mut().zip(matvec(&w_o, a)).for_each(|(x, y)| *x += y);
            let both = matvec(&gate_up, &norm(x));
            let active: Vec<f64> =
                (0..ffn).map(|i| both[i] / (1.0 + (-both[i]).exp()) * both[ffn + i]).collect();
            x.iter_mut().zip(matvec(&down, &active)).for_each(|(x, y)| *x += y);
        }
    }
    matvec(&numbers(&decoder.head), &norm(states.last().unwrap()))
}

fn worst(found: &[f32], exact: &[f64]) -> f64 {
    let scale = exact.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    found.iter().zip(exact).map(|(a, b)| (f64::from(*a) - b).abs() / scale).fold(0.0, f64::max)
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 37 + 11) % SHAPE.vocab as u32).collect()
}

#[test]
fn a_prompt_and_the_tokens_after_it_agree_with_double_precision() {
    for dtype in [DType::F32, DType::Bf16] {
        let mut decoder = Decoder::random(SHAPE, dtype, DType::F32, 1, 200, 5);
        // Across the blocks of the prompt kernel and the threshold of the packed GEMM.
        let all = tokens(150);
        decoder.forward(&all[..147]).unwrap();
        let error = worst(decoder.logits(), &reference(&decoder, &all[..147]));
        assert!(error < 1e-5, "{dtype} prompt: {error}");
        for end in 148..=150 {
            decoder.forward(&all[end - 1..end]).unwrap();
            let error = worst(decoder.logits(), &reference(&decoder, &all[..end]));
            assert!(error < 1e-5, "{dtype} token {end}: {error}");
        }
    }
}

#[test]
fn a_bf16_cache_costs_no_more_than_its_rounding() {
    let mut decoder = Decoder::random(SHAPE, DType::F32, DType::Bf16, 1, 700, 5);
    let all = tokens(600);
    decoder.forward(&all[..599]).unwrap();
    decoder.forward(&all[599..]).unwrap();
    let error = worst(decoder.logits(), &reference(&decoder, &all));
    assert!(error > 1e-6 && error < 1e-2, "{error}");
}

#[test]
fn sequences_of_a_batch_do_not_meet() {
    let (one, two) = (tokens(20), tokens(40)[20..].to_vec());
    let mut both = Decoder::random(SHAPE, DType::F32, DType::F32, 2, 64, 5);
    let prompt = [one.clone(), two.clone()].concat();
    both.forward(&prompt).unwrap();
    both.forward(&[3, 4]).unwrap();
    for (i, (prompt, next)) in [(one, 3), (two, 4)].into_iter().enumerate() {
        let exact = reference(&both, &[prompt, vec![next]].concat());
        let error = worst(&both.logits()[i * SHAPE.vocab..][..SHAPE.vocab], &exact);
        assert!(error < 1e-5, "sequence {i}: {error}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut decoder = Decoder::random(SHAPE, DType::Bf16, DType::Bf16, 1, 1300, 5);
            decoder.forward(&tokens(1200)).unwrap();
            decoder.forward(&[7]).unwrap();
            decoder.logits().to_vec()
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut decoder = Decoder::random(SHAPE, DType::F32, DType::F32, 2, 8, 5);
    assert!(decoder.forward(&[1, 2, 3]).is_err());
    decoder.forward(&tokens(16)).unwrap();
    assert!(decoder.forward(&[1, 2]).unwrap_err().to_string().contains("cache"));
}
