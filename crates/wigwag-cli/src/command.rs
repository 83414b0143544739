//! A shell command as a handler: the request is its standard input, its standard output is the reply.

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::process::{Child, Command, Stdio};

/// A command's error text is passed on up to this length.
const MOST_ERROR_TEXT: usize = 2048;

/// Runs `command` with `input`; its output, or a sentence that says what went wrong.
///
/// Input, output and error text flow at the same time, so none of them can hold up the others.
pub fn run(command: &OsString, input: &[u8], capacity: usize) -> Result<Vec<u8>, String> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the command cannot be started: {error}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // A command need not read its input to the end: `head -1` does not.
                let _ = stdin.write_all(input);
            }
        });
        let complaint = scope.spawn(move || stderr.map(error_text).unwrap_or_default());
        let output = stdout.map_or(Ok(Vec::new()), |stdout| read_within(stdout, capacity));
        if output.is_err() {
            // Its output is of no use any more. It may have ended by itself, then there is nothing to kill.
            let _ = child.kill();
        }
        let ended = end_of(&mut child);
        let complaint = complaint.join().unwrap_or_default();
        let output = output?;
        match ended {
            Ok(()) => Ok(output),
            Err(how) if complaint.is_empty() => Err(format!("the command {how}")),
            Err(how) => Err(format!("the command {how}: {complaint}")),
        }
    })
}

fn end_of(child: &mut Child) -> Result<(), String> {
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("failed ({status})")),
        Err(error) => Err(format!("cannot be waited for ({error})")),
    }
}

fn read_within(source: impl Read, capacity: usize) -> Result<Vec<u8>, String> {
    let mut output = Vec::new();
    let limit = u64::try_from(capacity).unwrap_or(u64::MAX).saturating_add(1);
    source.take(limit).read_to_end(&mut output).map_err(|error| format!("the command's output is lost: {error}"))?;
    if output.len() > capacity {
        return Err(format!(
            "the command's output is longer than the capacity of {capacity} bytes; the server's --capacity raises it"
        ));
    }
    Ok(output)
}

/// All of the error text is taken, so that the command does not wait; only the start is kept.
fn error_text(mut source: impl Read) -> String {
    let mut text = Vec::new();
    let mut part = [0; 1024];
    while let Ok(count @ 1..) = source.read(&mut part) {
        let room = MOST_ERROR_TEXT - text.len();
        text.extend_from_slice(&part[..count.min(room)]);
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(command: &str, input: &[u8], capacity: usize) -> Result<Vec<u8>, String> {
        run(&command.into(), input, capacity)
    }

    #[test]
    fn output_is_the_reply() {
        assert_eq!(sh("tr a-z A-Z", b"hello", 100).unwrap(), b"HELLO");
        assert_eq!(sh("true", b"unread", 100).unwrap(), b"");
    }

    #[test]
    fn large_input_and_output_flow_at_the_same_time() {
        let input = vec![7; 3_000_000];
        assert_eq!(sh("cat", &input, input.len()).unwrap(), input);
        assert_eq!(sh("head -c 2", &input, 2).unwrap(), [7, 7]);
    }

    #[test]
    fn failure_carries_the_error_text() {
        let error = sh("echo no luck >&2; exit 3", b"", 10).unwrap_err();
        assert!(error.contains("no luck") && error.contains('3'), "{error}");
        assert!(sh("exit 4", b"", 10).unwrap_err().contains('4'));
        let long = sh("yes complaint | head -c 100000 >&2; exit 1", b"", 10).unwrap_err();
        assert!(long.len() < MOST_ERROR_TEXT + 100, "{}", long.len());
    }

    #[test]
    fn output_beyond_the_capacity_is_an_error_that_names_it() {
        assert_eq!(sh("printf 12345", b"", 5).unwrap(), b"12345");
        let error = sh("yes", b"", 1234).unwrap_err();
        assert!(error.contains("1234") && error.contains("--capacity"), "{error}");
    }
}
