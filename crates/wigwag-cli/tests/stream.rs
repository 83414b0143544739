//! `wigwag stream`: netcat over shared memory, in pipelines of a shell.

mod harness;

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use harness::{OutputInTime as _, Running, Runtime, end_of};

/// Starts `wigwag stream listen NAME ...` and waits until it listens.
fn listen(runtime: &Runtime, arguments: &[&str], input: Stdio) -> Running {
    let mut command = runtime.wigwag(["stream", "listen", "name"]);
    let running = Running(command.args(arguments).stdin(input).stdout(Stdio::piped()).spawn().unwrap());
    runtime.until_it_listens("name");
    running
}

#[test]
fn a_directory_goes_through_it_by_tar() {
    let runtime = Runtime::new();
    let (from, to) = (runtime.path().join("from"), runtime.path().join("to"));
    for directory in [&from, &from.join("deep"), &to] {
        std::fs::create_dir(directory).unwrap();
    }
    for (file, len) in [("empty", 0), ("small", 100), ("deep/large", 5_000_000)] {
        let bytes: Vec<u8> = (0..len).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(from.join(file), bytes).unwrap();
    }
    let mut receiving = Running(runtime.shell("wigwag stream listen files | tar x -C to").spawn().unwrap());
    runtime.until_it_listens("files");
    let sent = runtime.shell("tar c -C from . | wigwag stream connect files").status().unwrap();
    assert!(sent.success());
    assert_eq!(receiving.code(), Some(0));
    let compared = Command::new("diff").args(["-r"]).args([&from, &to]).status().unwrap();
    assert!(compared.success(), "what arrived differs");
}

#[test]
fn both_ends_say_something_and_both_hear_all_of_it() {
    let runtime = Runtime::new();
    let mut listening = listen(&runtime, &[], Stdio::piped());
    listening.0.stdin.take().unwrap().write_all(b"from the listener").unwrap();
    let connecting = runtime.shell("echo from the connector | wigwag stream connect name").output_in_time();
    assert!(connecting.status.success());
    assert_eq!(String::from_utf8_lossy(&connecting.stdout), "from the listener");
    assert_eq!(listening.output(), "from the connector\n");
    assert_eq!(listening.code(), Some(0));
}

#[test]
fn one_connection_after_another_is_kept_and_one_that_is_cut_off_does_not_end_the_others() {
    let runtime = Runtime::new();
    let mut listening = listen(&runtime, &["--keep"], Stdio::piped());
    for text in ["one\n", "two\n"] {
        let script = format!("printf '{text}' | wigwag stream connect name --send-only");
        assert!(runtime.shell(&script).status().unwrap().success());
    }
    let mut connecting = runtime.wigwag(["stream", "connect", "name"]).stdin(Stdio::piped()).spawn().unwrap();
    connecting.stdin.as_mut().unwrap().write_all(b"cut\n").unwrap();
    let mut output = listening.0.stdout.take().unwrap();
    let mut first = [0; 12];
    output.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"one\ntwo\ncut\n");
    connecting.kill().unwrap();
    connecting.wait().unwrap();
    assert!(runtime.shell("printf last | wigwag stream connect name").status().unwrap().success());
    let mut last = [0; 4];
    output.read_exact(&mut last).unwrap();
    assert_eq!(&last, b"last");
}

#[test]
fn what_a_killed_end_had_written_is_printed_and_the_code_says_that_it_was_cut_off() {
    let runtime = Runtime::new();
    let mut listening = listen(&runtime, &["--recv-only"], Stdio::piped());
    let mut connecting = runtime.wigwag(["stream", "connect", "name"]).stdin(Stdio::piped()).spawn().unwrap();
    connecting.stdin.as_mut().unwrap().write_all(b"half").unwrap();
    let mut bytes = [0; 4];
    listening.0.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
    connecting.kill().unwrap();
    connecting.wait().unwrap();
    assert_eq!(listening.code(), Some(5));
    assert_eq!(&bytes, b"half");
}

#[test]
fn what_the_listening_end_cannot_print_is_told_to_the_end_that_sent_it() {
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    for (arguments, is_closed) in [(&[][..], false), (&[], true), (&["--recv-only"], false), (&["--keep"], true)] {
        for sending in [&[][..], &["--send-only"]] {
            let runtime = Runtime::new();
            let mut command = runtime.wigwag(["stream", "listen", "name"]);
            let output = if is_closed { Stdio::piped() } else { full() };
            let mut listening = Running(command.args(arguments).stdout(output).stderr(Stdio::null()).spawn().unwrap());
            drop(listening.0.stdout.take());
            runtime.until_it_listens("name");
            let mut command = runtime.wigwag(["stream", "connect", "name"]);
            let mut connecting = command.args(sending).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            connecting.stdin.take().unwrap().write_all(b"a few bytes").unwrap();
            let said = connecting.wait_with_output().unwrap();
            let complaint = String::from_utf8_lossy(&said.stderr).into_owned();
            assert_eq!(said.status.code(), Some(5), "{arguments:?} {sending:?}: {complaint}");
            let why = if is_closed { "nobody reads its output" } else { "its output cannot be written to" };
            assert!(complaint.contains("aborted the stream") && complaint.contains(why), "{complaint}");
            assert_eq!(listening.code(), Some(if is_closed { 0 } else { 1 }), "{arguments:?}");
        }
    }
}

#[test]
fn an_end_whose_input_cannot_be_read_gives_the_stream_up() {
    let unreadable = |runtime: &Runtime| Stdio::from(std::fs::File::open(runtime.path()).unwrap()); // a directory
    for is_listening in [false, true] {
        let runtime = Runtime::new();
        let (mine, theirs) = match is_listening {
            false => (Stdio::null(), unreadable(&runtime)),
            true => (unreadable(&runtime), Stdio::null()),
        };
        let mut command = runtime.wigwag(["stream", "listen", "name"]);
        let mut listening = Running(command.stdin(mine).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        runtime.until_it_listens("name");
        let mut command = runtime.wigwag(["stream", "connect", "name"]);
        let connecting = end_of(command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let mut heard = String::new();
        listening.0.stderr.take().unwrap().read_to_string(&mut heard).unwrap();
        let connected = String::from_utf8_lossy(&connecting.stderr).into_owned();
        let codes = (listening.code(), connecting.status.code());
        let (failed, told) = match is_listening {
            false => (connected, heard),
            true => (heard, connected),
        };
        assert_eq!(codes, if is_listening { (Some(1), Some(5)) } else { (Some(5), Some(1)) }, "{failed}{told}");
        assert!(failed.contains("standard input cannot be read"), "{failed}");
        assert!(told.contains("its input cannot be read"), "{told}");
    }
}

#[test]
fn a_listener_that_says_nothing_lets_the_other_end_speak_for_as_long_as_it_likes() {
    let runtime = Runtime::new();
    let mut listening = listen(&runtime, &[], Stdio::null());
    let mut connecting = runtime.wigwag(["stream", "connect", "name"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut output = listening.0.stdout.take().unwrap();
    for text in [&b"first"[..], b"later"] {
        connecting.stdin.as_mut().unwrap().write_all(text).unwrap();
        let mut bytes = [0; 5];
        output.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, text);
    }
    drop(connecting.stdin.take());
    assert!(connecting.wait().unwrap().success());
    assert_eq!(listening.code(), Some(0));
    // Two that only receive have nothing to wait for.
    let mut listening = listen(&runtime, &["--recv-only"], Stdio::null());
    assert!(runtime.wigwag(["stream", "connect", "name", "--recv-only"]).status().unwrap().success());
    assert_eq!(listening.code(), Some(0));
}

#[test]
fn codes_say_what_was_wrong() {
    let runtime = Runtime::new();
    let output = runtime.wigwag(["stream", "connect", "nobody"]).output_in_time();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("start one with `wigwag stream listen nobody`"), "{said}");
    for wrong in
        [&["listen", "a/b"][..], &["listen", "x", "--ring", "5000"], &["connect", "x", "--recv-only", "--send-only"]]
    {
        let output = runtime.wigwag(["stream"]).args(wrong).output_in_time();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let _serving = runtime.serve("calls", &["--do", "upper"]);
    let output = runtime.wigwag(["stream", "connect", "calls"]).output_in_time();
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("`wigwag call calls`"), "{said}");
    let _listening = listen(&runtime, &[], Stdio::piped());
    assert_eq!(runtime.wigwag(["stream", "listen", "name"]).output_in_time().status.code(), Some(6));
}
