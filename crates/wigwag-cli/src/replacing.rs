//! A planned restart from the command line: `--replace`.

use std::time::Duration;

use crate::call;

/// What becomes of who has the name.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Replacing {
    /// Take the name over from the one that has it, which ends when it has done what was passed to it until then; it
    /// may take so many seconds to let the name go, 5 if no number is given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "5", value_parser = call::seconds)]
    pub replace: Option<Duration>,
}
