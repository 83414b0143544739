//! A line on standard error that says what is going on; nothing where standard error is no terminal.

use std::io::{IsTerminal as _, Write as _};

/// The line.
pub struct Progress {
    shown: bool,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

impl Progress {
    /// Shown only to a person.
    pub fn new() -> Progress {
        Progress { shown: std::io::stderr().is_terminal() }
    }

    /// Replaces the line.
    pub fn show(&self, text: &str) {
        if self.shown {
            self.write(&format!("\r\x1b[K{text}"));
        }
    }

    /// Removes the line.
    pub fn clear(&self) {
        if self.shown {
            self.write("\r\x1b[K");
        }
    }

    fn write(&self, text: &str) {
        let mut error = std::io::stderr().lock();
        // A line that cannot be shown is not worth an error.
        let _ = error.write_all(text.as_bytes()).and_then(|()| error.flush());
    }
}
