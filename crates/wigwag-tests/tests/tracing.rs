//! What is told through `tracing`.

use std::fmt::{Debug, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wigwag::{Client, ErrorKind, Server};
use wigwag_testing::{Ground, Process, Raw, eventually, limited, role, wire};

#[path = "support/workshop.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod workshop;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What is done once within the thread that tells of an event with this text, before it goes on.
static AT: Mutex<Option<(&str, Act)>> = Mutex::new(None);

type Act = Box<dyn FnOnce() + Send>;

/// Writes down each event of the library's.
struct Writer;

impl Subscriber for Writer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "wigwag"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                let _ = write!(self.0, "{}={value:?} ", field.name());
            }
        }
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        let act = AT.lock().unwrap().take_if(|(text, _)| line.0.contains(*text));
        LINES.lock().unwrap().push(line.0);
        if let Some((_, act)) = act {
            act();
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[track_caller]
fn told(words: &[&str]) {
    eventually(&format!("{words:?} is told"), || {
        LINES.lock().unwrap().iter().any(|line| words.iter().all(|word| line.contains(word)))
    });
}

/// In a process of its own: it gives up its user, and the events are its own.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn loser() {
    role("loser", |link, arguments| {
        tracing::subscriber::set_global_default(Writer).unwrap();
        let socket = std::path::Path::new(arguments[0]);
        let mut server = Server::bind(socket).unwrap();
        let stop = server.shutdown_handle();
        let serving = std::thread::spawn(move || server.serve(|request| request.make_ascii_uppercase()));
        let directory = socket.parent().unwrap();
        let (from, to) = (directory.to_owned(), directory.with_extension("moved"));
        // Lost once more before the server has looked whether all is well.
        let lose = move || std::fs::rename(from, to).unwrap();
        *AT.lock().unwrap() = Some(("is taken again", Box::new(lose)));
        std::fs::remove_file(socket).unwrap();
        told(&["WARN", "the name was taken away, and is taken again"]);
        told(&["ERROR", "the name is lost", "does not exist"]);
        std::fs::rename(directory.with_extension("moved"), directory).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            // SAFETY: no memory is involved.
            assert_eq!(unsafe { libc::setuid(65_534) }, 0);
        }
        stop.shutdown();
        let served = serving.join().unwrap();
        assert_eq!(served.is_err(), is_root, "{served:?}");
        if let Err(error) = served {
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains("could not be removed"), "{error}");
            assert!(error.to_string().contains("as user 0, who took the name"), "{error}");
        }
        if is_root {
            told(&["WARN", "the name was taken as another user", "former_user=0"]);
            told(&["ERROR", "the name could not be removed", "former_user=0"]);
        }
        link.tell("told");
    });
}

#[test]
fn n1_n6_a_lost_name_and_one_that_stays_are_told() {
    limited(|| {
        let ground = Ground::new();
        let directory = ground.path("own");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Process::start("loser", [directory.join("socket")]).expect("told");
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn workshop() {
    role("workshop", workshop::play);
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn blind() {
    role("blind", |link, arguments| {
        tracing::subscriber::set_global_default(Writer).unwrap();
        wigwag_testing::others::without_call(libc::SYS_inotify_init1);
        let waiting = Client::builder().server_timeout(Duration::from_millis(1)).connect(arguments[0]);
        assert_eq!(waiting.unwrap_err().kind(), ErrorKind::NotRunning);
        link.tell(LINES.lock().unwrap().join("; "));
    });
}

#[test]
fn c9_who_waits_for_a_server_and_cannot_be_told_of_it_says_so_once() {
    let ground = Ground::new();
    let mut blind = Process::start("blind", [ground.socket().as_os_str()]);
    let lines = blind.hear();
    assert_eq!(lines.matches("the directory cannot be watched").count(), 1, "{lines}");
    blind.join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn without_proc() {
    role("without_proc", |link, arguments| {
        tracing::subscriber::set_global_default(Writer).unwrap();
        // SAFETY: no memory is involved; the texts live for the call.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
            let (none, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
            assert_eq!(libc::mount(none, c"/".as_ptr(), none, flags, std::ptr::null()), 0);
            let tmpfs = c"tmpfs".as_ptr();
            assert_eq!(libc::mount(tmpfs, c"/proc".as_ptr(), tmpfs, 0, std::ptr::null()), 0);
        }
        let semaphore = wigwag::Semaphore::open(arguments[0], 1).unwrap();
        let again = wigwag::Semaphore::open(arguments[0], 1).unwrap(); // that one is seen: it is the file of the name
        assert_eq!((semaphore.available(), again.available()), (1, 1));
        link.tell(LINES.lock().unwrap().join("; "));
    });
}

#[test]
fn who_cannot_see_whether_a_semaphore_has_lost_its_file_says_so() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root can have a /proc with nothing in it");
        return;
    }
    let ground = Ground::new();
    let mut without_proc = Process::start("without_proc", [ground.path("x").as_os_str()]);
    let lines = without_proc.hear();
    assert_eq!(lines.matches("/proc/locks cannot be read").count(), 1, "{lines}");
    without_proc.join();
}

#[test]
fn what_happens_beside_the_calls_is_told_and_the_calls_are_not() {
    tracing::subscriber::set_global_default(Writer).unwrap();
    let ground = Ground::new();
    let mut server = Server::builder().max_sessions(1).bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            server.serve(|request| {
                if request.starts_with(b"slow") {
                    std::thread::sleep(Duration::from_millis(1100));
                }
            })
        });
        let client = Client::connect(ground.socket()).unwrap();
        told(&["DEBUG", "connected", &format!("server={}", std::process::id())]);
        told(&["DEBUG", "a session begins", "uid="]);
        assert_eq!(Client::connect(ground.socket()).unwrap_err().kind(), ErrorKind::Refused);
        told(&["INFO", "refused", "max_sessions"]);
        client.call(b"slow").unwrap(); // the first call is timed
        told(&["WARN", "a slow call"]);
        told(&["WARN", "a slow handler"]);
        let before = LINES.lock().unwrap().len();
        for _ in 0..1000 {
            client.call(b"quick").unwrap();
        }
        assert_eq!(LINES.lock().unwrap().len(), before, "no call is told");
        drop(client);
        told(&["DEBUG", "a session ends", "the client has gone"]);
        stop.shutdown();
        thread.join().unwrap().unwrap();
    });
    drop(server);
    let mut workshop: Process = workshop::Workshop::start(&ground, &[]).process;
    let client = Client::connect(ground.socket()).unwrap();
    client.call(&[1; 8]).unwrap();
    workshop.kill();
    let error = client.call(&[1; 8]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PeerDied { .. }), "{error}");
    told(&["WARN", "the server died", &format!("server={}", workshop.id())]);
    let ground = Ground::new();
    let _server = Server::bind(ground.socket()).unwrap();
    let mut elsewhere = wire::hello();
    elsewhere[62..70].fill(7);
    let _client = Raw::connect_saying(&ground.socket(), elsewhere, u32::MAX, u32::MAX, 0);
    told(&["WARN", "another time namespace", &format!("peer={}", std::process::id())]);
}
