//! Signals that end a program in order, but for those that it was started to ignore.

use std::os::raw::c_int;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::surroundings::was_ignored;

/// What ends a program: a service manager, Ctrl-C, and a terminal that goes away.
pub const ENDING: [c_int; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Begins to receive these signals. What was ignored when this program began stays so.
pub fn receive(wanted: &[c_int]) -> anyhow::Result<Signals> {
    let heard = wanted.iter().filter(|signal| !was_ignored(**signal));
    Signals::new(heard).context("signals cannot be received")
}

/// At the first of `signals` `begin` is called with it, on a thread of its own; the second one ends the program at
/// once.
///
/// They are received from an earlier moment on: one that comes before a name is given back must not leave it behind.
pub fn end_in_order(mut signals: Signals, begin: impl FnOnce(c_int) + Send + 'static) -> anyhow::Result<()> {
    let watch = move || {
        let mut begin = Some(begin);
        for signal in signals.forever() {
            match begin.take() {
                Some(begin) => begin(signal),
                None => std::process::exit(128 + signal),
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .context("no thread can be started (is `ulimit -u`, `ulimit -v`, or the container's pids.max, reached?)")?;
    Ok(())
}
