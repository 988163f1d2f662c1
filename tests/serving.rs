//! The closed form of continuous batching against a simulation that plays every step, and the fit of the engines'
//! parameters against parameters that are known.

use std::collections::VecDeque;

use archplan::hardware::latency::accuracy::{LeftOut, held_out, scores};
use archplan::hardware::latency::calibration::{Observation, fit};
use archplan::hardware::latency::serving::{PassTimes, Served, StepTimes, serve};
use archplan::hardware::latency::validation::{
    Metric, PUBLISHED_FIGURES, Run, RunsError, SERVING_RUNS, published_figures, serving_runs,
};
use archplan::hardware::profile::engine::EngineParameters;
use archplan::model::workload::{Load, Workload};
use archplan::units::{DType, Seconds};
use proptest::prelude::*;

fn pass(gemm_ms: f64, other_ms: f64) -> PassTimes {
    PassTimes {
        gemm: Seconds::from_ms(gemm_ms),
        quantised_gemm: Seconds::ZERO,
        other: Seconds::from_ms(other_ms),
        spread: Seconds::from_ms((gemm_ms + other_ms) * 0.05),
    }
}

fn closed_loop(concurrency: u64, prompt: u64, output: u64) -> Workload {
    Workload { load: Load::Concurrency(concurrency), prompt, output }
}

fn kernels_only() -> EngineParameters {
    EngineParameters::built_in("none").unwrap()
}

/// Plays every step of a closed loop whose requests start evenly spread: a step with a waiting prompt takes the
/// prefill's time and the attention of the decoding sequences, any other step takes the decode's time.
/// Returns mean time per output token and output tokens per second over the second half of the run.
fn simulate(steps: &StepTimes, workload: &Workload) -> (f64, f64) {
    let Load::Concurrency(slots) = workload.load else { panic!("closed loops only") };
    let (prefill, decode) = (steps.prefill.total().0, steps.decode.total().0);
    let attention = steps.decode.other.0;
    let (requests, mut now, mut done) = (slots * 40, 0.0, Vec::new());
    // Decoding requests: time of the first token, tokens still to come. At the start they are at all stages.
    let left_at_start = |slot: u64| 1 + slot * (workload.output - 1) / slots;
    let mut running: Vec<(f64, u64, bool)> = (0..slots).map(|i| (0.0, left_at_start(i), false)).collect();
    let mut waiting: VecDeque<()> = VecDeque::new();
    while (done.len() as u64) < requests {
        let starts = waiting.pop_front().is_some();
        let share = running.len() as f64 / slots as f64;
        now += if starts { prefill + attention * share } else { decode };
        let mut still = Vec::new();
        for (first, left, whole) in running {
            if left > 1 {
                still.push((first, left - 1, whole));
            } else {
                if whole {
                    done.push((now, (now - first) / (workload.output - 1) as f64));
                }
                waiting.push_back(());
            }
        }
        running = still;
        if starts {
            running.push((now, workload.output - 1, true));
        }
    }
    let second_half = &done[done.len() / 2..];
    let tpot = second_half.iter().map(|(_, tpot)| tpot).sum::<f64>() / second_half.len() as f64;
    let span = second_half[second_half.len() - 1].0 - second_half[0].0;
    (tpot, (second_half.len() - 1) as f64 * workload.output as f64 / span)
}

#[test]
fn the_closed_form_agrees_with_playing_every_step() {
    // Prefill and decode in ms: a large model, a small one, short outputs, prefill-bound, attention-bound.
    let cases = [
        ((110.0, 15.0), (20.0, 5.0), (16, 1024, 1024)),
        ((12.0, 3.0), (4.0, 1.0), (64, 1024, 512)),
        ((70.0, 10.0), (14.0, 4.0), (32, 1024, 128)),
        ((900.0, 100.0), (20.0, 10.0), (8, 8192, 1024)),
        ((80.0, 20.0), (10.0, 30.0), (24, 2048, 400)),
        ((20.0, 5.0), (10.0, 2.0), (1, 512, 100)),
    ];
    for ((pg, po), (dg, d_other), (concurrency, prompt, output)) in cases {
        let steps =
            StepTimes { layers: 10, prefill_passes: 1.0, prefill: pass(pg, po), decode: pass(dg, d_other) };
        let workload = closed_loop(concurrency, prompt, output);
        let served = serve(&steps, &kernels_only(), &workload, concurrency);
        let (tpot, rate) = simulate(&steps, &workload);
        let error = served.tpot.total().0 / tpot - 1.0;
        assert!(error.abs() < 0.03, "tpot off by {error} for {workload:?}");
        let error = served.output_tokens_per_s / rate - 1.0;
        assert!(error.abs() < 0.05, "rate off by {error} for {workload:?}");
    }
}

#[test]
fn requests_that_memory_does_not_hold_wait_for_a_slot() {
    let steps =
        StepTimes { layers: 10, prefill_passes: 1.0, prefill: pass(100.0, 10.0), decode: pass(20.0, 5.0) };
    let workload = closed_loop(64, 1024, 1024);
    let all = serve(&steps, &kernels_only(), &workload, 64);
    let half = serve(&steps, &kernels_only(), &workload, 32);
    assert_eq!(all.ttft.slot, Seconds::ZERO);
    let service = half.ttft.total() - half.ttft.slot + half.tpot.total() * 1023.0;
    assert!(
        (half.ttft.slot / service - 1.0).abs() < 1e-12,
        "64 in flight, 32 served: each waits one service"
    );
    // Little's law: sequences in flight = rate of requests x time in the system.
    let requests_per_s = half.output_tokens_per_s / 1024.0;
    assert!((requests_per_s * half.latency.0 - 64.0).abs() < 1e-9);
}

#[test]
fn a_static_batch_is_one_prefill_and_its_decode_steps() {
    let steps =
        StepTimes { layers: 10, prefill_passes: 1.0, prefill: pass(100.0, 10.0), decode: pass(20.0, 5.0) };
    let workload = Workload { load: Load::Batch(8), prompt: 100, output: 51 };
    let served = serve(&steps, &kernels_only(), &workload, 8);
    assert!((served.latency.ms() - (110.0 + 50.0 * 25.0)).abs() < 1e-9);
    assert!((served.output_tokens_per_s - 8.0 * 51.0 / 1.36).abs() < 1e-9);
    let one = serve(&steps, &kernels_only(), &Workload { output: 1, ..workload }, 8);
    assert_eq!(one.latency, one.ttft.total());
}

fn served_strategy() -> impl Strategy<Value = (StepTimes, Workload, &'static str)> {
    let times = (0.1..1000.0f64, 0.1..1000.0f64, 0.1..100.0f64, 0.1..100.0f64);
    let work = (1u64..500, 1u64..20_000, 1u64..4000);
    (times, work, prop::sample::select(vec!["vllm", "trtllm", "sglang", "vllm-ascend", "mindie", "none"]))
        .prop_map(|((a, b, c, d), (concurrency, prompt, output), engine)| {
            let steps =
                StepTimes { layers: 32, prefill_passes: 1.0, prefill: pass(a, b), decode: pass(c, d) };
            (steps, closed_loop(concurrency, prompt, output), engine)
        })
}

proptest! {
    #[test]
    fn figures_are_finite_and_positive_and_grow_with_the_kernels((steps, workload, engine) in served_strategy()) {
        let engine = EngineParameters::built_in(engine).unwrap();
        let Load::Concurrency(n) = workload.load else { unreachable!() };
        let served = serve(&steps, &engine, &workload, n);
        let figures = |s: &Served| [s.ttft.total().0, s.tpot.total().0, s.latency.0, 1.0 / s.output_tokens_per_s];
        for x in figures(&served) {
            prop_assert!(x.is_finite() && x > 0.0);
        }
        let mut slower = steps;
        slower.decode.other += Seconds::from_ms(1.0);
        slower.prefill.gemm += Seconds::from_ms(10.0);
        for (a, b) in figures(&served).into_iter().zip(figures(&serve(&slower, &engine, &workload, n))) {
            prop_assert!(b >= a);
        }
    }
}

/// Observations of engines whose parameters are known, on passes of many sizes.
fn synthetic(engines: &[EngineParameters]) -> Vec<Observation> {
    let mut observations = Vec::new();
    for (engine, tp) in engines.iter().flat_map(|e| [1u64, 2, 4, 8].map(|tp| (e, tp))) {
        for (concurrency, (prompt, output)) in
            [4u64, 16, 64].into_iter().flat_map(|c| [(1024, 1024), (8192, 1024), (1024, 128)].map(|l| (c, l)))
        {
            let (size, c) = (80.0 / tp as f64, concurrency as f64);
            let mut decode = pass(0.3, 0.5 + 0.02 * c * size / 80.0);
            decode.quantised_gemm = Seconds::from_ms(size * 0.25);
            let mut prefill = pass(0.5, 5.0 + prompt as f64 / 400.0);
            prefill.quantised_gemm = Seconds::from_ms(size * prompt as f64 / 800.0);
            let steps = StepTimes { layers: 80, prefill_passes: 1.0, prefill, decode };
            let workload = closed_loop(concurrency, prompt, output);
            let served = serve(&steps, engine, &workload, concurrency);
            let figures = [Metric::Ttft, Metric::Tpot].map(|m| (m, m.predicted(&served, &workload))).to_vec();
            let run = Run {
                line: 0,
                model: "m".into(),
                profile: "p".into(),
                engine: engine.name.clone(),
                tp,
                dtype: DType::Fp8,
                kv_dtype: DType::Fp8,
                workload,
                figures,
            };
            observations.push(Observation { run, steps, in_flight: concurrency });
        }
    }
    observations
}

#[test]
fn a_fit_predicts_engines_it_can_describe() {
    let mut engines = ["vllm", "trtllm"].map(|name| EngineParameters::built_in(name).unwrap());
    for engine in &mut engines {
        engine.overheads.prefill_gemm_slowdown = 1.4;
        engine.overheads.quantised_decode_gemm = 0.8;
        engine.overheads.prefill_layer_floor_us = 700.0;
        engine.queueing.decode_steps_per_first_token = 2.0;
    }
    engines[0].overheads.step_us = 900.0;
    engines[1].queueing.prefills_per_first_token = 3.0;
    let observations = synthetic(&engines);
    let shipped = ["vllm", "trtllm"].map(|name| EngineParameters::built_in(name).unwrap());
    let before = scores(&observations, &shipped);
    let fitted = fit(&shipped, &observations.iter().collect::<Vec<_>>()).unwrap();
    let after = scores(&observations, &fitted);
    for (before, after) in before.iter().zip(&after) {
        assert!(before.mean_ape > 5.0, "the shipped parameters must not already fit: {before:?}");
        assert!(after.mean_ape < 2.0, "{after:?}");
    }
    let [vllm, trtllm] = &fitted[..] else { panic!() };
    assert_eq!(vllm.overheads.prefill_gemm_slowdown, trtllm.overheads.prefill_gemm_slowdown, "shared");
    assert!((vllm.overheads.prefill_gemm_slowdown / 1.4 - 1.0).abs() < 0.05, "{vllm:?}");
    assert!((vllm.overheads.step_us / 900.0 - 1.0).abs() < 0.2, "{vllm:?}");
    assert_ne!(vllm.queueing.prefills_per_first_token, trtllm.queueing.prefills_per_first_token);
    let left_out = held_out(&observations, &shipped, LeftOut::TensorParallel).unwrap();
    assert!(left_out.iter().all(|s| s.mean_ape < 5.0), "{left_out:?}");
}

#[test]
fn shipped_tables_load() {
    let runs = serving_runs(SERVING_RUNS, "serving.csv").unwrap();
    assert_eq!(runs.len(), 120);
    assert!(runs.iter().all(|run| run.figures.len() == 2));
    let figures = published_figures(PUBLISHED_FIGURES, "published.csv").unwrap();
    assert!(figures.iter().any(|run| run.profile == "ascend_910b" && run.dtype == DType::Int8));
}

#[test]
fn a_bad_table_is_named_by_line_and_column() {
    let header = "model,hardware,engine,precision,tp,concurrency,prompt_len,output_len,ttft_ms,tpot_ms\n";
    let read = |row: &str| serving_runs(&format!("{header}{row}\n"), "runs.csv");
    let good = "qwen3-8b,h100_sxm,vllm,fp8,1,4,128,128,20,10";
    assert_eq!(read(good).unwrap().len(), 1);
    let error = read(&good.replace("fp8", "fp5")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "runs.csv, line 2, column precision: found `fp5`, expected bf16, fp8 or int8"
    );
    let error = read(&good.replace(",20,", ",-20,")).unwrap_err();
    assert!(matches!(error, RunsError::Cell { column: "ttft_ms", line: 2, .. }), "{error}");
    let error = read(&good.replace(",4,", ",four,")).unwrap_err();
    assert!(matches!(&error, RunsError::Syntax { message, .. } if message.contains("line: 2")), "{error}");
    let error = serving_runs("model,tp\nx,1\n", "runs.csv").unwrap_err().to_string();
    assert!(error.contains("missing field"), "{error}");
}

proptest! {
    #[test]
    fn no_table_makes_the_readers_panic(text in "\\PC*") {
        let _ = (serving_runs(&text, "x"), published_figures(&text, "x"));
    }
}
