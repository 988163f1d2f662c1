//! Axes, alignment, constraints, index <-> Architecture.
