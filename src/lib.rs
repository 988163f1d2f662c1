//! `archplan`: a hardware-aware architecture search planner for pruning large language models.
//!
//! A latency model built from measured kernel costs ([`hardware`]) drives a search over width, depth and
//! head counts ([`search`]); [`plan`] is the only place where cost, quality and search meet.
//!
//! ```
//! use archplan::hardware::latency::kernel_model::device_model::KernelModel;
//! use archplan::hardware::latency::prediction::Machine;
//! use archplan::hardware::profile::HardwareProfile;
//! use archplan::hardware::profile::engine::EngineParameters;
//! use archplan::model::cards;
//! use archplan::model::workload::{Deployment, Load, Workload};
//! use archplan::plan::budget::Budget;
//! use archplan::plan::record::Metric;
//! use archplan::plan::request::{Request, Target, profile_record};
//! use archplan::plan::run;
//! use archplan::quality::prior::{QualityPrior, Recovery};
//! use archplan::search::space::options::SpaceOptions;
//! use archplan::units::DType;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let parent = cards::find("qwen3-0.6b")?.spec()?;
//! let profile = HardwareProfile::builtin("a100_sxm")?;
//! let costs = KernelModel::open(&profile, &[DType::Bf16], &[DType::Bf16])?;
//! let engine = EngineParameters::built_in("vllm")?;
//! let prior = QualityPrior::shipped()?;
//! let deployment = Deployment { engine: "vllm".into(), tp: 1, dtype: DType::Bf16, kv_dtype: DType::Bf16 };
//! let machine = Machine { costs: &costs, hbm: profile.device.hbm, engine: &engine };
//!
//! let plan = run::search(&Request {
//!     spec: &parent,
//!     targets: vec![Target { profile: profile_record(&profile), machine, deployment }],
//!     workloads: vec![Workload { load: Load::Batch(4), prompt: 512, output: 64 }],
//!     budgets: vec![Budget::parse(Metric::Speedup, "1.2x")?],
//!     confidence: None,
//!     prior: &prior,
//!     scores: None,
//!     recovery: Recovery::STANDARD,
//!     space: SpaceOptions::default(),
//!     seed: 0,
//!     command: "an example".into(),
//! })?;
//!
//! let chosen = plan.chosen.ok_or("no shape meets the budget")?;
//! assert!(chosen.metrics[0].speedup.value >= 1.2);
//! println!("{}: {}", chosen.shape.architecture(), plan.search.optimality);
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

pub mod compute;
pub mod estimate;
pub mod files;
pub mod hardware;
pub mod model;
pub mod names;
pub mod pipeline;
pub mod plan;
pub mod quality;
pub mod report;
pub mod search;
pub mod units;
pub mod weights;
