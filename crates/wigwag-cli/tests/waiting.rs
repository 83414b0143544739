//! Work that waits, and whom it waits for, as the program shows it: `inspect`, `ls`, `top`, `metrics`, `doctor`.

mod harness;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Ended, Gate, LIMIT, Running, Runtime};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn inspect(runtime: &Runtime, name: &str) -> Value {
    runtime.run(&["inspect", name, "--json"]).succeeded().json()
}

/// Waits until a name can be connected to and looked at.
fn until_it_is_seen(runtime: &Runtime, name: &str) {
    eventually("it is there", || runtime.run(&["inspect", name]).code == Some(0));
}

fn listed(runtime: &Runtime, name: &str) -> Value {
    let listing = runtime.run(&["ls", "--json"]).succeeded().json();
    let found = listing["names"].as_array().unwrap().iter().find(|entry| entry["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {listing}")).clone()
}

/// The number of a metric of a service.
fn metric(page: &str, metric: &str, name: &str) -> f64 {
    let begin = format!("{metric}{{name=\"{name}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&begin));
    line.unwrap_or_else(|| panic!("no {metric} of {name} in {page}")).parse().unwrap()
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).unwrap();
}

/// Starts a program in the background that says nothing.
fn start(command: &mut Command) -> Running {
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn text_of(ended: &Ended) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[test]
fn field_7_4_senders_of_a_stopped_receiver_are_seen_everywhere() {
    let runtime = Runtime::new();
    let receiving = start(&mut runtime.wigwag(["queue", "recv", "jobs", "--keep"]));
    until_it_is_seen(&runtime, "jobs");
    let pid = receiving.0.id();
    // Connected while it runs; what they send comes once it is stopped.
    let mut senders: Vec<Running> =
        (0..3).map(|_| start(runtime.wigwag(["queue", "send", "jobs"]).stdin(Stdio::piped()))).collect();
    eventually("three are connected", || inspect(&runtime, "jobs")["sessions"].as_array().unwrap().len() == 3);
    signal(pid, Signal::SIGSTOP);
    eventually("it is stopped", || inspect(&runtime, "jobs")["process"]["state"] == "stopped");
    // More than the 256 that there is room for, and less than a pipe holds.
    senders.iter_mut().for_each(|sender| sender.0.stdin.as_mut().unwrap().write_all(&b"work\n".repeat(300)).unwrap());
    eventually("three wait for room", || inspect(&runtime, "jobs")["backlog"]["blocked"] == 3);
    let seen = inspect(&runtime, "jobs");
    let backlog = &seen["backlog"];
    assert_eq!((&backlog["waiting"], &backlog["in_flight"], &backlog["hidden"]), (&768.into(), &0.into(), &0.into()));
    assert!(backlog["oldest_waiting_s"].as_f64().unwrap() > 0.0);
    let text = runtime.run(&["inspect", "jobs"]).succeeded().text();
    for expected in ["waiting    768, the oldest for ", "3 senders wait for room", "waits for room ", "256 of 256"] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
    let name = listed(&runtime, "jobs");
    assert_eq!((&name["waiting"], &name["blocked"], &name["in_flight"]), (&768.into(), &3.into(), &0.into()));
    assert!(name["oldest_waiting_s"].as_f64().unwrap() >= backlog["oldest_waiting_s"].as_f64().unwrap());
    let text = runtime.run(&["ls"]).succeeded().text();
    assert!(text.contains("jobs\tqueue\tstopped\t3\t0\t0\t768\t"), "{text}");
    let page = runtime.run(&["metrics"]).succeeded().text();
    assert_eq!(
        (metric(&page, "wigwag_waiting", "jobs"), metric(&page, "wigwag_blocked_sessions", "jobs")),
        (768.0, 3.0)
    );
    assert!(metric(&page, "wigwag_oldest_waiting_seconds", "jobs") > 0.0);
    assert!(page.contains("# TYPE wigwag_oldest_waiting_seconds gauge"));
    let top = runtime.run(&["top", "--once"]).succeeded().text();
    assert!(top.contains("stopped") && top.contains(" 768 ") && top.contains("3 wait"), "{top}");
    let doctor = runtime.run(&["doctor"]);
    let text = text_of(&doctor);
    assert_eq!(doctor.code, Some(1), "{text}");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("3 senders wait with 768 messages, the oldest for "), "{text}");
    assert!(text.contains(&format!("kill -CONT {pid} ")) && !text.contains("Nothing is wrong"), "{text}");
    drop(senders);
    signal(pid, Signal::SIGCONT);
}

#[test]
fn field_7_4_who_waits_behind_a_call_that_hangs_is_seen_and_the_doctor_says_so() {
    let runtime = Runtime::new();
    let gate = Gate::new(&runtime);
    let server = runtime.serve("hang", &["--exec", "cat gate"]);
    let first = start(&mut runtime.wigwag(["call", "hang", "one"]));
    eventually("the handler hangs", || inspect(&runtime, "hang")["backlog"]["in_flight"] == 1);
    let second = start(&mut runtime.wigwag(["call", "hang", "two"]));
    eventually("both clients wait", || inspect(&runtime, "hang")["backlog"]["blocked"] == 2);
    let check = |state: &str| {
        let seen = inspect(&runtime, "hang");
        assert_eq!(seen["process"]["state"], state);
        assert_eq!((&seen["backlog"]["waiting"], &seen["backlog"]["in_flight"]), (&1.into(), &1.into()));
        let of = |client: &Running| {
            let sessions = seen["sessions"].as_array().unwrap();
            sessions.iter().find(|session| session["pid"] == client.0.id()).unwrap().clone()
        };
        assert_eq!((&of(&first)["waiting"], &of(&first)["in_flight"]), (&0.into(), &1.into()));
        assert_eq!((&of(&second)["waiting"], &of(&second)["in_flight"]), (&1.into(), &0.into()));
        assert!(of(&second)["blocked_for_s"].as_f64().unwrap() > 0.0);
    };
    check("running");
    server.signal(Signal::SIGSTOP);
    eventually("it is stopped", || inspect(&runtime, "hang")["process"]["state"] == "stopped");
    check("stopped");
    let text = runtime.run(&["inspect", "hang"]).succeeded().text();
    assert!(text.contains("2 clients wait for a reply") && text.contains("\twaits "), "{text}");
    let doctor = runtime.run(&["doctor", "--json"]);
    let finding = |ended: &Ended, check: &str| {
        let report: Value = serde_json::from_str(&text_of(ended)).unwrap();
        report["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == check).cloned()
    };
    let stopped = finding(&doctor, "server-stopped").unwrap_or_else(|| panic!("{}", text_of(&doctor)));
    assert_eq!((&stopped["level"], doctor.code), (&"wrong".into(), Some(1)));
    server.signal(Signal::SIGCONT);
    eventually("the doctor calls it hanging", || {
        let found = finding(&runtime.run(&["doctor", "--json"]), "server-hangs");
        found.is_some_and(|found| {
            found["level"] == "wrong" && found["fact"].as_str().unwrap().contains("2 clients wait with 1 call")
        })
    });
    drop(gate);
}

#[test]
fn field_7_8_a_stream_shows_rings_and_bytes_and_no_slots() {
    let runtime = Runtime::new();
    let listening = start(runtime.wigwag(["stream", "listen", "files", "--keep"]).stdin(Stdio::piped()));
    until_it_is_seen(&runtime, "files");
    let mut connected = start(runtime.wigwag(["stream", "connect", "files"]).stdin(Stdio::piped()));
    connected.0.stdin.as_mut().unwrap().write_all(b"12345").unwrap();
    eventually("five bytes came", || inspect(&runtime, "files")["counts"]["bytes_in"] == 5);
    let seen = inspect(&runtime, "files");
    let session = &seen["sessions"][0];
    let incoming = &session["rings"]["incoming"];
    assert_eq!((&incoming["size_bytes"], &incoming["written_bytes"]), (&session["capacity_bytes"], &5.into()));
    assert_eq!((&incoming["unread_bytes"], &session["waiting"]), (&0.into(), &Value::Null));
    eventually("the reader waits", || {
        inspect(&runtime, "files")["sessions"][0]["rings"]["incoming"]["reader_waits"] == true
    });
    let text = runtime.run(&["inspect", "files"]).succeeded().text();
    assert!(!text.contains("slots") && !text.contains("handlers") && !text.contains("in flight"), "{text}");
    assert!(
        text.contains("rings of 2,097,152 bytes") && text.contains("ring bytes") && text.contains("reader"),
        "{text}"
    );
    assert_eq!(seen["process"]["pid"], listening.0.id());
}

/// Servers that die, stop and are replaced while they are looked at: each look ends, and none in a panic.
#[test]
fn field_7_4_looks_at_servers_that_come_and_go_end_well() {
    let runtime = Runtime::new();
    for round in 0..6 {
        let server = runtime.serve("shout", &["--do", "upper"]);
        let _client = start(&mut runtime.wigwag(["call", "shout", "hello"]));
        let looks =
            [&["ls"][..], &["inspect", "shout"], &["metrics"], &["top", "--once"], &["inspect", "shout", "--json"]];
        let mut running: Vec<_> = looks
            .iter()
            .map(|look| runtime.wigwag(*look).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
            .collect();
        server.signal([Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGTERM][round % 3]);
        for look in running.drain(..) {
            let ended = look.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&ended.stderr);
            let is_well = matches!(ended.status.code(), Some(0 | 3)) && !told.contains("panicked");
            assert!(is_well, "{:?} {told}", ended.status);
        }
        server.signal(Signal::SIGKILL);
        server.wait();
    }
}
