//! `archplan profiles`: list, show, check and evaluate hardware profiles.

use crate::cli::{Failure, Global};

/// Arguments of `archplan profiles`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs `archplan profiles`.
pub fn run(_args: &Args, _global: &Global) -> Result<(), Failure> {
    Ok(())
}
