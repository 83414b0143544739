//! `wigwag bench`: every contender carries every byte and is reported, every goal has a verdict, and nothing stays
//! behind. No time is ever asserted: a test machine is busy, and slow is not wrong.

mod harness;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::{OutputInTime as _, Runtime};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const GOALS: [&str; 25] = [
    "P1", "P2", "P3", "P4", "P5", "P6", "P6b", "P6c", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P15", "P16",
    "P19", "S1", "Q1", "B1", "B1b", "B2", "B3", "R1",
];

/// Two processors where there are two; a spinning side would otherwise stand in the other's way.
fn pin() -> &'static str {
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) { "two" } else { "none" }
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Runs a bench that prints JSON, and gives its objects.
fn measured(arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["bench", "--json", "-"], arguments].concat();
    objects(&Runtime::new().run(&arguments).succeeded().text())
}

#[track_caller]
fn is_positive(row: &Value, field: &str) {
    assert!(row[field].as_f64().is_some_and(|value| value > 0.0), "{field} in {row}");
}

#[track_caller]
fn has_figures(row: &Value) {
    for field in ["calls", "seconds", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns", "calls_per_second"] {
        is_positive(row, field);
    }
    is_positive(row, "client_cpu_ns_per_call");
    // Of a process that runs at the moment the kernel says what it had used at the last tick: in so short a run, none.
    for field in ["server_cpu_ns_per_call", "client_switches_per_call", "server_switches_per_call"] {
        assert!(row[field].is_number(), "{field} in {row}");
    }
}

fn names(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| format!("{} {}", row["contender"].as_str().unwrap(), row["wait"].as_str().unwrap())).collect()
}

#[test]
fn every_contender_is_measured() {
    let rows = measured(&["--pin", pin(), "--calls", "64", "--rounds", "2"]);
    let expected = [
        "limit spin",
        "raw spin",
        "two-buffers spin",
        "copy spin",
        "futex park",
        "wigwag adaptive",
        "wigwag spin",
        "wigwag park",
        "stream adaptive",
        "stream spin",
        "stream park",
        "unix park",
        "unix spin",
        "tcp park",
        "tcp spin",
        "pipe park",
        "pipe spin",
        "mqueue park",
        "mqueue spin",
        "file spin",
    ];
    assert_eq!(names(&rows), expected);
    for row in &rows {
        has_figures(row);
        assert_eq!((&row["size"], &row["rounds"], &row["load"]), (&48.into(), &2.into(), &"closed".into()));
        is_positive(row, "ratio");
        assert!(row["baseline"].is_string());
    }
}

#[test]
fn many_in_flight_are_measured() {
    let rows = measured(&["--pin", pin(), "--in-flight", "8", "--calls", "64", "--rounds", "2", "--wait", "adaptive"]);
    assert_eq!(
        names(&rows),
        ["raw64 spin", "wigwag adaptive", "stream adaptive", "unix park", "tcp park", "pipe park"]
    );
    rows.iter().for_each(has_figures);
}

#[test]
fn bytes_one_way_are_measured() {
    let runtime = Runtime::new();
    let arguments = ["bench", "--one-way", "--size", "64,100,64KiB", "--wait", "adaptive,spin", "--rounds", "1"];
    let outputs = ["--total", "300000B", "--pin", pin(), "--json", "rows.jsonl", "--html", "page.html"];
    let table = runtime.run(&[&arguments[..], &outputs].concat()).succeeded().text();
    let rows = objects(&std::fs::read_to_string(runtime.path().join("rows.jsonl")).unwrap());
    let once = ["stream adaptive", "stream spin", "stream-in-place adaptive", "stream-in-place spin"];
    let expected = [&once[..], &["unix park", "unix spin", "pipe park", "pipe spin"]].concat();
    assert_eq!(names(&rows), [&expected[..], &expected, &expected].concat());
    for row in &rows {
        has_figures(row);
        is_positive(row, "bytes_per_second");
        assert_eq!((row["load"].as_str(), row["baseline"].as_str()), (Some("one-way"), Some("unix")));
        let bytes = row["calls"].as_u64().unwrap() * row["size"].as_u64().unwrap();
        assert!(bytes >= 300_000, "{row}");
    }
    assert!(table.lines().next().unwrap().ends_with("GB/s"), "{table}");
    let html = std::fs::read_to_string(runtime.path().join("page.html")).unwrap();
    assert!(html.contains("\"load\":\"one-way\""));
}

#[test]
fn sizes_rhythms_and_sessions_are_measured() {
    let few = ["--only", "wigwag,unix", "--wait", "park", "--pin", "none", "--rounds", "1"];
    let rows = measured(&[&few[..], &["--size", "8,100,4KiB,1MiB", "--calls", "4"]].concat());
    assert_eq!(
        rows.iter().map(|row| row["size"].as_u64().unwrap()).collect::<Vec<_>>(),
        [8, 8, 100, 100, 4096, 4096, 1 << 20, 1 << 20]
    );
    rows.iter().for_each(has_figures);
    let rows = measured(&[&few[..], &["--rate", "500", "--calls", "10"]].concat());
    assert!(rows.len() == 2 && rows.iter().all(|row| row["load"] == "paced" && row["rate"] == 500.0));
    rows.iter().for_each(has_figures);
    let rows = measured(&[&few[..], &["--burst", "4", "--pause", "1ms", "--calls", "12"]].concat());
    assert!(rows.len() == 2 && rows.iter().all(|row| row["load"] == "bursts" && row["pause_ns"] == 1_000_000));
    rows.iter().for_each(|row| is_positive(row, "first_call_p50_ns"));
    let rows = measured(&["--only", "wigwag", "--wait", "adaptive", "--sessions", "5", "--busy", "2", "--calls", "16"]);
    assert_eq!(rows.len(), 1);
    has_figures(&rows[0]);
    is_positive(&rows[0], "slowest_session_per_second");
}

#[test]
fn the_page_has_every_row_in_it() {
    let runtime = Runtime::new();
    let arguments = ["bench", "--only", "wigwag,unix", "--size", "48,4KiB", "--calls", "20", "--pin", "none"];
    runtime.run(&[&arguments[..], &["--json", "rows.jsonl", "--html", "page.html"]].concat()).succeeded();
    let rows = objects(&std::fs::read_to_string(runtime.path().join("rows.jsonl")).unwrap());
    let html = std::fs::read_to_string(runtime.path().join("page.html")).unwrap();
    let (_, data) = html.split_once("id=\"data\">").unwrap();
    let page: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    let shown = page["rows"].as_array().unwrap();
    assert_eq!((shown.len(), page["ours"].as_str()), (rows.len(), Some("wigwag")));
    for (shown, row) in shown.iter().zip(&rows) {
        for field in ["contender", "wait", "pin", "size", "calls"] {
            assert_eq!(shown[field], row[field]);
        }
        assert_eq!(shown["curve"].as_array().map(Vec::len), page["percentiles"].as_array().map(Vec::len));
    }
    let nowhere = runtime.run(&["bench", "--html", "no/where.html"]).failed(1);
    assert!(nowhere.contains("no/where.html"), "{nowhere}");
}

#[test]
fn the_table_and_the_file_say_the_same() {
    let runtime = Runtime::new();
    let arguments = ["bench", "--only", "futex,wigwag", "--wait", "park", "--pin", "one", "--calls", "20"];
    let ended = runtime.run(&[&arguments[..], &["--json", "rows.jsonl"]].concat()).succeeded();
    let rows = objects(&std::fs::read_to_string(runtime.path().join("rows.jsonl")).unwrap());
    let text = ended.text();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((lines.len(), lines[0][0]), (3, "contender"));
    for (line, row) in lines[1..].iter().zip(&rows) {
        assert_eq!((line[0], line[2]), (row["contender"].as_str().unwrap(), "one"));
        assert_eq!(line.len(), lines[0].len());
    }
}

#[test]
fn every_goal_has_a_verdict() {
    let ended = Runtime::new().run(&["bench", "--goal", "all", "--seconds", "0.2", "--rounds", "1", "--json", "-"]);
    let objects = objects(&ended.text());
    let verdicts: Vec<&Value> = objects.iter().filter(|object| object["goal"].is_string()).collect();
    assert_eq!(verdicts.iter().map(|verdict| verdict["goal"].as_str().unwrap()).collect::<Vec<_>>(), GOALS);
    for verdict in &verdicts {
        let checks = verdict["checks"].as_array().unwrap();
        assert!(!checks.is_empty(), "{verdict}");
        assert!(checks.iter().all(|check| check["value"].is_number()), "{verdict}");
        let all = checks.iter().all(|check| check["met"] == true);
        assert_eq!(verdict["met"], all, "{verdict}");
    }
    let met = verdicts.iter().all(|verdict| verdict["met"] == true);
    assert_eq!(ended.code, Some(if met { 0 } else { 1 }), "{}", ended.stderr);
}

#[test]
fn the_verdict_comes_last_on_one_line() {
    let ended = Runtime::new().run(&["bench", "--goal", "p5", "--seconds", "0.2", "--rounds", "1"]);
    let text = ended.text();
    let parts: Vec<&str> = text.lines().last().unwrap().split("  ").collect();
    let [goal, figure, target, verdict] = parts[..] else { panic!("{text}") };
    assert_eq!(goal, "P5");
    assert!(figure.starts_with(|first: char| first.is_ascii_digit()), "{figure}");
    assert!(target.starts_with("<= "), "{target}");
    assert_eq!(
        ended.code,
        Some(match verdict {
            "MET" => 0,
            "NOT MET" => 1,
            other => panic!("{other}"),
        })
    );
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let runtime = Runtime::new();
    for arguments in [
        &["--goal", "P99"][..],
        &["--size", "4"],
        &["--size", "65MiB"],
        &["--only", "carrier-pigeon"],
        &["--rate", "0"],
        &["--burst", "3"],
        &["--pause", "10"],
        &["--sessions", "2", "--busy", "3"],
        &["--calls", "0"],
        &["--total", "1GiB"],
        &["--one-way", "--total", "0"],
        &["--one-way", "--rate", "5"],
        &["--one-way", "--in-flight", "2"],
        &["--rounds", "0"],
        &["--seconds", "-1"],
    ] {
        let ended = runtime.run(&[&["bench"], arguments].concat());
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn an_impossible_case_is_named() {
    let error = Runtime::new().run(&["bench", "--only", "limit", "--size", "49", "--calls", "9"]);
    assert_eq!(error.code, Some(1));
    assert!(error.stderr.contains("one line holds 48 bytes"), "{error:?}");
}

#[test]
fn an_interrupted_bench_leaves_nothing() {
    let runtime = Runtime::new();
    let mut command = runtime.wigwag(["bench", "--only", "limit", "--pin", "none", "--seconds", "60", "--rounds", "1"]);
    let mut bench = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let process = i32::try_from(bench.id()).unwrap();
    let peers = until(|| Some(children(process)).filter(|peers| peers.len() == 2));
    kill(Pid::from_raw(process), Signal::SIGTERM).unwrap();
    assert_eq!(bench.wait().unwrap().code(), Some(128 + 15));
    until(|| peers.iter().all(|peer| !runs(*peer)).then_some(()));
}

/// Waits for something to become true, for a generous while.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < give_up, "it did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn children(process: i32) -> Vec<i32> {
    let path = PathBuf::from(format!("/proc/{process}/task/{process}/children"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Whether a process is there and not merely waiting to be collected by whoever inherited it.
fn runs(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_call_from_c_needs_a_compiler_and_says_so() {
    let runtime = Runtime::new();
    let mut command = runtime.wigwag(["bench", "--goal", "C1"]);
    let ended = harness::Ended::from(command.env("CC", "/nowhere/cc").output_in_time());
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("CC names /nowhere/cc, which is no compiler that can be run"), "{}", ended.stderr);
}
