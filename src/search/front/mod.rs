//! Dominance, Pareto front, knee, hypervolume.
