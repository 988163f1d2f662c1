//! The facade: request -> Plan record; the only place where cost, quality and search meet.
//!
//! [`run::search`] prices every shape of the space from per-axis tables ([`objective`]), lets the exact solver find
//! the best, and evaluates again on the full prediction path ([`evaluation`]) whatever it reports: parent, chosen
//! shape, finalists and front.
//!
//! [`layerwise::search`] does so where each layer has its own choice.
//!
//! Deliberately absent: reading arguments and files, and drawing (see [`crate::report`]).

pub mod budget;
pub mod error;
pub mod evaluation;
pub mod layerwise;
mod losses;
pub mod objective;
pub mod pool;
pub mod record;
pub mod request;
pub mod run;
mod tries;
mod verdict;
