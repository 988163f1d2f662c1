//! Engine, tensor parallelism and element types, as typed; the same for every command that prices a model.

use archplan::units::DType;

/// How a model is deployed on a device.
#[derive(clap::Args, Debug)]
pub struct DeploymentArgs {
    /// Serving engine: vllm, trtllm, sglang, vllm-ascend, mindie or none [default: vllm, on Ascend vllm-ascend]
    #[arg(long)]
    pub engine: Option<String>,
    /// Tensor-parallel degree (devices per replica)
    #[arg(long, default_value_t = 1)]
    pub tp: u64,
    /// Type of weights and matrix operands: bf16, fp8 or int8
    #[arg(long, default_value = "bf16")]
    pub dtype: DType,
    /// Type of the KV cache
    #[arg(long, default_value = "bf16")]
    pub kv_dtype: DType,
}
