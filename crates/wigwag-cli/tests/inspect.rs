//! `wigwag ls` and `wigwag inspect`: servers that work, hang, are stopped, and are dead; streams and semaphores.

mod harness;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Gate, Runtime};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program that is killed if the test ends before it.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inspect(runtime: &Runtime, name: &str) -> Value {
    runtime.run(&["inspect", name, "--json"]).succeeded().json()
}

/// The entry of a name in `wigwag ls --json`.
fn listed(runtime: &Runtime, name: &str) -> Option<Value> {
    let listing = runtime.run(&["ls", "--json"]).succeeded().json();
    listing["names"].as_array().unwrap().iter().find(|entry| entry["name"] == name).cloned()
}

#[test]
fn nothing_is_there_at_first() {
    let runtime = Runtime::new();
    assert!(runtime.run(&["ls"]).succeeded().text().starts_with("There are no names in "));
    assert_eq!(runtime.run(&["ls", "--json"]).succeeded().json()["names"], Value::Array(Vec::new()));
    assert!(runtime.run(&["inspect", "nobody"]).failed(3).contains("no server listens"));
    runtime.run(&["inspect", "a/b"]).failed(2);
    assert!(!runtime.path().join("wigwag").exists(), "who looks makes nothing");
}

#[test]
fn a_server_and_its_calls_are_seen() {
    let runtime = Runtime::new();
    let server = runtime.serve("shout", &["--do", "upper", "--slots", "3", "--allow-uid", "1001", "--threads", "2"]);
    for _ in 0..3 {
        runtime.run(&["call", "shout", "hello"]).succeeded();
    }
    eventually("all is counted", || inspect(&runtime, "shout")["counts"]["calls"] == 3);
    let seen = inspect(&runtime, "shout");
    assert_eq!((&seen["form"], &seen["process"]["state"]), (&"exchange".into(), &"running".into()));
    assert_eq!((&seen["counts"]["bytes_in"], &seen["counts"]["failed"]), (&15.into(), &0.into()));
    assert_eq!((&seen["limits"]["slots"], &seen["policy"]["users"]), (&3.into(), &Value::from(vec![1001])));
    assert_eq!(seen["threads"].as_array().unwrap().len(), 2);
    let name = listed(&runtime, "shout").unwrap();
    assert_eq!((&name["state"], &name["calls"], &name["pid"]), (&"running".into(), &3.into(), &seen["process"]["pid"]));
    let text = runtime.run(&["inspect", "shout"]).succeeded().text();
    for expected in ["exchange", "serves bytes", "the users 1001", "3 slots of", "asleep", "doorbells"] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
    let text = runtime.run(&["ls"]).succeeded().text();
    assert!(text.contains("shout\texchange\trunning"), "{text}");
    server.signal(Signal::SIGKILL);
    server.wait();
    assert_eq!(listed(&runtime, "shout").unwrap()["state"], "dead");
    runtime.run(&["inspect", "shout"]).failed(3);
}

/// Both at once: the handler never ends, and the process is stopped besides. The answer comes all the same.
#[test]
fn a_server_that_hangs_and_is_stopped_is_seen_all_the_same() {
    let runtime = Runtime::new();
    let gate = Gate::new(&runtime);
    let server = runtime.serve("hang", &["--exec", "cat gate"]);
    let client = Running::start(&mut runtime.wigwag(["call", "hang", "hello"]));
    let hangs = |seen: &Value| seen["threads"][0]["state"] == "serving";
    eventually("the handler hangs", || hangs(&inspect(&runtime, "hang")));
    let check = |state: &str| {
        let begin = Instant::now();
        let seen = inspect(&runtime, "hang");
        println!("inspect --json of a server that hangs and is {state}: {:?}", begin.elapsed());
        assert_eq!(seen["process"]["state"], state);
        let session = &seen["sessions"][0];
        assert_eq!((&session["pid"], &session["in_flight"]), (&client.0.id().into(), &1.into()));
        assert_eq!((&session["program"], &seen["threads"][0]["session"]), (&"wigwag".into(), &session["id"]));
        assert!(seen["threads"][0]["serving_for_s"].as_f64().unwrap() <= seen["age_s"].as_f64().unwrap());
        let name = listed(&runtime, "hang").unwrap();
        assert_eq!(name["state"], state);
        assert!(name["longest_now_s"].as_f64().unwrap() > 0.0);
    };
    check("running");
    server.signal(Signal::SIGSTOP);
    eventually("it is stopped", || inspect(&runtime, "hang")["process"]["state"] == "stopped");
    check("stopped");
    server.signal(Signal::SIGCONT);
    eventually("it goes on", || inspect(&runtime, "hang")["process"]["state"] == "running");
    check("running");
    kill(Pid::from_raw(client.0.id() as i32), Signal::SIGKILL).unwrap();
    drop(gate);
}

#[test]
fn a_semaphore_shows_who_holds_what_and_who_waits() {
    let runtime = Runtime::new();
    let lock =
        |script: &str| Running::start(&mut runtime.wigwag(["lock", "job", "--permits", "2", "--", "sh", "-c", script]));
    // `cat` ends with its input, which is this test's.
    let holders = [lock("cat"), lock("cat")];
    eventually("both hold", || listed(&runtime, "job").is_some_and(|job| job["permits_held"] == 2));
    let _waiter = lock("true");
    eventually("a third one waits", || inspect(&runtime, "job")["waiting"].as_array().unwrap().len() == 1);
    let seen = inspect(&runtime, "job");
    assert_eq!((&seen["kind"], &seen["permits"], &seen["free"]), (&"semaphore".into(), &2.into(), &0.into()));
    let mut pids: Vec<u64> =
        seen["holders"].as_array().unwrap().iter().map(|one| one["pid"].as_u64().unwrap()).collect();
    let mut expected: Vec<u64> = holders.iter().map(|one| one.0.id().into()).collect();
    pids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert!(
        seen["holders"].as_array().unwrap().iter().all(|one| one["is_alive"] == true && one["program"] == "wigwag")
    );
    let text = runtime.run(&["inspect", "job"]).succeeded().text();
    assert!(text.contains("2, 0 free, 1 waiting") && text.contains("alive"), "{text}");
    assert!(runtime.run(&["ls"]).succeeded().text().contains("2/2 held"));
}

#[test]
fn a_listener_shows_its_streams() {
    let runtime = Runtime::new();
    let _listener = Running::start(&mut runtime.wigwag(["stream", "listen", "log", "--keep"]));
    eventually("it listens", || listed(&runtime, "log").is_some_and(|log| log["form"] == "stream"));
    let mut connecting = Running::start(&mut runtime.wigwag(["stream", "connect", "log"]));
    use std::io::Write as _;
    connecting.0.stdin.as_mut().unwrap().write_all(&[b'x'; 5000]).unwrap();
    eventually("the bytes are counted", || inspect(&runtime, "log")["counts"]["bytes_in"] == 5000);
    let seen = inspect(&runtime, "log");
    assert_eq!((&seen["form"], &seen["sessions"][0]["pid"]), (&"stream".into(), &connecting.0.id().into()));
}

#[test]
fn a_client_in_another_time_namespace_is_told_of() {
    const UNSHARE: &str = "exec unshare --time --monotonic 8640000 --boottime 8640000 --fork --kill-child";
    let runtime = Runtime::new();
    if !runtime.shell(&format!("{UNSHARE} true")).status().unwrap().success() {
        eprintln!("not tried: no time namespace can be made here (that needs root and `unshare`)");
        return;
    }
    let gate = Gate::new(&runtime);
    let _server = runtime.serve("hang", &["--exec", "cat gate"]);
    let client = format!("{UNSHARE} wigwag call hang hello");
    let _client = Running::start(&mut runtime.shell(&client));
    eventually("it calls", || inspect(&runtime, "hang")["sessions"].as_array().unwrap().len() == 1);
    let session = inspect(&runtime, "hang")["sessions"][0].clone();
    assert_eq!((&session["has_same_clock"], &session["protocol"]), (&false.into(), &2.into()));
    assert!(session["age_s"].as_f64().unwrap() < 600.0, "the server's own time: {session}");
    let text = runtime.run(&["inspect", "hang"]).succeeded().text();
    assert!(text.contains("sessions of another time namespace: 1, without deadlines"), "{text}");
    // Seen from there, the server is as old as from here.
    let from_there = format!("{UNSHARE} wigwag inspect hang --json");
    let output = runtime.shell(&from_there).output().unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(seen["age_s"].as_f64().unwrap() < 600.0, "{seen}");
    drop(gate);
}
