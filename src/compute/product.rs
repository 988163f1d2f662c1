//! Products of whole matrices in f32: linear layers over many tokens, Gram matrices of activations.
//!
//! The `gemm` crate's kernels on blocks whose sizes do not depend on the number of threads, so that the results do not
//! either. Large products go to the GPU where one was chosen ([`crate::compute::device`]), and come back here where it
//! fails.

use gemm::Parallelism;
use rayon::prelude::*;

use crate::compute::device::for_product;
use crate::compute::linear::{Shape, linear};
use crate::compute::storage::{SizeError, Stored, sized};

/// Fewer tokens than this are not worth the packing of the weights.
const FEW: usize = 8;
/// Columns of a Gram matrix's blocks.
const BLOCK: usize = 256;

/// `out = x w^T + bias`: `x` is `m x k`, `w` is `n x k`, `bias` has `n` numbers, `out` is `m x n`, all row-major.
///
/// # Errors
/// A slice of another size.
pub fn product(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    shape: Shape,
) -> Result<(), SizeError> {
    let Shape { m, n, k } = shape;
    sized("x", x.len(), m * k)?;
    sized("w", w.len(), n * k)?;
    sized("out", out.len(), m * n)?;
    sized("bias", bias.map_or(n, <[f32]>::len), n)?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    if m < FEW || k == 0 {
        linear(x, Stored::F32(w), out, shape)?;
    } else if !for_product(m, n, k).is_some_and(|device| device.product(x, w, out, shape)) {
        many_tokens(x, w, out, shape);
    }
    if let Some(bias) = bias {
        out.par_chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(bias).for_each(|(o, b)| *o += b));
    }
    Ok(())
}

fn many_tokens(x: &[f32], w: &[f32], out: &mut [f32], Shape { m, n, k }: Shape) {
    let (row_x, row_w, row_out) = (k as isize, k as isize, n as isize);
    // SAFETY: the caller checked that the slices hold m x k, n x k and m x n numbers.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            row_out,
            false,
            x.as_ptr(),
            1,
            row_x,
            w.as_ptr(),
            row_w,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

/// Adds `x^T x` to `out`: `x` is `[tokens, width]`, `out` `[width, width]` and symmetric before and after.
///
/// # Errors
/// A slice of another size.
pub fn gram(x: &[f32], width: usize, out: &mut [f32]) -> Result<(), SizeError> {
    sized("x", x.len() % width.max(1), 0)?;
    sized("out", out.len(), width * width)?;
    let tokens = x.len() / width.max(1);
    if for_product(tokens, width, width).is_some_and(|device| device.gram(x, width, out)) {
        return Ok(());
    }
    let blocks = width.div_ceil(BLOCK);
    let target = Target(out.as_mut_ptr());
    let pairs: Vec<(usize, usize)> = (0..blocks).flat_map(|i| (0..=i).map(move |j| (i, j))).collect();
    pairs.into_par_iter().for_each(|(i, j)| {
        block_product((x, width), (x, width), (i, j), target);
    });
    for row in 1..width {
        let (above, mine) = out.split_at_mut(row * width);
        for (column, line) in above.chunks_exact_mut(width).enumerate() {
            if column / BLOCK < row / BLOCK
                && let (Some(mirror), Some(value)) = (line.get_mut(row), mine.get(column))
            {
                *mirror = *value;
            }
        }
    }
    Ok(())
}

/// Adds `x^T y` to `out`: `x` is `[tokens, x_width]`, `y` `[tokens, y_width]`, `out` `[x_width, y_width]`.
///
/// # Errors
/// A slice of another size.
pub fn cross(x: &[f32], x_width: usize, y: &[f32], y_width: usize, out: &mut [f32]) -> Result<(), SizeError> {
    let tokens = x.len() / x_width.max(1);
    sized("x", x.len(), tokens * x_width)?;
    sized("y", y.len(), tokens * y_width)?;
    sized("out", out.len(), x_width * y_width)?;
    if for_product(tokens, x_width, y_width)
        .is_some_and(|device| device.cross((x, x_width), (y, y_width), out))
    {
        return Ok(());
    }
    let (rows, columns) = (x_width.div_ceil(BLOCK), y_width.div_ceil(BLOCK));
    let target = Target(out.as_mut_ptr());
    let pairs: Vec<(usize, usize)> = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).collect();
    pairs.into_par_iter().for_each(|(i, j)| {
        block_product((x, x_width), (y, y_width), (i, j), target);
    });
    Ok(())
}

/// The output that tasks share.
#[derive(Clone, Copy)]
struct Target(*mut f32);

// SAFETY: each task writes one block of the output, and no other task has it.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    fn from(self, at: usize) -> *mut f32 {
        // SAFETY: callers pass the index of a number of the output.
        unsafe { self.0.add(at) }
    }
}

/// Adds block (`i`, `j`) of `x^T y` to its place.
fn block_product(
    (x, x_width): (&[f32], usize),
    (y, y_width): (&[f32], usize),
    (i, j): (usize, usize),
    target: Target,
) {
    let (row, column) = (i * BLOCK, j * BLOCK);
    let tokens = x.len() / x_width;
    if tokens == 0 {
        return;
    }
    // SAFETY: x and y hold `tokens` rows, the block begins inside both widths and is cut at them.
    unsafe {
        gemm::gemm(
            BLOCK.min(x_width - row),
            BLOCK.min(y_width - column),
            tokens,
            target.from(row * y_width + column),
            1,
            y_width as isize,
            true,
            x.as_ptr().add(row),
            x_width as isize,
            1,
            y.as_ptr().add(column),
            1,
            y_width as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
    }

    fn in_double(
        x: &[f32],
        y: &[f32],
        (m, n, k): (usize, usize, usize),
        at: impl Fn(usize, usize, usize) -> (usize, usize),
    ) -> Vec<f64> {
        (0..m * n)
            .map(|o| {
                (0..k)
                    .map(|c| {
                        let (a, b) = at(o / n, o % n, c);
                        f64::from(x[a]) * f64::from(y[b])
                    })
                    .sum()
            })
            .collect()
    }

    fn close(found: &[f32], exact: &[f64], bound: f64) {
        assert_eq!(found.len(), exact.len());
        for (i, (f, e)) in found.iter().zip(exact).enumerate() {
            assert!((f64::from(*f) - e).abs() < bound * e.abs().max(1.0), "at {i}: {f}, expected {e}");
        }
    }

    #[test]
    fn products_agree_with_double_precision() {
        for (m, n, k) in [(1, 5, 7), (7, 33, 65), (8, 1, 16), (37, 70, 129), (64, 300, 31)] {
            let (x, w, bias) = (numbers(m * k, 1), numbers(n * k, 2), numbers(n, 3));
            let mut out = vec![f32::NAN; m * n];
            product(&x, &w, Some(&bias), &mut out, Shape { m, n, k }).unwrap();
            let mut exact = in_double(&x, &w, (m, n, k), |i, j, c| (i * k + c, j * k + c));
            exact.iter_mut().enumerate().for_each(|(i, e)| *e += f64::from(bias[i % n]));
            close(&out, &exact, 1e-5);
        }
    }

    #[test]
    fn grams_add_and_stay_symmetric() {
        for (tokens, width) in [(3, 5), (40, 257), (9, 530)] {
            let x = numbers(tokens * width, 4);
            let mut out = vec![0f32; width * width];
            gram(&x, width, &mut out).unwrap();
            gram(&x, width, &mut out).unwrap();
            let exact = in_double(&x, &x, (width, width, tokens), |i, j, t| (t * width + i, t * width + j));
            close(&out, &exact.iter().map(|e| 2.0 * e).collect::<Vec<_>>(), 1e-5);
            assert!((0..width * width).all(|o| out[o] == out[o % width * width + o / width]));
        }
    }

    #[test]
    fn cross_products_agree_with_double_precision() {
        let (tokens, a, b) = (21, 300, 17);
        let (x, y) = (numbers(tokens * a, 5), numbers(tokens * b, 6));
        let mut out = vec![0f32; a * b];
        cross(&x, a, &y, b, &mut out).unwrap();
        close(&out, &in_double(&x, &y, (a, b, tokens), |i, j, t| (t * a + i, t * b + j)), 1e-5);
        assert!(cross(&x, a, &y[1..], b, &mut out).is_err());
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (m, n, k) = (300, 520, 700);
        let (x, w) = (numbers(m * k, 7), numbers(n * k, 8));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (mut out, mut square) = (vec![0f32; m * n], vec![0f32; k * k]);
                product(&x, &w, None, &mut out, Shape { m, n, k }).unwrap();
                gram(&x, k, &mut square).unwrap();
                (out, square)
            })
        };
        let one = run(1);
        for threads in [2, 3, 5] {
            assert!(run(threads) == one, "{threads} threads");
        }
    }
}
