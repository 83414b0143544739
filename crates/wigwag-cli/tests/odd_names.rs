//! Names that are not UTF-8, or have a backslash: the same text everywhere, and a different one for each.

mod harness;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use harness::{Ended, OutputInTime as _, Running, Runtime};
use wigwag::runtime::escaped;

const NAMES: [&[u8]; 4] = [b"name\xff", b"name\xfe", br"name\xff", "name\u{fffd}".as_bytes()];

fn serve(runtime: &Runtime, name: &OsStr) -> Running {
    let arguments: [&OsStr; 5] = ["serve".as_ref(), name, "--do".as_ref(), "echo".as_ref(), "--json".as_ref()];
    let running = Running(runtime.wigwag(arguments).stdout(Stdio::null()).spawn().unwrap());
    let mut file = OsString::from(name);
    file.push(".sock");
    let socket = runtime.path().join("wigwag").join(file);
    harness::until_it_listens(&socket);
    running
}

#[test]
fn n7_names_that_differ_are_told_apart_everywhere() {
    let runtime = Runtime::new();
    let names = NAMES.map(OsStr::from_bytes);
    let servers = names.map(|name| serve(&runtime, name));
    let expected: BTreeSet<String> = names.iter().map(escaped).collect();
    assert_eq!(expected.len(), NAMES.len());

    let listing = runtime.run(&["ls", "--json"]).succeeded().json();
    let listed = listing["names"].as_array().unwrap().iter().map(|name| name["name"].as_str().unwrap().to_owned());
    assert_eq!(listed.collect::<BTreeSet<_>>(), expected);
    let table = runtime.run(&["ls"]).succeeded().text();
    let listed: BTreeSet<String> =
        table.lines().skip(1).map(|line| line.split('\t').next().unwrap().to_owned()).collect();
    assert_eq!(listed, expected);
    for (name, text) in names.iter().map(|name| (name, escaped(name))) {
        let arguments: [&OsStr; 3] = ["inspect".as_ref(), name, "--json".as_ref()];
        let seen = Ended::from(runtime.wigwag(arguments).output_in_time()).succeeded().json();
        assert!(seen["path"].as_str().unwrap().ends_with(&format!("/wigwag/{text}.sock")), "{seen}");
        let arguments: [&OsStr; 2] = ["inspect".as_ref(), name];
        let seen = Ended::from(runtime.wigwag(arguments).output_in_time()).succeeded().text();
        assert!(seen.contains(&format!("/wigwag/{text}.sock")), "{seen}");
        let arguments: [&OsStr; 4] = ["call".as_ref(), name, "x".as_ref(), "--json".as_ref()];
        let called = Ended::from(runtime.wigwag(arguments).output_in_time()).succeeded().json();
        assert_eq!(called["name"], text.as_str());
    }
    let top = runtime.run(&["top", "--once", "--interval", "0.1"]).succeeded().text();
    let page = runtime.run(&["metrics"]).succeeded().text();
    let page = prometheus_parse::Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).unwrap();
    for text in &expected {
        assert!(top.lines().any(|line| line.split_whitespace().next() == Some(text)), "{text} is missing in\n{top}");
        let of_name = |metric: &str| {
            let with = page.samples.iter().filter(|sample| sample.metric == metric);
            with.filter(|sample| sample.labels.get("name").is_some_and(|name| name.replace(r"\\", r"\") == *text))
                .count()
        };
        assert_eq!(of_name("wigwag_running"), 1, "{text}: {:?}", page.samples);
    }

    drop(servers); // killed: the names stay
    let output = runtime.wigwag(["doctor", "--json"]).output_in_time();
    let told = String::from_utf8(output.stdout).unwrap();
    for text in &expected {
        let text = serde_json::to_string(&format!("the name {text} is stale")).unwrap();
        assert!(told.contains(text.trim_matches('"')), "{text} is missing in\n{told}");
    }
}

#[test]
fn n7_an_error_names_what_was_given() {
    let runtime = Runtime::new();
    for name in NAMES.map(OsStr::from_bytes) {
        let arguments: [&OsStr; 3] = ["call".as_ref(), name, "x".as_ref()];
        let complaint = Ended::from(runtime.wigwag(arguments).output_in_time()).failed(3);
        assert!(complaint.contains(&format!("`{}`", escaped(name))), "{complaint}");
    }
}
