//! `archplan`: a hardware-aware architecture search planner for pruning large language models.
//!
//! A latency model built from measured kernel costs ([`hardware`]) drives a search over width, depth and
//! head counts ([`search`]); [`plan`] is the only place where cost, quality and search meet.
#![warn(missing_docs)]

pub mod estimate;
pub mod files;
pub mod hardware;
pub mod model;
pub mod names;
pub mod plan;
pub mod quality;
pub mod report;
pub mod search;
pub mod units;
