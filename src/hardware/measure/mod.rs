//! Measures this machine's CPU: the kernels of the tool's own transformer, where a model of them is least sure.
//!
//! [`bench`] times one call; [`session`] chooses calls until the budget is spent or the error is small enough and
//! journals every one; [`draft`] makes a profile of the rows; [`verify`] runs whole decoder stacks against what the
//! profile predicts of them.
//!
//! Deliberately absent: other devices (see [`crate::hardware::collector`]).

pub mod bench;
pub mod domain;
pub mod draft;
pub mod elementwise;
pub mod host;
pub mod journal;
pub mod peaks;
pub mod sentinel;
pub mod session;
pub mod timing;
pub mod verify;
