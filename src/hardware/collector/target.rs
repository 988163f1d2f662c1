//! The kinds of device the program can measure, and what it is asked to measure on each.

use crate::units::DType;

/// What PyTorch calls the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// NVIDIA (or AMD under the same name), graphs and events of `torch.cuda`.
    Cuda,
    /// Ascend, through `torch_npu`.
    Npu,
    /// The host itself.
    Cpu,
}

impl Target {
    /// Name as it stands on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Target::Cuda => "cuda",
            Target::Npu => "npu",
            Target::Cpu => "cpu",
        }
    }

    /// Operand types of its matrix products. The program leaves out what the device at hand cannot do.
    pub fn gemm_dtypes(self) -> &'static [DType] {
        match self {
            Target::Cuda => &[DType::Bf16, DType::Fp8],
            Target::Npu => &[DType::Bf16, DType::Int8],
            Target::Cpu => &[DType::F32, DType::Bf16],
        }
    }

    /// Granularity of one core's matrix engine (m, n, k) where no data sheet says better: a thread-block tile of
    /// cuBLAS, Ascend's cube block, an AMX tile pair.
    pub fn tile(self) -> [u64; 3] {
        match self {
            Target::Cuda => [128, 128, 64],
            Target::Npu => [16, 16, 16],
            Target::Cpu => [32, 32, 32],
        }
    }

    /// What a point may need at most.
    pub fn limits(self) -> Limits {
        match self {
            Target::Cuda | Target::Npu => {
                Limits { flops: 5e13, bytes: 32e9, tokens: 131_072, points: 20_000 }
            }
            Target::Cpu => Limits { flops: 1e11, bytes: 2e9, tokens: 16_384, points: 20_000 },
        }
    }
}

/// What a point may need at most, and how many points there may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Operations of one call.
    pub flops: f64,
    /// Bytes that one call moves.
    pub bytes: f64,
    /// Tokens of one prefill.
    pub tokens: u64,
    /// Points in the list.
    pub points: usize,
}
