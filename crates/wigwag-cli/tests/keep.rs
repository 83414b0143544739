//! `wigwag queue keep`: senders that exit at once, workers that crash, and nothing is lost.

mod harness;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdout, Stdio};

use harness::{Running, Runtime};
use nix::sys::signal::Signal;

/// Starts `wigwag queue keep name ...` and waits until it keeps.
fn keep(runtime: &Runtime, arguments: &[&str]) -> (Running, BufReader<ChildStdout>) {
    let mut command = runtime.wigwag(["queue", "keep", "name"]);
    let mut running = Running(command.args(arguments).stdout(Stdio::piped()).spawn().unwrap());
    let mut output = BufReader::new(running.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains("eeping"), "{line}");
    (running, output)
}

fn recv(runtime: &Runtime, arguments: &[&str]) -> Running {
    let mut command = runtime.wigwag(["queue", "recv", "name", "--kept-by", "name"]);
    let running = Running(command.args(arguments).stdout(Stdio::piped()).spawn().unwrap());
    runtime.until_it_listens("name");
    running
}

fn events(output: BufReader<ChildStdout>) -> Vec<serde_json::Value> {
    output.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// A worker that is stopped, and a sender that has sent it so many lines.
fn stopped_worker_with(runtime: &Runtime, lines: u32) -> (Running, Running) {
    let mut worker = recv(runtime, &["--keep"]);
    let mut command = runtime.wigwag(["queue", "send", "name"]);
    let mut sender = Running(command.stdin(Stdio::piped()).spawn().unwrap());
    let mut input = sender.0.stdin.take().unwrap();
    input.write_all(b"0\n").unwrap();
    let mut output = BufReader::new(worker.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "0\n");
    // Stopped before it has acknowledged that one, it would leave one more.
    eventually(|| (&inspected(runtime)["waiting"], &inspected(runtime)["in_flight"]) == (&0.into(), &0.into()));
    worker.signal(Signal::SIGSTOP);
    (1..=lines).for_each(|number| writeln!(input, "{number}").unwrap());
    sender.0.stdin = Some(input);
    eventually(|| inspected(runtime)["waiting"] == lines);
    (worker, sender)
}

fn inspected(runtime: &Runtime) -> serde_json::Value {
    runtime.run(&["inspect", "name", "--json"]).json()["sessions"][0].clone()
}

fn kill_both(worker: &mut Running, sender: &mut Running) {
    for running in [sender, worker] {
        running.0.kill().unwrap();
        running.status();
    }
}

#[test]
fn a_sender_that_is_killed_and_a_worker_that_crashes_lose_nothing() {
    let runtime = Runtime::new();
    let (mut keeper, output) = keep(&runtime, &["--json"]);
    let (mut worker, mut sender) = stopped_worker_with(&runtime, 200);
    assert_eq!(inspected(&runtime)["is_kept"], true);
    kill_both(&mut worker, &mut sender);
    eventually(|| listed(&runtime)["waiting"] == 200);
    assert_eq!((&listed(&runtime)["kind"], &listed(&runtime)["sessions"]), (&"keeper".into(), &1.into()));
    let doctor = runtime.run(&["doctor"]).text();
    assert!(doctor.contains("200 messages whose senders and receivers are gone"), "{doctor}");
    let mut next = recv(&runtime, &["--count", "200"]);
    let expected: String = (1..=200).map(|number| format!("{number}\n")).collect();
    assert_eq!(next.output(), expected);
    assert_eq!(next.code(), Some(0));
    eventually(|| listed(&runtime)["waiting"] == 0);
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.code(), Some(0));
    let events = events(output);
    let names: Vec<_> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["kept", "left", "handed_on"], "{events:?}");
    assert_eq!(events.last().unwrap()["handed_on"], 200);
}

fn listed(runtime: &Runtime) -> serde_json::Value {
    let listing = runtime.run(&["ls", "--json", "--over", "0"]).json();
    let names = listing["names"].as_array().unwrap();
    names.iter().find(|name| name["kind"] == "keeper").cloned().unwrap_or_default()
}

fn eventually(mut is_true: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < harness::LIMIT, "not within {:?}", harness::LIMIT);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_keeper_that_is_told_to_end_says_what_is_lost() {
    let runtime = Runtime::new();
    let (mut keeper, output) = keep(&runtime, &[]);
    let (mut worker, mut sender) = stopped_worker_with(&runtime, 1);
    kill_both(&mut worker, &mut sender);
    eventually(|| listed(&runtime)["waiting"] == 1);
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.code(), Some(5));
    let text: Vec<String> = output.lines().map(Result::unwrap).collect();
    assert!(text.last().unwrap().contains("1 message of the dead was not handed on, and is lost"), "{text:?}");
    assert!(text.iter().any(|line| line.contains("have left 1 messages")), "{text:?}");
}

#[test]
fn a_second_keeper_and_a_receiver_without_one_are_told_what_to_do() {
    let runtime = Runtime::new();
    let sentence = runtime.run(&["queue", "recv", "name", "--kept-by", "name"]).failed(3);
    assert!(sentence.contains("wigwag queue keep name"), "{sentence}");
    let (mut keeper, _output) = keep(&runtime, &["--max-sessions", "1", "--max-bytes", "1G"]);
    let sentence = runtime.run(&["queue", "keep", "name"]).failed(6);
    assert!(sentence.contains("another keeper has the name `name`"), "{sentence}");
    // A stopped keeper is said to be so, and does not hold up who looks.
    keeper.signal(Signal::SIGSTOP);
    let doctor = runtime.run(&["doctor"]).text();
    assert!(doctor.contains("the keeper name does not say what it has"), "{doctor}");
    keeper.signal(Signal::SIGCONT);
    keeper.0.kill().unwrap();
    keeper.status();
    assert_eq!(listed(&runtime)["state"], "dead");
    let mut unkept = recv(&runtime, &["--allow-unkept"]);
    let sent = runtime.shell("echo unkept | wigwag queue send name").status().unwrap();
    assert!(sent.success());
    assert_eq!(unkept.output(), "unkept\n");
    let misused = runtime.run(&["queue", "recv", "name", "--allow-unkept"]).stderr;
    assert!(misused.contains("--kept-by"), "{misused}");
}

#[test]
fn help_has_examples() {
    let runtime = Runtime::new();
    let help = runtime.run(&["queue", "keep", "--help"]).text();
    for word in ["Examples:", "--max-bytes", "--kept-by", "SIGTERM", "Exit codes:"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
