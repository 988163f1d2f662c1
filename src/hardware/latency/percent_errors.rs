//! Errors of predictions in figures, the same for kernels and for serving runs.

/// Errors over a set of figures; all but `n` in percent of the measured value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PercentErrors {
    /// Figures.
    pub n: usize,
    /// Median absolute error.
    pub median_ape: f64,
    /// Mean absolute error.
    pub mean_ape: f64,
    /// 90th percentile of the absolute error.
    pub p90_ape: f64,
    /// Mean signed error: positive = predicted too large.
    pub bias: f64,
    /// Share of figures inside their stated interval.
    pub coverage: f64,
}

impl PercentErrors {
    /// From `(ln(predicted / measured), inside the interval)`. Percentiles are nearest-rank: values that occur.
    /// Nothing gives zeros.
    pub fn of(errors: impl Iterator<Item = (f64, bool)>) -> Self {
        let (signed, inside): (Vec<f64>, Vec<bool>) =
            errors.map(|(log, inside)| ((log.exp() - 1.0) * 100.0, inside)).unzip();
        let n = signed.len();
        let mut apes: Vec<f64> = signed.iter().map(|e| e.abs()).collect();
        apes.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = ((share * n as f64).ceil() as usize).clamp(1, n.max(1));
            apes.get(rank - 1).copied().unwrap_or_default()
        };
        let count = n.max(1) as f64;
        Self {
            n,
            median_ape: at(0.5),
            mean_ape: apes.iter().sum::<f64>() / count,
            p90_ape: at(0.9),
            bias: signed.iter().sum::<f64>() / count,
            coverage: inside.iter().filter(|inside| **inside).count() as f64 * 100.0 / count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PercentErrors;

    #[test]
    fn counts_what_it_says() {
        let percent = |p: f64| (1.0 + p / 100.0).ln();
        let found =
            PercentErrors::of([1.0, -2.0, 3.0, 4.0, -10.0].map(|p| (percent(p), p < 3.5)).into_iter());
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert_eq!((found.n, found.coverage), (5, 80.0));
        assert!(near(found.median_ape, 3.0) && near(found.p90_ape, 10.0), "{found:?}");
        assert!(near(found.mean_ape, 4.0) && near(found.bias, -0.8), "{found:?}");
        assert_eq!(PercentErrors::of([].into_iter()), PercentErrors::default());
    }
}
