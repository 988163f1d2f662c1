//! Kernel prices in pictures, tables and pages: errors of estimates, differences of profiles.

pub mod difference;
mod difference_page;
mod difference_picture;
mod error_page;
mod error_picture;
pub mod errors;
pub mod passes;
mod sheet;
