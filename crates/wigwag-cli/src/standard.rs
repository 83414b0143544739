//! Standard input and output where they carry what somebody needs: one that was closed when the program began is an
//! error, not an empty input, and not an output that swallows everything.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, ensure};

use crate::{output, surroundings};

/// Standard input.
pub fn input() -> anyhow::Result<io::StdinLock<'static>> {
    ensure!(
        !surroundings::was_closed(0),
        "standard input is closed: redirect it, from /dev/null if nothing is to be read"
    );
    Ok(io::stdin().lock())
}

/// Standard output, without a buffer.
pub fn unbuffered_output() -> anyhow::Result<File> {
    output::check()?;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned().context("there is no standard output")?))
}
