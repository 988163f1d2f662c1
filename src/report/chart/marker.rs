//! Colours and marker outlines. Colours are those of Okabe and Ito (2008), told apart by the colour-blind.

use plotters::style::RGBColor;

/// Words and axes.
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// Lesser words.
pub const FADED: RGBColor = RGBColor(0x66, 0x66, 0x66);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Shapes that break a budget.
pub const INFEASIBLE: RGBColor = RGBColor(0xbd, 0xbd, 0xbd);
/// Shapes that meet every budget but are beaten.
pub const DOMINATED: RGBColor = RGBColor(0x56, 0xb4, 0xe9);
/// The front.
pub const FRONT: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
/// The unpruned model.
pub const PARENT: RGBColor = RGBColor(0x00, 0x00, 0x00);
/// The knee.
pub const KNEE: RGBColor = RGBColor(0xcc, 0x79, 0xa7);
/// The shape to prune to.
pub const CHOSEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
/// Budget lines.
pub const BUDGET: RGBColor = RGBColor(0x00, 0x72, 0xb2);

/// A five-pointed star of outer radius `r` around `(x, y)`, in pixels.
pub fn star((x, y): (i32, i32), r: f64) -> Vec<(i32, i32)> {
    polygon(x, y, &(0..10).map(|i| if i % 2 == 0 { r } else { r * 0.45 }).collect::<Vec<_>>())
}

/// A square on its corner, half diagonal `r`, around `(x, y)`, in pixels.
pub fn diamond((x, y): (i32, i32), r: f64) -> Vec<(i32, i32)> {
    polygon(x, y, &[r; 4])
}

/// Corners at equal angles, the first at the top, each at its own radius; the first is repeated at the end.
fn polygon(x: i32, y: i32, radii: &[f64]) -> Vec<(i32, i32)> {
    let step = std::f64::consts::TAU / radii.len() as f64;
    let corner = |i: usize, r: f64| {
        let angle = i as f64 * step;
        (x + (r * angle.sin()).round() as i32, y - (r * angle.cos()).round() as i32)
    };
    let mut corners: Vec<_> = radii.iter().enumerate().map(|(i, &r)| corner(i, r)).collect();
    corners.extend(corners.first().copied());
    corners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_are_closed_and_centred() {
        assert_eq!(diamond((10, 20), 5.0), [(10, 15), (15, 20), (10, 25), (5, 20), (10, 15)]);
        let star = star((0, 0), 100.0);
        assert_eq!((star.len(), star[0]), (11, (0, -100)));
        assert_eq!(star.first(), star.last());
    }
}
