//! What the program prints for people and scripts, on standard output.
//!
//! A reader that goes away (`wigwag demo | head -1`) is not a failure of ours: it is told apart from every other
//! broken pipe by a type of its own, so that `main` can end quietly.

use std::ffi::OsStr;
use std::io::{ErrorKind, Write as _};
use std::sync::OnceLock;

use anyhow::Context as _;

/// This program began without a standard output.
#[derive(Debug)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("standard output is closed: redirect it, to /dev/null if it is not wanted")
    }
}

impl std::error::Error for Closed {}

/// Nobody reads our standard output any more.
#[derive(Debug)]
pub struct Unread;

impl std::fmt::Display for Unread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for Unread {}

/// Set once, for a program that began without a standard output.
static IS_CLOSED: OnceLock<()> = OnceLock::new();

/// From now on each output is an error: this program began with a standard output that was closed. The standard library
/// has put `/dev/null` there, so what is printed would be lost in silence.
pub fn set_closed() {
    let _ = IS_CLOSED.set(());
}

/// An error where nothing that is printed could arrive.
///
/// # Errors
/// Standard output was closed when the program began.
pub fn check() -> anyhow::Result<()> {
    match IS_CLOSED.get() {
        Some(()) => Err(Closed.into()),
        None => Ok(()),
    }
}

/// Prints a line about what was done or what is wrong, on standard error. Where nobody can read it, it is not said.
pub fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Prints a line of a program that goes on when nobody reads what it says.
pub fn announce(text: &str) -> anyhow::Result<()> {
    match line(text) {
        Err(error) if error.is::<Unread>() || error.is::<Closed>() => Ok(()),
        result => result,
    }
}

/// Prints a line.
pub fn line(text: &str) -> anyhow::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes as they are.
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    named("the text", bytes)
}

/// Prints bytes as they are; `what` they are is for the error.
pub fn named(what: &str, bytes: &[u8]) -> anyhow::Result<()> {
    written(what, || std::io::stdout().write_all(bytes))
}

/// Lets somebody else print to standard output; `what` is printed is for the error.
pub fn written(what: &str, print: impl FnOnce() -> std::io::Result<()>) -> anyhow::Result<()> {
    check()?;
    match print().and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Unread.into()),
        result => result.with_context(|| format!("could not write {what} to standard output")),
    }
}

/// Prints a value as JSON.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// A word as a shell takes it, for commands that people copy.
pub fn shell_word(word: &OsStr) -> String {
    wigwag::runtime::shell_word(word)
}

/// A duration in the unit that suits it, with three digits that mean something.
pub fn duration(nanoseconds: f64) -> String {
    let size = nanoseconds.abs();
    let (value, unit) = match size {
        _ if size < 1e3 => (nanoseconds, "ns"),
        _ if size < 1e6 => (nanoseconds / 1e3, "us"),
        _ if size < 1e9 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    let decimals = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

/// A count with its thousands set apart.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_suits_them() {
        let texts = [0.0, 417.0, 2_740.0, 53_100.0, 1_234_567.0, -2e6, 3e9].map(duration);
        assert_eq!(texts, ["0.00 ns", "417 ns", "2.74 us", "53.1 us", "1.23 ms", "-2.00 ms", "3.00 s"]);
    }

    #[test]
    fn words_for_a_shell_are_quoted_where_they_must_be() {
        let words = ["shout", "./a-b.sock", "two words", "it's", "$(id)", ""].map(|word| shell_word(word.as_ref()));
        assert_eq!(words, ["shout", "./a-b.sock", "'two words'", r"'it'\''s'", "'$(id)'", "''"]);
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
