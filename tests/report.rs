//! The folder a search leaves, and the pictures in it.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use archplan::hardware::latency::cost::Z90;
use archplan::hardware::latency::kernel_model::device_model::KernelModel;
use archplan::hardware::latency::prediction::Machine;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::cards;
use archplan::model::spec::ModelSpec;
use archplan::model::workload::{Deployment, Load, Workload};
use archplan::plan::budget::Budget;
use archplan::plan::record::{Metric, Outcome, Plan};
use archplan::plan::request::{Request, Target, profile_record};
use archplan::plan::run;
use archplan::quality::interval;
use archplan::quality::prior::{QualityPrior, Recovery};
use archplan::report::bundle;
use archplan::report::chart::picture::{Picture, XAxis};
use archplan::report::chart::render;
use archplan::report::{html, tables};
use archplan::search::space::options::SpaceOptions;
use archplan::units::DType;
use assert_cmd::Command;

fn spec() -> ModelSpec {
    cards::find("qwen3-0.6b").expect("a card").spec().expect("a model")
}

fn search(speedup: &str) -> Plan {
    static PROFILE: OnceLock<(HardwareProfile, KernelModel)> = OnceLock::new();
    let (profile, costs) = PROFILE.get_or_init(|| {
        let profile = HardwareProfile::builtin("a100_sxm").expect("a profile");
        let costs = KernelModel::open(&profile, &[DType::Bf16], &[DType::Bf16]).expect("prices");
        (profile, costs)
    });
    let engine = EngineParameters::built_in("vllm").expect("an engine");
    let (spec, prior) = (spec(), QualityPrior::shipped().expect("the prior"));
    let deployment =
        Deployment { engine: engine.name.clone(), tp: 1, dtype: DType::Bf16, kv_dtype: DType::Bf16 };
    let machine = Machine { costs, hbm: profile.device.hbm, engine: &engine };
    let request = Request {
        spec: &spec,
        targets: vec![Target { profile: profile_record(profile), machine, deployment }],
        workloads: vec![Workload { load: Load::Batch(4), prompt: 512, output: 64 }],
        budgets: vec![Budget::parse(Metric::Speedup, speedup).expect("a budget")],
        confidence: None,
        prior: &prior,
        scores: None,
        recovery: Recovery::STANDARD,
        space: SpaceOptions::default(),
        seed: 0,
        command: "a test".to_string(),
    };
    run::search(&request).expect("a plan")
}

fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| search("1.2x"))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_result_is_whole_and_reads_back() {
    let scratch = tempfile::tempdir().expect("a folder");
    let dir = scratch.path().join("run");
    let written = bundle::write(plan(), &spec(), &dir, false).expect("a result");
    assert_eq!(
        names(&dir),
        [
            "candidates.csv",
            "front.csv",
            "front.png",
            "front.svg",
            "plan.json",
            "report.html",
            "target",
            "target.json"
        ]
    );
    assert!(written.iter().all(|path| path.is_file()));
    assert_eq!(names(scratch.path()), ["run"]);
    assert_eq!(&bundle::read(&dir).expect("the plan"), plan());
    assert_eq!(&bundle::read(&dir.join("plan.json")).expect("the plan"), plan());
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dir.join("target/config.json")).expect("a file"))
            .expect("JSON");
    assert_eq!(config["head_dim"], 128);
    assert_eq!(config["num_hidden_layers"], plan().chosen.as_ref().expect("a shape").shape.layers);
    let png = fs::read(dir.join("front.png")).expect("a picture");
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes([png[at], png[at + 1], png[at + 2], png[at + 3]]);
    assert_eq!((number(16), number(20)), (1200, 800));
}

#[test]
fn the_same_plan_gives_the_same_bytes() {
    let draw = || {
        let picture = Picture::new(plan(), XAxis::Throughput, 0);
        let svg = render::svg(&picture).expect("a picture");
        let csv = [tables::front(plan()), tables::candidates(plan())].map(|table| table.expect("a table"));
        (svg, html::page(plan()).expect("a page"), csv)
    };
    assert_eq!(draw(), draw());
    let scratch = tempfile::tempdir().expect("a folder");
    let png = |name: &str| {
        let path = scratch.path().join(name);
        render::png(&Picture::new(plan(), XAxis::Latency, 0), &path).expect("a picture");
        fs::read(path).expect("a file")
    };
    assert_eq!(png("a.png"), png("b.png"));
    let mut again = search("1.2x");
    again.search.elapsed_s = plan().search.elapsed_s;
    assert_eq!(&again, plan());
}

/// The bytes of `plan.json` but for the clock's, of one run of the tool.
fn plan_bytes(scratch: &Path, threads: &str) -> String {
    Command::cargo_bin("archplan")
        .expect("the binary")
        .current_dir(scratch)
        .env("RAYON_NUM_THREADS", threads)
        .args(["search", "--model", "qwen3-0.6b", "--profile", "a100_sxm", "--batch", "4", "--prompt", "512"])
        .args(["--output", "64", "--speedup", "1.2x", "-q", "--out", "run"])
        .assert()
        .success();
    let text = fs::read_to_string(scratch.join("run/plan.json")).expect("a plan");
    let (before, rest) = text.split_once("\"elapsed_s\":").expect("the clock");
    let (clock, after) = rest.split_once(',').expect("keys after it");
    assert!(clock.parse::<f64>().is_ok_and(|seconds| seconds > 0.0), "{clock}");
    format!("{before}{after}")
}

#[test]
fn the_tool_writes_the_same_plan_on_any_number_of_threads() {
    let scratch = tempfile::tempdir().expect("a folder");
    let first = plan_bytes(scratch.path(), "1");
    for threads in ["1", "4"] {
        assert!(plan_bytes(scratch.path(), threads) == first, "{threads} threads");
    }
}

#[test]
fn a_parent_that_cannot_hold_a_folder_is_an_error_and_stays() {
    let scratch = tempfile::tempdir().expect("a folder");
    let file = scratch.path().join("file");
    fs::write(&file, "kept").expect("a file");
    assert!(bundle::write(plan(), &spec(), &file.join("run"), true).is_err());
    assert_eq!(names(scratch.path()), ["file"]);
    assert_eq!(fs::read_to_string(&file).expect("the file"), "kept");
}

#[test]
fn tables_have_a_row_for_every_shape_and_a_header_with_units() {
    let read = |text: &str| {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header: Vec<String> = reader.headers().expect("a header").iter().map(String::from).collect();
        let rows = reader.records().map(|r| r.expect("a row")).collect::<Vec<_>>();
        assert!(rows.iter().all(|row| row.len() == header.len()));
        (header, rows)
    };
    let (header, rows) = read(&tables::front(plan()).expect("a table"));
    assert_eq!(rows.len(), plan().front.len());
    assert!(header.contains(&"s0_tpot_ms_high".to_string()), "{header:?}");
    let (header, rows) = read(&tables::candidates(plan()).expect("a table"));
    assert_eq!(rows.len(), 3 + plan().finalists.len() + plan().front.len() + plan().sample.len());
    let at = header.iter().position(|name| name == "s0_output_tokens_per_s").expect("the column");
    let parent: f64 = rows[0][at].parse().expect("a number");
    let exact = plan().parent.metrics[0].output_tokens_per_s.value;
    assert!((parent / exact - 1.0).abs() < 1e-6);
}

#[test]
fn an_infeasible_plan_is_drawn_too() {
    let plan = search("50x");
    assert!(matches!(&plan.outcome, Outcome::Infeasible { binding } if !binding.is_empty()));
    let scratch = tempfile::tempdir().expect("a folder");
    let written = bundle::write(&plan, &spec(), &scratch.path().join("run"), false).expect("a result");
    assert!(!written.iter().any(|path| path.ends_with("target.json")));
    for (_, axis) in XAxis::ALL {
        assert!(render::svg(&Picture::new(&plan, axis, 0)).expect("a picture").contains("<svg"));
    }
}

#[test]
fn no_text_of_a_plan_becomes_markup() {
    let hostile = "</script><script>alert(1)</script><!-- ' \" & ]]>";
    let clean = html::page(plan()).expect("a page");
    let mut plan = plan().clone();
    plan.recipe.model.name = hostile.to_string();
    plan.recipe.command = hostile.to_string();
    plan.scenarios[0].name = hostile.to_string();

    let page = html::page(&plan).expect("a page");
    for tag in ["<script", "</script", "<!--"] {
        assert_eq!(page.matches(tag).count(), clean.matches(tag).count(), "{tag}");
    }
    let picture = render::svg(&Picture::new(&plan, XAxis::Throughput, 0)).expect("a picture");
    assert!(!picture.contains("<script") && picture.contains("&lt;script"));
}

#[test]
fn intervals_are_called_what_they_cover() {
    let accuracy = (interval::COVERAGE * 100.0).round();
    let said = format!("90 % intervals of cost, {accuracy} % of accuracy");
    let caption = Picture::new(plan(), XAxis::Throughput, 0).caption.join(" ");
    assert!(caption.contains(&said), "{caption}");
    assert!(html::page(plan()).expect("a page").contains(&said));
    // Two-sided normal quantile that the intervals of cost are built with.
    assert!((Z90 - 1.644_853_6).abs() < 1e-6);
}
