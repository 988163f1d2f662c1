//! `archplan models`: the built-in models, and what a `config.json` describes.

use clap::Subcommand;
use comfy_table::Table;
use serde_json::{Value, json};

use archplan::model::architecture::Architecture;
use archplan::model::cards;
use archplan::model::counts::{self, Parameters};
use archplan::model::read;
use archplan::model::spec::{ModelSpec, NormLayout};
use archplan::model::tensor_parallel;
use archplan::units::{DType, format_count};

use crate::cli::{Failure, Global, output};

const EXAMPLES: &str = "Examples:
  archplan models
  archplan models show qwen3-32b
  archplan models show Qwen/Qwen3-32B --json
  archplan models show ./my-checkpoint";

/// Tensor-parallel degrees `models show` tries.
const DEGREES: [u64; 5] = [1, 2, 4, 8, 16];

/// Arguments of `archplan models`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the built-in models
    List,
    /// Show one model: its shape, parameters by tensor group, weight and KV-cache bytes
    #[command(after_help = EXAMPLES)]
    Show {
        /// Built-in name, Hugging Face id, config.json or checkpoint directory
        #[arg(value_name = "NAME_OR_PATH")]
        model: String,
    },
}

/// Runs `archplan models`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    match &args.action {
        None | Some(Action::List) => list(global),
        Some(Action::Show { model }) => {
            show(&read::resolve(model).map_err(Failure::bad_input)?, global);
            Ok(())
        }
    }
}

fn list(global: &Global) -> Result<(), Failure> {
    let specs: Vec<ModelSpec> =
        cards::all().iter().map(|card| card.spec()).collect::<Result<_, _>>().map_err(Failure::failed)?;
    if global.json {
        return output::json(&specs.iter().map(as_json).collect::<Value>());
    }
    let mut table = output::table(&["model", "parameters", "shape", "KV cache per token (bf16)", "context"]);
    for spec in &specs {
        let shape = &spec.architecture;
        table.add_row([
            spec.name.clone(),
            format_count(counts::parameters(spec, shape).total() as f64),
            shape.to_string(),
            counts::kv_bytes_per_token(shape, DType::Bf16).to_string(),
            format!("{} tokens", spec.max_positions),
        ]);
    }
    output::align_right(&mut table, [1, 3, 4]);
    println!("{table}");
    Ok(())
}

fn show(spec: &ModelSpec, global: &Global) {
    if global.json {
        println!("{:#}", as_json(spec));
        return;
    }
    let shape = &spec.architecture;
    let parameters = counts::parameters(spec, shape);
    println!("{}: {}, {shape}", spec.name, spec.family.class_name());
    println!("source: {}\n", spec.source);
    println!("{}\n", parts(spec));
    if shape.uniform_shape().is_none() {
        println!("{}\n", layers(shape));
    }
    println!("{}\n", groups(&parameters));
    println!("{}\n", footprint(spec, shape));
    println!("tensor-parallel degrees that divide it: {}", listed(&degrees(spec, shape)));
}

fn parts(spec: &ModelSpec) -> Table {
    let yes = |flag: bool| if flag { "yes" } else { "no" }.to_string();
    let biases = [("q, k, v", spec.qkv_bias), ("o", spec.o_bias), ("gate, up, down", spec.mlp_bias)];
    let biased: Vec<&str> = biases.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let norms = match spec.norms {
        NormLayout::PreNorm => "before attention and FFN",
        NormLayout::Sandwich => "before and after attention and FFN",
    };
    let mut table = output::table(&["part", "value"]);
    table.add_row(["vocabulary".to_string(), format!("{} rows", spec.vocab_size)]);
    table.add_row(["embeddings tied".to_string(), yes(spec.tied_embeddings)]);
    table.add_row(["norms".to_string(), norms.to_string()]);
    table.add_row(["QK-norm".to_string(), yes(spec.qk_norm)]);
    table.add_row(["biases".to_string(), if biased.is_empty() { "none".into() } else { biased.join(", ") }]);
    table.add_row(["attention".to_string(), attention(spec)]);
    table.add_row(["context".to_string(), format!("{} tokens", spec.max_positions)]);
    table
}

/// Runs of layers of one shape.
fn layers(shape: &Architecture) -> Table {
    let mut table = output::table(&["layers", "FFN width", "query heads", "KV heads"]);
    let mut first = 0;
    for (count, layer) in shape.runs() {
        let last = first + count - 1;
        let numbers = if count == 1 { first.to_string() } else { format!("{first} to {last}") };
        let size = |size: u64| if size == 0 { "none".to_string() } else { size.to_string() };
        table.add_row([numbers, size(layer.ffn), size(layer.q_heads), size(layer.kv_heads)]);
        first += count;
    }
    output::align_right(&mut table, [0, 1, 2, 3]);
    table
}

fn attention(spec: &ModelSpec) -> String {
    let depth = spec.architecture.depth();
    let windows: Vec<u64> = (0..depth).filter_map(|layer| spec.window(layer)).collect();
    match windows.first() {
        None => "full in every layer".into(),
        Some(window) => format!(
            "full in {} layers, a window of {window} tokens in {}",
            depth - windows.len() as u64,
            windows.len()
        ),
    }
}

fn groups(p: &Parameters) -> Table {
    let mut table = output::table(&["tensors", "parameters", "share"]);
    for (name, count) in [
        ("embedding", p.embedding),
        ("LM head", p.lm_head),
        ("attention matrices", p.layers.attention),
        ("FFN matrices", p.layers.ffn),
        ("biases", p.layers.biases),
        ("layer norms", p.layers.norms),
        ("final norm", p.final_norm),
        ("total", p.total()),
    ] {
        let share = 100.0 * count as f64 / p.total() as f64;
        table.add_row([name.to_string(), count.to_string(), format!("{share:.2} %")]);
    }
    output::align_right(&mut table, [1, 2]);
    table
}

fn footprint(spec: &ModelSpec, shape: &Architecture) -> Table {
    let mut table = output::table(&["element type", "weights", "KV cache per token"]);
    for dtype in [DType::Bf16, DType::Fp8, DType::Int8] {
        table.add_row([
            dtype.to_string(),
            counts::weight_bytes(spec, shape, dtype).to_string(),
            counts::kv_bytes_per_token(shape, dtype).to_string(),
        ]);
    }
    output::align_right(&mut table, [1, 2]);
    table
}

fn degrees(spec: &ModelSpec, shape: &Architecture) -> Vec<u64> {
    DEGREES.into_iter().filter(|&tp| tensor_parallel::check(spec, shape, tp).is_ok()).collect()
}

fn listed(degrees: &[u64]) -> String {
    degrees.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn as_json(spec: &ModelSpec) -> Value {
    let shape = &spec.architecture;
    let parameters = counts::parameters(spec, shape);
    let weights = |dtype| counts::weight_bytes(spec, shape, dtype).0;
    let kv = |dtype| counts::kv_bytes_per_token(shape, dtype).0;
    let layer = shape.largest_layer();
    let per_layer = shape.uniform_shape().is_none().then(|| shape.layer_shapes().collect::<Vec<_>>());
    json!({
        "name": spec.name,
        "source": spec.source,
        "family": spec.family,
        "architecture": spec.family.class_name(),
        "shape": {
            "layers": shape.depth(),
            "hidden": shape.hidden,
            "ffn": layer.ffn,
            "q_heads": layer.q_heads,
            "kv_heads": layer.kv_heads,
            "head_dim": shape.head_dim,
            "per_layer": per_layer,
        },
        "vocab_size": spec.vocab_size,
        "tied_embeddings": spec.tied_embeddings,
        "qk_norm": spec.qk_norm,
        "qkv_bias": spec.qkv_bias,
        "o_bias": spec.o_bias,
        "mlp_bias": spec.mlp_bias,
        "norms": spec.norms,
        "window_pattern_tokens": spec.window_pattern,
        "context_tokens": spec.max_positions,
        "parameters": parameters.total(),
        "parameters_by_group": parameters,
        "weight_bytes": {
            "bf16": weights(DType::Bf16), "fp8": weights(DType::Fp8), "int8": weights(DType::Int8),
        },
        "kv_bytes_per_token": { "bf16": kv(DType::Bf16), "fp8": kv(DType::Fp8), "int8": kv(DType::Int8) },
        "tensor_parallel_degrees": degrees(spec, shape),
    })
}
