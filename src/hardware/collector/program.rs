//! The program: its parts joined, its settings put in.

use serde_json::{Value, json};

use crate::hardware::collector::datasheet::{self, DatasheetError};
use crate::hardware::collector::point::Point;
use crate::hardware::collector::target::Target;
use crate::units::Seconds;

/// In the order in which they are joined.
const PARTS: [&str; 7] = [
    include_str!("python/points.py"),
    include_str!("python/device.py"),
    include_str!("python/kernels.py"),
    include_str!("python/meter.py"),
    include_str!("python/journal.py"),
    include_str!("python/profile.py"),
    include_str!("python/main.py"),
];

/// Where the settings go: inside a raw string of three double quotes. JSON never has three of those in a row, and
/// never ends in a backslash.
const MARKER: &str = "@SETTINGS@";

/// The text of the program for a device, these points and, if given, a limit on its time.
///
/// # Errors
/// Data that is built in is broken.
pub fn text(target: Target, points: &[Point], budget: Option<Seconds>) -> Result<String, DatasheetError> {
    let settings = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": target.name(),
        "budget_s": budget.map(|budget| budget.0),
        "tile": target.tile(),
        "datasheets": datasheet::all()?,
        "points": points.iter().map(|point| point.to_json()).collect::<Vec<Value>>(),
    });
    Ok(PARTS.join("\n\n").replacen(MARKER, &wrapped(&settings.to_string()), 1))
}

/// Lines of some hundred bytes, for editors' sake; JSON may be broken after a comma between lists.
fn wrapped(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut length = 0;
    for part in text.split_inclusive("],") {
        lines.push_str(part);
        length += part.len();
        if length > 400 {
            lines.push('\n');
            length = 0;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_wrapping() {
        let points: Vec<Point> = (1..500).map(|bytes| Point::Copy { bytes }).collect();
        let program = text(Target::Npu, &points, Some(Seconds(90.0))).unwrap();
        assert!(!program.contains(MARKER));
        let start = program.find("json.loads(r\"\"\"").unwrap() + 15;
        let end = start + program[start..].find("\"\"\")").unwrap();
        let settings: Value = serde_json::from_str(&program[start..end]).unwrap();
        assert_eq!(settings["points"].as_array().unwrap().len(), 499);
        assert_eq!((settings["budget_s"].as_f64(), settings["device"].as_str()), (Some(90.0), Some("npu")));
    }

    #[test]
    fn each_part_is_short() {
        for part in PARTS {
            assert!(part.lines().count() <= 300 && part.lines().all(|line| line.len() <= 140));
        }
    }
}
