//! Estimators of single kernel calls, learned from measured rows.

pub mod all_reduce;
pub mod axes;
pub mod boosting;
pub mod carried;
mod cholesky;
pub mod coarse;
pub mod crossval;
pub mod device_model;
pub mod ensemble;
pub mod evaluation;
pub mod features;
pub mod fit_file;
pub mod interpolator;
pub mod kriging;
pub mod lattice;
pub mod members;
pub mod packing;
pub mod regression;
pub mod scored;
pub mod scores;
pub mod skeleton;
pub mod spread;
