//! The quality prior from outside: it is what its data say, it behaves as a loss must, and its error is known.

use archplan::estimate::Source;
use archplan::model::architecture::{Architecture, LayerShape, Layers};
use archplan::quality::benchmark::Benchmark;
use archplan::quality::cuts::{Axis, Cuts};
use archplan::quality::error::QualityError;
use archplan::quality::prior::{AxisValues, ParentAccuracies, QualityPrior, Recovery};
use archplan::quality::report::{self, QualityReport};
use archplan::quality::table;
use archplan::quality::validation::{self, LeftOut, Method, Regime, Score};
use proptest::prelude::*;

fn prior() -> QualityPrior {
    QualityPrior::shipped().unwrap()
}

fn qwen3_32b() -> Architecture {
    Architecture::uniform(64, 5120, 25600, 64, 8, 128)
}

fn loss(child: &Architecture, recovery: Recovery) -> f64 {
    prior().estimate(&qwen3_32b(), child, recovery).unwrap().loss_increase_nats.value
}

#[test]
fn a_refit_gives_the_shipped_coefficients() {
    let (anew, shipped) = (validation::refit().unwrap(), table::fitted().unwrap());
    assert_eq!(anew.rows, shipped.rows);
    for (a, b) in anew.coefficient.iter().zip(&shipped.coefficient) {
        assert_eq!(a.name, b.name);
        assert!((a.value / b.value - 1.0).abs() < 1e-6, "{}: {} against {}", a.name, a.value, b.value);
    }
    for (a, b) in [
        (anew.interval_scale.retrained, shipped.interval_scale.retrained),
        (anew.interval_scale.barely_retrained, shipped.interval_scale.barely_retrained),
    ] {
        assert!((a / b - 1.0).abs() < 1e-5, "interval: {a} against {b}");
    }
}

fn score(report: &QualityReport, method: Method, left_out: LeftOut, regime: Regime) -> &Score {
    let wanted = |s: &&Score| {
        s.method == method && s.left_out == left_out && s.regime == regime && s.benchmark.is_none()
    };
    report.scores.iter().find(wanted).unwrap()
}

#[test]
fn unseen_children_fall_inside_the_interval_as_often_as_stated_and_rank_better_than_by_size() {
    let report = report::report().unwrap();
    for regime in [Regime::Retrained, Regime::BarelyRetrained] {
        let child = score(&report, Method::Axes, LeftOut::Child, regime);
        assert!(child.coverage_percent >= 100.0 * report.coverage, "{child:?}");
        for left_out in [LeftOut::Child, LeftOut::Parent] {
            let axes = score(&report, Method::Axes, left_out, regime).spearman.unwrap();
            let size = score(&report, Method::SizeOnly, left_out, regime).spearman.unwrap();
            assert!(axes > size, "{left_out:?} {regime:?}: {axes} against {size}");
        }
    }
    for list in report.rankings.iter().filter(|list| list.list.starts_with("qwen3")) {
        assert!(list.axes_spearman > list.published_size_spearman, "{list:?}");
    }
}

#[test]
fn the_parent_loses_nothing() {
    let estimate = prior().estimate(&qwen3_32b(), &qwen3_32b(), Recovery::ONE_SHOT).unwrap();
    let retained = estimate.accuracy_retained_percent;
    assert_eq!((retained.low, retained.value, retained.high), (100.0, 100.0, 100.0));
    assert_eq!(estimate.loss_increase_nats.value, 0.0);
    assert_eq!(estimate.accuracies_percent[&Benchmark::Mmlu].value, 65.3);
}

#[test]
fn everything_it_says_is_a_prior_and_sums_up() {
    let child = Architecture::uniform(56, 4096, 17408, 48, 4, 128);
    let e = prior().estimate(&qwen3_32b(), &child, Recovery::default()).unwrap();
    assert_eq!(e.breakdown.iter().map(|c| c.nats).sum::<f64>(), e.loss_increase_nats.value);
    assert!(e.breakdown.iter().all(|c| c.source == Source::Prior));
    assert!(e.breakdown.iter().filter(|c| c.axis != Axis::Edges).all(|c| c.nats > 0.0));
    let estimates =
        e.accuracies_percent.values().chain([&e.loss_increase_nats, &e.accuracy_retained_percent]);
    for x in estimates {
        assert_eq!(x.source, Source::Prior);
        assert!(x.low < x.value && x.value < x.high, "{x:?}");
    }
}

#[test]
fn axis_tables_sum_to_the_estimate() {
    let values = AxisValues {
        hidden: vec![5120, 4096, 2560],
        ffn: vec![25600, 12800],
        q_heads: vec![64, 40],
        kv_heads: vec![8, 2],
        layers: vec![64, 50, 1],
    };
    for recovery in [Recovery::ONE_SHOT, Recovery::STANDARD] {
        let tables = prior().axis_losses(&qwen3_32b(), &values, recovery).unwrap();
        for (h, hidden) in values.hidden.iter().zip(&tables.hidden) {
            for (l, layers) in values.layers.iter().zip(&tables.layers) {
                let child = Architecture::uniform(*l, *h, 12800, 40, 2, 128);
                let sum = hidden + tables.ffn[1] + tables.q_heads[1] + tables.kv_heads[1] + layers;
                let whole = prior().estimate(&qwen3_32b(), &child, recovery).unwrap();
                assert!((sum - whole.loss_increase_nats.value).abs() <= 1e-12 * sum);
                assert_eq!(
                    prior().retained_percent(whole.loss_increase_nats.value, recovery),
                    whole.accuracy_retained_percent
                );
            }
        }
        assert_eq!(
            [tables.hidden[0], tables.ffn[0], tables.q_heads[0], tables.kv_heads[0], tables.layers[0]],
            [0.0; 5]
        );
    }
}

#[test]
fn ragged_children_sum_over_layers_and_spare_the_edges() {
    let whole = LayerShape { ffn: 25600, q_heads: 64, kv_heads: 8 };
    let without_ffn = LayerShape { ffn: 0, ..whole };
    let with = |at: &[usize], shape: LayerShape| Architecture {
        layers: Layers::PerLayer((0..64).map(|i| if at.contains(&i) { shape } else { whole }).collect()),
        ..qwen3_32b()
    };
    let lasting = Recovery::tokens_b(1e12).unwrap();
    let one = loss(&with(&[30], without_ffn), lasting);
    assert!((loss(&with(&[30, 31, 40], without_ffn), lasting) / one - 3.0).abs() < 1e-3);
    assert!(loss(&with(&[0], without_ffn), lasting) > 10.0 + one);
    assert!(loss(&with(&[63], without_ffn), lasting) > 10.0 + one);
    let half = LayerShape { ffn: 12800, ..whole };
    let all_half = with(&(0..64).collect::<Vec<_>>(), half);
    assert_eq!(loss(&all_half, lasting), loss(&Architecture::uniform(64, 5120, 12800, 64, 8, 128), lasting));
    let parent = with(&[3, 4], half);
    assert_eq!(Cuts::between(&parent, &parent).unwrap(), Cuts::default());
}

#[test]
fn refuses_what_is_no_pruned_model() {
    let estimate =
        |child: Architecture| prior().estimate(&qwen3_32b(), &child, Recovery::default()).unwrap_err();
    let wide = estimate(Architecture::uniform(64, 5121, 25600, 64, 8, 128));
    assert_eq!(wide, QualityError::LargerThanParent { axis: Axis::Hidden, child: 5121, parent: 5120 });
    assert_eq!(
        estimate(Architecture::uniform(0, 5120, 25600, 64, 8, 128)),
        QualityError::Zero { axis: Axis::Layers }
    );
    assert_eq!(
        estimate(Architecture::uniform(64, 5120, 25600, 64, 8, 64)),
        QualityError::HeadDim { child: 64, parent: 128 }
    );
    assert_eq!(
        estimate(Architecture::uniform(64, 5120, 25600, 64, 0, 128)),
        QualityError::HalfAttention { layer: 0, q_heads: 64, kv_heads: 0 }
    );
    assert!(matches!(Recovery::tokens_b(-1.0), Err(QualityError::Recovery { .. })));
    assert!(matches!(Recovery::tokens_b(f64::NAN), Err(QualityError::Recovery { .. })));
    let chance = ParentAccuracies::default().with(Benchmark::Mmlu, 25.0);
    assert!(matches!(chance, Err(QualityError::ParentAccuracy { .. })));
    let ragged = Architecture {
        layers: Layers::PerLayer(vec![
            LayerShape { ffn: 8, q_heads: 1, kv_heads: 1 },
            LayerShape { ffn: 9, q_heads: 1, kv_heads: 1 },
        ]),
        ..qwen3_32b()
    };
    let tables = prior().axis_losses(&ragged, &AxisValues::default(), Recovery::default());
    assert_eq!(tables.unwrap_err(), QualityError::RaggedParent);
}

#[test]
fn defects_of_the_data_files_are_named() {
    let csv = "use,parent,p_layers,p_hidden,p_ffn,p_heads,p_kv,child,layers,hidden,ffn,heads,kv,kd_tokens_b,metric,parent_value,child_value,source\n";
    let row = |end: &str| format!("{csv}fit,a,2,8,8,1,1,b,1,8,8,1,1,{end},here\n");
    assert!(table::parse_samples(&row("0,mmlu,70,60")).is_ok());
    for (end, said) in [
        ("0,mmlu,20,20", "parent_value"),
        ("0,mmlu,70,160", "child_value"),
        ("-1,mmlu,70,60", "kd_tokens_b"),
        ("0,mmmlu,70,60", "mmmlu"),
    ] {
        let error = table::parse_samples(&row(end)).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("line 2"), "{error}");
    }
    let shipped = include_str!("../src/quality/data/coefficients.toml");
    let spoiled =
        |from: &str, to: &str| table::parse_fitted(&shipped.replacen(from, to, 1)).unwrap_err().to_string();
    assert!(spoiled("\"ffn_nats\"", "\"fun_nats\"").contains("fun_nats"));
    assert!(spoiled("\"ffn_nats\"", "\"hidden_nats\"").contains("twice"));
    assert!(spoiled("value = ", "value = -").contains("positive"));
    assert!(spoiled("value = ", "walue = ").contains("line"));
}

#[test]
fn the_command_prints_the_file_of_coefficients_and_json() {
    let stdout = |arguments: &[&str]| {
        let run = assert_cmd::cargo::cargo_bin_cmd!("archplan").args(arguments).assert().success();
        String::from_utf8(run.get_output().stdout.clone()).unwrap()
    };
    let printed = table::parse_fitted(&stdout(&["quality", "--refit"])).unwrap();
    assert_eq!(printed, validation::refit().unwrap());
    let json: serde_json::Value = serde_json::from_str(&stdout(&["quality", "--json"])).unwrap();
    assert_eq!(json["coefficients"].as_array().unwrap().len(), printed.coefficient.len());
    assert!(json["scores"][0]["mean_abs_error_points"].is_number());
}

proptest! {
    #[test]
    fn removing_more_never_helps(
        (l, h, f, g) in (1u64..=64, 1u64..=40, 1u64..=50, 1u64..=8),
        (dl, dh, df, dg) in (0u64..8, 0u64..8, 0u64..8, 0u64..3),
        tokens_b in 0.0..500.0f64,
    ) {
        let shape = |l: u64, h: u64, f: u64, g: u64| Architecture::uniform(l, h * 128, f * 512, g * 8, g, 128);
        let less = |x: u64, d: u64| x.saturating_sub(d).max(1);
        let (big, small) = (shape(l, h, f, g), shape(less(l, dl), less(h, dh), less(f, df), less(g, dg)));
        let recovery = Recovery::tokens_b(tokens_b).unwrap();
        let of = |child: &Architecture, recovery| prior().estimate(&qwen3_32b(), child, recovery).unwrap();
        let (a, b) = (of(&big, recovery), of(&small, recovery));
        prop_assert!(b.loss_increase_nats.value >= a.loss_increase_nats.value);
        for (x, y) in a.accuracies_percent.values().zip(b.accuracies_percent.values()) {
            prop_assert!(y.value <= x.value && y.value.is_finite() && y.low.is_finite() && y.high.is_finite());
        }
        let untrained = of(&big, Recovery::ONE_SHOT);
        prop_assert!(untrained.loss_increase_nats.value >= a.loss_increase_nats.value);
        let loss = b.loss_increase_nats;
        prop_assert!(0.0 <= loss.low && loss.low <= loss.value && loss.value <= loss.high && loss.high.is_finite());
    }
}
