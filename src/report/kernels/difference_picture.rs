//! The picture of one set of calls on two profiles: ratio by size, distribution.

use plotters::prelude::*;

use crate::hardware::comparison::difference::PairSet;
use crate::hardware::comparison::errors::Size;
use crate::hardware::comparison::ratios::{Pair, RatioSummary};
use crate::hardware::comparison::stretch;
use crate::hardware::latency::accuracy::quantile;
use crate::report::chart::draw::{Canvas, DrawnSvg, Scale};
use crate::report::chart::marker::{CHOSEN, DOMINATED, FRONT, INK};
use crate::report::chart::plane::{Axis, Plane};
use crate::report::error::ReportError;
use crate::report::kernels::difference::{DifferenceReport, Named};
use crate::report::kernels::errors::set_name;
use crate::report::kernels::sheet::Sheet;
use crate::units::{THIN_SPACE, group_digits};

/// Most calls drawn as dots.
const MOST_DOTS: usize = 2_000;

/// The picture.
pub(crate) fn svg(report: &DifferenceReport, set: &PairSet) -> Result<String, ReportError> {
    let (a, b) = (&report.summary.a, &report.summary.b);
    let of = RatioSummary::of(&set.pairs);
    let count = |n: usize| group_digits(n as u64, THIN_SPACE);
    let title = format!("{}: {} (B) against {} (A)", set_name(set.family, set.dtype), b.name, a.name);
    let sheet = Sheet {
        title,
        subtitle: vec![
            format!("A: {}. B: {}.", words(a), words(b)),
            format!(
                "{} compared: {}. B / A: median {:.3}, 10th to 90th percentile {:.3} to {:.3}, geometric mean {:.3}.",
                count(of.n),
                set.basis,
                of.median_ratio,
                of.p10_ratio,
                of.p90_ratio,
                of.geometric_mean_ratio
            ),
        ],
        caption: vec![
            format!(
                "Below 1 B is faster. B is faster on {:.0} % and slower on {:.0} % of the calls by more than both may be off ({}).",
                of.faster_percent,
                of.slower_percent,
                off_words(set, &of)
            ),
            format!(
                "Dots: {}. Bars: 10th to 90th percentile of all calls of that stretch, orange: their median. archplan {}.",
                match of.n > MOST_DOTS {
                    true => format!("{} of {} calls, by a fixed hash", count(MOST_DOTS), count(of.n)),
                    false => format!("all {} calls", count(of.n)),
                },
                env!("CARGO_PKG_VERSION")
            ),
        ],
        rows: 2,
    };
    let drawing = Drawing::of(set);
    Ok(sheet.svg(|place, area, s| drawing.paint(place, area, s))?)
}

fn words(profile: &Named) -> String {
    format!("{}, {}", profile.device, profile.stack)
}

/// What "off" means for a set.
pub(crate) fn off_words(set: &PairSet, of: &RatioSummary) -> String {
    match (set.both, of.n_with_spread) {
        (0, _) => "their 90 % intervals".to_string(),
        (_, 0) => "no row states the spread of its repeats: any difference counts".to_string(),
        (_, n) if n == of.n => "the spread of their repeats".to_string(),
        (_, n) => format!(
            "the spread of their repeats, stated by both for {n} calls; elsewhere any difference counts"
        ),
    }
}

struct Drawing<'a> {
    set: &'a PairSet,
    shown: Vec<&'a Pair>,
    /// Ends of the axis of ratios.
    range: (f64, f64),
}

impl<'a> Drawing<'a> {
    fn of(set: &'a PairSet) -> Self {
        let drawn = stretch::pick(set.pairs.len(), MOST_DOTS);
        let mut ratios: Vec<f64> = set.pairs.iter().map(Pair::ratio).collect();
        let (low, high) = (quantile(&mut ratios, 0.005).min(1.0), quantile(&mut ratios, 0.995).max(1.0));
        let pad = ((high - low) * 0.06).max(0.01);
        Self {
            set,
            shown: drawn.into_iter().filter_map(|i| set.pairs.get(i)).collect(),
            range: ((low - pad).max(0.0), high + pad),
        }
    }

    fn paint(&self, place: usize, area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
        let sizes = Size::of_family(self.set.family);
        match (place, sizes.get(place)) {
            (_, Some(size)) => self.by_size(*size, area, s),
            (_, None) if place == sizes.len() => self.distribution(area, s),
            _ => Ok(()),
        }
    }

    fn by_size(&self, size: Size, area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
        let place = |pair: &Pair| size.of(&pair.call, pair.a.latency);
        let (title, label) = match size {
            Size::LatencyUs => ("Ratio by latency on A", "latency on A (µs)"),
            Size::Flops => ("Ratio by operations", size.label()),
            Size::FlopsPerByte => ("Ratio by arithmetic intensity", size.label()),
            Size::Bytes => ("Ratio by size of the buffer", size.label()),
        };
        let axes = (
            Axis::decades(self.set.pairs.iter().map(place), label),
            Axis::linear(self.range.0, self.range.1, "B / A"),
        );
        let plane = Plane::draw(area, title, axes, s)?;
        plane.dots(self.shown.iter().map(|pair| (place(pair), pair.ratio())), 2.0, DOMINATED.mix(0.6))?;
        plane.line(&[(f64::MIN_POSITIVE, 1.0), (f64::MAX, 1.0)], 1.3, INK.mix(1.0))?;
        let dealt = stretch::deal(self.set.pairs.iter().map(|pair| (place(pair), pair)), size.per_decade());
        for (stretch, pairs) in dealt {
            let of = RatioSummary::of(pairs);
            let x = (stretch.low * stretch.high).sqrt();
            plane.whisker(x, (of.p10_ratio, of.median_ratio, of.p90_ratio), &FRONT)?;
        }
        Ok(())
    }

    fn distribution(&self, area: &Canvas<SVGBackend>, s: Scale) -> DrawnSvg {
        let mut ratios: Vec<f64> = self.set.pairs.iter().map(Pair::ratio).collect();
        let shares = (0..=200).map(|i| f64::from(i) / 2.0);
        let curve: Vec<(f64, f64)> = shares.map(|p| (quantile(&mut ratios, p / 100.0), p)).collect();
        let axes = (
            Axis::linear(self.range.0, self.range.1, "B / A"),
            Axis::linear(0.0, 100.0, "calls with less (%)"),
        );
        let plane = Plane::draw(area, "How many calls changed by how much", axes, s)?;
        plane.line(&[(1.0, 0.0), (1.0, 100.0)], 1.3, INK.mix(1.0))?;
        plane.line(&curve, 2.2, CHOSEN.mix(1.0))
    }
}
