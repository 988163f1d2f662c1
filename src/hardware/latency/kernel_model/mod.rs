//! Estimators of single kernel calls, learned from measured rows.

pub mod axes;
pub mod boosting;
pub mod crossval;
pub mod ensemble;
pub mod features;
pub mod interpolator;
pub mod lattice;
pub mod members;
pub mod regression;
pub mod skeleton;
pub mod spread;
