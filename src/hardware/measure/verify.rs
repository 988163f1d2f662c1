//! Closed loop: whole decoder stacks of widths nobody measured, predicted from a profile and then run.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::compute::attention::Heads;
use crate::compute::decoder::{Decoder, DecoderShape};
use crate::compute::storage::SizeError;
use crate::estimate::Estimate;
use crate::hardware::kernel::{KernelCall, KernelFamily};
use crate::hardware::latency::cost::KernelCosts;
use crate::hardware::latency::forward::{self, PassCost, PriceError};
use crate::hardware::latency::lowering::Phase;
use crate::hardware::measure::sentinel::Sentinel;
use crate::hardware::measure::timing::{self, Timing};
use crate::hardware::profile::HardwareProfile;
use crate::hardware::profile::error::ProfileError;
use crate::model::config_error::ConfigError;
use crate::model::spec::ModelSpec;
use crate::model::workload::Deployment;
use crate::units::{Bytes, DType};

/// What to draw stacks from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Stacks.
    pub stacks: usize,
    /// Widest hidden size.
    pub hidden: u64,
    /// Most weights of a stack.
    pub weights: Bytes,
    /// Seed.
    pub seed: u64,
}

/// One stack and how it is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stack {
    /// Its shape.
    pub shape: DecoderShape,
    /// Type of its weights.
    pub dtype: DType,
    /// Type of its KV cache.
    pub kv_dtype: DType,
    /// Prompt tokens of the prefill, which is of one sequence.
    pub prompt: u64,
    /// Sequences of the decode step.
    pub batch: u64,
    /// Cached tokens of each, the new one included.
    pub kv_len: u64,
}

/// One pass, predicted and run.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The stack.
    pub stack: Stack,
    /// The pass.
    pub phase: Phase,
    /// Prediction in seconds.
    pub predicted: Estimate,
    /// What it took.
    pub measured: Timing,
    /// The prediction op by op.
    pub cost: PassCost,
}

/// Why a closed loop cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The profile's tables.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The profile has no price.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// A defect of the stack.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// A defect of the stack's description.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Multiple of the widths drawn: finer than what is measured, so that unmeasured widths abound.
const STEP: u64 = 32;
/// Weights must be this many times the last-level cache: a stack that stays in it is read faster than memory.
const BEYOND_CACHE: f64 = 3.0;
const VOCABULARY: usize = 8192;

/// Matrix sizes `(n, k)` that the profile has measured.
fn measured(profile: &HardwareProfile) -> Result<Vec<(u64, u64)>, ProfileError> {
    let rows = profile.rows(KernelFamily::Gemm)?;
    let size = |call: &KernelCall| match *call {
        KernelCall::Gemm { n, k, .. } => Some((n, k)),
        _ => None,
    };
    Ok(rows.iter().filter_map(|row| size(&row.call)).collect())
}

/// Draws stacks whose hidden size and FFN width are in none of the profile's matrices.
///
/// # Errors
/// A profile without a sound GEMM table.
pub fn draw(profile: &HardwareProfile, range: &Range) -> Result<Vec<Stack>, ProfileError> {
    let known = measured(profile)?;
    let cache = profile.device.l2.unwrap_or(Bytes::ZERO);
    let mut rng = ChaCha8Rng::seed_from_u64(range.seed);
    let mut stacks = Vec::new();
    // A bound on the draws, for ranges that hold nothing.
    for _ in 0..10_000 * range.stacks {
        if stacks.len() == range.stacks {
            break;
        }
        let dtype = if stacks.len() % 2 == 0 { DType::F32 } else { DType::Bf16 };
        let stack = one(&mut rng, range, dtype);
        let DecoderShape { hidden, ffn, .. } = stack.shape;
        let (hidden, ffn) = (hidden as u64, ffn as u64);
        let seen = known.iter().any(|&(n, k)| [hidden, ffn].contains(&k) || [2 * ffn, hidden].contains(&n));
        let bytes = Bytes(stack.shape.parameters() as f64 * dtype.bytes());
        if !seen && bytes.0 > BEYOND_CACHE * cache.0 && bytes.0 < range.weights.0 {
            stacks.push(stack);
        }
    }
    Ok(stacks)
}

/// The decoder stack of a model whose layers are all alike: `None` for others. Norms on heads, biases and windows are left out.
pub fn stack_of(spec: &ModelSpec, dtype: DType, prompt: u64, batch: u64, kv_len: u64) -> Option<Stack> {
    let layer = spec.architecture.uniform_shape()?;
    let heads = Heads {
        q_heads: layer.q_heads as usize,
        kv_heads: layer.kv_heads as usize,
        head_dim: spec.architecture.head_dim as usize,
    };
    let shape = DecoderShape {
        hidden: spec.architecture.hidden as usize,
        ffn: layer.ffn as usize,
        heads,
        layers: spec.architecture.depth() as usize,
        vocab: spec.vocab_size as usize,
    };
    Some(Stack { shape, dtype, kv_dtype: dtype, prompt, batch, kv_len })
}

fn one(rng: &mut ChaCha8Rng, range: &Range, dtype: DType) -> Stack {
    let pick = |rng: &mut ChaCha8Rng, values: &[u64]| values[rng.random_range(0..values.len())];
    let (head_dim, kv_heads, group) =
        (pick(rng, &[64, 128]), rng.random_range(1..=8), rng.random_range(1..=5));
    let hidden = rng.random_range(8..=range.hidden / STEP) * STEP;
    let ffn = (hidden as f64 * rng.random_range(1.5..4.0)) as u64 / STEP * STEP;
    let heads = Heads {
        q_heads: (kv_heads * group) as usize,
        kv_heads: kv_heads as usize,
        head_dim: head_dim as usize,
    };
    Stack {
        shape: DecoderShape {
            hidden: hidden as usize,
            ffn: ffn as usize,
            heads,
            layers: rng.random_range(3..=8),
            vocab: VOCABULARY,
        },
        dtype,
        kv_dtype: dtype,
        prompt: rng.random_range(24..=640),
        batch: pick(rng, &[1, 1, 2, 4, 8, 24]),
        kv_len: rng.random_range(100..=1800),
    }
}

/// Predicts a stack's prefill and decode step from `costs`, then runs both.
///
/// # Errors
/// See [`VerifyError`].
pub fn run(
    stack: &Stack,
    costs: &dyn KernelCosts,
    sentinel: &mut Sentinel,
) -> Result<[Trial; 2], VerifyError> {
    let Stack { shape, dtype, kv_dtype, prompt, batch, kv_len } = *stack;
    let spec = spec(&shape)?;
    let deployment = Deployment { engine: "none".to_string(), tp: 1, dtype, kv_dtype };
    let price = |phase| forward::price(costs, &spec, &spec.architecture, &deployment, phase);
    let prefill = Phase::Prefill { batch: 1, tokens: prompt };
    let decode = Phase::Decode { batch, kv_len };
    let (prefill_cost, decode_cost) = (price(prefill)?, price(decode)?);
    let mut time = |sequences: u64, new: u64, cached: u64| {
        let capacity = (cached + new) as usize;
        let mut decoder = Decoder::random(shape, dtype, kv_dtype, sequences as usize, capacity, 1);
        let tokens: Vec<u32> = (0..sequences * new).map(|i| i as u32 * 31).collect();
        sentinel.steadily(|| {
            let mut done = Ok(());
            let timing = timing::time(|_| {
                decoder.set_cached(cached as usize);
                if let Err(e) = decoder.forward(&tokens) {
                    done = Err(e);
                }
            });
            done.map(|()| timing)
        })
    };
    let (prefill_time, decode_time) = (time(1, prompt, 0)?, time(batch, 1, kv_len - 1)?);
    let trial = |phase, cost: PassCost, measured| Trial {
        stack: *stack,
        phase,
        predicted: cost.estimate(),
        measured,
        cost,
    };
    Ok([trial(prefill, prefill_cost, prefill_time), trial(decode, decode_cost, decode_time)])
}

/// The stack as a Llama configuration.
fn spec(shape: &DecoderShape) -> Result<ModelSpec, ConfigError> {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_attention_heads": shape.heads.q_heads,
        "num_key_value_heads": shape.heads.kv_heads,
        "head_dim": shape.heads.head_dim,
        "num_hidden_layers": shape.layers,
        "vocab_size": shape.vocab,
        "max_position_embeddings": 1 << 20,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false,
        "hidden_act": "silu",
    });
    ModelSpec::from_config_json(&config.to_string(), "a drawn stack", "stack")
}
