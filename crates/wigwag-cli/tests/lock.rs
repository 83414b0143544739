//! `wigwag lock`: one at a time, whoever is killed.

mod harness;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::Runtime;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(30);

fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A program that is killed if the test ends before it.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `wigwag lock job -- sh -c SCRIPT`, and waits until the script has made the file `up`.
fn lock(runtime: &Runtime, script: &str) -> Running {
    let up = runtime.path().join("up");
    let _ = std::fs::remove_file(&up);
    let script = format!("trap 'exit 9' TERM; echo $$ > up.new; mv up.new up; {script}");
    let mut command = runtime.wigwag(["lock", "job", "--", "sh", "-c", &script]);
    let running = Running(command.stderr(Stdio::null()).spawn().unwrap());
    eventually("the command runs", || up.exists());
    running
}

#[test]
fn the_commands_code_is_passed_through() {
    let runtime = Runtime::new();
    for (script, code) in [("true", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let status = runtime.wigwag(["lock", "job", "--", "sh", "-c", script]).status().unwrap();
        assert_eq!(status.code(), Some(code), "{script}");
    }
    let status = |arguments: &[&str]| runtime.wigwag(arguments).output().unwrap().status.code();
    assert_eq!(status(&["lock", "job", "--", "no-such-command-here"]), Some(127));
    assert_eq!(status(&["lock", "job", "--", "/"]), Some(126));
    for wrong in
        [&["lock", "job"][..], &["lock", "a/b", "--", "true"], &["lock", "job", "--permits", "0", "--", "true"]]
    {
        assert_eq!(status(wrong), Some(2), "{wrong:?}");
    }
    let left: Vec<_> = std::fs::read_dir(runtime.path().join("wigwag")).unwrap().collect();
    assert!(left.is_empty(), "nothing to clean up: {left:?}");
}

#[test]
fn who_does_not_get_a_permit_in_time_has_a_code_of_its_own() {
    let runtime = Runtime::new();
    let _held = lock(&runtime, "sleep 100");
    for timeout in ["0", "0.05"] {
        let output = runtime.wigwag(["lock", "job", "--timeout", timeout, "--", "true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(75));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no permit came free"), "{said}");
    }
    let output = runtime.wigwag(["lock", "job", "--permits", "2", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("1 permit,") && said.contains("2 permits"), "{said}");
}

#[test]
fn only_one_runs_at_a_time() {
    let runtime = Runtime::new();
    let script = "mkdir inside && sleep 0.01 && rmdir inside";
    let all: Vec<Running> =
        (0..8).map(|_| Running(runtime.wigwag(["lock", "job", "--", "sh", "-c", script]).spawn().unwrap())).collect();
    for mut one in all {
        assert!(one.0.wait().unwrap().success());
    }
}

#[test]
fn signals_are_passed_on() {
    let runtime = Runtime::new();
    let mut running = lock(&runtime, "while :; do sleep 0.01; done");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.0.wait().unwrap().code(), Some(9));

    // Who still waits for its permit ends at once.
    let _held = lock(&runtime, "sleep 100");
    let mut waiting = Running(runtime.wigwag(["lock", "job", "--", "true"]).spawn().unwrap());
    std::thread::sleep(Duration::from_millis(100));
    waiting.signal(Signal::SIGTERM);
    assert_eq!(waiting.0.wait().unwrap().code(), Some(143));
}

#[test]
fn a_killed_holders_command_keeps_the_permit_until_it_ends_and_the_next_is_told() {
    let runtime = Runtime::new();
    let mut running = lock(&runtime, "exec sleep 100");
    let command: i32 = std::fs::read_to_string(runtime.path().join("up")).unwrap().trim().parse().unwrap();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.0.wait().unwrap().signal(), Some(9));
    let try_it = || {
        let script = "echo ${WIGWAG_RECOVERED-no}";
        runtime.wigwag(["lock", "job", "--timeout", "0.2", "--", "sh", "-c", script]).output().unwrap()
    };
    assert_eq!(try_it().status.code(), Some(75), "its command still runs");
    kill(Pid::from_raw(command), Signal::SIGKILL).unwrap();
    let output = try_it();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"1\n"[..]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the last holder of job died with its permit"), "{said}");
    assert_eq!(try_it().stdout, b"no\n", "told once");
}
