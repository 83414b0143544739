//! `wigwag publish` and `wigwag subscribe`: lines and files to everybody, and what is told of losses and ends.

mod harness;

use std::process::Stdio;

use harness::{Running, Runtime};

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
fn what_cannot_be_is_said_in_the_words_of_the_command_line() {
    let runtime = Runtime::new();
    let said = runtime.run(&["publish", "name", "--history", "0"]).failed(2);
    assert!(said.contains("history of 0 messages") && said.contains("1 to 65536"), "{said}");
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
    let metrics = runtime.run(&["metrics"]).succeeded().text();
    assert!(metrics.contains("wigwag_published_messages_total{name=\"name\"} 3"), "{metrics}");
}
