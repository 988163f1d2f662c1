//! `archplan run`: one file that says everything, turned into stages, each one command line of this tool, cached by
//! what goes in and what came out.
//!
//! Deliberately absent: processes and printing. [`run::Driver`] starts the commands and hears what happens.

pub mod content;
pub mod plan_error;
pub mod plan_file;
pub mod record;
pub mod run;
pub mod run_error;
pub mod stage;
pub mod stages;
pub mod summary;
pub mod work_dir;
