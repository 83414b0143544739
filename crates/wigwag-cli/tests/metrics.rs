//! `wigwag metrics`: the page, read by a parser of the text format of Prometheus, on standard output and over HTTP.

mod harness;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::{Ended, Gate, Runtime};
use nix::sys::signal::Signal;
use prometheus_parse::{Scrape, Value};

fn parse(page: &str) -> Scrape {
    Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// The page on standard output.
fn page(runtime: &Runtime) -> Scrape {
    parse(&runtime.run(&["metrics"]).succeeded().text())
}

/// The number of a metric of a service.
#[track_caller]
fn number(page: &Scrape, metric: &str, name: &str) -> f64 {
    let sample = page.samples.iter().find(|sample| sample.metric == metric && sample.labels.get("name") == Some(name));
    match sample.unwrap_or_else(|| panic!("no {metric} of {name}")).value {
        Value::Counter(number) | Value::Gauge(number) | Value::Untyped(number) => number,
        ref other => panic!("{metric} is {other:?}"),
    }
}

/// How many names there are of that kind in that state.
fn names(page: &Scrape, kind: &str, state: &str) -> f64 {
    let of = |sample: &&prometheus_parse::Sample| {
        sample.metric == "wigwag_names"
            && sample.labels.get("kind") == Some(kind)
            && sample.labels.get("state") == Some(state)
    };
    let Value::Gauge(number) = page.samples.iter().find(of).unwrap().value else { panic!("no gauge") };
    number
}

#[test]
fn what_was_done_is_on_the_page_by_type_and_convention() {
    let runtime = Runtime::new();
    let _server = runtime.serve("shout", &["--do", "upper"]);
    let before = page(&runtime);
    for _ in 0..5 {
        runtime.run(&["call", "shout", "1234567"]).succeeded();
    }
    let text = runtime.run(&["metrics"]).succeeded().text();
    let after = parse(&text);
    let difference = |metric: &str| number(&after, metric, "shout") - number(&before, metric, "shout");
    assert_eq!(difference("wigwag_calls_total"), 5.0);
    assert_eq!(difference("wigwag_request_bytes_total"), 35.0);
    assert_eq!(difference("wigwag_reply_bytes_total"), 35.0);
    assert_eq!(difference("wigwag_sessions_accepted_total"), 5.0);
    assert_eq!(difference("wigwag_failed_calls_total"), 0.0);
    assert!(difference("wigwag_busy_seconds_total") > 0.0);
    assert_eq!((number(&after, "wigwag_running", "shout"), names(&after, "service", "alive")), (1.0, 1.0));

    // Each family has its help and its type, and its name says what it counts.
    for sample in &after.samples {
        // The parser takes a histogram's sum and count for metrics of their own.
        let family =
            ["_sum", "_count"].iter().find_map(|end| sample.metric.strip_suffix(end)).unwrap_or(&sample.metric);
        let help = after.docs.get(family).unwrap_or_else(|| panic!("no help for {family}"));
        assert!(help.ends_with('.'), "{help}");
        let is_counter = matches!(sample.value, Value::Counter(_));
        assert_eq!(sample.metric.ends_with("_total"), is_counter, "{}", sample.metric);
        assert!(sample.metric.starts_with("wigwag_") && text.contains(&format!("# TYPE {family} ")));
    }
    let histogram = after.samples.iter().find(|sample| sample.metric == "wigwag_call_duration_seconds").unwrap();
    let Value::Histogram(buckets) = &histogram.value else { panic!("no histogram: {histogram:?}") };
    assert!(
        buckets.windows(2).all(|two| two[0].count <= two[1].count && two[0].less_than < two[1].less_than),
        "{buckets:?}"
    );
    let last = buckets.last().unwrap();
    assert_eq!((last.count, last.less_than), (5.0, f64::INFINITY));
}

#[test]
fn a_name_of_strange_letters_is_escaped() {
    let runtime = Runtime::new();
    let name = r#"a "b"\n c"#;
    let _server = runtime.serve(name, &["--do", "echo"]);
    runtime.run(&["call", name, "x"]).succeeded();
    let text = runtime.run(&["metrics"]).succeeded().text();
    assert!(text.contains(r#"wigwag_calls_total{name="a \"b\"\\n c"} 1"#), "{text}");
    assert!(parse(&text).samples.len() > 20);
}

#[test]
fn who_is_stopped_or_hangs_or_died_is_seen() {
    let runtime = Runtime::new();
    let stopped = runtime.serve("stopped", &["--do", "echo"]);
    let _gate = Gate::new(&runtime);
    let _hangs = runtime.serve("hangs", &["--exec", "cat gate"]);
    let mut call = runtime.wigwag(["call", "hangs", "x"]).stderr(Stdio::null()).spawn().unwrap();
    stopped.signal(Signal::SIGSTOP);
    let begin = Instant::now();
    let seen = loop {
        let seen = page(&runtime);
        if number(&seen, "wigwag_busy_threads", "hangs") == 1.0 && number(&seen, "wigwag_running", "stopped") == 0.0 {
            break seen;
        }
        assert!(begin.elapsed() < Duration::from_secs(30));
    };
    assert!(number(&seen, "wigwag_running_call_seconds", "hangs") > 0.0);
    assert_eq!((number(&seen, "wigwag_sessions", "hangs"), number(&seen, "wigwag_running", "hangs")), (1.0, 1.0));
    stopped.signal(Signal::SIGKILL);
    stopped.wait();
    let seen = page(&runtime);
    assert_eq!((names(&seen, "service", "alive"), names(&seen, "service", "dead")), (1.0, 1.0));
    assert!(!seen.samples.iter().any(|sample| sample.labels.get("name") == Some("stopped")));
    call.kill().unwrap();
    call.wait().unwrap();
}

#[test]
fn who_holds_how_many_permits_of_a_semaphore_is_on_the_page() {
    let runtime = Runtime::new();
    let _gate = Gate::new(&runtime);
    let has = |seen: &Scrape, metric: &str, value: f64| {
        let of_pool = |sample: &&prometheus_parse::Sample| sample.labels.get("name") == Some("pool");
        let mut samples = seen.samples.iter().filter(of_pool).filter(|sample| sample.metric == metric);
        samples.any(|sample| sample.value == Value::Gauge(value))
    };
    let until = |what: &str, is_so: &dyn Fn(&Scrape) -> bool| {
        let begin = Instant::now();
        loop {
            let seen = page(&runtime);
            if is_so(&seen) {
                return seen;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{what}: {seen:?}");
        }
    };
    /// Pid, program, whether it lives, permits: the most first.
    fn holders(seen: &Scrape) -> Vec<(String, String, String, f64)> {
        let held = seen.samples.iter().filter(|sample| sample.metric == "wigwag_permits_held");
        let holders = held.map(|sample| {
            let label = |name| sample.labels.get(name).unwrap().to_owned();
            let Value::Gauge(permits) = sample.value else { panic!("no gauge: {sample:?}") };
            (label("pid"), label("program"), label("alive"), permits)
        });
        holders.collect()
    }

    let first = runtime.lock("pool", "3");
    let seen = until("one is held", &|seen| has(seen, "wigwag_permits_free", 2.0));
    assert_eq!((number(&seen, "wigwag_permits", "pool"), number(&seen, "wigwag_permit_waiters", "pool")), (3.0, 0.0));
    assert_eq!(holders(&seen), [(first.0.id().to_string(), "wigwag".into(), "true".into(), 1.0)]);
    assert_eq!(names(&seen, "semaphore", "alive"), 1.0);

    let semaphore = wigwag::Semaphore::open(runtime.path().join("wigwag/pool.semaphore"), 3).unwrap();
    let two = semaphore.acquire_many(2).unwrap();
    let waits = runtime.lock("pool", "3");
    let seen = until("one waits", &|seen| has(seen, "wigwag_permit_waiters", 1.0));
    assert_eq!(number(&seen, "wigwag_permits_free", "pool"), 0.0);
    let most = &holders(&seen)[0];
    assert_eq!((&most.0, most.3), (&std::process::id().to_string(), 2.0));
    drop(two);
    let seen = until("it has one", &|seen| has(seen, "wigwag_permits_free", 1.0));
    assert_eq!(number(&seen, "wigwag_permit_waiters", "pool"), 0.0);
    assert!(holders(&seen).iter().any(|holder| holder.0 == waits.0.id().to_string() && holder.3 == 1.0), "{seen:?}");
}

/// `wigwag metrics --listen`, killed with the test.
struct Exporter {
    child: Child,
    address: SocketAddr,
}

impl Exporter {
    fn start(runtime: &Runtime, listen: &str) -> Exporter {
        let mut child = runtime.wigwag(["metrics", "--listen", listen]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix("/metrics"));
        let address = address.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        Exporter { child, address }
    }

    /// The head and the body of the answer.
    fn ask(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_page_is_served_on_this_machine_alone_unless_told_otherwise() {
    let runtime = Runtime::new();
    let exporter = Exporter::start(&runtime, "0");
    assert!(exporter.address.ip().is_loopback());
    let server = runtime.serve("shout", &["--do", "upper"]);
    runtime.run(&["call", "shout", "x"]).succeeded();
    let (head, body) = exporter.ask("GET", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(number(&parse(&body), "wigwag_calls_total", "shout"), 1.0);

    // Each page is of its moment, and a server that began anew counts anew.
    drop(server);
    assert!(!exporter.ask("GET", "/metrics?x=y").1.contains("shout"));
    let again = runtime.serve("shout", &["--do", "upper"]);
    runtime.run(&["call", "shout", "x"]).succeeded();
    assert_eq!(number(&parse(&exporter.ask("GET", "/metrics").1), "wigwag_calls_total", "shout"), 1.0);
    drop(again); // and nobody looks before the next one has the name
    let _third = runtime.serve("shout", &["--do", "upper"]);
    assert_eq!(number(&parse(&exporter.ask("GET", "/metrics").1), "wigwag_calls_total", "shout"), 0.0);

    for (method, path, status) in
        [("GET", "/other", 404), ("POST", "/metrics", 405), ("GET", "/", 200), ("HEAD", "/metrics", 200)]
    {
        let (head, body) = exporter.ask(method, path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {head}");
        assert_eq!(body.is_empty(), method == "HEAD", "{body}");
    }
    let everywhere = Exporter::start(&runtime, "0.0.0.0:0");
    assert!(everywhere.address.ip().is_unspecified());
}

#[test]
fn clients_that_say_nothing_or_read_nothing_do_not_keep_others_out() {
    let runtime = Runtime::new();
    let exporter = Exporter::start(&runtime, "0");
    let silent: Vec<_> = (0..30).map(|_| TcpStream::connect(exporter.address).unwrap()).collect();
    let mut deaf: Vec<_> = (0..30).map(|_| TcpStream::connect(exporter.address).unwrap()).collect();
    for stream in &mut deaf {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    for _ in 0..3 {
        assert!(exporter.ask("GET", "/metrics").0.starts_with("HTTP/1.1 200"));
    }
    // A client that says nothing is dropped after a while, and so is one that says nonsense, or too much.
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    }
    drop(deaf);
    let said = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(exporter.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut said = [0; 12];
        stream.read_exact(&mut said).unwrap();
        String::from_utf8(said.to_vec()).unwrap()
    };
    assert_eq!(said(b"nonsense\r\n\r\n"), "HTTP/1.1 400");
    assert_eq!(said(&[b"GET / HTTP/1.1\r\nX: ", &[b'x'; 8192 - 19][..]].concat()), "HTTP/1.1 431");
}

#[test]
fn what_cannot_be_listened_on_is_told() {
    let runtime = Runtime::new();
    let exporter = Exporter::start(&runtime, "0");
    let complaint = runtime.run(&["metrics", "--listen", &exporter.address.to_string()]).failed(1);
    assert!(complaint.contains(&format!("could not listen on {}", exporter.address)), "{complaint}");
    for wrong in ["nowhere:1", ":1", "no"] {
        let ended: Ended = runtime.run(&["metrics", "--listen", wrong]);
        assert!(ended.code == Some(2) && ended.stderr.contains("0.0.0.0:9464"), "{ended:?}");
    }
}
