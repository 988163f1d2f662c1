//! A sheet of small plots in two columns under a headline, with words below.

use plotters::prelude::*;

use crate::report::chart::draw::{self, Canvas, DrawnSvg, Scale};
use crate::report::chart::marker::FADED;
use crate::report::chart::render::{self, RenderError};

/// Width of a sheet, in pixels.
const WIDTH: u32 = 1200;
/// Height of a row of plots.
const ROW: u32 = 360;

/// Words of a sheet.
pub(crate) struct Sheet {
    pub(crate) title: String,
    /// Lines under the title.
    pub(crate) subtitle: Vec<String>,
    /// Lines under the plots.
    pub(crate) caption: Vec<String>,
    /// Rows of two plots each.
    pub(crate) rows: u32,
}

impl Sheet {
    /// The sheet as SVG; `paint` draws the plot of each place, counted along the rows from 0.
    pub(crate) fn svg(
        &self,
        paint: impl Fn(usize, &Canvas<SVGBackend>, Scale) -> DrawnSvg,
    ) -> Result<String, RenderError> {
        let header = 56 + 20 * self.subtitle.len() as u32;
        let footer = 20 + 19 * self.caption.len() as u32;
        let size = (WIDTH, header + ROW * self.rows + footer);
        let s = Scale(1.0);
        render::svg_of(size, |root| {
            root.fill(&WHITE)?;
            let (top, rest) = root.split_vertically(header);
            let (middle, bottom) = rest.split_vertically(ROW * self.rows);
            draw::draw_words(&top, &self.title, &self.subtitle, s)?;
            for (i, area) in middle.split_evenly((self.rows as usize, 2)).iter().enumerate() {
                paint(i, area, s)?;
            }
            for (i, line) in self.caption.iter().enumerate() {
                let at = (s.px(24.0), s.px(8.0 + 19.0 * i as f64));
                bottom.draw(&Text::new(line.clone(), at, s.font(13.5, false, &FADED)))?;
            }
            Ok(())
        })
    }
}
