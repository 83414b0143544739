//! Sentences for people, one a line, on standard error.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Says a sentence. A standard error that cannot be written to is no reason to end.
pub fn say(sentence: impl Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "wigwag-bridge: {sentence}");
}

/// Says a sentence that a hostile peer could cause without end: once a second at most, with how many were left out.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    const PAUSE: Duration = Duration::from_secs(1);

    /// Says it, or counts it.
    pub fn say(&mut self, sentence: impl Display) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < Self::PAUSE) {
            self.left_out += 1;
            return;
        }
        self.last = Some(now);
        match std::mem::take(&mut self.left_out) {
            0 => say(sentence),
            more => say(format_args!("{sentence} (and {more} like it before)")),
        }
    }
}
