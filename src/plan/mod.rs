//! The facade: request -> Plan record; the only place where cost, quality and search meet.

pub mod record;
