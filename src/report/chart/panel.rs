//! The panel beside the plot: a legend that covers no data, and the marked shapes in words.

use plotters::prelude::*;

use crate::report::chart::draw::{self, Canvas, Drawn, Scale, Symbol};
use crate::report::chart::marker::{BUDGET, DOMINATED, FADED, FRONT, INFEASIBLE, INK};
use crate::report::chart::picture::{Mark, Picture};
use crate::units;

const LINE: f64 = 19.0;

/// Draws the panel from the top of `area` down.
pub fn draw<DB: DrawingBackend>(area: &Canvas<DB>, picture: &Picture, s: Scale) -> Drawn<DB> {
    let mut y = 20.0;
    for entry in entries(picture) {
        entry.key.draw(area, (s.px(20.0), s.px(y + 7.0)), s)?;
        area.draw(&Text::new(entry.words, (s.px(40.0), s.px(y)), s.font(14.0, false, &INK)))?;
        y += 23.0;
    }
    y += 12.0;
    let blocks = [
        ("chosen", picture.chosen.as_ref(), Symbol::Chosen),
        ("parent", Some(&picture.parent), Symbol::Parent),
        ("knee of the front", picture.knee.as_ref(), Symbol::Knee),
    ];
    for (name, mark, symbol) in blocks.into_iter().filter_map(|(n, m, s)| m.map(|m| (n, m, s))) {
        draw::draw_symbol_at(area, (s.px(20.0), s.px(y + 8.0)), symbol, s)?;
        area.draw(&Text::new(name, (s.px(40.0), s.px(y)), s.font(15.0, true, &INK)))?;
        y += LINE + 2.0;
        for line in words(mark, picture) {
            area.draw(&Text::new(line, (s.px(40.0), s.px(y)), s.font(13.5, false, &FADED)))?;
            y += LINE;
        }
        y += 8.0;
    }
    Ok(())
}

/// How an entry of the legend is marked.
enum Key {
    Dot(RGBColor),
    Ring(RGBColor),
    Dash(RGBColor),
    Bars,
}

impl Key {
    fn draw<DB: DrawingBackend>(&self, area: &Canvas<DB>, (x, y): (i32, i32), s: Scale) -> Drawn<DB> {
        let (r, w) = (s.px(4.5), s.px(9.0));
        match self {
            Key::Dot(colour) => area.draw(&Circle::new((x, y), r, colour.filled())),
            Key::Ring(colour) => {
                area.draw(&Circle::new((x, y), r, colour.filled()))?;
                area.draw(&Circle::new((x, y), s.px(2.6), WHITE.filled()))
            }
            Key::Dash(colour) => {
                let style = colour.stroke_width(s.px(2.0) as u32);
                area.draw(&PathElement::new([(x - w, y), (x - s.px(2.0), y)], style))?;
                area.draw(&PathElement::new([(x + s.px(2.0), y), (x + w, y)], style))
            }
            Key::Bars => {
                let style = INK.stroke_width(s.px(1.5) as u32);
                area.draw(&PathElement::new([(x - w, y), (x + w, y)], style))?;
                area.draw(&PathElement::new([(x - w, y - r), (x - w, y + r)], style))?;
                area.draw(&PathElement::new([(x + w, y - r), (x + w, y + r)], style))
            }
        }
    }
}

struct Entry {
    key: Key,
    words: String,
}

fn entries(picture: &Picture) -> Vec<Entry> {
    let met = picture.front.iter().filter(|p| p.2).count();
    let missed = picture.front.len() - met;
    let counted =
        |words: &str, n: usize| format!("{words} ({})", units::group_digits(n as u64, units::THIN_SPACE));
    let with_budget = !picture.plan.budgets.is_empty();
    let mut entries = Vec::new();
    let mut add = |show: bool, key: Key, words: String| {
        if show {
            entries.push(Entry { key, words });
        }
    };
    let front_words = if with_budget { "on the front, meets the budget" } else { "on the front" };
    add(met > 0, Key::Dot(FRONT), counted(front_words, met));
    add(missed > 0, Key::Ring(FRONT), counted("on the front, over budget", missed));
    let dominated = picture.dominated.len();
    add(dominated > 0, Key::Dot(DOMINATED), counted("feasible, dominated: sample", dominated));
    let infeasible = picture.infeasible.len();
    add(infeasible > 0, Key::Dot(INFEASIBLE), counted("infeasible: sample", infeasible));
    let ((low, high), _) = picture.frame();
    let drawn = picture.budgets.iter().any(|line| (low..=high).contains(&line.x));
    let beyond = !drawn && !picture.budgets.is_empty();
    add(drawn, Key::Dash(BUDGET), "budget".into());
    add(beyond, Key::Dash(BUDGET), "budget: beyond the picture".into());
    add(true, Key::Bars, "interval (arrow: goes on)".into());
    entries
}

fn words(mark: &Mark, picture: &Picture) -> Vec<String> {
    let shape = &mark.candidate.shape;
    let range = |low: f64, high: f64| format!("{}–{}", units::three_digits(low), units::three_digits(high));
    let retained = format!("{:.1} % accuracy retained", mark.y.value);
    let interval = |show: bool, low: f64, high: f64| {
        if show { format!(" ({low:.1}–{high:.1})") } else { String::new() }
    };
    let x = picture.axis.format(mark.x.value);
    let x_range = if mark.x.high > mark.x.low {
        format!(" ({})", range(mark.x.low, mark.x.high))
    } else {
        String::new()
    };
    vec![
        format!("{} layers, {} parameters", shape.layers, units::format_count(mark.candidate.params as f64)),
        format!("hidden {}, FFN {}", shape.hidden, shape.ffn),
        format!("heads {}/{} × {}", shape.q_heads, shape.kv_heads, shape.head_dim),
        format!("{x}{x_range}"),
        retained + &interval(mark.y.high > mark.y.low, mark.y.low, mark.y.high),
    ]
}
