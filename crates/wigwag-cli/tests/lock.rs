//! `wigwag lock`: one at a time, whoever is killed.

mod harness;

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::{LIMIT, OutputInTime as _, Running, Runtime, first_line};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
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
    let status = |arguments: &[&str]| runtime.wigwag(arguments).output_in_time().status.code();
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
        let output = runtime.wigwag(["lock", "job", "--timeout", timeout, "--", "true"]).output_in_time();
        assert_eq!(output.status.code(), Some(75));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no permit came free"), "{said}");
    }
    let output = runtime.wigwag(["lock", "job", "--permits", "2", "--", "true"]).output_in_time();
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
        assert!(one.status().success());
    }
}

#[test]
fn signals_are_passed_on() {
    let runtime = Runtime::new();
    let mut running = lock(&runtime, "while :; do sleep 0.01; done");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.status().code(), Some(9));

    // A waiter for that permit ends at once.
    let _held = lock(&runtime, "sleep 100");
    let mut waiting = Running(runtime.wigwag(["lock", "job", "--", "true"]).spawn().unwrap());
    std::thread::sleep(Duration::from_millis(100));
    waiting.signal(Signal::SIGTERM);
    assert_eq!(waiting.status().code(), Some(143));
}

#[test]
fn a_killed_holders_command_keeps_the_permit_until_it_ends_and_the_next_is_told() {
    let runtime = Runtime::new();
    let mut running = lock(&runtime, "exec sleep 100");
    let command: i32 = std::fs::read_to_string(runtime.path().join("up")).unwrap().trim().parse().unwrap();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.status().signal(), Some(9));
    let try_it = || {
        let script = "echo ${WIGWAG_RECOVERED-no}";
        runtime.wigwag(["lock", "job", "--timeout", "0.2", "--", "sh", "-c", script]).output_in_time()
    };
    assert_eq!(try_it().status.code(), Some(75), "its command still runs");
    kill(Pid::from_raw(command), Signal::SIGKILL).unwrap();
    let output = try_it();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"1\n"[..]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the last holder of job died with its permit"), "{said}");
    assert_eq!(try_it().stdout, b"no\n", "told once");
}

#[test]
fn c8_a_command_has_its_options_with_two_dashes_and_without() {
    let runtime = Runtime::new();
    let said = |arguments: &[&str]| runtime.run(&[&["lock"], arguments].concat()).succeeded().text();
    assert_eq!(said(&["job", "echo", "a", "--", "b", "--timeout", "-n"]), "a -- b --timeout -n\n");
    assert_eq!(said(&["job", "--", "echo", "--", "b"]), "-- b\n");
    assert_eq!(said(&["-w", "10", "job", "-x", "echo", "a", "-E"]), "a -E\n");
    assert_eq!(said(&["job", "-c", "echo $((40 + 2))"]), "42\n");
    assert_eq!(said(&["job", "--close", "--", "echo", "c"]), "c\n");
    for impossible in ["-s", "--shared", "-F", "--no-fork"] {
        let why = runtime.run(&["lock", impossible, "job", "true"]).failed(2);
        assert!(why.contains("cannot be had"), "{why}");
    }
}

#[test]
fn c8_the_code_of_a_conflict_is_another_one_than_the_commands() {
    let runtime = Runtime::new();
    let code = |arguments: &[&str]| runtime.run(&[&["lock", "job"], arguments].concat()).code;
    assert_eq!(code(&["-E", "99", "-c", "exit 75"]), Some(75));
    let _held = lock(&runtime, "sleep 100");
    for arguments in [&["-n", "-E", "99"][..], &["--nb", "--conflict-exit-code", "99"], &["-w", "0.05", "-E", "99"]] {
        assert_eq!(code(&[arguments, &["true"]].concat()), Some(99), "{arguments:?}");
    }
    assert_eq!(code(&["-n", "true"]), Some(75));
}

#[test]
fn c8_a_lock_within_a_lock_of_its_own_name_does_not_wait_for_itself() {
    let runtime = Runtime::new();
    let program = env!("CARGO_BIN_EXE_wigwag");
    let script = format!("sh -c '{program} lock job -- echo inner; echo code $?'; exit 3");
    let output = runtime.wigwag(["lock", "job", "-c", &script]).output_in_time();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"code 75\n"[..]), "{said}");
    assert!(said.contains("job is held by process") && said.contains("wait for itself for ever"), "{said}");
    // A waiter with a timeout waits that long, and is told.
    let script = format!("{program} lock job -w 0.1 true; echo code $?");
    let output = runtime.wigwag(["lock", "job", "-c", &script]).output_in_time();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.stdout, b"code 75\n", "{said}");
    assert!(said.contains("waits for this very command.") && said.contains("within 100 ms"), "{said}");
    // Another name, another permit of the same one: no reason to end.
    for (outer, inner) in [(&["a"][..], &["b"][..]), (&["c", "--permits", "2"], &["c", "--permits", "2"])] {
        let inner = [&[program, "lock"], inner, &["echo", "inner"]].concat();
        assert_eq!(runtime.run(&[&["lock"], outer, &inner].concat()).succeeded().text(), "inner\n");
    }
    // What the environment says of a lock that is over is not believed.
    let held = lock(&runtime, "sleep 100 & wait");
    let mut waiting = runtime.wigwag(["lock", "job", "echo", "now"]);
    let path = runtime.path().join("wigwag/job.semaphore");
    waiting.env("WIGWAG_LOCKS", format!("{} {}", std::process::id(), path.display()));
    let mut waiting = Running(waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let line = first_line(waiting.0.stderr.take().unwrap());
    assert!(line.contains("waiting for job: held by"), "{line}");
    held.signal(Signal::SIGTERM);
    assert!(waiting.status().success());
}

#[test]
fn c8_who_waits_is_told_who_holds() {
    let runtime = Runtime::new();
    let held = lock(&runtime, "sleep 100 & wait");
    let mut waiting = Running(runtime.wigwag(["lock", "job", "true"]).stderr(Stdio::piped()).spawn().unwrap());
    let line = first_line(waiting.0.stderr.take().unwrap());
    let holder = format!("wigwag: waiting for job: held by process {} (", held.0.id());
    assert!(line.starts_with(&holder) && line.contains("lock job -- sh -c"), "{line}");
    let complaint = runtime.run(&["lock", "job", "-n", "true"]).failed(75);
    assert!(
        complaint.contains("at once") && complaint.contains(&format!("held by process {}", held.0.id())),
        "{complaint}"
    );
    held.signal(Signal::SIGTERM);
    assert!(waiting.status().success());
}
