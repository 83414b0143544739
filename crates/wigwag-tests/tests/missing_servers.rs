//! Clients that begin before their server: they wait for it, hear of it, and sleep until then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use wigwag::{Client, ErrorKind, Sender, Server, Stream, StreamListener};
use wigwag_testing::{Ground, Process, RawServer, eventually, limited, role};

/// Longer than any test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A client that waits for its server in a thread of its own.
struct Waiting {
    thread: JoinHandle<wigwag::Result<Client>>,
    task: String,
}

impl Waiting {
    fn begin(path: &Path) -> Waiting {
        let (path, (told, tells)) = (path.to_owned(), mpsc::channel());
        let thread = std::thread::spawn(move || {
            told.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            Client::builder().server_timeout(LIMIT).connect(path)
        });
        let waiting = Waiting { thread, task: format!("/proc/self/task/{}", tells.recv().unwrap()) };
        waiting.sleeps();
        waiting
    }

    /// Returns when it sleeps in an epoll, by which it has looked.
    fn sleeps(&self) {
        let sleeps = || {
            let call = fs::read_to_string(format!("{}/syscall", self.task)).unwrap_or_default();
            [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2]
                .iter()
                .any(|number| call.starts_with(&format!("{number} ")))
        };
        eventually("it sleeps", sleeps);
    }

    /// How often it has gone to sleep by now.
    fn sleep_count(&self) -> u64 {
        let status = fs::read_to_string(format!("{}/status", self.task)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse().unwrap()
    }

    fn meets(self, mut server: Server) {
        let client = self.thread.join().unwrap().unwrap();
        std::thread::scope(|scope| {
            let shutdown = server.shutdown_handle();
            scope.spawn(move || server.serve(|_| ()).unwrap());
            assert_eq!(*client.call(b"there").unwrap(), *b"there");
            shutdown.shutdown();
        });
    }
}

/// A socket that is bound, and does not listen.
fn bound(path: &Path) -> std::os::fd::OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

#[test]
fn c9_a_server_is_heard_of_whatever_stood_there_before() {
    limited(|| {
        type Before = fn(&Ground);
        let ways: [(&str, Before); 5] = [
            ("nothing", |_| ()),
            ("a socket that is left over", |ground| drop(bound(&ground.socket()))),
            ("the files of a server that was killed", |ground| {
                drop(bound(&ground.socket()));
                fs::write(ground.path("server.lock"), "").unwrap();
            }),
            ("a server that leaves", |ground| drop(Server::bind(ground.socket()).unwrap())),
            ("another file, of which nobody asked", |ground| fs::write(ground.path("other"), "").unwrap()),
        ];
        for (what, before) in ways {
            println!("{what}");
            let ground = Ground::new();
            before(&ground);
            let waiting = Waiting::begin(&ground.socket());
            waiting.meets(Server::bind(ground.socket()).unwrap());
        }
    });
}

#[test]
fn c9_a_directory_that_is_not_there_is_waited_for_and_one_that_is_made_anew() {
    limited(|| {
        let ground = Ground::new();
        let (above, directory) = (ground.path("above"), ground.path("above/directory"));
        let make = || {
            fs::create_dir_all(&directory).unwrap();
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        };
        let waiting = Waiting::begin(&directory.join("name"));
        make();
        fs::remove_dir_all(&above).unwrap();
        waiting.sleeps();
        make();
        waiting.meets(Server::bind(directory.join("name")).unwrap());
    });
}

#[test]
fn c9_a_socket_that_is_bound_and_begins_to_listen_is_found_without_an_event() {
    limited(|| {
        let ground = Ground::new();
        let socket = bound(&ground.socket());
        let path = ground.socket();
        let waiting =
            std::thread::spawn(move || Client::builder().timeout(LIMIT).server_timeout(LIMIT).connect(path).map(drop));
        listen(&socket, 8).unwrap();
        let raw = RawServer::from(socket);
        let _session = raw.serve(1, 100);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn c9_a_server_that_dies_in_the_handshake_is_waited_for_as_one_that_is_missing() {
    limited(|| {
        let ground = Ground::new();
        let dying = RawServer::bind(&ground.socket());
        let path = ground.socket();
        let waiting = std::thread::spawn(move || Client::builder().server_timeout(LIMIT).connect(path).map(drop));
        drop(dying.accept());
        drop(dying.accept()); // what happens once is tried again at once
        drop(dying);
        let _server = Server::bind(ground.socket()).unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn c9_who_waits_for_a_server_waits_for_a_place_there_as_well() {
    limited(|| {
        let ground = Ground::new();
        let listener = StreamListener::builder().backlog(1).bind(ground.socket()).unwrap();
        let _first = Stream::connect(ground.socket()).unwrap();
        let builder = || Stream::builder().timeout(Duration::from_millis(1));
        let error = builder().connect(ground.socket()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::TimedOut { .. }), "{error}");
        let path = ground.socket();
        let waiting = std::thread::spawn(move || builder().server_timeout(LIMIT).connect(path).map(drop));
        // Longer than its handshake may take, on any machine that is not very busy.
        std::thread::sleep(Duration::from_millis(50));
        let _accepted = listener.accept().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn c9_who_waits_sleeps_until_there_is_something_to_hear() {
    limited(|| {
        let ground = Ground::new();
        // The files of a server that was killed are no reason to look, either.
        drop(bound(&ground.socket()));
        fs::write(ground.path("server.lock"), "").unwrap();
        let waiting = Waiting::begin(&ground.socket());
        let before = waiting.sleep_count();
        std::thread::sleep(Duration::from_millis(400)); // the longer it is, the more a look now and then would show
        let sleeps = waiting.sleep_count() - before;
        assert!(sleeps <= 2, "it woke {sleeps} times");
        waiting.meets(Server::bind(ground.socket()).unwrap());
    });
}

#[test]
fn c9_without_anybody_the_error_says_how_long_it_was_waited_for() {
    let ground = Ground::new();
    let moment = Duration::from_millis(3);
    let errors = [
        Client::builder().server_timeout(moment).connect(ground.socket()).unwrap_err(),
        Sender::builder().server_timeout(moment).connect(ground.socket()).unwrap_err(),
        Stream::builder().server_timeout(moment).connect(ground.socket()).unwrap_err(),
    ];
    for error in errors {
        let sentence = error.to_string();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{sentence}");
        for part in [ground.socket().to_str().unwrap(), "none came within 3 ms", "server_timeout", "; start one with "]
        {
            assert!(sentence.contains(part), "{sentence} does not say {part}");
        }
    }
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn blind() {
    role("blind", |parent, arguments| {
        wigwag_testing::others::without_call(libc::SYS_inotify_init1);
        parent.tell("looks");
        let client = Client::builder().server_timeout(LIMIT).connect(arguments[0]);
        parent.tell(client.map_or_else(|error| error.to_string(), |_| "found".into()));
    });
}

#[test]
fn c9_without_inotify_the_server_is_looked_for() {
    let ground = Ground::new();
    let mut blind = Process::start("blind", [ground.socket().as_os_str()]);
    blind.expect("looks");
    let _server = Server::bind(ground.socket()).unwrap();
    blind.expect("found");
    blind.join();
}

#[test]
fn c9_a_task_that_waits_for_a_server_blocks_no_runtime() {
    limited(|| {
        let ground = Ground::new();
        let path = ground.socket();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async move {
            let mut client = Box::pin(Client::builder().server_timeout(LIMIT).connect_async(&path));
            let mut sender = Box::pin(Sender::builder().server_timeout(LIMIT).connect_async(&path));
            std::future::poll_fn(|context| {
                assert!(client.as_mut().poll(context).is_pending() && sender.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            drop(sender); // it leaves nothing behind
            // By the thread in which the client waits.
            let _server = Server::bind(&path).unwrap();
            client.await.unwrap();
        });
    });
}
