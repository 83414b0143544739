//! `wigwag publish` and `wigwag subscribe`: lines and files to everybody, and what is told of losses and ends.

mod harness;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use harness::{Running, Runtime};
use nix::sys::signal::Signal;

/// Starts `wigwag subscribe name ...`, which waits for its publisher.
fn subscribe(runtime: &Runtime, arguments: &[&str]) -> Running {
    let mut command = runtime.wigwag(["subscribe", "name", "--timeout", "20"]);
    Running(command.args(arguments).stdout(Stdio::piped()).spawn().unwrap())
}

#[test]
fn lines_go_to_everybody_who_subscribes() {
    let runtime = Runtime::new();
    let mut subscribers = [(); 3].map(|()| subscribe(&runtime, &["--count", "3"]));
    let script = "printf 'one\\n\\nthree, and no end' | wigwag publish name --wait-for 3 --timeout 20";
    assert!(runtime.shell(script).status().unwrap().success());
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.output(), "one\n\nthree, and no end\n");
        assert_eq!(subscriber.code(), Some(0));
    }
}

#[test]
fn files_are_messages_and_what_is_told_of_each_is_json() {
    let runtime = Runtime::new();
    std::fs::write(runtime.path().join("first"), "text").unwrap();
    std::fs::write(runtime.path().join("second"), [0xff; 100_000]).unwrap();
    let mut subscriber = subscribe(&runtime, &["--count", "2", "--json"]);
    let script = "wigwag publish name first second --wait-for 1 --rate 100";
    assert!(runtime.shell(script).status().unwrap().success());
    let told = subscriber.output();
    let told: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&told[0]["sequence"], &told[0]["text"], &told[0]["lost_before"]),
        (&1.into(), &"text".into(), &0.into())
    );
    assert_eq!(told[1]["len"], 100_000);
    assert_eq!(told[1]["hex"].as_str().unwrap().len(), 200_000);
}

#[test]
fn a_signal_ends_a_publisher_that_waits() {
    let runtime = Runtime::new();
    let mut waiting = Running(runtime.wigwag(["publish", "name", "--wait-for", "1"]).spawn().unwrap());
    runtime.until_it_listens("name");
    std::thread::sleep(Duration::from_millis(100));
    waiting.signal(Signal::SIGTERM);
    assert_eq!(waiting.code(), Some(128 + 15));

    let mut patient = runtime.wigwag(["publish", "name", "--wait-for", "1", "--history", "1", "--patience", "100000"]);
    let mut patient = Running(patient.stdin(Stdio::piped()).spawn().unwrap());
    let mut subscriber = subscribe(&runtime, &[]);
    let mut lines = patient.0.stdin.take().unwrap();
    writeln!(lines, "first").unwrap();
    assert_eq!(harness::first_line(subscriber.0.stdout.take().unwrap()), "first\n");
    subscriber.signal(Signal::SIGSTOP);
    writeln!(lines, "2\n3\n4\n5").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(patient.0.try_wait().unwrap(), None, "it waits");
    patient.signal(Signal::SIGINT);
    assert_eq!(patient.code(), Some(128 + 2));
}

#[test]
fn when_the_input_ends_subscribers_are_told_and_the_name_is_free() {
    let runtime = Runtime::new();
    let script = "(sleep 2; echo last) | wigwag publish name --wait-for 1 --timeout 20";
    let mut publisher = Running(runtime.shell(script).stdin(Stdio::null()).spawn().unwrap());
    runtime.until_it_listens("name");
    let subscribed = runtime.run(&["subscribe", "name"]).succeeded(); // without --timeout: a death would be an error
    assert_eq!(subscribed.text(), "last\n");
    assert_eq!(publisher.code(), Some(0));
    let is_left = |file: &str| runtime.path().join("wigwag").join(file).exists();
    assert!(!is_left("name.sock") && !is_left("name.lock"), "an end in good order leaves nothing");
    // So does one with an error.
    runtime.run(&["publish", "name", "--wait-for", "1", "--timeout", "0.1"]).failed(5);
    assert!(!is_left("name.sock") && !is_left("name.lock"));
}

#[test]
fn who_publishes_to_nobody_is_told() {
    let runtime = Runtime::new();
    let ended = runtime.shell("seq 3 | wigwag publish name").output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && said.contains("nobody subscribed to name while 3 messages"), "{said}");
    assert!(said.contains("--wait-for 1") && said.contains("wigwag subscribe name"), "{said}");
    assert_eq!(runtime.run(&["publish", "name"]).succeeded().text(), "", "there was nothing to be lost");
}

#[test]
fn what_is_published_as_a_whole_may_be_long() {
    let runtime = Runtime::new();
    let mut subscriber = subscribe(&runtime, &["--count", "1", "--raw"]);
    let script = "head -c 300000 /dev/zero | tr '\\0' x | wigwag publish name --whole --wait-for 1 --timeout 20";
    assert!(runtime.shell(script).status().unwrap().success());
    assert_eq!(subscriber.output().len(), 300_000);
}

#[test]
fn what_cannot_be_is_said_in_the_words_of_the_command_line() {
    let runtime = Runtime::new();
    let said = runtime.run(&["publish", "name", "--history", "0"]).failed(2);
    assert!(said.contains("history of 0 messages") && said.contains("1 to 65536 (--history)"), "{said}");
    let said = runtime.run(&["publish", "name", "--history", "65536", "--capacity", "10M"]).failed(2);
    assert!(said.contains("10485760 bytes") && said.contains("68719476736 are allowed in total: "), "{said}");
    assert!(said.contains("(--history) or shorter ones (--capacity).") && !said.contains("Builder"), "{said}");
    let said = runtime.run(&["publish", "name", "--allow-everyone", "--history", "9", "--capacity", "200M"]).failed(2);
    assert!(said.contains("of another user") && said.contains("--history") && !said.contains("Builder"), "{said}");
    for (arguments, hint) in [
        (["--patience", "-1"], "10 or 0.5"),
        (["--rate", "-1"], "messages a second"),
        (["--timeout", "-1"], "10 or 0.5"),
        (["--capacity", "1GiB"], "64K or 8M"),
    ] {
        let ended = runtime.run(&[&["publish", "name"], &arguments[..]].concat());
        assert!(ended.code == Some(2) && ended.stderr.contains(hint), "{ended:?}");
    }
    // A patience of zero never waits.
    let subscriber = subscribe(&runtime, &["--count", "1000000"]);
    let said =
        runtime.shell("seq 200000 | wigwag publish name --wait-for 1 --history 1 --patience 0").output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("has not read what the next message would replace") && said.contains("--patience"), "{said}");
    drop(subscriber);
    let said = runtime.run(&["publish", "name", "--wait-for", "2", "--timeout", "0.1"]).failed(5);
    assert!(said.contains("0 of 2 subscribers came within 100 ms; start more with `wigwag subscribe name`"), "{said}");
    let said = runtime.run(&["subscribe", "name"]).failed(3);
    assert!(said.contains("wigwag publish name"), "{said}");
    let said = runtime.shell("wigwag publish name --rate 0").output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("messages a second"), "{said:?}");
    let said = runtime.shell("echo 12345 | wigwag publish name --capacity 4").output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("5 bytes") && said.contains("4 bytes") && said.contains("--capacity"), "{said}");
}

#[test]
fn who_listens_and_how_far_is_shown() {
    let runtime = Runtime::new();
    let _subscriber = subscribe(&runtime, &[]);
    let script = "(seq 3; sleep 20) | wigwag publish name --wait-for 1";
    let _publisher = Running(runtime.shell(script).stdin(Stdio::null()).spawn().unwrap());
    let is_seen = || {
        let shown = runtime.run(&["inspect", "name", "--json"]);
        let view: serde_json::Value = serde_json::from_str(&shown.text()).unwrap_or_default();
        let one = &view["sessions"][0]["subscription"];
        (view["published"] == 3 && one["received"] == 3 && one["lag"] == 0).then_some(())
    };
    let begin = std::time::Instant::now();
    while is_seen().is_none() {
        assert!(begin.elapsed() < harness::LIMIT, "it is not shown");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let text = runtime.run(&["inspect", "name"]).succeeded().text();
    assert!(text.contains("3 published") && text.contains("lag"), "{text}");
    assert!(text.contains("keeps      the last 64 messages") && text.contains("waits for nobody"), "{text}");
    let listed = runtime.run(&["ls", "--json"]).succeeded().json();
    assert_eq!(listed["names"][0]["calls"], 3, "what was published: {listed}");
    let metrics = runtime.run(&["metrics"]).succeeded().text();
    assert!(metrics.contains("wigwag_published_messages_total{name=\"name\"} 3"), "{metrics}");
}
