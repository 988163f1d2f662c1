//! Plan -> JSON / CSV / SVG / PNG / HTML; read-only, computes no new physics.
