//! Numbers as they are stored: f32 or bf16.

use std::cell::RefCell;

use half::bf16;
use pulp::Arch;

/// A slice of stored numbers.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

/// Owned numbers.
#[derive(Clone, Debug)]
pub enum Buffer {
    /// IEEE single precision.
    F32(Vec<f32>),
    /// bfloat16.
    Bf16(Vec<bf16>),
}

/// A slice does not hold what a kernel was told it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} holds {found} numbers, expected {expected}")]
pub struct SizeError {
    /// Which argument.
    pub what: &'static str,
    /// Numbers there.
    pub found: usize,
    /// Numbers needed.
    pub expected: usize,
}

thread_local! {
    /// See [`with_scratch`].
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Lends this thread's two buffers for widened numbers, which keep their memory from call to call: fresh memory is
/// slow to come by. `work` must not ask for them again.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut [Vec<f32>; 2]) -> R) -> R {
    SCRATCH.with_borrow_mut(work)
}

/// Checks that a slice holds exactly `expected` numbers.
pub(super) fn sized(what: &'static str, found: usize, expected: usize) -> Result<(), SizeError> {
    if found == expected { Ok(()) } else { Err(SizeError { what, found, expected }) }
}

impl<'a> Stored<'a> {
    /// Numbers in the slice.
    pub fn len(&self) -> usize {
        match self {
            Stored::F32(x) => x.len(),
            Stored::Bf16(x) => x.len(),
        }
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` numbers from `from`; nothing where they are not there.
    pub fn part(&self, from: usize, len: usize) -> Stored<'a> {
        match self {
            Stored::F32(x) => Stored::F32(x.get(from..from + len).unwrap_or(&[])),
            Stored::Bf16(x) => Stored::Bf16(x.get(from..from + len).unwrap_or(&[])),
        }
    }

    /// The numbers as f32: where they stand, or widened into `scratch`.
    pub fn widened<'s>(&self, scratch: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        match *self {
            Stored::F32(x) => x,
            Stored::Bf16(x) => {
                scratch.resize(x.len(), 0.0);
                Arch::new().dispatch(Widen { from: x, to: scratch });
                scratch
            }
        }
    }
}

struct Widen<'a> {
    from: &'a [bf16],
    to: &'a mut [f32],
}

impl pulp::WithSimd for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (y, x) in self.to.iter_mut().zip(self.from) {
            *y = widen(*x);
        }
    }
}

/// One bf16 as f32, exact.
#[inline(always)]
pub(super) fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

impl Buffer {
    /// The numbers.
    pub fn as_stored(&self) -> Stored<'_> {
        match self {
            Buffer::F32(x) => Stored::F32(x),
            Buffer::Bf16(x) => Stored::Bf16(x),
        }
    }

    /// Stores `values` from index `at` on, rounded to the buffer's type; what would lie beyond its end is dropped.
    pub fn store(&mut self, at: usize, values: &[f32]) {
        match self {
            Buffer::F32(x) => {
                for (y, v) in x.iter_mut().skip(at).zip(values) {
                    *y = *v;
                }
            }
            Buffer::Bf16(x) => {
                for (y, v) in x.iter_mut().skip(at).zip(values) {
                    *y = bf16::from_f32(*v);
                }
            }
        }
    }
}
