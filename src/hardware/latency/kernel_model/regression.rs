//! Least absolute deviations with a pull towards a prior: the linear glue between estimators.

/// One equation of a regression.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Regressors.
    pub x: Vec<f64>,
    /// What they should add up to.
    pub y: f64,
    /// How much it counts; 1 for a sound measurement.
    pub weight: f64,
}

/// Weights `w` that make `sum weight |y - x·w|` small, pulled towards `prior` with `pull` times the average
/// curvature. Iteratively reweighted least squares; deterministic. Empty data gives the prior.
pub fn robust_ridge(rows: &[Observation], prior: &[f64], pull: f64) -> Vec<f64> {
    /// Residuals below this count as equal (0.5 % of a latency): keeps the weights finite.
    const FLAT: f64 = 0.005;
    let n = prior.len();
    let mut w = prior.to_vec();
    if rows.is_empty() || n == 0 {
        return w;
    }
    for _ in 0..8 {
        let mut a = vec![vec![0.0; n]; n];
        let mut c = vec![0.0; n];
        for Observation { x, y, weight } in rows {
            let residual = y - dot(x, &w);
            let weight = weight / (residual.abs() + FLAT);
            for i in 0..n {
                for j in 0..=i {
                    a[i][j] += weight * x[i] * x[j];
                }
                c[i] += weight * x[i] * y;
            }
        }
        let trace = (0..n).map(|i| a[i][i]).sum::<f64>() / n as f64;
        let ridge = pull * trace + 1e-12;
        for i in 0..n {
            let (upper, lower) = a.split_at_mut(i + 1);
            for (mirror, row) in upper[i][i + 1..].iter_mut().zip(lower) {
                *mirror = row[i];
            }
            upper[i][i] += ridge;
            c[i] += ridge * prior[i];
        }
        match solve(a, c) {
            Some(next) => w = next,
            None => return prior.to_vec(),
        }
    }
    w
}

/// Weights that sum to one (a weighted mean of the estimators), otherwise as [`robust_ridge`].
pub fn robust_mean(rows: &[Observation], estimators: usize, pull: f64) -> Vec<f64> {
    let Some(last) = estimators.checked_sub(1) else { return Vec::new() };
    let difference = |Observation { x, y, weight }: &Observation| Observation {
        x: x[..last].iter().map(|v| v - x[last]).collect(),
        y: y - x[last],
        weight: *weight,
    };
    let differences: Vec<Observation> = rows.iter().map(difference).collect();
    let mut w = robust_ridge(&differences, &vec![1.0 / estimators as f64; last], pull);
    w.push(1.0 - w.iter().sum::<f64>());
    w
}

/// Inner product.
pub fn dot(x: &[f64], w: &[f64]) -> f64 {
    x.iter().zip(w).map(|(a, b)| a * b).sum()
}

/// Gaussian elimination with partial pivoting; `None` where the matrix is singular.
fn solve(mut a: Vec<Vec<f64>>, mut c: Vec<f64>) -> Option<Vec<f64>> {
    let n = c.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&p, &q| a[p][i].abs().total_cmp(&a[q][i].abs()))?;
        a.swap(i, pivot);
        c.swap(i, pivot);
        if a[i][i].abs() < 1e-300 {
            return None;
        }
        for r in i + 1..n {
            let factor = a[r][i] / a[i][i];
            let (upper, lower) = a.split_at_mut(r);
            for (x, &p) in lower[0][i..].iter_mut().zip(&upper[i][i..]) {
                *x -= factor * p;
            }
            c[r] -= factor * c[i];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| a[i][j] * c[j]).sum();
        c[i] = (c[i] - known) / a[i][i];
    }
    c.iter().all(|x| x.is_finite()).then_some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_weights_despite_outliers() {
        let mut rows: Vec<Observation> = (0..60)
            .map(|i| {
                let x = vec![(i % 7) as f64, (i % 5) as f64 - 2.0];
                let y = 2.0 * x[0] - 0.5 * x[1];
                Observation { x, y, weight: 1.0 }
            })
            .collect();
        rows[3].y += 100.0;
        let w = robust_ridge(&rows, &[0.0, 0.0], 1e-9);
        assert!((w[0] - 2.0).abs() < 1e-2 && (w[1] + 0.5).abs() < 1e-2, "{w:?}");
    }

    #[test]
    fn noisy_rows_pull_less() {
        let row = |i: usize| Observation {
            x: vec![1.0],
            y: if i < 30 { 1.0 } else { 2.0 },
            weight: if i < 30 { 1.0 } else { 0.1 },
        };
        let rows: Vec<Observation> = (0..80).map(row).collect();
        let even: Vec<Observation> = rows.iter().map(|o| Observation { weight: 1.0, ..o.clone() }).collect();
        let (weighed, plain) = (robust_ridge(&rows, &[0.0], 1e-9), robust_ridge(&even, &[0.0], 1e-9));
        assert!(weighed[0] < 1.1 && plain[0] > 1.9, "{weighed:?} {plain:?}");
    }

    #[test]
    fn a_mean_sums_to_one() {
        let row = |i: f64| Observation { x: vec![i, 2.0 * i, -1.0], y: 1.5 * i, weight: 1.0 };
        let rows: Vec<Observation> = (0..40).map(f64::from).map(row).collect();
        let w = robust_mean(&rows, 3, 1e-9);
        assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((w[0] + 2.0 * w[1] - 1.5).abs() < 1e-2, "{w:?}");
    }

    #[test]
    fn singular_data_gives_the_prior_back() {
        assert_eq!(robust_ridge(&[], &[0.3], 1.0), vec![0.3]);
        let w = robust_ridge(&[Observation { x: vec![0.0, 0.0], y: 1.0, weight: 1.0 }], &[0.3, 0.1], 0.0);
        assert!(w.iter().all(|x| x.is_finite()));
    }
}
