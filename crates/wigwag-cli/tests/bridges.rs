//! What `wigwag ls`, `inspect` and `metrics` tell of names that a bridge carries: the bridge is asked, and one that
//! does not answer keeps nobody from looking.

mod harness;

use std::time::{Duration, Instant};

use harness::Runtime;
use wigwag::{Contract, Server};

/// A bridge of which only the status is there, until the guard is dropped.
struct Bridge(wigwag::ShutdownHandle, Option<std::thread::JoinHandle<()>>);

impl Bridge {
    fn start(runtime: &Runtime, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Bridge {
        let name = runtime.path().join("wigwag/bridge.sock");
        std::fs::create_dir_all(name.parent().unwrap()).unwrap();
        let contract = Contract::named("wigwag-bridge status", 1);
        let mut server = Server::builder().contract(contract).bind(name).unwrap();
        let stop = server.shutdown_handle();
        let serve = move || {
            let handler = |request: &mut wigwag::Request| {
                let reply = answer(std::str::from_utf8(request).unwrap());
                request.set_reply(reply.as_bytes())
            };
            server.serve(handler).unwrap();
        };
        Bridge(stop, Some(std::thread::spawn(serve)))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.0.shutdown();
        let _ = self.1.take().unwrap().join();
    }
}

#[test]
fn names_that_a_bridge_carries_show_their_links() {
    let runtime = Runtime::new();
    let _photo = runtime.serve("photo", &["--do", "invert"]);
    let _other = runtime.serve("other", &["--do", "invert"]);
    let _bridge = Bridge::start(&runtime, |request| match request {
        "lines" => "bridge 1 on a\nimport photo as photo: linked\u{1b}[31m to b\n".into(),
        "lines of photo" => "import photo as photo: linked to b, round trip 240 us\n".into(),
        "metrics" => "# TYPE wigwag_bridge_links gauge\nwigwag_bridge_links{name=\"photo\"} 1\n".into(),
        _ => String::new(),
    });
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
    let _bridge = Bridge::start(&runtime, |_| {
        std::thread::sleep(Duration::from_secs(3));
        String::new()
    });
    let began = Instant::now();
    assert!(runtime.run(&["ls"]).succeeded().text().contains("photo"));
    assert!(runtime.run(&["inspect", "photo"]).succeeded().text().contains("photo"));
    println!("looked in {:?}", began.elapsed());
}
