//! The command line itself: help, completions, usage errors, and a reader that goes away.

mod harness;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use harness::{Ended, Runtime};

const SUBCOMMANDS: [&str; 9] = ["demo", "serve", "call", "lock", "top", "metrics", "doctor", "bench", "completions"];

#[test]
fn every_help_has_examples() {
    let runtime = Runtime::new();
    for subcommand in SUBCOMMANDS {
        let help = runtime.run(&[subcommand, "--help"]).succeeded().text();
        assert!(help.contains("Examples:") && help.contains(&format!("wigwag {subcommand}")), "{help}");
        examples_are_lines(&help);
    }
    let help = runtime.run(&["--help"]).succeeded().text();
    examples_are_lines(&help);
    for expected in SUBCOMMANDS.into_iter().chain(["Examples:", "Exit codes:", "no server is running", "  6  another"])
    {
        assert!(help.contains(expected), "{expected} is missing in {help}");
    }
    assert!(!help.contains("peer"), "what is for ourselves is hidden: {help}");
}

/// Each example is a command on a line of its own, on a terminal of 80 columns too.
fn examples_are_lines(help: &str) {
    let examples = help.split("Examples:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for line in examples.lines() {
        assert!(line.starts_with("  ") && line.contains("wigwag") && line.len() < 80, "{line}");
    }
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
    let wrong: [&[&str]; 12] = [
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
        &["call", "name", "text", "--timeout", "-1"],
        &["serve", "name", "--do", "echo", "--allow-uid", "root"],
    ];
    for arguments in wrong {
        let ended = runtime.run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_wrong_value_is_told_what_is_needed() {
    let runtime = Runtime::new();
    let cases: [(&[&str], &str); 2] = [
        (&["call", "name", "text", "--timeout", "-1"], "a number of seconds above 0 is needed"),
        (
            &["serve", "name", "--do", "echo", "--allow-uid", "root"],
            "a user number is needed, for example from `id -u root`",
        ),
    ];
    for (arguments, sentence) in cases {
        let ended = runtime.run(arguments);
        assert!(ended.stderr.contains(sentence), "{ended:?}");
    }
}

#[test]
fn a_directory_that_others_may_write_to_is_code_2() {
    let runtime = Runtime::new();
    let open = runtime.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    runtime.run(&["serve", "./open/socket", "--do", "echo"]).failed(2);
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Runtime::new().wigwag(["completions", "bash"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let complaint = Ended::from(output).failed(1);
    assert!(complaint.contains("could not write the completions to standard output: "), "{complaint}");
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
