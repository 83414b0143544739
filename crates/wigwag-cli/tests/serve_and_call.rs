//! `wigwag serve` and `wigwag call` as two processes: every transformation, commands, and how each can fail.

mod harness;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use harness::{Ended, Runtime};
use nix::sys::signal::Signal;

#[test]
fn every_transformation_does_what_it_says() {
    let runtime = Runtime::new();
    let cases: [(&str, &str, &[u8]); 6] = [
        ("echo", "Wigwag 1", b"Wigwag 1"),
        ("invert", "AB", &[!b'A', !b'B']),
        ("upper", "Wigwag 1", b"WIGWAG 1"),
        ("reverse", "abc", b"cba"),
        ("sum", "abc", b"294"),
        ("sum", "", b"0"),
    ];
    for (number, (transformation, request, reply)) in cases.into_iter().enumerate() {
        let name = format!("{transformation}-{number}");
        let _server = runtime.serve(&name, &["--do", transformation]);
        let ended = runtime.run(&["call", &name, request]).succeeded();
        assert_eq!(ended.stdout, reply, "{transformation} of {request:?}");
    }
}

#[test]
fn a_command_answers() {
    let runtime = Runtime::new();
    let _server = runtime.serve("sort", &["--exec", "sort -u"]);
    let mut command = runtime.wigwag(["call", "sort", "--input", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"b\na\nb\n").unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap()).succeeded();
    assert_eq!(ended.text(), "a\nb\n");
}

#[test]
fn large_files_go_through_built_in_work_and_through_commands() {
    let runtime = Runtime::new();
    let request: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    std::fs::write(runtime.path().join("request"), &request).unwrap();
    for (name, work) in [("invert", ["--do", "invert"]), ("cat", ["--exec", "cat"])] {
        let _server = runtime.serve(name, &[&work[..], &["--capacity", "4M", "--slots", "2"]].concat());
        runtime.run(&["call", name, "--input", "request", "--output", "reply"]).succeeded();
        let reply = std::fs::read(runtime.path().join("reply")).unwrap();
        let expected = if name == "cat" { request.clone() } else { request.iter().map(|byte| !byte).collect() };
        assert!(reply == expected, "{name}: {} bytes came back", reply.len());
    }
}

#[test]
fn a_plain_call_has_the_capacity_of_the_server() {
    let runtime = Runtime::new();
    let request = vec![b'w'; 5_000_000];
    std::fs::write(runtime.path().join("request"), &request).unwrap();
    let _server = runtime.serve("large", &["--do", "upper", "--capacity", "8M"]);
    let ended = runtime.run(&["call", "large", "--input", "request"]).succeeded();
    assert!(ended.stdout == request.to_ascii_uppercase(), "{} bytes came back", ended.stdout.len());
}

#[test]
fn the_times_are_those_of_the_calls() {
    let runtime = Runtime::new();
    let _server = runtime.serve("slow", &["--exec", "sleep 0.01; cat"]);
    let summary = runtime.run(&["call", "slow", "hello", "--repeat", "3", "--json"]).succeeded().json();
    for figure in ["p50_ns", "p99_ns", "max_ns"] {
        assert!(summary[figure].as_u64().unwrap() >= 10_000_000, "{figure}: {summary}");
    }
    let rate = summary["calls_per_second"].as_f64().unwrap();
    assert!(rate > 0.0 && rate <= 100.0, "{summary}");
}

#[test]
fn threads_answer_side_by_side() {
    let runtime = Runtime::new();
    // Each command waits for the other one: with a single thread neither would ever end.
    let meet = "name=$(cat); touch $name; for i in $(seq 3000); do
        [ -e one ] && [ -e two ] && echo $name met && exit
        sleep 0.01
    done; exit 1";
    let _server = runtime.serve("meet", &["--exec", meet, "--threads", "2"]);
    let calls = ["one", "two"].map(|name| {
        let mut command = runtime.wigwag(["call", "meet", name, "--timeout", "60"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for (call, name) in calls.into_iter().zip(["one", "two"]) {
        let ended = Ended::from(call.wait_with_output().unwrap()).succeeded();
        assert_eq!(ended.text(), format!("{name} met\n"));
    }
}

#[test]
fn repeated_calls_are_counted_by_both_sides() {
    let runtime = Runtime::new();
    for wait in ["adaptive", "spin", "park"] {
        let server = runtime.serve(wait, &["--do", "upper", "--wait", wait]);
        let summary = runtime.run(&["call", wait, "hello", "--repeat", "100", "--json"]).succeeded().json();
        assert_eq!(summary["calls"], 100);
        assert_eq!(summary["reply"], "HELLO");
        assert!(summary["p99_ns"].as_u64() >= summary["p50_ns"].as_u64(), "{summary}");
        server.signal(Signal::SIGTERM);
        let (code, rest) = server.wait();
        assert_eq!((code, rest.as_str()), (Some(0), "{\"served\":100}\n"), "{wait}");
    }
}

#[test]
fn calls_that_follow_go_on_when_their_server_is_restarted() {
    let runtime = Runtime::new();
    let work = ["--exec", "touch begun; sleep 0.05; cat"];
    let server = runtime.serve("again", &work);
    let mut command = runtime.wigwag(["call", "again", "hello", "--repeat", "3", "--follow", "60", "--json"]);
    let call = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = runtime.path().join("begun");
    while !begun.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().0, Some(0));
    let _server = runtime.serve("again", &work);
    let summary = Ended::from(call.wait_with_output().unwrap()).succeeded().json();
    assert_eq!((&summary["calls"], &summary["reply"]), (&3.into(), &"hello".into()));
}

#[test]
fn a_server_is_replaced_while_others_call_and_nobody_notices() {
    let runtime = Runtime::new();
    let mut server = runtime.serve("next", &["--do", "upper"]);
    let mut command = runtime.wigwag(["call", "next", "hello", "--repeat", "300000", "--follow", "60", "--json"]);
    let call = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for how in ["--replace", "--replace=20"] {
        let next = runtime.serve("next", &["--do", "upper", how]);
        assert_eq!(std::mem::replace(&mut server, next).wait().0, Some(0), "the former one ends by itself");
        assert_eq!(runtime.run(&["call", "next", "new"]).succeeded().text(), "NEW");
    }
    let summary = Ended::from(call.wait_with_output().unwrap()).succeeded().json();
    assert_eq!((&summary["calls"], &summary["reply"]), (&300_000.into(), &"HELLO".into()));
    // One that has no time does not get the name, and changes nothing.
    server.halt();
    let told = runtime.run(&["serve", "next", "--do", "echo", "--replace=0.2"]).failed(6);
    assert!(told.contains("did not hand it over within 200 ms"), "{told}");
    assert!(told.contains("give it more time (--replace)"), "{told}");
    server.signal(Signal::SIGCONT);
    assert_eq!(runtime.run(&["call", "next", "still"]).succeeded().text(), "STILL");
}

#[test]
fn limits_and_permissions_are_taken() {
    let runtime = Runtime::new();
    let permissions = ["--allow-user", "12345", "--allow-uid", "root", "--allow-group", "12345", "--allow-everyone"];
    let limits = ["--slots", "3", "--capacity", "64", "--threads", "2", "--wait", "park"];
    let _server = runtime.serve("open", &[&["--do", "upper"], &permissions[..], &limits[..]].concat());
    assert_eq!(runtime.run(&["call", "open", "hello"]).succeeded().text(), "HELLO");
    let complaint = runtime.run(&["call", "open", &"x".repeat(65)]).failed(1);
    assert!(complaint.contains("64") && complaint.contains("65"), "{complaint}");
}

#[test]
fn a_signal_ends_a_server_in_order() {
    let runtime = Runtime::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let server = runtime.serve("ending", &["--do", "echo"]);
        let socket = server.socket.clone();
        assert!(socket.exists(), "{}", socket.display());
        runtime.run(&["call", "ending", "x"]).succeeded();
        server.signal(signal);
        assert_eq!(server.wait(), (Some(0), "{\"served\":1}\n".into()));
        assert!(!socket.exists(), "{} is still there after {signal}", socket.display());
        runtime.run(&["call", "ending", "x"]).failed(3);
    }
}

#[test]
fn a_server_tells_people_how_to_call_it() {
    let runtime = Runtime::new();
    let mut command = runtime.wigwag(["serve", "./here.sock", "--do", "upper"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("Listening as ./here.sock"), "{first}");
    assert!(lines.next().unwrap().unwrap().contains("wigwag call ./here.sock 'hello'"));
    assert_eq!(runtime.run(&["call", "./here.sock", "hello"]).succeeded().text(), "HELLO");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(lines.map(Result::unwrap).last().unwrap(), "Served 1 call.");
}

#[test]
fn no_server_is_code_3_and_says_how_to_start_one() {
    let runtime = Runtime::new();
    let complaint = runtime.run(&["call", "nobody", "hello"]).failed(3);
    assert!(complaint.contains("nobody"), "{complaint}");
    // Nothing is read before there is somebody to send it to: this input never ends.
    runtime.run(&["call", "nobody", "--input", "/dev/zero"]).failed(3);
}

#[test]
fn a_second_server_on_a_name_is_code_6() {
    let runtime = Runtime::new();
    let _server = runtime.serve("taken", &["--do", "echo"]);
    let complaint = runtime.run(&["serve", "taken", "--do", "upper"]).failed(6);
    assert!(complaint.contains("taken"), "{complaint}");
    assert_eq!(runtime.run(&["call", "taken", "still here"]).succeeded().text(), "still here");
}

#[test]
fn a_command_that_fails_is_code_1_with_its_error_text() {
    let runtime = Runtime::new();
    let _server = runtime.serve("broken", &["--exec", "echo no luck today >&2; exit 7"]);
    let complaint = runtime.run(&["call", "broken", "x"]).failed(1);
    assert!(complaint.contains("no luck today") && complaint.contains('7'), "{complaint}");
}

#[test]
fn what_does_not_fit_is_code_1_with_both_numbers() {
    let runtime = Runtime::new();
    std::fs::write(runtime.path().join("large"), vec![0; 10_000]).unwrap();
    let server = runtime.serve("small", &["--do", "echo", "--capacity", "4K"]);
    let complaint = runtime.run(&["call", "small", "--input", "large"]).failed(1);
    assert!(complaint.contains("10000 bytes") && complaint.contains("4096 bytes"), "{complaint}");
    assert!(complaint.contains("`wigwag serve small --capacity 10000 ...`"), "{complaint}");
    let complaint = runtime.run(&["call", "small", "--input", "/dev/zero"]).failed(1);
    assert!(complaint.contains("more than 4096 bytes") && complaint.contains("--capacity"), "{complaint}");
    drop(server);
    let _server = runtime.serve("talkative", &["--exec", "yes", "--capacity", "4K"]);
    let complaint = runtime.run(&["call", "talkative", "x"]).failed(1);
    assert!(complaint.contains("--capacity"), "{complaint}");
    // The server has survived it.
    runtime.run(&["call", "talkative", "x"]).failed(1);
}

#[test]
fn a_refusal_is_code_4() {
    let runtime = Runtime::new();
    let socket = runtime.path().join("full.sock");
    let mut server = wigwag::Server::builder().max_sessions(1).bind(&socket).unwrap();
    let shutdown = server.shutdown_handle();
    std::thread::scope(|scope| {
        scope.spawn(move || server.serve(|_: &mut wigwag::Request| ()).unwrap());
        let only = wigwag::Client::connect(&socket).unwrap();
        let refused = runtime.run(&["call", socket.to_str().unwrap(), "x"]);
        drop(only);
        shutdown.shutdown();
        refused.failed(4);
    });
}

#[test]
fn no_reply_in_time_is_code_5() {
    let runtime = Runtime::new();
    let _server = runtime.serve("slow", &["--exec", "sleep 2"]);
    runtime.run(&["call", "slow", "x", "--timeout", "0.1"]).failed(5);
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_call_is_code_5() {
    let runtime = Runtime::new();
    let server = runtime.serve("dying", &["--exec", "touch begun; sleep 2"]);
    let mut command = runtime.wigwag(["call", "dying", "x"]);
    let call = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !runtime.path().join("begun").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.signal(Signal::SIGKILL);
    Ended::from(call.wait_with_output().unwrap()).failed(5);
}

#[test]
fn files_that_are_not_there_are_named() {
    let runtime = Runtime::new();
    let _server = runtime.serve("echo", &["--do", "echo"]);
    let complaint = runtime.run(&["call", "echo", "--input", "no-such-file"]).failed(1);
    assert!(complaint.contains("no-such-file"), "{complaint}");
    let complaint = runtime.run(&["call", "echo", "x", "--output", "no/such/directory"]).failed(1);
    assert!(complaint.contains("no/such/directory"), "{complaint}");
}

#[test]
fn c9_who_comes_before_waits_as_long_as_it_is_told() {
    let runtime = Runtime::new();
    let arguments = ["call", "later", "hello", "--server-timeout", "60"];
    let child = runtime.wigwag(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _server = runtime.serve("later", &["--do", "upper"]);
    assert_eq!(Ended::from(child.wait_with_output().unwrap()).succeeded().text(), "HELLO");
    for command in [&["call", "nobody", "x"][..], &["queue", "send", "nobody"], &["stream", "connect", "nobody"]] {
        let said = runtime.run(&[command, &["--server-timeout", "0.01"]].concat()).failed(3);
        assert!(said.contains("none came within 10 ms (--server-timeout); start one with `wigwag "), "{said}");
    }
}
