//! What a shape loses against its parent: a pure estimator over a data file, with interval and breakdown.
