//! The examples, compiled with all warnings and run; those with two sides with Wigwag's own program as the other one.

mod support;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use support::{compile, ground, here, is_there, library, run, shared, target, text};

/// Compiles an example into a directory.
fn example(compiler: &str, source: &str, directory: &Path, more: &[&str]) -> PathBuf {
    let program = directory.join(Path::new(source).file_stem().unwrap());
    let link = shared();
    let all: Vec<&OsStr> = more.iter().map(OsStr::new).chain(link.iter().map(|word| word.as_os_str())).collect();
    compile(compiler, &here(&format!("examples/{source}")), &program, &all);
    program
}

/// Wigwag's program, which is written in Rust.
fn wigwag() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "wigwag-cli", "--manifest-path"]);
        cargo.arg(here("../../Cargo.toml")).env("CARGO_TARGET_DIR", target());
        run(&mut cargo);
        target().join("debug/wigwag")
    })
}

/// A server, which ends with the test.
struct Serving(Child);

impl Serving {
    /// Starts it, and waits for its first line.
    fn start(command: &mut Command) -> Serving {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Serving(child)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_client_in_c_and_a_server_in_rust() {
    if !is_there("gcc") {
        return;
    }
    let ground = ground();
    let client = example("gcc", "client.c", ground.path("").as_path(), &[]);
    let mut server = Command::new(wigwag());
    let server = server.arg("serve").arg(ground.path("shout")).args(["--do", "upper"]).stdout(Stdio::null()).spawn();
    let _server = Serving(server.unwrap()); // the client waits for it
    let said = run(Command::new(client).arg(ground.path("shout")).args(["hello", "shared memory"]));
    assert_eq!(text(&said.stdout), "hello -> HELLO\nshared memory -> SHARED MEMORY\n");
}

#[test]
fn a_client_in_rust_and_a_server_in_c() {
    if !is_there("gcc") {
        return;
    }
    let ground = ground();
    let server = example("gcc", "server.c", ground.path("").as_path(), &[]);
    let mut serving = Serving::start(Command::new(server).arg(ground.path("backwards")));
    let call = |text: &str| {
        let mut command = Command::new(wigwag());
        command.arg("call").arg(ground.path("backwards")).arg(text);
        command
    };
    assert_eq!(text(&run(&mut call("shared memory")).stdout).trim_end(), "yromem derahs");
    let refused = support::ended(&mut call(""));
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("there is nothing to be reversed"), "{}", text(&refused.stderr));
    let pid = rustix::process::Pid::from_child(&serving.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(serving.0.wait().unwrap().success());
}

#[test]
fn a_publisher_and_a_subscriber_in_c() {
    for compiler in ["gcc", "clang"].into_iter().filter(|compiler| is_there(compiler)) {
        let ground = ground();
        let directory = ground.path("");
        let [publisher, subscriber] =
            ["publisher.c", "subscriber.c"].map(|source| example(compiler, source, directory.as_path(), &[]));
        let name = ground.path("camera");
        let mut publishing = Serving(Command::new(&publisher).arg(&name).arg("3").spawn().unwrap());
        let said = support::ended(Command::new(&subscriber).arg(&name));
        let sums = [1, 2, 3].map(|number| format!("frame {number}: {}\n", number * 64 * 48)).concat();
        assert_eq!(text(&said.stdout), format!("{sums}the end\n"), "{}", text(&said.stderr));
        assert!(said.status.success() && publishing.0.wait().unwrap().success());

        // One that is killed is told apart from the end.
        let publishing = Serving(Command::new(&publisher).arg(&name).arg("1000000000000").spawn().unwrap());
        let mut reading = Command::new(&subscriber);
        let mut reading = reading.arg(&name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut frames, mut line) = (BufReader::new(reading.stdout.take().unwrap()), String::new());
        frames.read_line(&mut line).unwrap();
        assert!(line.contains("frame"), "{line}"); // which one it is, or how many were lost
        drop(publishing);
        std::io::copy(&mut frames, &mut std::io::sink()).unwrap();
        let said = reading.wait_with_output().unwrap();
        assert!(text(&said.stderr).contains("is gone without a farewell"), "{}", text(&said.stderr));
        assert_eq!(said.status.code(), Some(1));
    }
}

#[test]
fn an_event_loop_with_several_sessions() {
    if !is_there("gcc") {
        return;
    }
    let ground = ground();
    let program = example("gcc", "loop.c", ground.path("").as_path(), &[]);
    let said = text(&run(Command::new(program).arg(ground.path("squares"))).stdout);
    assert_eq!(said.lines().count(), 3);
    assert!(said.lines().all(|line| line.ends_with("20 squares, sum 2870")), "{said}");
}

#[test]
fn a_tour_in_cpp() {
    for compiler in ["g++", "clang++"].into_iter().filter(|compiler| is_there(compiler)) {
        let ground = ground();
        let program = example(compiler, "tour.cc", ground.path("").as_path(), &["-fno-exceptions"]);
        let said = text(&run(Command::new(program).arg(ground.path(""))).stdout);
        let expected = "order 7 costs 100\nrefused: an order has 16 bytes\nmessage: one\nmessage: two\n\
                        stream: bytes both ways\nto all: 1.07, number 1, 0 lost before\n\
                        to all: 1.07, number 1, 0 lost before\n\
                        permits: 1 free, two at once: WIGWAG_ERR_WOULD_BLOCK\n";
        assert_eq!(said, expected);
    }
}

#[test]
fn another_language_by_the_header_alone() {
    if !is_there("python3") {
        return;
    }
    let ground = ground();
    let mut python = Command::new("python3");
    python.arg(here("examples/python/by_header_alone.py")).arg(library().join("libwigwag.so")).arg(ground.path(""));
    let said = text(&run(&mut python).stdout);
    assert!(said.starts_with("wigwag 0.1.0\nexchange: SHARED MEMORY\nerror: WIGWAG_ERR_CAPACITY_EXCEEDED: "), "{said}");
    assert!(said.ends_with("queue: by select\n"), "{said}");
}
