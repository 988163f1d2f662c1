//! `sgemm` on an NVIDIA GPU, by cuBLAS, in real f32. The libraries are loaded when a GPU is asked for.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex};

use cudarc::cublas;
use cudarc::cublas::result::CublasError;
use cudarc::cublas::sys::{cublasMath_t, cublasOperation_t, cublasStatus_t};
use cudarc::cublas::{CudaBlas, Gemm as _, GemmConfig};
use cudarc::driver;
use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DriverError};

use crate::compute::column_major::Gemm;
use crate::compute::device::Facts;
use crate::compute::device_error::DeviceError;
use crate::compute::offload::Sgemm;

/// Functions of the driver that came late: the binding panics where one is missing.
const OF_DRIVER: [&str; 5] = [
    "cuDevicePrimaryCtxRelease_v2",
    "cuMemAllocAsync",
    "cuMemFreeAsync",
    "cuEventDestroy_v2",
    "cuGetErrorString",
];
/// The same of cuBLAS.
const OF_CUBLAS: [&str; 4] = ["cublasCreate_v2", "cublasSetStream_v2", "cublasSetMathMode", "cublasSgemm_v2"];

/// A GPU, which one product uses at a time.
pub(super) struct Cuda {
    context: Arc<CudaContext>,
    session: Mutex<Session>,
}

struct Session {
    stream: Arc<CudaStream>,
    /// Never dropped: that would panic on a lost GPU.
    blas: ManuallyDrop<CudaBlas>,
    /// Room for `A`, `B` and `C`, kept from call to call.
    rooms: [Option<CudaSlice<f32>>; 3],
    /// Failed in a way that a second try does not mend.
    lost: bool,
}

impl Cuda {
    /// GPU `number`, from 0.
    pub(super) fn open(number: usize) -> Result<(Facts, Self), DeviceError> {
        libraries()?;
        let count = CudaContext::device_count().map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_NO_DEVICE => DeviceError::NoDevice,
            _ => of_driver("looking for GPUs", error),
        })?;
        match usize::try_from(count).unwrap_or(0) {
            0 => return Err(DeviceError::NoDevice),
            count if number >= count => return Err(DeviceError::NoSuchDevice { ordinal: number, count }),
            _ => {}
        }
        let opening = |error| of_driver("opening it", error);
        let context = CudaContext::new(number).map_err(opening)?;
        let facts = Facts {
            name: context.name().map_err(opening)?,
            memory: context.total_mem().map_err(opening)? as u64,
        };
        let stream = context.default_stream();
        let blas = ManuallyDrop::new(
            CudaBlas::new(stream.clone()).map_err(|error| of_cublas("opening cuBLAS", error))?,
        );
        // Pedantic: neither TF32 nor emulation, whatever the environment asks for.
        // SAFETY: the handle was just created and lives as long as `blas`.
        unsafe { cublas::sys::cublasSetMathMode(*blas.handle(), cublasMath_t::CUBLAS_PEDANTIC_MATH) }
            .result()
            .map_err(|error| of_cublas("setting real f32", error))?;
        let session = Session { stream, blas, rooms: [None, None, None], lost: false };
        Ok((facts, Self { context, session: Mutex::new(session) }))
    }
}

impl Sgemm for Cuda {
    fn sgemm(&self, gemm: Gemm, a: &[f32], b: &[f32], c: &mut [f32]) -> Result<(), DeviceError> {
        if !gemm.fits(a.len(), b.len(), c.len()) {
            return Err(DeviceError::Sizes);
        }
        let mut session = self.session.lock().map_err(|_| DeviceError::GivenUp)?;
        if session.lost {
            return Err(DeviceError::GivenUp);
        }
        let bound = self.context.bind_to_thread().map_err(|error| of_driver("reaching it", error));
        let multiplied = bound.and_then(|()| session.multiply(gemm, a, b, c));
        // After a failure too: a copy under way reads or writes the caller's memory.
        let ended = session.stream.synchronize().map_err(|error| of_driver("multiplying", error));
        if matches!(multiplied, Err(DeviceError::OutOfMemory { .. })) {
            session.rooms = [None, None, None];
        }
        session.lost = ended.is_err() || !matches!(multiplied, Ok(()) | Err(DeviceError::OutOfMemory { .. }));
        multiplied.and(ended)
    }
}

impl Session {
    /// Starts `c = op(a) op(b)`, the copies with it; [`Gemm::fits`] holds.
    fn multiply(&mut self, gemm: Gemm, a: &[f32], b: &[f32], c: &mut [f32]) -> Result<(), DeviceError> {
        let Self { stream, blas, rooms: [of_a, of_b, of_c], .. } = self;
        let left = &*filled(stream, of_a, a)?;
        let right = if std::ptr::eq(a, b) { left } else { &*filled(stream, of_b, b)? };
        let out = room(stream, of_c, c.len())?;
        let config = GemmConfig {
            transa: operation(gemm.transa),
            transb: operation(gemm.transb),
            m: gemm.m,
            n: gemm.n,
            k: gemm.k,
            alpha: 1.0,
            lda: gemm.lda,
            ldb: gemm.ldb,
            beta: 0.0,
            ldc: gemm.ldc,
        };
        // SAFETY: the rooms hold at least as many numbers as `a`, `b` and `c`, which fit the arguments.
        unsafe { blas.gemm(config, left, right, out) }.map_err(|error| of_cublas("multiplying", error))?;
        let made = out.try_slice(..c.len()).ok_or(DeviceError::Sizes)?;
        stream.memcpy_dtoh(&made, c).map_err(|error| of_driver("copying from it", error))
    }
}

fn operation(transposed: bool) -> cublasOperation_t {
    if transposed { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N }
}

/// The room, with `values` at its beginning.
fn filled<'a>(
    stream: &Arc<CudaStream>,
    kept: &'a mut Option<CudaSlice<f32>>,
    values: &[f32],
) -> Result<&'a mut CudaSlice<f32>, DeviceError> {
    let room = room(stream, kept, values.len())?;
    stream.memcpy_htod(values, room).map_err(|error| of_driver("copying to it", error))?;
    Ok(room)
}

/// Room for `len` numbers at least: what was kept, or new.
fn room<'a>(
    stream: &Arc<CudaStream>,
    kept: &'a mut Option<CudaSlice<f32>>,
    len: usize,
) -> Result<&'a mut CudaSlice<f32>, DeviceError> {
    match kept.take() {
        Some(enough) if enough.len() >= len => Ok(kept.insert(enough)),
        small => {
            drop(small);
            // SAFETY: a room is read only where a copy or a product has written.
            let new = unsafe { stream.alloc::<f32>(len) }.map_err(|error| match error.0 {
                CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::OutOfMemory { bytes: 4 * len as u64 },
                _ => of_driver("asking for memory", error),
            })?;
            Ok(kept.insert(new))
        }
    }
}

/// Whether the libraries are there, with all that is used of them: the binding panics where they are not.
fn libraries() -> Result<(), DeviceError> {
    // SAFETY: loading these libraries runs nothing but their own initialisation.
    if !unsafe { driver::sys::is_culib_present() } {
        return Err(DeviceError::NoDriver);
    }
    // SAFETY: as above.
    if !unsafe { cublas::sys::is_culib_present() } {
        return Err(DeviceError::NoCublas);
    }
    // SAFETY: the symbols are only looked for, never called through this type.
    let (driver, cublas) = unsafe { (driver::sys::culib(), cublas::sys::culib()) };
    let of_driver = OF_DRIVER.map(|function| ("the NVIDIA driver", driver, function));
    let of_cublas = OF_CUBLAS.map(|function| ("cuBLAS", cublas, function));
    for (library, loaded, function) in of_driver.into_iter().chain(of_cublas) {
        // SAFETY: as above.
        if unsafe { loaded.get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_err() {
            return Err(DeviceError::TooOld { library, function });
        }
    }
    Ok(())
}

fn of_driver(doing: &'static str, error: DriverError) -> DeviceError {
    let words = error.error_string().map(|words| words.to_string_lossy().into_owned());
    DeviceError::Failed { doing, reason: words.unwrap_or_else(|_| format!("{:?}", error.0)) }
}

fn of_cublas(doing: &'static str, error: CublasError) -> DeviceError {
    match error.0 {
        cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
            DeviceError::Failed { doing, reason: "cuBLAS has no memory for its own work".into() }
        }
        status => DeviceError::Failed { doing, reason: format!("{status:?}") },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::compute::linear::Shape;
    use crate::compute::offload::Offload;
    use crate::compute::product::{cross, gram, product};

    /// The first GPU, or a line that says what was skipped, past the test's own capture of stderr.
    fn gpu(test: &str) -> Option<Offload> {
        match Cuda::open(0) {
            Ok((facts, gpu)) => {
                let _ = writeln!(std::io::stderr(), "{test}: on {} of {} bytes", facts.name, facts.memory);
                Some(Offload::new(Box::new(gpu)))
            }
            Err(reason) => {
                let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
                None
            }
        }
    }

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
    }

    /// Sums of `k` products in two orders differ by no more than `2 k` roundings (2^-24) of the sum of magnitudes, which
    /// is at most the product of the two vectors' norms; and one more rounding of what they are added to.
    fn close(found: &[f32], exact: &[f32], k: usize, bound: impl Fn(usize) -> f64) {
        for (at, (f, e)) in found.iter().zip(exact).enumerate() {
            let most = 2.0 * (k + 1) as f64 * 2f64.powi(-24) * bound(at);
            assert!(
                (f64::from(*f) - f64::from(*e)).abs() <= most,
                "at {at}: {f}, expected {e} within {most}"
            );
        }
    }

    fn norms(x: &[f32], width: usize) -> (Vec<f64>, Vec<f64>) {
        let squares = |numbers: &mut dyn Iterator<Item = &f32>| -> f64 {
            numbers.map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
        };
        let rows = x.chunks(width).map(|row| squares(&mut row.iter())).collect();
        (rows, (0..width).map(|c| squares(&mut x.iter().skip(c).step_by(width))).collect())
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error() {
        let error = Cuda::open(4095).err().expect("there are no 4096 GPUs");
        assert!(
            matches!(
                error,
                DeviceError::NoDriver
                    | DeviceError::NoCublas
                    | DeviceError::NoDevice
                    | DeviceError::NoSuchDevice { .. }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn products_agree_with_the_cpu() {
        let Some(gpu) = gpu("products_agree_with_the_cpu") else { return };
        for (m, n, k) in [(8, 1, 16), (9, 33, 65), (37, 70, 129), (257, 300, 1031), (1, 7, 3)] {
            let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
            let (mut found, mut exact) = (vec![f32::NAN; m * n], vec![0.0; m * n]);
            assert!(gpu.product(&x, &w, &mut found, Shape { m, n, k }), "{:?}", gpu.left());
            product(&x, &w, None, &mut exact, Shape { m, n, k }).unwrap();
            let ((x_rows, x_columns), (w_rows, _)) = (norms(&x, k), norms(&w, k));
            close(&found, &exact, k, |at| x_rows[at / n] * w_rows[at % n]);

            let start = numbers(k * k, 3).iter().map(|x| x.abs()).collect::<Vec<_>>();
            let start: Vec<f32> = (0..k * k).map(|at| start[(at / k).min(at % k)]).collect();
            let (mut found, mut exact) = (start.clone(), start);
            assert!(gpu.gram(&x, k, &mut found));
            gram(&x, k, &mut exact).unwrap();
            close(&found, &exact, m, |at| 1.0 + x_columns[at / k] * x_columns[at % k]);
            assert!((0..k * k).all(|at| found[at] == found[at % k * k + at / k]), "symmetric");

            let y = numbers(m * n, 4);
            let (_, y_columns) = norms(&y, n);
            let (mut found, mut exact) = (vec![1.0; k * n], vec![1.0; k * n]);
            assert!(gpu.cross((&x, k), (&y, n), &mut found));
            cross(&x, k, &y, n, &mut exact).unwrap();
            close(&found, &exact, m, |at| 1.0 + x_columns[at / n] * y_columns[at % n]);
        }
        assert_eq!(gpu.left(), None);
    }

    /// Whole numbers of 12 bits, whose sums stay below 2^24: exact in f32 in any order, not in TF32 with its 11.
    #[test]
    fn arithmetic_is_real_f32() {
        let Some(gpu) = gpu("arithmetic_is_real_f32") else { return };
        let (m, n, k) = (128, 128, 2048);
        let x: Vec<f32> = (0..m * k).map(|i| ((i * 7919) % 4095) as f32).collect();
        let w: Vec<f32> = (0..n * k).map(|i| ((i * 104_729) % 3) as f32 - 1.0).collect();
        let mut found = vec![f32::NAN; m * n];
        assert!(gpu.product(&x, &w, &mut found, Shape { m, n, k }));
        for (at, value) in found.iter().enumerate() {
            let (x, w) = (&x[at / n * k..][..k], &w[at % n * k..][..k]);
            let sum: i64 = x.iter().zip(w).map(|(x, w)| *x as i64 * *w as i64).sum();
            assert_eq!(*value, sum as f32, "at {at}");
        }
    }
}
