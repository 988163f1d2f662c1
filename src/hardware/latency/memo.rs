//! Prices that are looked up once: many shapes of one search make the same kernel calls.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::hardware::kernel::KernelCall;
use crate::hardware::latency::cost::{GapError, KernelCost, KernelCosts};

/// A device whose answers are remembered. Answers are those of the device, so nothing depends on the order of
/// the questions.
pub struct Memo<'a> {
    costs: &'a dyn KernelCosts,
    known: RwLock<HashMap<KernelCall, KernelCost>>,
}

impl<'a> Memo<'a> {
    /// Remembers what `costs` answers; gaps are asked for again.
    pub fn new(costs: &'a dyn KernelCosts) -> Self {
        Self { costs, known: RwLock::default() }
    }
}

impl KernelCosts for Memo<'_> {
    fn cost(&self, call: &KernelCall) -> Result<KernelCost, GapError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(call).copied();
        if let Some(cost) = known {
            return Ok(cost);
        }
        let cost = self.costs.cost(call)?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(*call, cost);
        Ok(cost)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::estimate::Source;
    use crate::hardware::kernel::KernelFamily;
    use crate::units::{DType, Seconds};

    /// Prices squares, knows no others, counts questions.
    struct Squares(AtomicUsize);

    impl KernelCosts for Squares {
        fn cost(&self, call: &KernelCall) -> Result<KernelCost, GapError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            match *call {
                KernelCall::Gemm { m, n, .. } if m == n => {
                    let latency = Seconds(m as f64);
                    Ok(KernelCost { latency, log_sigma: 0.0, source: Source::Measured, extrapolated: false })
                }
                _ => Err(GapError::NoTable { profile: "squares".into(), family: KernelFamily::Gemm }),
            }
        }
    }

    #[test]
    fn asks_once_and_answers_the_same() {
        let squares = Squares(AtomicUsize::new(0));
        let memo = Memo::new(&squares);
        let call = |m, n| KernelCall::Gemm { m, n, k: 1, dtype: DType::Bf16 };
        for m in [3, 4, 3, 3, 4] {
            assert_eq!(memo.cost(&call(m, m)).map(|cost| cost.latency), Ok(Seconds(m as f64)));
        }
        assert_eq!(squares.0.load(Ordering::Relaxed), 2);
        assert!(memo.cost(&call(3, 4)).is_err() && memo.cost(&call(3, 4)).is_err());
    }
}
