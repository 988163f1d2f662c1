//! The folder a search leaves never costs other files, is as it was after a failure, and is checked when read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use archplan::model::cards;
use archplan::model::spec::ModelSpec;
use archplan::plan::record::{Outcome, Plan};
use archplan::report::bundle;
use archplan::report::chart::picture::{Picture, XAxis};
use archplan::report::chart::render;
use archplan::report::error::ReportError;

fn fixture(name: &str) -> Plan {
    bundle::read(&Path::new("tests/data/plans").join(name)).unwrap()
}

fn done() -> Plan {
    fixture("two_targets.json")
}

fn parent() -> ModelSpec {
    cards::find("qwen3-8b").unwrap().spec().unwrap()
}

/// Every file below a folder with its bytes.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found
                .extend(contents(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

fn names(dir: &Path) -> Vec<String> {
    contents(dir).into_keys().collect()
}

const ALWAYS: [&str; 6] =
    ["candidates.csv", "front.csv", "front.png", "front.svg", "plan.json", "report.html"];

#[test]
fn an_infeasible_plan_is_drawn_without_a_target_and_replaces_an_older_one() {
    let scratch = tempfile::tempdir().unwrap();
    bundle::write(&done(), &parent(), scratch.path(), false).unwrap();
    let plan = fixture("infeasible.json");
    bundle::write(&plan, &parent(), scratch.path(), false).unwrap();
    assert_eq!(names(scratch.path()), ALWAYS);
    let picture = render::svg(&Picture::new(&plan, XAxis::default_for(&plan), 0)).unwrap();
    assert!(picture.contains("no allowed shape meets the budget") && !picture.contains("chosen"));
}

#[test]
fn a_folder_of_something_else_is_refused_and_forced_without_a_loss() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    // A plan.json that is none of ours does not make it ours.
    for name in ["notes.md", "plan.json"] {
        fs::write(dir.join(name), "{}").unwrap();
    }
    let refused = bundle::write(&done(), &parent(), dir, false);
    assert!(matches!(refused, Err(ReportError::Occupied { .. })), "{refused:?}");
    assert_eq!(names(dir), ["notes.md", "plan.json"]);
    bundle::write(&done(), &parent(), dir, true).unwrap();
    assert_eq!(fs::read_to_string(dir.join("notes.md")).unwrap(), "{}");
    assert_eq!(bundle::read(dir).unwrap(), done());
}

#[test]
fn what_is_in_the_way_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = bundle::write(&done(), &parent(), &file, true);
    assert!(matches!(refused, Err(ReportError::NotAFolder { .. })), "{refused:?}");
    let dir = scratch.path().join("run");
    fs::create_dir_all(dir.join("front.png/mine")).unwrap();
    let refused = bundle::write(&done(), &parent(), &dir, true);
    assert!(
        matches!(&refused, Err(ReportError::Blocked { path }) if path.ends_with("front.png")),
        "{refused:?}"
    );
    assert!(dir.join("front.png/mine").is_dir());
}

#[test]
fn a_failure_leaves_nothing_new_and_the_old_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("run");
    let mut broken = done();
    // No configuration can hold 7 query heads on 2 KV heads.
    let shape = &mut broken.chosen.as_mut().unwrap().shape;
    (shape.q_heads, shape.kv_heads) = (7, 2);
    assert!(bundle::write(&broken, &parent(), &dir, false).is_err());
    assert!(names(scratch.path()).is_empty() && !dir.exists());
    bundle::write(&done(), &parent(), &dir, false).unwrap();
    let before = contents(scratch.path());
    assert!(bundle::write(&broken, &parent(), &dir, true).is_err());
    assert_eq!(contents(scratch.path()), before);
}

/// One change of the text of a plan, and what the error must say.
#[test]
fn a_plan_that_is_none_is_refused_with_place_and_remedy() {
    let text = fs::read_to_string("tests/data/plans/two_targets.json").unwrap();
    let cases = [
        ("\"seed\":", "\"sed\":", "unknown field `sed`, expected one of"),
        ("\"seed\":0", "\"seed\":-1", "line 1 column"),
        ("\"status\":\"done\"", "\"status\":\"infeasible\",\"binding\":[]", "chosen: not expected"),
        ("\"scenarios\":[", "\"scenarios\":[],\"scenarios\":[", "duplicate field `scenarios`"),
        ("\"sample\":[{", "\"sample\":[", "line 1 column"),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("plan.json");
    for (from, to, expected) in cases {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let message = bundle::read(&path).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("archplan search"), "{message}");
    }
    fs::remove_file(&path).unwrap();
    let message = bundle::read(scratch.path()).unwrap_err().to_string();
    assert!(message.contains("plan.json: ") && message.contains("--out DIR"), "{message}");
}

#[test]
fn parts_that_do_not_fit_together_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("plan.json");
    let fault = |change: &dyn Fn(&mut Plan)| {
        let mut plan = done();
        change(&mut plan);
        fs::write(&path, serde_json::to_string(&plan).unwrap()).unwrap();
        bundle::read(&path).unwrap_err().to_string()
    };
    let cases = [
        (fault(&|p| p.scenarios.clear()), "scenarios: there are none"),
        (fault(&|p| p.chosen = None), "chosen: missing"),
        (fault(&|p| p.front[2].metrics.clear()), "front[2]: metrics: 0 entries for 2 scenarios"),
        (fault(&|p| p.sample[1].metrics.clear()), "sample[1]: metrics: 0 entries"),
        (fault(&|p| p.parent.breakdown[0].scenario = 9), "parent: breakdown: scenario 9 of 2"),
        (fault(&|p| p.budgets[0].checks[0].scenario = Some(5)), "budgets: scenario 5 of 2"),
        (fault(&|p| p.parent.metrics[0].ttft_ms.low = 1e9), "parent: an interval does not hold"),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "{message}\n{expected}");
    }
}

/// The plan with every time, rate and size of its sample and parent set to `value`, by turns of either sign.
fn with_values(value: f64) -> Plan {
    let mut plan = done();
    for (i, point) in plan.sample.iter_mut().enumerate() {
        let value = if i % 2 == 0 { value } else { -value };
        point.accuracy_retained_percent = value;
        let m = &mut point.metrics[0];
        (m.ttft_ms, m.tpot_ms, m.latency_ms) = (value, value, value);
        (m.output_tokens_per_s, m.memory_gib) = (value, value);
    }
    let m = &mut plan.parent.metrics[0];
    for e in
        [&mut m.ttft_ms, &mut m.tpot_ms, &mut m.latency_ms, &mut m.output_tokens_per_s, &mut m.memory_gib]
    {
        (e.value, e.low, e.high) = (value, value, value);
    }
    (plan.front, plan.chosen, plan.knee) = (Vec::new(), None, None);
    plan.finalists.clear();
    plan.outcome = Outcome::Infeasible { binding: Vec::new() };
    plan.budgets.clear();
    plan
}

#[test]
fn any_number_a_plan_may_hold_can_be_drawn_and_others_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("plan.json");
    for value in [0.0, -1.0, 1e-300, 1e-9, 1e15] {
        fs::write(&path, serde_json::to_string(&with_values(value)).unwrap()).unwrap();
        let plan = bundle::read(&path).unwrap();
        for (name, axis) in XAxis::ALL {
            let picture = render::svg(&Picture::new(&plan, axis, 0)).unwrap();
            assert!(!picture.contains("NaN"), "{name} {value}");
        }
    }
    for value in [1e16, f64::MAX] {
        fs::write(&path, serde_json::to_string(&with_values(value)).unwrap()).unwrap();
        let message = bundle::read(&path).unwrap_err().to_string();
        assert!(message.contains("is no possible value"), "{message}");
    }
}
