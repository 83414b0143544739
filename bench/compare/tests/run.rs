//! The program as it is used: every contender that is there carries every byte and is in every output, and whatever is
//! missing is named with its reason. No time is ever asserted.

use std::process::{Command, Output};

use serde_json::Value;

fn compare(arguments: &[&str], directory: &std::path::Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wigwag-compare"));
    command.args(arguments).current_dir(directory).output().unwrap()
}

#[test]
fn everybody_is_measured_or_named_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--quick", "--parts", "sizes", "--json", "all.json", "--html", "all.html", "--markdown", "all.md"];
    let output = compare(&arguments, directory.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let page: Value = serde_json::from_str(&read("all.json")).unwrap();
    let (rows, html, markdown) = (page["rows"].as_array().unwrap(), read("all.html"), read("all.md"));
    for contender in page["contenders"].as_array().unwrap() {
        let label = contender["label"].as_str().unwrap();
        assert!(html.contains(label) && markdown.contains(label), "{label}");
        if contender["missing"].is_null() {
            let own = rows.iter().filter(|row| row["contender"] == contender["name"] && row["size"] == 48);
            assert!(own.count() > 0, "{label} is not measured: {}", page["left_out"]);
        } else {
            assert!(markdown.contains(contender["missing"].as_str().unwrap()), "{label}");
        }
    }
    assert!(rows.iter().all(|row| row["calls"].as_u64() > Some(0)));
}

#[test]
fn a_killed_side_is_reported_and_nothing_of_ours_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--quick", "--parts", "killed,silent", "--only", "unix", "--json", "-"];
    let output = compare(&arguments, directory.path());
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |part: &str, name: &str| page[part].as_array().unwrap().iter().find(|it| it["contender"] == name).cloned();
    for name in ["wigwag", "unix"] {
        let crash = of("crashes", name).unwrap_or_else(|| panic!("{page}"));
        assert!(crash["client_knows_after_ms"].is_number(), "{crash}");
        assert_eq!(crash["next_client"], "its own reply", "{crash}");
        assert_eq!(of("idle", name).unwrap()["clients"], 100);
    }
}

#[test]
fn one_publisher_reaches_its_readers_by_every_medium_and_no_byte_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--quick", "--parts", "broadcast", "--json", "b.json", "--html", "b.html", "--markdown", "b.md"];
    let output = compare(&arguments, directory.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let page: Value = serde_json::from_str(&read("b.json")).unwrap();
    let (rows, markdown) = (page["broadcasts"].as_array().unwrap(), read("b.md"));
    for name in ["wigwag", "iceoryx2-pubsub", "ringfire", "mqueue", "datagrams"] {
        let own: Vec<_> = rows.iter().filter(|row| row["contender"] == name).collect();
        assert!(own.len() >= 4, "{name} is not measured: {}", page["left_out"]);
        assert!(own.iter().all(|row| row["read_per_second"].as_f64() > Some(0.0)), "{own:?}");
        assert!(own.iter().all(|row| row["lost"].is_null()), "all are lossless: {own:?}");
        assert!(markdown.contains(own[0]["label"].as_str().unwrap()), "{name}: {markdown}");
    }
    let ours = rows.iter().filter(|row| row["contender"] == "wigwag");
    assert!(ours.map(|row| row["ratio"].as_f64()).all(|ratio| ratio == Some(1.0)));
    let zenoh = |list: &str| page[list].as_array().unwrap().iter().any(|it| it["contender"] == "zenoh");
    assert!(zenoh("broadcasts") || zenoh("left_out"));
    assert!(read("b.html").contains("iceoryx2-pubsub"));
}

#[test]
fn two_runs_become_one_and_the_same_one_twice_does_not() {
    let directory = tempfile::tempdir().unwrap();
    for (part, file) in [("start", "start.json"), ("killed", "killed.json")] {
        let output = compare(&["--quick", "--only", "unix", "--parts", part, "--json", file], directory.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let output = compare(&["--combine", "start.json,killed.json", "--json", "-"], directory.path());
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |field: &str| page[field].as_array().unwrap().len();
    assert_eq!((count("commands"), count("rows"), count("crashes")), (2, 5, 2), "{page}");
    let output = compare(&["--combine", "start.json,start.json"], directory.path());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("both have measured"), "{error}");
}

#[test]
fn a_wrong_command_line_is_a_plain_sentence() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, said) in [(["--only", "nobody"], "'nobody'"), (["--html", "no/where.html"], "no/where.html")] {
        let output = compare(&arguments, directory.path());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(said) && error.ends_with(".\n"), "{error}");
    }
}
