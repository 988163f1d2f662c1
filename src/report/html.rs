//! `report.html`: one self-contained page that draws the plan it carries.

use crate::plan::record::Plan;
use crate::report::error::ReportError;

const TEMPLATE: &str = include_str!("report.html");
const PLAN: &str = "/*PLAN*/null";

/// The page: the template with the plan in its place, as JSON that no markup can break out of.
///
/// # Errors
/// None that a plan could cause.
pub fn page(plan: &Plan) -> Result<String, ReportError> {
    let json = serde_json::to_string(plan)
        .map_err(|e| ReportError::Format { name: "report.html", reason: e.to_string() })?;
    Ok(TEMPLATE.replacen(PLAN, &inert(&json), 1))
}

/// JSON inside a script element: `<`, `>`, `&` and the line separators of JavaScript as escapes.
fn inert(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", c as u32)),
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_markup_breaks_out_of_the_script() {
        let json = serde_json::to_string("</script><!-- & \u{2028}").expect("JSON");
        let inert = inert(&json);
        assert!(!inert.contains(['<', '>', '&', '\u{2028}']));
        let back: String = serde_json::from_str(&inert).expect("JSON still");
        assert_eq!(back, "</script><!-- & \u{2028}");
    }

    #[test]
    fn the_template_has_one_place_for_the_plan_and_asks_for_nothing_from_outside() {
        assert_eq!(TEMPLATE.matches(PLAN).count(), 1);
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            let allowed = TEMPLATE.matches("http://www.w3.org/2000/svg").count();
            let found = TEMPLATE.matches(outside).count();
            assert_eq!(found, if outside == "http://" { allowed } else { 0 }, "{outside}");
        }
    }
}
