//! Draws a picture with any plotters back end: axes, points, front, budget lines, marks.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::report::chart::marker::{self, BUDGET, CHOSEN, DOMINATED, FADED, FRONT, GRID, INFEASIBLE, INK};
use crate::report::chart::panel;
use crate::report::chart::picture::{BudgetLine, Mark, Picture};

/// Width and height of the picture, in pixels at scale 1.
pub const SIZE: (u32, u32) = (1200, 800);
/// Width of the panel on the right.
const PANEL: u32 = 300;
/// A drawing area in pixels.
pub type Canvas<DB> = DrawingArea<DB, Shift>;
/// What drawing returns.
pub type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;
/// What drawing an SVG returns.
pub(crate) type DrawnSvg = Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Plot<'a, DB> = ChartContext<'a, DB, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Pixels per unit of length, so that one drawing serves every resolution.
#[derive(Clone, Copy)]
pub struct Scale(pub f64);

impl Scale {
    /// `length` in pixels.
    pub fn px(self, length: f64) -> i32 {
        (length * self.0).round() as i32
    }

    /// Text of a height, in pixels of the canvas.
    pub fn font(self, height: f64, bold: bool, colour: &RGBColor) -> TextStyle<'static> {
        let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
        ("sans-serif", height * self.0, style).into_font().color(colour)
    }
}

/// Draws the whole picture on `root`, whose size is [`SIZE`] times `scale`.
pub fn draw<DB: DrawingBackend>(root: &Canvas<DB>, picture: &Picture, scale: Scale) -> Drawn<DB> {
    root.fill(&WHITE)?;
    let header = 52 + 20 * picture.subtitle.len() as u32;
    let caption = 22 + 20 * picture.caption.len() as u32;
    let (top, rest) = root.split_vertically(scale.px(f64::from(header)));
    let (middle, bottom) =
        rest.split_vertically(scale.px(f64::from(SIZE.1.saturating_sub(header + caption))));
    let (left, right) = middle.split_horizontally(scale.px(f64::from(SIZE.0 - PANEL)));
    draw_words(&top, &picture.title, &picture.subtitle, scale)?;
    draw_plot(&left, picture, scale)?;
    panel::draw(&right, picture, scale)?;
    for (i, line) in picture.caption.iter().enumerate() {
        let at = (scale.px(24.0), scale.px(10.0 + 20.0 * i as f64));
        bottom.draw(&Text::new(line.clone(), at, scale.font(13.5, false, &FADED)))?;
    }
    root.present()
}

/// Headline and the lines under it.
pub(crate) fn draw_words<DB: DrawingBackend>(
    area: &Canvas<DB>,
    title: &str,
    lines: &[String],
    s: Scale,
) -> Drawn<DB> {
    area.draw(&Text::new(title.to_string(), (s.px(24.0), s.px(16.0)), s.font(22.0, true, &INK)))?;
    for (i, line) in lines.iter().enumerate() {
        let at = (s.px(24.0), s.px(46.0 + 20.0 * i as f64));
        area.draw(&Text::new(line.clone(), at, s.font(15.0, false, &FADED)))?;
    }
    Ok(())
}

fn draw_plot<DB: DrawingBackend>(area: &Canvas<DB>, picture: &Picture, s: Scale) -> Drawn<DB> {
    let ((x0, x1), (y0, y1)) = picture.frame();
    let mut plot = ChartBuilder::on(area)
        .margin_top(s.px(12.0))
        .margin_right(s.px(16.0))
        .margin_left(s.px(14.0))
        .x_label_area_size(s.px(58.0))
        .y_label_area_size(s.px(74.0))
        .build_cartesian_2d(x0..x1, y0..y1)?;
    let decimals = usize::from(y1 - y0 < 8.0);
    plot.configure_mesh()
        .bold_line_style(GRID.stroke_width(s.px(1.0) as u32))
        .light_line_style(TRANSPARENT)
        .axis_style(FADED.stroke_width(s.px(1.0) as u32))
        .label_style(s.font(14.0, false, &INK))
        .axis_desc_style(s.font(15.5, false, &INK))
        .set_all_tick_mark_size(s.px(5.0))
        .x_labels(9)
        .y_labels(9)
        .x_label_formatter(&|x| tick(*x, x1 - x0))
        .y_label_formatter(&|y| format!("{y:.decimals$}"))
        .x_desc(picture.x_label)
        .y_desc(picture.y_label.clone())
        .draw()?;
    draw_dots(&plot, area, &picture.infeasible, s.px(2.0), INFEASIBLE.mix(0.7))?;
    draw_dots(&plot, area, &picture.dominated, s.px(2.5), DOMINATED.mix(0.75))?;
    for line in &picture.budgets {
        draw_budget(&plot, area, line, (y0, y1), s)?;
    }
    draw_front(&plot, area, picture, s)?;
    for mark in picture.marks() {
        draw_bars(&plot, area, mark, ((x0, x1), (y0, y1)), s)?;
    }
    let at = |mark: &Mark| plot.backend_coord(&(mark.x.value, mark.y.value));
    draw_symbol(area, at(&picture.parent), Symbol::Parent, s)?;
    if let Some(knee) = &picture.knee {
        draw_symbol(area, at(knee), Symbol::Knee, s)?;
    }
    if let Some(chosen) = &picture.chosen {
        draw_symbol(area, at(chosen), Symbol::Chosen, s)?;
    }
    Ok(())
}

/// A tick label with as many decimals as the span needs.
fn tick(value: f64, span: f64) -> String {
    match span {
        s if s >= 8.0 => format!("{value:.0}"),
        s if s >= 0.8 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Pixel coordinates of the whole canvas -> those of `area`.
fn local<DB: DrawingBackend>(area: &Canvas<DB>, (x, y): (i32, i32)) -> (i32, i32) {
    let (left, top) = area.get_base_pixel();
    (x - left, y - top)
}

fn draw_dots<DB: DrawingBackend>(
    plot: &Plot<DB>,
    area: &Canvas<DB>,
    points: &[(f64, f64)],
    radius: i32,
    colour: RGBAColor,
) -> Drawn<DB> {
    for point in points {
        let at = local(area, plot.backend_coord(point));
        area.draw(&Circle::new(at, radius, colour.filled()))?;
    }
    Ok(())
}

fn draw_front<DB: DrawingBackend>(
    plot: &Plot<DB>,
    area: &Canvas<DB>,
    picture: &Picture,
    s: Scale,
) -> Drawn<DB> {
    let at = |x: f64, y: f64| local(area, plot.backend_coord(&(x, y)));
    if picture.monotone {
        let line: Vec<_> = picture.front.iter().map(|&(x, y, _)| at(x, y)).collect();
        area.draw(&PathElement::new(line, FRONT.stroke_width(s.px(2.0) as u32)))?;
    }
    for &(x, y, feasible) in &picture.front {
        area.draw(&Circle::new(at(x, y), s.px(3.5), FRONT.filled()))?;
        if !feasible {
            area.draw(&Circle::new(at(x, y), s.px(2.2), WHITE.filled()))?;
        }
    }
    Ok(())
}

fn draw_budget<DB: DrawingBackend>(
    plot: &Plot<DB>,
    area: &Canvas<DB>,
    line: &BudgetLine,
    (y0, y1): (f64, f64),
    s: Scale,
) -> Drawn<DB> {
    let range = plot.x_range();
    if !range.contains(&line.x) {
        return Ok(());
    }
    let (x, top) = local(area, plot.backend_coord(&(line.x, y1)));
    let (_, bottom) = local(area, plot.backend_coord(&(line.x, y0)));
    for y in (top..bottom).step_by(s.px(10.0).max(1) as usize) {
        let dash = [(x, y), (x, (y + s.px(6.0)).min(bottom))];
        area.draw(&PathElement::new(dash, BUDGET.stroke_width(s.px(2.0) as u32)))?;
    }
    let style = s.font(14.5, true, &BUDGET);
    let (width, height) = area.estimate_text_size(&line.label, &style)?;
    let right_half = line.x > (range.start + range.end) / 2.0;
    let left = if right_half { x - s.px(8.0) - width as i32 } else { x + s.px(8.0) };
    let (edge, y) = (s.px(3.0), bottom - s.px(12.0) - height as i32);
    let box_corners = [(left - edge, y - edge), (left + width as i32 + edge, y + height as i32 + edge)];
    area.draw(&Rectangle::new(box_corners, WHITE.mix(0.85).filled()))?;
    area.draw(&Text::new(line.label.clone(), (left, y), style))
}

fn draw_bars<DB: DrawingBackend>(
    plot: &Plot<DB>,
    area: &Canvas<DB>,
    mark: &Mark,
    (xs, ys): ((f64, f64), (f64, f64)),
    s: Scale,
) -> Drawn<DB> {
    let at = |x: f64, y: f64| local(area, plot.backend_coord(&(x.clamp(xs.0, xs.1), y.clamp(ys.0, ys.1))));
    let (left, right) = (at(mark.x.low, mark.y.value), at(mark.x.high, mark.y.value));
    let (low, high) = (at(mark.x.value, mark.y.low), at(mark.x.value, mark.y.high));
    let goes_on = |v: f64, (low, high): (f64, f64)| !(low..=high).contains(&v);
    let end = |at, toward, goes_on| End { at, toward, goes_on };
    if left.0 != right.0 {
        let ends =
            [end(left, (-1, 0), goes_on(mark.x.low, xs)), end(right, (1, 0), goes_on(mark.x.high, xs))];
        draw_bar(area, ends, s)?;
    }
    if low.1 != high.1 {
        let ends = [end(low, (0, 1), goes_on(mark.y.low, ys)), end(high, (0, -1), goes_on(mark.y.high, ys))];
        draw_bar(area, ends, s)?;
    }
    Ok(())
}

/// One end of an interval.
struct End {
    at: (i32, i32),
    /// Unit step outwards.
    toward: (i32, i32),
    /// The interval goes on beyond the frame: an arrow shows it in place of a cap.
    goes_on: bool,
}

fn draw_bar<DB: DrawingBackend>(area: &Canvas<DB>, ends: [End; 2], s: Scale) -> Drawn<DB> {
    let style = INK.stroke_width(s.px(1.5) as u32);
    let [from, to] = &ends;
    area.draw(&PathElement::new([from.at, to.at], style))?;
    for End { at: (x, y), toward: (dx, dy), goes_on } in ends {
        let (cap, back) = if goes_on { (s.px(6.0), s.px(11.0)) } else { (s.px(5.0), 0) };
        let (x0, y0) = (x - dx * back, y - dy * back);
        let sides = [(x0 - dy * cap, y0 - dx * cap), (x0 + dy * cap, y0 + dx * cap)];
        match goes_on {
            true => area.draw(&Polygon::new([sides[0], (x, y), sides[1]], INK.filled()))?,
            false => area.draw(&PathElement::new(sides, style))?,
        }
    }
    Ok(())
}

/// What stands for a mark.
#[derive(Clone, Copy)]
pub enum Symbol {
    /// The unpruned model.
    Parent,
    /// The knee of the front.
    Knee,
    /// The shape to prune to.
    Chosen,
}

/// Draws a symbol with a white rim around a pixel of the whole canvas.
fn draw_symbol<DB: DrawingBackend>(area: &Canvas<DB>, at: (i32, i32), symbol: Symbol, s: Scale) -> Drawn<DB> {
    draw_symbol_at(area, local(area, at), symbol, s)
}

/// Draws a symbol with a white rim around a pixel of `area`.
pub fn draw_symbol_at<DB: DrawingBackend>(
    area: &Canvas<DB>,
    at: (i32, i32),
    symbol: Symbol,
    s: Scale,
) -> Drawn<DB> {
    let unit = s.0;
    let (rim, body, colour) = match symbol {
        Symbol::Parent => (marker::diamond(at, 11.5 * unit), marker::diamond(at, 9.0 * unit), marker::PARENT),
        Symbol::Knee => (marker::diamond(at, 11.0 * unit), marker::diamond(at, 8.5 * unit), marker::KNEE),
        Symbol::Chosen => (marker::star(at, 17.0 * unit), marker::star(at, 13.0 * unit), CHOSEN),
    };
    area.draw(&Polygon::new(rim, WHITE.filled()))?;
    area.draw(&Polygon::new(body, colour.filled()))
}
