//! What `wigwag ls`, `inspect` and `metrics` tell of names that a bridge carries: the bridge is asked, and one that
//! does not answer keeps nobody from looking.

mod harness;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::Runtime;
use wigwag::{Contract, Server};

/// A bridge of which only the status is there, until the guard is dropped: a process of its own, as only a process has
/// a runtime directory.
struct Bridge(Child);

impl Bridge {
    /// One that answers at once, or never.
    fn start(runtime: &Runtime, answers: bool) -> Bridge {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "play_bridge", "--ignored", "--nocapture"]);
        command.env("XDG_RUNTIME_DIR", runtime.path()).env("WIGWAG_TEST_BRIDGE", answers.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("the bridge is there")), "it ended before it began");
        Bridge(child)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn play_bridge() {
    let Ok(answers) = std::env::var("WIGWAG_TEST_BRIDGE") else { return };
    let contract = Contract::named("wigwag-bridge status", 1);
    let mut server = Server::builder().contract(contract).bind("bridge").unwrap();
    println!("the bridge is there");
    let handler = |request: &mut wigwag::Request| {
        if answers == "false" {
            std::thread::sleep(Duration::from_secs(3));
        }
        let reply = match std::str::from_utf8(request).unwrap() {
            "lines" => "bridge 1 on a\nimport photo as photo: linked\u{1b}[31m to b\n",
            "lines of photo" => "import photo as photo: linked to b, round trip 240 us\n",
            "metrics" => "# TYPE wigwag_bridge_links gauge\nwigwag_bridge_links{name=\"photo\"} 1\n",
            _ => "",
        };
        request.set_reply(reply.as_bytes())
    };
    server.serve(handler).unwrap();
}

#[test]
fn names_that_a_bridge_carries_show_their_links() {
    let runtime = Runtime::new();
    let _photo = runtime.serve("photo", &["--do", "invert"]);
    let _other = runtime.serve("other", &["--do", "invert"]);
    let _bridge = Bridge::start(&runtime, true);
    let listing = runtime.run(&["ls"]).succeeded().text();
    assert!(listing.contains("import photo as photo: linked [31m to b"), "no terminal is steered: {listing}");
    let photo = runtime.run(&["inspect", "photo"]).succeeded().text();
    assert!(photo.contains("round trip 240 us"), "{photo}");
    let other = runtime.run(&["inspect", "other"]).succeeded().text();
    assert!(!other.contains("import"), "{other}");
    let metrics = runtime.run(&["metrics"]).succeeded().text();
    assert!(metrics.ends_with("\nwigwag_bridge_links{bridge=\"bridge\",name=\"photo\"} 1\n"), "{metrics}");
}

#[test]
fn a_bridge_that_does_not_answer_keeps_nobody_from_looking() {
    let runtime = Runtime::new();
    let _photo = runtime.serve("photo", &["--do", "invert"]);
    let _bridge = Bridge::start(&runtime, false);
    let began = Instant::now();
    assert!(runtime.run(&["ls"]).succeeded().text().contains("photo"));
    assert!(runtime.run(&["inspect", "photo"]).succeeded().text().contains("photo"));
    println!("looked in {:?}", began.elapsed());
}
