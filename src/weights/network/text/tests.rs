//! Files of every kind and every defect.
