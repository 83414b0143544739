//! The command line itself: help, completions, usage errors, and a reader that goes away.

mod harness;

use std::process::Stdio;

use harness::{Ended, Runtime};

const SUBCOMMANDS: [&str; 5] = ["demo", "serve", "call", "bench", "completions"];

#[test]
fn every_help_has_examples() {
    let runtime = Runtime::new();
    for subcommand in SUBCOMMANDS {
        let help = runtime.run(&[subcommand, "--help"]).succeeded().text();
        assert!(help.contains("Examples:") && help.contains(&format!("wigwag {subcommand}")), "{help}");
    }
    let help = runtime.run(&["--help"]).succeeded().text();
    for expected in SUBCOMMANDS.into_iter().chain(["Examples:", "Exit codes:", "no server is running"]) {
        assert!(help.contains(expected), "{expected} is missing in {help}");
    }
    assert!(!help.contains("peer"), "what is for ourselves is hidden: {help}");
}

#[test]
fn the_version_is_known() {
    let text = Runtime::new().run(&["--version"]).succeeded().text();
    assert_eq!(text, concat!("wigwag ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn there_are_completions_for_every_shell() {
    let runtime = Runtime::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = runtime.run(&["completions", shell]).succeeded().text();
        assert!(script.contains("repeat") && script.contains("serve"), "{shell}: {} bytes", script.len());
        assert!(!script.contains("peer"), "{shell}: what is for ourselves is not offered");
    }
}

#[test]
fn a_wrong_command_line_is_code_2() {
    let runtime = Runtime::new();
    let wrong: [&[&str]; 10] = [
        &["nonsense"],
        &["demo", "--frames", "0"],
        &["demo", "--frames", "many"],
        &["serve", "name"],
        &["serve", "name", "--do", "nothing"],
        &["serve", "name", "--do", "echo", "--exec", "cat"],
        &["serve", "name", "--do", "echo", "--capacity", "8 elephants"],
        &["call"],
        &["call", "name", "text", "--input", "file"],
        &["call", "name", "text", "--timeout", "soon"],
    ];
    for arguments in wrong {
        let ended = runtime.run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_name_that_cannot_be_one_is_code_2() {
    let runtime = Runtime::new();
    for name in ["", "a/b", &"n".repeat(200)] {
        runtime.run(&["call", name, "text"]).failed(2);
        runtime.run(&["serve", name, "--do", "echo"]).failed(2);
    }
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let runtime = Runtime::new();
    for arguments in [&["completions", "bash"][..], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = runtime.wigwag(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        Ended::from(output).succeeded();
    }
}
