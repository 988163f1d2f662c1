//! Self-contained pages that draw the data they carry: one shell, one style, one script of shared parts.

use std::path::Path;

use crate::plan::record::Plan;
use crate::report::error::ReportError;

const SHELL: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SHARED: &str = include_str!("page/page.js");

/// What a page shows besides its data.
pub(crate) struct Page {
    /// File it is written to, for errors.
    pub(crate) name: &'static str,
    /// What it is, for the title until the script has set one; tells pages of ours apart.
    pub(crate) kind: &'static str,
    /// Its own script, run after the shared one, which draws `data`.
    pub(crate) script: &'static str,
}

const PLAN: Page = Page {
    name: "report.html",
    kind: "report",
    script: concat!(include_str!("page/tries.js"), include_str!("page/plan.js")),
};

/// The page of a plan.
///
/// # Errors
/// None that a plan could cause.
pub fn page(plan: &Plan) -> Result<String, ReportError> {
    PLAN.with(plan)
}

impl Page {
    /// The page with its data in place, as JSON that no markup can break out of.
    pub(crate) fn with(&self, data: &impl serde::Serialize) -> Result<String, ReportError> {
        let failed = |e: serde_json::Error| ReportError::Format { name: self.name, reason: e.to_string() };
        let json = inert(&serde_json::to_string(data).map_err(failed)?);
        let scripts = format!("{SHARED}\n{}", self.script);
        // The data last: whatever stands in it is left alone.
        Ok(SHELL
            .replace("/*KIND*/", self.kind)
            .replacen("/*STYLE*/", STYLE, 1)
            .replacen("/*SCRIPT*/", &scripts, 1)
            .replacen("/*DATA*/null", &json, 1))
    }

    /// Whether a folder holds a page of this kind.
    pub(crate) fn is_in(&self, dir: &Path) -> bool {
        std::fs::read_to_string(dir.join(self.name)).is_ok_and(|text| text.contains(&self.mark()))
    }

    /// What a page of this kind holds and no other.
    fn mark(&self) -> String {
        format!("<meta name=\"generator\" content=\"archplan {}\">", self.kind)
    }
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
    fn a_page_holds_its_data_once_and_asks_for_nothing_from_outside() {
        let page = PLAN.with(&"/*DATA*/null /*SCRIPT*/").expect("a page");
        assert!(page.contains("const data = \"/*DATA*/null /*SCRIPT*/\";") && page.contains(&PLAN.mark()));
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            let allowed = page.matches("http://www.w3.org/2000/svg").count();
            let found = page.matches(outside).count();
            assert_eq!(found, if outside == "http://" { allowed } else { 0 }, "{outside}");
        }
    }
}
