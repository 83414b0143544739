//! `wigwag top` in a real pseudo-terminal, its screen read back.

mod harness;
#[path = "harness/screen.rs"]
mod screen;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};

use harness::{Ended, Gate, OutputInTime as _, Runtime};
use nix::sys::signal::{Signal, kill};
use screen::Screen;

fn top(runtime: &Runtime, arguments: &[&str], rows: u16, columns: u16) -> Screen {
    let command = runtime.wigwag([&["top"], arguments].concat());
    Screen::start(command, rows, columns)
}

/// The line of a service, if it is shown.
fn line_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().skip(2).find(|line| line.starts_with(name))
}

/// The row in which a service is shown.
fn row_of(text: &str, name: &str) -> Option<usize> {
    text.lines().position(|line| line.starts_with(name))
}

/// Calls a service again and again until it is dropped.
struct Caller(Child);

impl Caller {
    fn of(runtime: &Runtime, name: &str) -> Caller {
        let script =
            format!("while :; do echo 1234567 | {} call {name} > /dev/null; done", env!("CARGO_BIN_EXE_wigwag"));
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).env("XDG_RUNTIME_DIR", runtime.path()).stdin(Stdio::null()).stderr(Stdio::null());
        Caller(command.spawn().unwrap())
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn services_are_shown_while_they_work_at_80_columns() {
    let runtime = Runtime::new();
    let _camera = runtime.serve("camera", &["--do", "upper"]);
    let _idle = runtime.serve("idle", &["--do", "echo"]);
    let _caller = Caller::of(&runtime, "camera");
    let screen = top(&runtime, &["--interval", "0.1"], 24, 80);
    let works = |text: &str| line_of(text, "camera").is_some_and(|line| line.contains('█') || line.contains('▄'));
    let text = screen.until("calls are seen", works);
    assert!(text.starts_with("wigwag top  2 services"), "{text}");
    assert!(screen.line(0).trim_end().ends_with("every 0.1 s"), "{text}");
    for part in [
        "Name",
        "▼Calls/s",
        "Bytes/s",
        "Busy",
        "idle",
        "exchange",
        "program   wigwag (",
        "since it was bound",
        "q quit",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    // The selected one's histogram, once a call has been timed.
    let text = screen.until("a histogram", |text| text.contains("128ns") && text.contains("<"));
    assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() <= 24, "{text}");
}

#[test]
fn keys_sort_select_reverse_pause_and_quit() {
    let runtime = Runtime::new();
    let _services = ["apple", "berry", "cherry"].map(|name| runtime.serve(name, &["--do", "echo"]));
    let mut screen = top(&runtime, &["--interval", "0.1", "--sort", "name"], 24, 80);
    screen.until("all are shown, by name", |text| {
        row_of(text, "apple") < row_of(text, "cherry") && text.contains("cherry")
    });
    assert!(screen.text().contains(" apple ─"), "the first one is selected: {}", screen.text());
    screen.press("j\x1b[B");
    screen.until("the third is selected", |text| text.contains(" cherry ─"));
    screen.press("r");
    screen.until("reversed", |text| row_of(text, "apple") > row_of(text, "cherry") && text.contains(" cherry ─"));
    screen.press("k");
    screen.until("nothing is above the first", |text| text.contains(" cherry ─"));
    screen.press("s");
    screen.until("sorted by sessions", |text| text.contains("▼Sess"));
    screen.press("s");
    screen.until("the other way", |text| text.contains("▲Sess"));
    screen.press("h");
    screen.until("the histogram of what happened lately", |text| text.contains("took, lately"));
    screen.press("p");
    screen.until("paused", |text| text.contains("paused"));
    assert!(screen.is_taken());
    screen.press("q");
    assert_eq!(screen.wait().code(), Some(0));
    screen.is_given_back();
}

#[test]
fn another_size_is_drawn_at_once() {
    let runtime = Runtime::new();
    let _services: Vec<_> = (0..6).map(|index| runtime.serve(&format!("service-{index}"), &["--do", "echo"])).collect();
    let mut screen = top(&runtime, &["--interval", "3600"], 24, 80);
    screen.until("all are shown", |text| text.contains("service-5") && text.contains("program"));
    screen.resize(40, 132);
    let is_drawn = |text: &str, rows: usize| {
        let (first, last) = (text.lines().next().unwrap_or_default(), text.lines().last().unwrap_or_default());
        text.lines().count() == rows && first.starts_with("wigwag top") && last.contains("r reverse")
    };
    let wide = screen.until("drawn on the larger one", |text| is_drawn(text, 40));
    assert!(wide.contains("service-5") && wide.lines().next().unwrap().trim_end().chars().count() > 100, "{wide}");
    screen.resize(10, 60);
    let small = screen.until("drawn on the smaller one", |text| is_drawn(text, 10));
    assert!(small.contains("service-5") && !small.contains("program"), "{small}");
    assert!(small.lines().all(|line| line.chars().count() <= 60), "{small}");
    screen.press("\x03");
    assert_eq!(screen.wait().code(), Some(0));
    screen.is_given_back();
}

/// A shell with job control, and `wigwag top` as its job: what a user types Ctrl-Z into.
#[test]
fn control_z_gives_the_terminal_back_until_it_goes_on() {
    let runtime = Runtime::new();
    let _service = runtime.serve("camera", &["--do", "echo"]);
    let script = "set -m; wigwag top --interval 3600; echo it stopped; read line; fg";
    let mut screen = Screen::start(runtime.shell(script), 24, 80);
    screen.until("it is there", |text| text.starts_with("wigwag top") && text.contains("camera"));
    assert!(screen.is_taken());
    screen.press("\x1a");
    screen.until("the shell has the terminal", |text| text.contains("it stopped"));
    screen.is_given_back();
    screen.press("\n");
    screen.until("it is drawn again", |text| text.starts_with("wigwag top") && text.contains("camera"));
    assert!(screen.is_taken());
    screen.resize(30, 100);
    screen.until("and goes on as before", |text| text.lines().count() == 30);
    screen.press("q");
    assert_eq!(screen.wait().code(), Some(0));
    screen.is_given_back();
}

/// Where nobody could let it go on, Ctrl-Z must not stop it for ever: the program is the leader of its session here.
#[test]
fn control_z_without_a_shell_does_nothing() {
    let runtime = Runtime::new();
    let mut screen = top(&runtime, &["--interval", "3600"], 24, 80);
    screen.until("it is there", |text| text.contains("No service of this user runs"));
    screen.press("\x1a");
    screen.press("p");
    screen.until("it goes on", |text| text.starts_with("wigwag top") && text.contains("paused"));
    screen.press("q");
    assert_eq!(screen.wait().code(), Some(0));
    screen.is_given_back();
}

#[test]
fn a_semaphore_shows_who_holds_its_permits_and_who_waits() {
    let runtime = Runtime::new();
    let _gate = Gate::new(&runtime);
    let first = runtime.lock("pool", "3");
    let screen = top(&runtime, &["--interval", "0.1"], 24, 80);
    let state = |text: &str, state: &str| line_of(text, "pool").is_some_and(|line| line.contains(state));
    screen.until("one is held", |text| state(text, "permits  2 free"));
    let text = screen.until("by whom", |text| text.contains(&format!("   1  wigwag ({})", first.0.id())));
    assert!(text.starts_with("wigwag top  0 services  0 sessions") && text.contains("1 semaphore"), "{text}");
    assert!(text.contains("permits   3, 2 free") && text.contains("who holds how many permits"), "{text}");
    let semaphore = wigwag::Semaphore::open(runtime.path().join("wigwag/pool.semaphore"), 3).unwrap();
    let two = semaphore.acquire_many(2).unwrap();
    screen.until("none is left", |text| state(text, "permits  all held"));
    screen.until("who has most", |text| text.contains("   2  ") && text.contains(&std::process::id().to_string()));
    let _waits = runtime.lock("pool", "3");
    screen.until("one waits", |text| state(text, "permits  1 wait") && text.contains("waiting   1"));
    drop(two);
    screen.until("it has one", |text| state(text, "permits  1 free") && text.contains("waiting   0"));
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let runtime = Runtime::new();
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        let mut screen = top(&runtime, &["--interval", "3600"], 24, 80);
        screen.until("it is there", |text| text.contains("No service of this user runs"));
        assert!(screen.is_taken());
        kill(screen.process(), signal).unwrap();
        assert_eq!(screen.wait().code(), Some(code), "{signal}");
        screen.is_given_back();
    }
}

#[test]
fn a_service_that_is_stopped_or_hangs_or_ends_is_seen() {
    let runtime = Runtime::new();
    let stopped = runtime.serve("stopped", &["--do", "echo"]);
    let _gate = Gate::new(&runtime);
    let _hangs = runtime.serve("hangs", &["--exec", "cat gate"]);
    let mut call = runtime.wigwag(["call", "hangs", "x"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    stopped.signal(Signal::SIGSTOP);
    let screen = top(&runtime, &["--interval", "0.1"], 24, 80);
    screen
        .until("it is stopped", |text| line_of(text, "stopped").is_some_and(|line| line.contains("exchange stopped")));
    screen.until("its call is long", |text| line_of(text, "hangs").is_some_and(|line| line.contains("exchange call ")));
    stopped.signal(Signal::SIGKILL);
    screen.until("it is gone", |text| text.contains("1 service ") && text.contains("1 stale"));
    let _again = runtime.serve("stopped", &["--do", "echo"]);
    screen.until("it is there again", |text| text.contains("2 services") && !text.contains("stale"));
    call.kill().unwrap();
    call.wait().unwrap();
}

#[test]
fn one_frame_is_text() {
    let runtime = Runtime::new();
    let none = runtime.run(&["top", "--once", "--interval", "0.1"]).succeeded().text();
    assert!(none.contains(" 0 calls/s") && !none.contains("-0"), "{none}");
    assert!(none.starts_with("wigwag top  0 services") && none.contains("No service of this user runs"), "{none}");
    let _camera = runtime.serve("camera", &["--do", "upper"]);
    for _ in 0..3 {
        runtime.run(&["call", "camera", "x"]).succeeded();
    }
    let text = runtime.run(&["top", "--once", "--interval", "0.1"]).succeeded().text();
    for part in ["wigwag top  1 service  0 sessions", "camera", "exchange idle", "calls     3, 1 thread", "128ns"] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    assert!(!text.contains('\x1b') && text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let runtime = Runtime::new();
    let complaint = Ended::from(runtime.wigwag(["top"]).output_in_time()).failed(2);
    assert!(complaint.contains("--once"), "{complaint}");
    let status = runtime.wigwag(["top", "--interval", "0"]).stderr(Stdio::null()).status().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(2), None));
}
