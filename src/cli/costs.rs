//! Kernel prices of a profile, for the element types a command needs.

use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::profile::HardwareProfile;
use archplan::units::DType;

use crate::cli::Failure;

/// Prices for deployments with these types of weights and KV cache; embedding and LM head stay bf16.
///
/// # Errors
/// A defective table or fit of the profile.
pub fn of(profile: &HardwareProfile, dtypes: &[DType], kv_dtypes: &[DType]) -> Result<KernelModel, Failure> {
    let mut gemm = dtypes.to_vec();
    gemm.push(DType::Bf16);
    KernelModel::open(profile, &gemm, kv_dtypes).map_err(Failure::bad_input)
}
