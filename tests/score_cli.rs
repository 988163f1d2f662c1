//! `archplan score`, `search --scores`, `ask`, `try`, `tell` and `study` on the trained fixture.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn fixture(name: &str) -> String {
    format!("{}/tests/data/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn archplan(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_archplan")).args(arguments.split_whitespace()).output().unwrap()
}

fn done(arguments: &str) -> String {
    let output = archplan(arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The error of a command that must be refused with exit code 2.
fn refused(arguments: &str) -> String {
    let output = archplan(arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments}: {told}");
    assert!(told.contains("error: ") && !told.contains("panicked"), "{told}");
    told
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { scratch: tempfile::tempdir().unwrap() };
        let (model, data, out) =
            (fixture("plain"), fixture("calibration-1.jsonl"), place.text("stats.safetensors"));
        done(&format!("calibrate -q --model {model} --data {data} --samples 16 --seq-len 64 --out {out}"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Parent, statistics and texts of all commands here.
    fn bench(&self) -> String {
        format!(
            "--model {} --importance {} --data {} --samples 6 --seq-len 64 --repair-samples 8",
            fixture("plain"),
            self.text("stats.safetensors"),
            fixture("heldout.jsonl")
        )
    }

    fn score(&self, out: &str, more: &str) -> Output {
        archplan(&format!(
            "score -q {} --ffn-keep 75%,50% --kv-keep 50% --runs 2 --hidden-keep 75%,50% {more} --out {}",
            self.bench(),
            self.text(out)
        ))
    }

    fn scored(&self) -> String {
        self.scored_with("--repair least-squares")
    }

    fn scored_with(&self, more: &str) -> String {
        let output = self.score("scores.csv", more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.text("scores.csv")
    }

    fn search(&self, more: &str) -> String {
        format!(
            "search -q --model {} --profile h200_sxm --batch 4 --prompt 128 --output 32 --speedup 1.05x \
             --multiple hidden=16,ffn=32 --bounds layers=6..8 --scores {} {more}",
            fixture("plain"),
            self.text("scores.csv")
        )
    }
}

#[test]
fn parts_add_up_to_one_run_and_interrupted_ones_go_on() {
    let place = Place::new();
    let whole = fs::read(place.scored()).unwrap();
    for part in 0..3 {
        assert!(
            place
                .score(&format!("part{part}.csv"), &format!("--repair least-squares --shard {part}/3"))
                .status
                .success()
        );
    }
    let [a, b, c] = ["part2.csv", "part0.csv", "part1.csv"].map(|name| place.text(name));
    done(&format!("score merge {} {a} {b} {c}", place.text("sum.csv")));
    let sum = fs::read_to_string(place.path("sum.csv")).unwrap();
    let rows = |text: &str| text.split_once('\n').unwrap().1.to_string();
    assert_eq!(
        rows(&sum),
        rows(std::str::from_utf8(&whole).unwrap()),
        "three parts are one run, bit for bit"
    );
    assert!(refused(&format!("score merge {} {a} {a}", place.text("no.csv"))).contains("twice"));
    fs::copy(&a, place.path("scores.csv")).unwrap();
    assert!(refused(&place.search("")).contains("merge all parts first"));

    // Half of the rows are there already.
    let text = String::from_utf8(whole.clone()).unwrap();
    let rows: Vec<&str> = text.lines().collect();
    let half = rows[..rows.len() / 2].join("\n") + "\n";
    fs::write(place.path("again.csv.partial"), &half).unwrap();
    let again = place.score("again.csv", "--repair least-squares");
    assert!(again.status.success());
    assert_eq!(fs::read(place.path("again.csv")).unwrap(), whole, "taken up, it ends in the same bytes");
    assert!(!place.path("again.csv.partial").exists());
    fs::write(place.path("other.csv.partial"), half.replace("\"samples\":6", "\"samples\":5")).unwrap();
    let told = String::from_utf8(place.score("other.csv", "--repair least-squares").stderr).unwrap();
    assert!(told.contains("text differs") && told.contains("delete it"), "{told}");
}

/// Without a repair: a whole child's later layers are refitted, too, to make up for what the cut ones miss.
#[test]
fn the_score_of_a_dropped_run_is_what_the_pruned_child_loses() {
    let place = Place::new();
    let scores: Value =
        serde_json::from_str(&done(&format!("score show {} --json", place.scored_with("--repair none"))))
            .unwrap();
    let score = |wanted: Value| {
        let rows = scores["scores"].as_array().unwrap();
        let row = rows.iter().find(|row| row["change"] == wanted).unwrap_or_else(|| panic!("{wanted}"));
        row["delta_nll"]["mean"].as_f64().unwrap()
    };
    let asked = |layers: u64, hidden: u64, kept: Vec<u64>| {
        json!({
            "id": format!("{layers} {hidden} {kept:?}"), "kept": kept,
            "architecture": {"hidden": hidden, "head_dim": 16, "layers": {"uniform": {
                "count": layers, "shape": {"ffn": 320, "q_heads": 8, "kv_heads": 4}}}}
        })
        .to_string()
    };
    let children = [
        (asked(7, 128, vec![0, 1, 2, 4, 5, 6, 7]), json!({"kind": "drop", "first": 3, "count": 1})),
        (asked(6, 128, vec![0, 1, 2, 3, 4, 7]), json!({"kind": "drop", "first": 5, "count": 2})),
        (asked(6, 128, vec![2, 3, 4, 5, 6, 7]), json!({"kind": "drop", "first": 0, "count": 2})),
        (asked(8, 96, (0..8).collect()), json!({"kind": "hidden", "hidden": 96})),
    ];
    let text: Vec<&str> = children.iter().map(|(asked, _)| asked.as_str()).collect();
    fs::write(place.path("asked.jsonl"), text.join("\n")).unwrap();
    let told = lines(&done(&format!("try -q {} {}", place.text("asked.jsonl"), place.bench())));
    for ((_, change), told) in children.iter().zip(told) {
        let (scored, tried) = (score(change.clone()), told["loss_increase_nats"].as_f64().unwrap());
        // The suffix alone against the whole child: the same sums in f32, in another order.
        assert!(
            (scored - tried).abs() < 1e-4 * tried.abs().max(0.1),
            "{change}: scored {scored}, tried {tried}"
        );
    }
}

#[test]
fn a_search_by_scores_tries_its_best_and_goes_on_where_it_was() {
    let place = Place::new();
    let scores = place.scored();
    let run = place.text("run");
    let search =
        place.search(&format!("--importance {} --out {run} --force --json", place.text("stats.safetensors")));
    let plan: Value = serde_json::from_str(&done(&format!("{search} --try 3"))).unwrap();
    assert_eq!(plan["chosen"]["quality"]["loss_increase_nats"]["source"], "measured");
    assert_eq!(plan["finalists"][0]["candidate"]["quality"]["loss_increase_nats"]["source"], "scores");
    let tried = plan["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 3);
    let loss = |of: &Value| of["quality"]["loss_increase_nats"]["value"].as_f64().unwrap();
    let least = tried.iter().map(|t| loss(&t["candidate"])).fold(f64::INFINITY, f64::min);
    assert_eq!(loss(&plan["chosen"]), least, "the least loss of those tried");
    assert!(tried.iter().all(|t| t["candidate"]["feasible"] == true));
    let study = fs::read_to_string(place.path("run/study.jsonl")).unwrap();
    // Enough are there: nothing more is tried, and the plan is the same.
    let again: Value = serde_json::from_str(&done(&format!("{search} --try 3"))).unwrap();
    assert_eq!(again["tried"], plan["tried"]);
    // Killed while the fourth was being measured: asked for and never told, and half a line.
    fs::write(place.path("run/study.jsonl"), study + "{\"asked\":{\"id\":").unwrap();
    let more: Value = serde_json::from_str(&done(&format!("{search} --try 4"))).unwrap();
    assert_eq!(more["tried"].as_array().unwrap().len(), 4);
    // Other scores are another study.
    fs::write(&scores, fs::read_to_string(&scores).unwrap().replace("archplan 0", "archplan  0")).unwrap();
    assert!(refused(&format!("{search} --try 4")).contains("another file of scores"));
}

#[test]
fn layers_of_their_own_may_meet_a_budget_that_no_uniform_shape_does() {
    let place = Place::new();
    place.scored();
    let search = |more: &str| {
        let wide = place.search(more).replace("--speedup 1.05x", "--max-params 800K");
        wide.replace("--bounds layers=6..8", "--skip hidden,layers,q_heads,kv_heads")
    };
    assert_eq!(archplan(&search("")).status.code(), Some(3));
    let out = place.text("layered");
    let plan: Value =
        serde_json::from_str(&done(&search(&format!("--per-layer --json --out {out}")))).unwrap();
    assert!(plan["per_layer"]["found"]["params"].as_u64().unwrap() <= 800_000, "{plan}");
    let target: Value =
        serde_json::from_str(&fs::read_to_string(place.path("layered").join("target.json")).unwrap())
            .unwrap();
    let ffn: Vec<u64> =
        target["layers"].as_array().unwrap().iter().map(|layer| layer["ffn"].as_u64().unwrap()).collect();
    assert!(ffn.len() == 8 && ffn.contains(&0), "{ffn:?}");
}

#[test]
fn many_workers_ask_at_once_and_what_they_tell_is_learned_from() {
    let place = Place::new();
    place.scored();
    let study = place.text("study.jsonl");
    done(&place.search(&format!("--study {study}")));
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            Command::new(env!("CARGO_BIN_EXE_archplan"))
                .args(["ask", "--study", &study, "--count", "3", "--worker", &format!("w{worker}")])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut asked = Vec::new();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success());
        asked.extend(lines(&String::from_utf8(output.stdout).unwrap()));
    }
    let ids: BTreeSet<&str> = asked.iter().map(|asked| asked["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 12, "nobody is handed what another was");
    // A made-up truth: the sum of the scores and half as much again.
    let told: Vec<String> = asked
        .iter()
        .map(|asked| {
            let nats = 1.5 * asked["predicted"]["loss_increase_nats"].as_f64().unwrap();
            json!({"id": asked["id"], "loss_increase_nats": nats, "standard_error": 0.001}).to_string()
        })
        .collect();
    fs::write(place.path("told.jsonl"), told.join("\n")).unwrap();
    let said = done(&format!("tell {} --study {study}", place.text("told.jsonl")));
    assert!(said.contains("12 told; 12 tried, 0 pending"), "{said}");
    let shown: Value = serde_json::from_str(&done(&format!("study {study} --json"))).unwrap();
    let error = |of: &str| shown["validation"][of]["mean_error_nats"].as_f64().unwrap();
    assert!(error("estimator") < 0.5 * error("scores"), "{}", shown["validation"]);
    // What is not known, or says nothing, is refused, and nothing of it is taken.
    let id = asked[0]["id"].as_str().unwrap();
    for (line, problem) in [
        (json!({"id": format!("{id}x"), "loss_increase_nats": 1.0}).to_string(), "did you mean"),
        (json!({"id": id}).to_string(), "either loss_increase_nats or failed"),
        ("{".to_string(), "line 2"),
    ] {
        let good = json!({"id": id, "loss_increase_nats": 9.0}).to_string();
        fs::write(place.path("bad.jsonl"), format!("{good}\n{line}\n")).unwrap();
        let before = fs::read(&study).unwrap();
        let said = refused(&format!("tell {} --study {study}", place.text("bad.jsonl")));
        assert!(said.contains(problem), "{said}");
        assert_eq!(fs::read(&study).unwrap(), before);
    }
}
