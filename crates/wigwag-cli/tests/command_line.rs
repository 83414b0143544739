//! The command line itself: help, completions, usage errors, and a reader that goes away.

mod harness;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use harness::{Ended, Gate, OutputInTime as _, Running, Runtime, end_of};

const SUBCOMMANDS: [&str; 14] = [
    "demo",
    "serve",
    "call",
    "lock",
    "queue",
    "stream",
    "ls",
    "inspect",
    "top",
    "metrics",
    "doctor",
    "bench",
    "completions",
    "man",
];

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
    for expected in SUBCOMMANDS.into_iter().chain(["Examples:", "Exit codes:", "no server is running", "  6   another"])
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
fn there_is_a_manual_page_for_every_command() {
    let runtime = Runtime::new();
    let page = runtime.run(&["man"]).succeeded().text();
    for expected in [".TH wigwag 1", ".SH EXAMPLES", ".SH \"EXIT CODES\"", "wigwag call shout hello"] {
        assert!(page.contains(expected), "{expected} is missing in {page}");
    }
    let directory = runtime.path().join("man1");
    runtime.run(&["man", directory.to_str().unwrap()]).succeeded();
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert_eq!(read("wigwag.1"), page);
    for subcommand in SUBCOMMANDS {
        assert!(read(&format!("wigwag-{subcommand}.1")).contains(".SH EXAMPLES"), "{subcommand}");
    }
    assert!(read("wigwag-queue-send.1").contains("wigwag queue send"));
    assert!(!directory.join("wigwag-peer.1").exists() && !page.contains("peer"), "what is for ourselves is not told");
    let complaint = runtime.run(&["man", directory.join("wigwag.1/below").to_str().unwrap()]).failed(1);
    assert!(complaint.contains("wigwag.1/below"), "{complaint}");
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
        &["serve", "name", "--do", "echo", "--allow-user", "no such user"],
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
            &["serve", "name", "--do", "echo", "--allow-user", "no such user"],
            "there is no such user: a name is needed, or a number, for example from `id -u NAME`",
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

/// What each form of the program prints on standard output, where a server `shout` runs.
const PRINTING: [&[&str]; 18] = [
    &["--help"],
    &["-h"],
    &["--version"],
    &["help"],
    &["help", "serve"],
    &["queue", "send", "--help"],
    &["ls"],
    &["ls", "--json"],
    &["inspect", "shout"],
    &["inspect", "shout", "--json"],
    &["call", "shout", "hello"],
    &["call", "shout", "hello", "--json"],
    &["top", "--once"],
    &["metrics"],
    &["doctor"],
    &["doctor", "--json"],
    &["serve", "other", "--do", "echo"],
    &["metrics", "--listen", "127.0.0.1:0"],
];

fn every_command_that_prints() -> impl Iterator<Item = Vec<&'static str>> {
    let helps = SUBCOMMANDS.into_iter().map(|subcommand| vec![subcommand, "--help"]);
    PRINTING.into_iter().map(<[&str]>::to_vec).chain(helps)
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let runtime = Runtime::new();
    let _serving = runtime.serve("shout", &["--do", "upper"]);
    for arguments in every_command_that_prints() {
        let output = end_of(runtime.wigwag(&arguments).stdout(full()).stderr(Stdio::piped()).spawn().unwrap());
        let complaint = Ended::from(output).failed(1);
        assert!(complaint.contains("could not write the "), "{arguments:?}: {complaint}");
        assert!(complaint.contains(" to standard output: No space left"), "{arguments:?}: {complaint}");
    }
    let output = end_of(runtime.wigwag(["completions", "bash"]).stdout(full()).stderr(Stdio::piped()).spawn().unwrap());
    let complaint = Ended::from(output).failed(1);
    assert!(complaint.contains("could not write the completions to standard output: "), "{complaint}");
}

#[test]
fn a_message_or_a_byte_that_cannot_be_written_is_told_to_who_sent_it() {
    let runtime = Runtime::new();
    let gate = Gate::new(&runtime);
    let sender = "echo order | wigwag queue send name --timeout 1";
    let stream = "(echo order; cat gate) | wigwag stream connect name";
    for (receiver, sender) in [(["queue", "recv", "name"], sender), (["stream", "listen", "name"], stream)] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut receiving = Running(runtime.wigwag(receiver).stdout(full).stderr(Stdio::piped()).spawn().unwrap());
        runtime.until_it_listens("name");
        let mut sending = Running(runtime.shell(sender).stderr(Stdio::piped()).spawn().unwrap());
        assert_eq!(receiving.code(), Some(1), "{receiver:?}");
        let mut complaint = String::new();
        receiving.0.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert!(complaint.contains("standard output cannot be written to: No space left"), "{complaint}");
        if receiver[0] == "stream" {
            std::fs::write(runtime.path().join("gate"), "").unwrap();
        }
        assert_ne!(sending.code(), Some(0), "{sender}");
    }
    drop(gate);
}

#[test]
fn a_help_for_a_closed_output_is_an_error() {
    let runtime = Runtime::new();
    for script in ["wigwag --help >&-", "wigwag ls --help >&-", "wigwag --version >&-"] {
        let complaint = Ended::from(runtime.shell(script).output_in_time()).failed(1);
        assert!(complaint.contains("standard output is closed"), "{script}: {complaint}");
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
    for arguments in [&["completions", "bash"][..], &["--help"], &["--version"], &["ls", "--help"], &["ls"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = end_of(runtime.wigwag(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap());
        Ended::from(output).succeeded();
    }
}
