//! `wigwag queue`: lines through a queue, in pipelines of a shell, whoever is killed.

mod harness;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use harness::{LIMIT, OutputInTime as _, Running, Runtime};

/// Starts `wigwag queue recv name ...` and waits until it has the name.
fn recv(runtime: &Runtime, arguments: &[&str]) -> Running {
    let mut command = runtime.wigwag(["queue", "recv", "name"]);
    let running = Running(command.args(arguments).stdout(Stdio::piped()).spawn().unwrap());
    runtime.until_it_listens("name");
    running
}

#[test]
fn lines_become_messages_and_messages_lines() {
    let runtime = Runtime::new();
    let mut receiving = recv(&runtime, &["--count", "4"]);
    let sent = runtime.shell("printf 'one\\n\\nthree, and no end' | wigwag queue send name").status().unwrap();
    assert!(sent.success());
    let sent = runtime.shell("echo four | wigwag queue send name").status().unwrap();
    assert!(sent.success());
    assert_eq!(receiving.output(), "one\n\nthree, and no end\nfour\n");
    assert_eq!(receiving.code(), Some(0));
}

#[test]
fn a_whole_input_is_one_message_and_arrives_to_the_byte() {
    let runtime = Runtime::new();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(runtime.path().join("input"), &bytes).unwrap();
    let mut receiving = recv(&runtime, &["--raw", "--capacity", "1000000"]);
    let mut sending = Running(runtime.shell("wigwag queue send name --whole < input").spawn().unwrap());
    let mut received = Vec::new();
    receiving.0.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    assert!(received == bytes);
    assert_eq!((sending.code(), receiving.code()), (Some(0), Some(0)));
}

#[test]
fn many_lines_of_many_senders_all_come() {
    let runtime = Runtime::new();
    let receiving = recv(&runtime, &["--count", "60000"]);
    let sending: Vec<Running> = (1..=3)
        .map(|sender| {
            let script = format!("seq -f '{sender} %.0f' 20000 | wigwag queue send name");
            Running(runtime.shell(&script).spawn().unwrap())
        })
        .collect();
    let mut next = [1; 4];
    let mut receiving = receiving;
    for line in BufReader::new(receiving.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let (sender, number) = line.split_once(' ').unwrap();
        let next = &mut next[sender.parse::<usize>().unwrap()];
        assert_eq!(number.parse::<u32>().unwrap(), *next);
        *next += 1;
    }
    assert_eq!(next, [1, 20001, 20001, 20001]);
    assert_eq!(receiving.code(), Some(0));
    sending.into_iter().for_each(|mut running| assert_eq!(running.code(), Some(0)));
}

#[test]
fn a_killed_receiver_leaves_the_rest_to_the_next_and_the_sender_waits_for_it() {
    let runtime = Runtime::new();
    let script = "seq 30000 | wigwag queue send name --timeout 30";
    let mut sending = Running(runtime.shell(script).spawn().unwrap());
    let mut seen = 0;
    for killed in 0..10 {
        let mut receiving = recv(&runtime, &["--keep", "--timeout", "2"]);
        let mut output = BufReader::new(receiving.0.stdout.take().unwrap());
        let mut line = String::new();
        if output.read_line(&mut line).unwrap() == 0 {
            assert!(killed > 0 && seen == 30_000, "after {killed} receivers and {seen} messages nothing came");
            break; // on a fast machine everything has come by now
        }
        receiving.0.kill().unwrap();
        receiving.0.wait().unwrap();
        let first: u32 = line.trim().parse().unwrap();
        assert!(first <= seen + 1, "{first} came, {seen} was the last one seen");
        seen = first;
        // What it had printed is in the pipe; the last line may be cut.
        for line in output.lines().map_while(Result::ok) {
            match line.parse::<u32>() {
                Ok(number) if number == seen + 1 => seen = number,
                _ => break,
            }
        }
    }
    let mut receiving = recv(&runtime, &["--keep", "--timeout", "2"]);
    let last = receiving.output().lines().last().map(str::to_owned);
    assert!(last.is_none_or(|last| last == "30000"));
    assert_eq!(sending.code(), Some(0));
    assert_eq!(receiving.code(), Some(0));
}

#[test]
fn what_nobody_reads_is_not_acknowledged() {
    let runtime = Runtime::new();
    let script = "wigwag queue recv name --keep | head -n 1";
    let mut receiving = Running(runtime.shell(script).stdout(Stdio::piped()).spawn().unwrap());
    runtime.until_it_listens("name");
    let mut sending = runtime.wigwag(["queue", "send", "name", "--timeout", "30"]);
    let mut sending = Running(sending.stdin(Stdio::piped()).spawn().unwrap());
    let mut input = sending.0.stdin.take().unwrap();
    // After the first line nobody reads any more. How many of the others still fit into the pipe is not said; not all
    // do, and the receiver learns of it only as it writes, so they must be on their way before its end is waited for.
    let lines: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    let writing = std::thread::spawn(move || input.write_all(format!("one\n{lines}").as_bytes()).map(drop));
    assert_eq!(receiving.output(), "one\n");
    assert!(receiving.code().is_some());
    let mut next = recv(&runtime, &["--keep", "--timeout", "2"]);
    assert!(next.output().ends_with("line 19999\n"));
    writing.join().unwrap().unwrap();
    assert_eq!(sending.code(), Some(0));
}

#[test]
fn codes_say_what_was_wrong() {
    let runtime = Runtime::new();
    runtime.run(&["queue", "send", "nobody"]).failed(3);
    let begin = std::time::Instant::now();
    runtime.run(&["queue", "send", "nobody", "--timeout", "0.2"]).failed(3);
    assert!(begin.elapsed().as_millis() >= 200 && begin.elapsed() < LIMIT);
    for wrong in [
        &["recv", "a/b"][..],
        &["recv", "x", "--slots", "5000"],
        &["recv", "x", "--count", "0"],
        &["recv", "x", "--count", "2", "--keep"],
        &["recv", "x", "--timeout", "soon"],
    ] {
        let output = runtime.wigwag(["queue"]).args(wrong).output_in_time();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let said = runtime.run(&["queue", "recv", "quiet", "--count", "3", "--timeout", "0.05"]).failed(5);
    assert!(said.contains("3 are missing"), "{said}");
    let _serving = runtime.serve("calls", &["--do", "upper"]);
    let said = runtime.run(&["queue", "send", "calls"]).failed(4);
    assert!(said.contains("`wigwag call calls`"), "{said}");
    let mut receiving = recv(&runtime, &["--count", "1"]);
    runtime.run(&["queue", "recv", "name"]).failed(6);
    let output = runtime.shell("printf 'short\\n%0100000d' 7 | wigwag queue send name").output_in_time();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.contains("--capacity")), (Some(1), true), "{said}");
    assert_eq!(receiving.output(), "short\n");
    assert_eq!(receiving.code(), Some(0));
}

/// A queue as observers see it: what is acknowledged, what is in somebody's hands, what was given back; also of a
/// receiver that is stopped, whose memory this is read from.
#[test]
fn what_is_acknowledged_and_what_is_not_is_seen() {
    let runtime = Runtime::new();
    let running = recv(&runtime, &["--keep"]);
    let status = runtime.shell("seq 100 | wigwag queue send name").status().unwrap();
    assert!(status.success());
    // The last one is counted after its sender has heard of it.
    let begin = std::time::Instant::now();
    while runtime.run(&["ls", "--json"]).succeeded().json()["names"][0]["calls"] != 100 {
        assert!(begin.elapsed() < LIMIT, "not all are counted");
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.0.id() as i32), nix::sys::signal::Signal::SIGSTOP)
        .unwrap();
    let listed = runtime.run(&["ls", "--json"]).succeeded().json();
    let listed = &listed["names"][0];
    assert_eq!((listed["form"].as_str(), listed["calls"].as_u64()), (Some("queue"), Some(100)), "{listed}");
    let seen = runtime.run(&["inspect", "name", "--json"]).succeeded().json();
    let counts = &seen["counts"];
    assert_eq!((seen["form"].as_str(), counts["calls"].as_u64()), (Some("queue"), Some(100)), "{seen}");
    assert_eq!((counts["kept"].as_u64(), counts["returned"].as_u64()), (Some(0), Some(0)), "{seen}");
    assert_eq!(counts["bytes_in"].as_u64(), Some((1..=100).map(|number: u64| number.to_string().len() as u64).sum()));
    let page = runtime.run(&["metrics"]).succeeded().text();
    let page = prometheus_parse::Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let number = |metric: &str| {
        let sample = page.samples.iter().find(|sample| sample.metric == metric).unwrap();
        assert_eq!(sample.labels.get("name"), Some("name"));
        sample.value.clone()
    };
    assert_eq!(number("wigwag_calls_total"), prometheus_parse::Value::Counter(100.0));
    assert_eq!(number("wigwag_kept_calls"), prometheus_parse::Value::Gauge(0.0));
    assert_eq!(number("wigwag_returned_messages_total"), prometheus_parse::Value::Counter(0.0));

    // In this process, so that messages can be kept in hand.
    let path = runtime.path().join("here");
    let receiver = wigwag::Receiver::bind(&path).unwrap();
    let mut sender = wigwag::Sender::connect(&path).unwrap();
    for text in ["one", "two", "three", "four"] {
        sender.send(text.as_bytes()).unwrap();
    }
    let numbers = || {
        let seen = runtime.run(&["inspect", path.to_str().unwrap(), "--json"]).succeeded().json();
        ["calls", "kept", "returned"].map(|count| seen["counts"][count].as_u64().unwrap())
    };
    assert_eq!(numbers(), [0, 0, 0]);
    let first = receiver.recv().unwrap();
    let second = receiver.recv().unwrap();
    assert_eq!(numbers(), [0, 2, 0], "two are in hand");
    first.ack();
    assert_eq!(numbers(), [1, 1, 0], "one is acknowledged");
    second.nack();
    assert_eq!(numbers(), [1, 0, 1], "one is given back");
    let again = receiver.recv().unwrap();
    assert!(again.is_redelivered() && &again[..] == b"two");
    assert_eq!(numbers(), [1, 1, 1], "and is in hand again");
    again.ack();
    assert_eq!((receiver.stats().acknowledged, receiver.stats().returned), (2, 1));
}
