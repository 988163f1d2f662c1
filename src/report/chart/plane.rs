//! A small plot of its own: axes with units, linear or logarithmic, and marks placed by their values.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::chart::draw::{Canvas, Drawn, Scale};
use crate::report::chart::marker::{FADED, GRID, INK};

/// One axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    label: String,
}

impl Axis {
    /// A linear axis from `low` to `high`.
    pub(crate) fn linear(low: f64, high: f64, label: impl Into<String>) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, log: false, label: label.into() }
    }

    /// A logarithmic axis of whole decades that holds every positive finite value.
    pub(crate) fn decades(values: impl Iterator<Item = f64>, label: impl Into<String>) -> Self {
        let (low, high) = values
            .filter(|v| *v > 0.0 && v.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v.log10()), h.max(v.log10())));
        let (low, high) = if low > high { (0.0, 1.0) } else { ((low + 1e-9).floor(), (high - 1e-9).ceil()) };
        Self { low, high: high.max(low + 1.0), log: true, label: label.into() }
    }

    /// Where `value` stands, 0 at the low end and 1 at the high end; values beyond stand at the ends.
    fn place(&self, value: f64) -> f64 {
        let at = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        ((at - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Values of the grid lines with their words.
    fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        if !self.log {
            let step = nice_step((self.high - self.low) / most.max(1) as f64);
            let first = (self.low / step - 1e-9).ceil() as i64;
            let last = (self.high / step + 1e-9).floor() as i64;
            let decimals = (-step.log10().floor()).max(0.0) as usize;
            return (first..=last)
                .map(|i| (i as f64 * step, format!("{:.decimals$}", i as f64 * step)))
                .collect();
        }
        let (first, last) = (self.low as i32, self.high as i32);
        let every = ((last - first) as usize).div_ceil(most.max(1)).max(1);
        (first..=last).step_by(every).map(|power| (10f64.powi(power), power_of_ten(power))).collect()
    }
}

/// 1, 2 or 5 times a power of ten, at least `raw`.
fn nice_step(raw: f64) -> f64 {
    let base = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * base)
        .find(|step| *step >= raw * (1.0 - 1e-9))
        .unwrap_or(raw)
}

fn power_of_ten(power: i32) -> String {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    match power {
        0..=4 => format!("{:.0}", 10f64.powi(power)),
        -3..=-1 => format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power)),
        _ => {
            let digits = power.unsigned_abs().to_string();
            let raised = digits.bytes().filter_map(|d| RAISED.get(usize::from(d.wrapping_sub(b'0'))));
            let sign = if power < 0 { "⁻" } else { "" };
            format!("10{sign}{}", raised.collect::<String>())
        }
    }
}

/// Text that is placed by the middle of its height.
fn anchored(style: TextStyle<'static>, at: HPos) -> TextStyle<'static> {
    style.pos(Pos::new(at, VPos::Center))
}

/// A drawn frame on which values are placed.
pub(crate) struct Plane<'a, DB: DrawingBackend> {
    area: &'a Canvas<DB>,
    scale: Scale,
    x: Axis,
    y: Axis,
    /// Left, top, right and bottom of the frame, in pixels of the area.
    frame: (i32, i32, i32, i32),
}

impl<'a, DB: DrawingBackend> Plane<'a, DB> {
    /// Draws title, grid, ticks and labels on `area`.
    pub(crate) fn draw(
        area: &'a Canvas<DB>,
        title: &str,
        (x, y): (Axis, Axis),
        scale: Scale,
    ) -> Result<Self, DrawingAreaErrorKind<DB::ErrorType>> {
        let (width, height) = area.dim_in_pixel();
        let s = scale;
        let frame = (s.px(76.0), s.px(32.0), width as i32 - s.px(18.0), height as i32 - s.px(54.0));
        let plane = Self { area, scale, x, y, frame };
        plane.draw_axes(title)?;
        Ok(plane)
    }

    fn draw_axes(&self, title: &str) -> Drawn<DB> {
        let (s, area, (left, top, right, bottom)) = (self.scale, self.area, self.frame);
        let centred = |height: f64| anchored(s.font(height, false, &INK), HPos::Center);
        area.draw(&Text::new(title.to_string(), (left, s.px(8.0)), s.font(15.5, true, &INK)))?;
        let grid = GRID.stroke_width(s.px(1.0) as u32);
        for (value, words) in self.x.ticks(8) {
            let (x, _) = self.at(value, 0.0);
            area.draw(&PathElement::new([(x, top), (x, bottom)], grid))?;
            area.draw(&Text::new(words, (x, bottom + s.px(14.0)), centred(13.5)))?;
        }
        for (value, words) in self.y.ticks(6) {
            let (_, y) = self.at(0.0, value);
            area.draw(&PathElement::new([(left, y), (right, y)], grid))?;
            let right_aligned = anchored(s.font(13.5, false, &INK), HPos::Right);
            area.draw(&Text::new(words, (left - s.px(7.0), y), right_aligned))?;
        }
        let axes = [(left, top), (left, bottom), (right, bottom)];
        area.draw(&PathElement::new(axes, FADED.stroke_width(s.px(1.0) as u32)))?;
        let below = ((left + right) / 2, bottom + s.px(36.0));
        area.draw(&Text::new(self.x.label.clone(), below, centred(14.0)))?;
        let turned = centred(14.0).transform(FontTransform::Rotate270);
        area.draw(&Text::new(self.y.label.clone(), (s.px(16.0), (top + bottom) / 2), turned))
    }

    /// The pixel of a value; values beyond the frame stand on its edge.
    pub(crate) fn at(&self, x: f64, y: f64) -> (i32, i32) {
        let (left, top, right, bottom) = self.frame;
        let (width, height) = (f64::from(right - left), f64::from(bottom - top));
        let (x, y) = (self.x.place(x), self.y.place(y));
        (left + (x * width).round() as i32, bottom - (y * height).round() as i32)
    }

    /// Dots; of those that fall on one pixel only one is drawn.
    pub(crate) fn dots(
        &self,
        points: impl Iterator<Item = (f64, f64)>,
        radius: f64,
        colour: RGBAColor,
    ) -> Drawn<DB> {
        let pixels: std::collections::BTreeSet<(i32, i32)> = points.map(|(x, y)| self.at(x, y)).collect();
        let radius = self.scale.px(radius).max(1);
        pixels.into_iter().try_for_each(|at| self.area.draw(&Circle::new(at, radius, colour.filled())))
    }

    /// A line through points.
    pub(crate) fn line(&self, points: &[(f64, f64)], width: f64, colour: RGBAColor) -> Drawn<DB> {
        let path: Vec<(i32, i32)> = points.iter().map(|&(x, y)| self.at(x, y)).collect();
        self.area.draw(&PathElement::new(path, colour.stroke_width(self.scale.px(width).max(1) as u32)))
    }

    /// A filled box between two corners.
    pub(crate) fn fill(&self, a: (f64, f64), b: (f64, f64), colour: RGBAColor) -> Drawn<DB> {
        self.area.draw(&Rectangle::new([self.at(a.0, a.1), self.at(b.0, b.1)], colour.filled()))
    }

    /// Words whose middle stands `up` pixels above a value.
    pub(crate) fn words_above(
        &self,
        (x, y): (f64, f64),
        up: f64,
        words: String,
        colour: &RGBColor,
    ) -> Drawn<DB> {
        let (x, y) = self.at(x, y);
        let style = anchored(self.scale.font(12.5, false, colour), HPos::Center);
        self.area.draw(&Text::new(words, (x, y - self.scale.px(up)), style))
    }

    /// Words that end left of a value, a little above it.
    pub(crate) fn words_left(&self, (x, y): (f64, f64), words: String, colour: &RGBColor) -> Drawn<DB> {
        let (x, y) = self.at(x, y);
        let style = anchored(self.scale.font(12.5, false, colour), HPos::Right);
        self.area.draw(&Text::new(words, (x - self.scale.px(9.0), y - self.scale.px(8.0)), style))
    }

    /// From `low` to `high` at `x`, with a cap at either end and a dot in between.
    pub(crate) fn whisker(&self, x: f64, (low, middle, high): (f64, f64, f64), dot: &RGBColor) -> Drawn<DB> {
        let (s, cap) = (self.scale, self.scale.px(5.0));
        let style = INK.stroke_width(s.px(1.7).max(1) as u32);
        let ((x, bottom), (_, top), (_, y)) = (self.at(x, low), self.at(x, high), self.at(x, middle));
        self.area.draw(&PathElement::new([(x, bottom), (x, top)], style))?;
        for end in [bottom, top] {
            self.area.draw(&PathElement::new([(x - cap, end), (x + cap, end)], style))?;
        }
        self.area.draw(&Circle::new((x, y), s.px(5.0), WHITE.filled()))?;
        self.area.draw(&Circle::new((x, y), s.px(3.8), dot.filled()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        let words = |axis: Axis, most| axis.ticks(most).into_iter().map(|(_, w)| w).collect::<Vec<_>>();
        assert_eq!(words(Axis::linear(-20.0, 20.0, ""), 6), ["-20", "-10", "0", "10", "20"]);
        assert_eq!(words(Axis::linear(0.0, 1.0, ""), 4), ["0.0", "0.5", "1.0"]);
        let decades = Axis::decades([2.0, 30.0, 2e6, -1.0].into_iter(), "");
        assert_eq!(words(decades, 8), ["1", "10", "100", "1000", "10000", "10⁵", "10⁶", "10⁷"]);
        assert_eq!(words(Axis::decades([0.002].into_iter(), ""), 8), ["0.001", "0.01"]);
        assert_eq!(words(Axis::decades([].into_iter(), ""), 8), ["1", "10"]);
    }

    #[test]
    fn values_beyond_an_axis_stand_at_its_ends() {
        let axis = Axis::decades([1.0, 100.0].into_iter(), "");
        assert_eq!([0.0, 1.0, 10.0, 1e9].map(|v| axis.place(v)), [0.0, 0.0, 0.5, 1.0]);
    }
}
