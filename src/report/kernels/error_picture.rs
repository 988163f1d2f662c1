//! The picture of one set of scored rows: predicted against measured, errors by size, coverage.

use plotters::prelude::*;

use crate::hardware::comparison::errors::{self, ErrorBin, Size};
use crate::hardware::comparison::stretch;
use crate::hardware::latency::accuracy::quantile;
use crate::hardware::latency::kernel_model::scored::{ScoredRow, ScoredSet};
use crate::hardware::latency::kernel_model::scores::Score;
use crate::report::chart::draw::{Canvas, DrawnSvg, Scale};
use crate::report::chart::marker::{BUDGET, CHOSEN, DOMINATED, FRONT, INFEASIBLE, INK};
use crate::report::chart::plane::{Axis, Plane};
use crate::report::error::ReportError;
use crate::report::kernels::errors::{ErrorReport, kept_out, score_words, set_name};
use crate::report::kernels::sheet::Sheet;
use crate::units::{THIN_SPACE, group_digits};

/// Most rows drawn as dots, besides the worst.
const MOST_DOTS: usize = 2_000;
/// Rows that err most and are drawn whatever the sample.
const WORST: usize = 20;

/// The picture.
pub(crate) fn svg(report: &ErrorReport, set: &ScoredSet, score: &Score) -> Result<String, ReportError> {
    let drawing = Drawing::of(set);
    let title = format!("{} on {}: errors of estimates", set_name(set.family, set.dtype), report.profile);
    let sheet = Sheet {
        title,
        subtitle: vec![
            format!("{}, {}. Kept out: {}.", report.device, report.stack, kept_out(&set.holdout)),
            score_words(score),
        ],
        caption: drawing.caption(report),
        rows: 3,
    };
    Ok(sheet.svg(|place, area, s| drawing.paint(place, area, s))?)
}

struct Drawing<'a> {
    set: &'a ScoredSet,
    /// Rows drawn as dots.
    shown: Vec<&'a ScoredRow>,
    /// Errors are drawn up to this, either way, in percent.
    limit: f64,
    /// Rows drawn whose error lies beyond.
    cut: usize,
    /// Rows that state the spread of their repeats, and its median in percent.
    spread: Option<(usize, f64)>,
}

impl<'a> Drawing<'a> {
    fn of(set: &'a ScoredSet) -> Self {
        let mut drawn = stretch::pick(set.rows.len(), MOST_DOTS);
        drawn.extend(errors::worst(&set.rows, WORST));
        drawn.sort_unstable();
        drawn.dedup();
        let shown: Vec<&ScoredRow> = drawn.into_iter().filter_map(|i| set.rows.get(i)).collect();
        let mut sizes: Vec<f64> = set.rows.iter().map(|row| row.error_percent().abs()).collect();
        let limit = round_up(quantile(&mut sizes, 0.98).max(1.0));
        let cut = shown.iter().filter(|row| row.error_percent().abs() > limit).count();
        let spread = errors::median_spread(set).map(|(n, share)| (n, share * 100.0));
        Self { set, shown, limit, cut, spread }
    }

    fn caption(&self, report: &ErrorReport) -> Vec<String> {
        let count = |n: usize| group_digits(n as u64, THIN_SPACE);
        let (n, shown) = (self.set.rows.len(), self.shown.len());
        let dots = match shown < n {
            true => format!(
                "Dots: {} of {} rows, by a fixed hash, with the {WORST} worst",
                count(shown),
                count(n)
            ),
            false => format!("Dots: all {} rows", count(n)),
        };
        let cut = match self.cut {
            0 => String::new(),
            cut => format!("; {} beyond ±{} % stand at the edge", count(cut), self.limit),
        };
        let noise = match self.spread {
            Some((n, percent)) => format!(
                "Grey band: {percent:.2} % either way, the median spread of repeats, which {} rows state.",
                count(n)
            ),
            None => {
                "No row states the spread of its repeats, so what is noise of the measurement is not known."
                    .to_string()
            }
        };
        vec![
            format!(
                "{dots}{cut}. Bars: 10th to 90th percentile of all rows of that stretch, orange: their median."
            ),
            noise,
            format!(
                "archplan {}, profile {} (sha256 {}).",
                env!("CARGO_PKG_VERSION"),
                report.profile,
                report.sha256.chars().take(8).collect::<String>()
            ),
        ]
    }

    fn paint(&self, place: usize, area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
        let sizes = Size::of_family(self.set.family);
        match (place, sizes.get(place.saturating_sub(2))) {
            (0, _) => self.predicted(area, s),
            (1, _) => self.coverage(area, s),
            (2.., Some(size)) => self.by_size(*size, area, s),
            // The first place that no size takes.
            (_, None) if place == sizes.len() + 2 => self.distribution(area, s),
            _ => Ok(()),
        }
    }

    fn predicted(&self, area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
        let times = || self.shown.iter().map(|row| (row.measured.us(), row.predicted().us()));
        let both = || times().flat_map(|(a, b)| [a, b]);
        let axes = (Axis::decades(both(), "measured (µs)"), Axis::decades(both(), "predicted (µs)"));
        let plane = Plane::draw(area, "Predicted against measured", axes, s)?;
        plane.dots(times(), 2.0, DOMINATED.mix(0.7))?;
        // Beyond the axes both ends stand at a corner.
        plane.line(&[(f64::MIN_POSITIVE, f64::MIN_POSITIVE), (f64::MAX, f64::MAX)], 1.3, INK.mix(1.0))
    }

    fn coverage(&self, area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
        let bins = errors::by_size(&self.set.rows, Size::LatencyUs);
        let ends = bins.iter().flat_map(|bin| [bin.stretch.low * 1.001, bin.stretch.high * 0.999]);
        let axes =
            (Axis::decades(ends, Size::LatencyUs.label()), Axis::linear(0.0, 105.0, "rows inside (%)"));
        let plane = Plane::draw(area, "Coverage of the stated 90 % intervals, by decade", axes, s)?;
        for bin in &bins {
            let (low, high) = (bin.stretch.low * 1.08, bin.stretch.high / 1.08);
            plane.fill((low, 0.0), (high, bin.coverage_percent), CHOSEN.mix(0.45))?;
            let foot = ((low * high).sqrt(), 0.0);
            let n = group_digits(bin.n as u64, THIN_SPACE);
            plane.words_above(foot, 34.0, format!("{:.0} %", bin.coverage_percent), &INK)?;
            plane.words_above(foot, 14.0, format!("{n} rows"), &INK)?;
        }
        plane.line(&[(f64::MIN_POSITIVE, 90.0), (f64::MAX, 90.0)], 1.6, BUDGET.mix(1.0))
    }

    fn by_size(&self, size: Size, area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
        let place = |row: &ScoredRow| size.of(&row.call, row.measured);
        let axes = (
            Axis::decades(self.set.rows.iter().map(place), size.label()),
            Axis::linear(-self.limit, self.limit, "error (%), above 0: too slow"),
        );
        let title = match size {
            Size::LatencyUs => "Error by measured latency",
            Size::Flops => "Error by operations",
            Size::FlopsPerByte => "Error by arithmetic intensity",
            Size::Bytes => "Error by size of the buffer",
        };
        let plane = Plane::draw(area, title, axes, s)?;
        if let Some((_, percent)) = self.spread {
            plane.fill((f64::MIN_POSITIVE, -percent), (f64::MAX, percent), INFEASIBLE.mix(0.45))?;
        }
        plane.dots(
            self.shown.iter().map(|row| (place(row), row.error_percent())),
            2.0,
            DOMINATED.mix(0.6),
        )?;
        plane.line(&[(f64::MIN_POSITIVE, 0.0), (f64::MAX, 0.0)], 1.3, INK.mix(1.0))?;
        for ErrorBin { stretch, p10_error_percent, median_error_percent, p90_error_percent, .. } in
            errors::by_size(&self.set.rows, size)
        {
            let x = (stretch.low * stretch.high).sqrt();
            plane.whisker(x, (p10_error_percent, median_error_percent, p90_error_percent), &FRONT)?;
        }
        Ok(())
    }

    fn distribution(&self, area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
        let mut apes: Vec<f64> = self.set.rows.iter().map(|row| row.error_percent().abs()).collect();
        let at = |apes: &mut Vec<f64>, percent: f64| quantile(apes, percent / 100.0).max(0.01);
        let curve: Vec<(f64, f64)> =
            (0..=200).map(|i| f64::from(i) / 2.0).map(|p| (at(&mut apes, p), p)).collect();
        let axes = (
            Axis::decades(curve.iter().map(|point| point.0), "absolute error (%)"),
            Axis::linear(0.0, 108.0, "rows that err less (%)"),
        );
        let plane = Plane::draw(area, "How many rows err by how much", axes, s)?;
        plane.line(&curve, 2.2, CHOSEN.mix(1.0))?;
        for percent in [50.0, 90.0, 99.0] {
            let error = at(&mut apes, percent);
            plane.whisker(error, (percent, percent, percent), &FRONT)?;
            plane.words_left((error, percent), format!("{percent:.0} % below {error:.1} %"), &INK)?;
        }
        Ok(())
    }
}

/// 1, 2 or 5 times a power of ten, at least `x`.
fn round_up(x: f64) -> f64 {
    let base = 10f64.powf(x.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * base).find(|step| *step >= x).unwrap_or(x)
}
