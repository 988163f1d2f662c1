//! Whole forward passes, predicted and run: the picture of a closed loop.

use plotters::prelude::*;

use crate::report::chart::draw::{Canvas, DrawnSvg, Scale};
use crate::report::chart::marker::{CHOSEN, FRONT, INK};
use crate::report::chart::plane::{Axis, Plane};
use crate::report::error::ReportError;
use crate::report::kernels::sheet::Sheet;

/// One pass, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// A prefill; else a decode step.
    pub prefill: bool,
    /// Measured.
    pub measured_ms: f64,
    /// Predicted.
    pub predicted_ms: f64,
    /// Low end of the prediction's interval.
    pub low_ms: f64,
    /// High end.
    pub high_ms: f64,
}

impl Pass {
    fn error(self, predicted: f64) -> f64 {
        (predicted / self.measured_ms - 1.0) * 100.0
    }
}

/// The picture as SVG.
///
/// # Errors
/// It cannot be drawn.
pub fn svg(title: &str, words: Vec<String>, passes: &[Pass]) -> Result<String, ReportError> {
    let caption = vec![
        "Green: prefills, orange: decode steps. Bars: the stated 90 % interval. Widths of these stacks were not measured."
            .to_string(),
    ];
    let sheet = Sheet { title: title.to_string(), subtitle: words, caption, rows: 1 };
    Ok(sheet.svg(|place, area, s| match place {
        0 => predicted(passes, area, s),
        _ => errors(passes, area, s),
    })?)
}

fn colour(pass: &Pass) -> RGBColor {
    if pass.prefill { CHOSEN } else { FRONT }
}

fn predicted(passes: &[Pass], area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
    let both = || passes.iter().flat_map(|p| [p.measured_ms, p.predicted_ms, p.low_ms, p.high_ms]);
    let axes = (Axis::decades(both(), "measured (ms)"), Axis::decades(both(), "predicted (ms)"));
    let plane = Plane::draw(area, "Predicted against measured", axes, s)?;
    plane.line(&[(f64::MIN_POSITIVE, f64::MIN_POSITIVE), (f64::MAX, f64::MAX)], 1.3, INK.mix(1.0))?;
    passes
        .iter()
        .try_for_each(|p| plane.whisker(p.measured_ms, (p.low_ms, p.predicted_ms, p.high_ms), &colour(p)))
}

fn errors(passes: &[Pass], area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
    let ends = passes.iter().flat_map(|p| [p.error(p.low_ms), p.error(p.high_ms)]);
    let limit = (ends.fold(10.0, |most: f64, e| most.max(e.abs())) / 10.0).ceil().min(10.0) * 10.0;
    let axes = (
        Axis::decades(passes.iter().map(|p| p.measured_ms), "measured (ms)"),
        Axis::linear(-limit, limit, "error (%), above 0: too slow"),
    );
    let plane = Plane::draw(area, "Error by measured time", axes, s)?;
    plane.line(&[(f64::MIN_POSITIVE, 0.0), (f64::MAX, 0.0)], 1.3, INK.mix(1.0))?;
    passes.iter().try_for_each(|p| {
        let (low, middle, high) = (p.error(p.low_ms), p.error(p.predicted_ms), p.error(p.high_ms));
        plane.whisker(p.measured_ms, (low, middle, high), &colour(p))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_what_it_is_given() {
        let pass = |i: f64| Pass {
            prefill: i > 2.0,
            measured_ms: 10.0 * i,
            predicted_ms: 11.0 * i,
            low_ms: 9.0 * i,
            high_ms: 13.0 * i,
        };
        let svg = svg("toy", vec!["words".to_string()], &[1.0, 2.0, 3.0].map(pass)).unwrap();
        assert!(svg.contains("toy") && svg.contains("predicted (ms)"));
        assert_eq!(svg.matches(&format!("{:02X}{:02X}{:02X}", FRONT.0, FRONT.1, FRONT.2)).count(), 4);
    }
}
