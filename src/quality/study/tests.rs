//! Studies read line by line; the spread of what is asked for.

use proptest::prelude::*;

use crate::model::architecture::Architecture;
use crate::quality::scores::curve::Nats;
use crate::quality::scores::table::Child;
use crate::quality::study::error::StudyError;
use crate::quality::study::line::{Asked, Candidate, FORMAT, Header, Line, Told};
use crate::quality::study::{Study, ask};

fn header() -> Header {
    Header {
        format: FORMAT,
        made_by: "archplan test".into(),
        command: "archplan search".into(),
        fingerprint: "ab".into(),
        parent: Architecture::uniform(8, 64, 32, 8, 4, 8),
        scores_sha256: "cd".into(),
    }
}

/// FFN 31, 30, … lose almost the same; hidden sizes lose more.
fn candidates() -> Vec<Candidate> {
    let of = |hidden: u64, ffn: u64, nats: [f64; 4]| {
        let child =
            Child { architecture: Architecture::uniform(8, hidden, ffn, 8, 4, 8), kept: (0..8).collect() };
        Candidate::new(child, 8, hidden * ffn, true, nats.map(|mean| Nats { mean, variance: 1e-4 }))
    };
    let alike = (0..20).map(|n| of(64, 31 - n, [0.0, 0.1, 0.0, 0.0001 * n as f64]));
    let others = (1..6).map(|n| of(64 - n, 32, [0.03 * n as f64, 0.1, 0.0, 0.0]));
    alike.chain(others).collect()
}

fn text(lines: impl IntoIterator<Item = Line>) -> String {
    lines.into_iter().map(|line| serde_json::to_string(&line).unwrap() + "\n").collect()
}

fn begun() -> String {
    text(std::iter::once(Line::Study(header())).chain(candidates().into_iter().map(Line::Candidate)))
}

#[test]
fn a_batch_is_not_one_shape_many_times() {
    let study = Study::read(&begun()).unwrap();
    let chosen = ask::next(&study, 4);
    let hidden: Vec<u64> = chosen.iter().map(|c| c.candidate.child.architecture.hidden).collect();
    assert_eq!(hidden[0], 64, "the least loss first");
    assert!(hidden.iter().filter(|hidden| **hidden == 64).count() <= 2, "{hidden:?}");
    let spread: Vec<u64> =
        ask::spread(&study, 6).iter().map(|c| c.candidate.child.architecture.hidden).collect();
    let mut distinct = spread.clone();
    distinct.dedup();
    assert!(distinct.len() >= 5, "{spread:?}");
}

#[test]
fn the_last_word_counts_and_pending_ones_are_not_asked_again() {
    let id = |n: usize| candidates()[n].id.clone();
    let told = |n, nats| {
        Line::Told(Told {
            id: id(n),
            loss_increase_nats: Some(nats),
            standard_error: None,
            failed: None,
            measured_by: None,
        })
    };
    let asked = |n| Line::Asked(Asked { id: id(n), ..Asked::default() });
    let lines = [asked(0), asked(1), told(0, 0.5), told(2, 0.3), told(0, 0.2)];
    let study = Study::read(&(begun() + &text(lines))).unwrap();
    assert_eq!(study.best().map(|(c, nats)| (c.id.clone(), nats)), Some((id(0), 0.2)));
    assert_eq!(study.pending.iter().map(|p| p.id.clone()).collect::<Vec<_>>(), [id(1)]);
    let next: Vec<_> = ask::next(&study, 100).iter().map(|c| c.candidate.id.clone()).collect();
    assert_eq!(next.len(), candidates().len() - 3);
    assert!(!next.contains(&id(0)) && !next.contains(&id(1)) && !next.contains(&id(2)));
    // A candidate stated again is that candidate.
    let mut barred = candidates()[5].clone();
    barred.feasible = false;
    let study = Study::read(&(begun() + &text([Line::Candidate(barred)]))).unwrap();
    assert_eq!(study.candidates.len(), candidates().len());
    assert_eq!(ask::next(&study, 100).len(), candidates().len() - 1);
}

#[test]
fn half_a_line_at_the_end_is_what_a_killed_process_left() {
    let whole = begun();
    let study = Study::read(&whole).unwrap();
    assert_eq!(Study::read(&format!("{whole}{{\"told\":{{\"id")).unwrap(), study);
    let error = Study::read(&format!("{whole}{{\"told\"\n{whole}")).unwrap_err();
    assert!(matches!(error, StudyError::Line { line: 27, .. }), "{error}");
    assert_eq!(Study::read(""), Err(StudyError::NoStudy));
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(at in 0.0..1.0f64, length in 0usize..60, with in "\\PC{0,12}") {
        let text = begun();
        let from = (at * text.len() as f64) as usize;
        let to = (from + length).min(text.len());
        if let Ok(study) = Study::read(&format!("{}{with}{}", &text[..from], &text[to..])) {
            let _ = ask::next(&study, 2);
        }
    }
}
