//! Goal Z1.

use std::process::ExitCode;

/// What is measured.
#[derive(clap::Args)]
pub struct Arguments {}

/// Measures.
///
/// # Errors
/// Those of zenoh and of the library.
pub fn run(_: &Arguments) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
