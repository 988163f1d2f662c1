//! Scores written, read, looked up; files that are none.

use proptest::prelude::*;

use crate::model::architecture::{Architecture, LayerShape, Layers};
use crate::quality::scores::error::ScoresError;
use crate::quality::scores::file::FORMAT;
use crate::quality::scores::table::{Child, Table};
use crate::quality::scores::{Change, Header, Measured, Score, Scores, TextRecord};

const OWN: LayerShape = LayerShape { ffn: 32, q_heads: 8, kv_heads: 4 };

/// A parent of four layers, each scored at a few sizes; layer n loses n + 1 times what layer 0 does.
fn scores() -> Scores {
    let mut rows = Vec::new();
    let mut add = |change, mean: f64| {
        let of = |mean| Measured { mean, standard_error: Some(0.001) };
        rows.push(Score { change, delta_nll: of(mean), kl: of(mean), hidden_distance: None });
    };
    for layer in 0..4 {
        let times = (layer + 1) as f64;
        for (shape, mean) in [
            (LayerShape { ffn: 16, ..OWN }, 0.02),
            (LayerShape { ffn: 0, ..OWN }, 0.1),
            (LayerShape { q_heads: 4, kv_heads: 2, ..OWN }, 0.04),
            (LayerShape { q_heads: 0, kv_heads: 0, ..OWN }, 0.2),
            (LayerShape { q_heads: 4, ..OWN }, 0.01),
        ] {
            add(Change::Layer { layer, shape }, times * mean);
        }
        add(Change::Drop { first: layer, count: 1 }, times * 0.25);
    }
    for (first, mean) in [(0, 0.9), (1, 0.3), (2, 0.7)] {
        add(Change::Drop { first, count: 2 }, mean);
    }
    add(Change::Hidden { hidden: 48 }, 0.15);
    rows.sort_by_key(|row| row.change);
    let text = TextRecord { path: "a.jsonl".into(), sha256: "ab".into(), samples: 4, seq_len: 64 };
    let header = Header {
        format: FORMAT,
        made_by: "archplan test".into(),
        fingerprint: "cd".into(),
        architecture: Architecture::uniform(4, 64, OWN.ffn, OWN.q_heads, OWN.kv_heads, 8),
        importance_sha256: "ef".into(),
        data: text.clone(),
        repair_data: Some(text),
        surgery: serde_json::json!({}),
        parent_nll: Measured { mean: 1.0, standard_error: None },
        changes: rows.len() as u64,
        shards: 1,
        parts: vec![0],
    };
    Scores { header, rows }
}

#[test]
fn what_is_written_is_read() {
    let scores = scores();
    assert_eq!(Scores::from_csv(&scores.to_csv().unwrap()).unwrap(), scores);
}

#[test]
fn a_child_loses_what_its_changes_were_scored_at() {
    let table = Table::of(&scores()).unwrap();
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    // Half of the FFN and of the groups in all layers, one query head per group: (1 + 2 + 3 + 4) times each.
    let narrow = table.child(&Architecture::uniform(4, 48, 16, 2, 2, 8)).unwrap();
    let [hidden, depth, attention, ffn] = table.parts(&narrow).unwrap().axes().map(|n| n.mean);
    near(hidden, 0.15);
    near(depth, 0.0);
    near(attention, 10.0 * (0.04 + 0.01));
    near(ffn, 10.0 * 0.02);
    // Two layers less: the run that was measured to lose least goes, and only the others are narrowed.
    let shallow = table.child(&Architecture::uniform(2, 64, 24, 8, 4, 8)).unwrap();
    assert_eq!(shallow.kept, [0, 3]);
    let [_, depth, _, ffn] = table.parts(&shallow).unwrap().axes().map(|n| n.mean);
    near(depth, 0.3);
    near(ffn, (1.0 + 4.0) * 0.01);
    // Layers of their own; two single layers dropped that are no run.
    let layers =
        Layers::PerLayer(vec![LayerShape { ffn: 0, ..OWN }, LayerShape { q_heads: 0, kv_heads: 0, ..OWN }]);
    let ragged = Child { architecture: Architecture { hidden: 64, head_dim: 8, layers }, kept: vec![0, 2] };
    near(table.parts(&ragged).unwrap().total().mean, 0.1 + 3.0 * 0.2 + 0.25 * (2.0 + 4.0));
}

#[test]
fn a_gap_is_an_error_that_says_what_to_score() {
    let table = Table::of(&scores()).unwrap();
    let hint = |architecture: Architecture| {
        let child = table.child(&architecture).and_then(|child| table.parts(&child));
        match child {
            Err(ScoresError::Missing { hint, .. }) => hint,
            other => panic!("{architecture}: {other:?}"),
        }
    };
    assert_eq!(hint(Architecture::uniform(4, 40, 32, 8, 4, 8)), "--hidden-keep");
    assert_eq!(hint(Architecture::uniform(1, 64, 32, 8, 4, 8)), "--runs");
    // More query heads per KV head than the parent has.
    assert_eq!(hint(Architecture::uniform(4, 64, 32, 8, 2, 8)), "--heads-keep");
    let mut part = scores();
    part.rows.pop();
    assert!(matches!(Table::of(&part), Err(ScoresError::Incomplete { .. })));
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(at in 0.0..1.0f64, length in 0usize..40, with in "\\PC{0,12}") {
        let text = scores().to_csv().unwrap();
        let from = (at * text.len() as f64) as usize;
        let to = (from + length).min(text.len());
        let bent = format!("{}{with}{}", &text[..from], &text[to..]);
        if let Ok(read) = Scores::from_csv(&bent) {
            let _ = Table::of(&read);
        }
    }
}
