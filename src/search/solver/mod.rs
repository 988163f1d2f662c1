//! Exact uniform enumeration and black-box solvers (ask/tell).
