//! The exponential function, plain enough for the compiler to vectorise.

/// `e^x` for x <= 88, to within 2 units in the last place; 0 below -87.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r; e^r by its Taylor series to the sixth power on |r| <= ln 2 / 2.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.0, 88.0);
    let n = (clamped * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let e = series.iter().skip(1).fold(series[0], |sum, c| f32::mul_add(sum, r, *c));
    let scale = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { e * scale }
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_double_precision() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let (found, exact) = (f64::from(super::exp(x)), f64::from(x).exp());
            assert!((found / exact - 1.0).abs() < 3e-7, "e^{x} = {found}, expected {exact}");
        }
        assert_eq!(super::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(super::exp(0.0), 1.0);
    }
}
