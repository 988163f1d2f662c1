//! What a shape loses against its parent: a pure estimator over a data file, with interval and breakdown.
//!
//! [`prior`] needs no weights: it is fitted ([`fit`]) on published tables of pruned models ([`table`]) around
//! published laws, and judged on children and parents it has not seen ([`validation`]). Everything it says is
//! [`Source::Prior`](crate::estimate::Source::Prior). The law is a sum over axes ([`law`]), so that a search can
//! enumerate shapes from per-axis tables.
//!
//! [`scores`] are measured on the user's own checkpoint.
//!
//! Deliberately absent: forward passes, and which layers or channels to remove.

pub mod benchmark;
pub mod cuts;
pub mod error;
pub mod fit;
pub mod interval;
pub mod law;
pub mod prior;
pub mod report;
pub mod scores;
pub mod study;
pub mod table;
pub mod validation;
