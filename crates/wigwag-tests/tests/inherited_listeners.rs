//! Servers on a socket that somebody else has made: who connected before comes again, who connects later knows whom to
//! watch, and nobody is lost between two servers.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use wigwag::{Client, ErrorKind, ListenOptions, Receiver, Sender, Server, ServerBuilder, Stream, StreamListener};
use wigwag_testing::{Ground, LIMIT, Process, eventually, limited, role, wire};

const OTHER_USER: u32 = 60_123;

fn unix(kind: SocketType) -> OwnedFd {
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

/// A socket that listens at a path, as a service manager makes one.
fn listening(path: &Path) -> OwnedFd {
    let socket = unix(SocketType::SEQPACKET);
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 8).unwrap();
    socket
}

fn on(listener: &OwnedFd) -> ServerBuilder {
    Server::builder().from_listener(listener.try_clone().unwrap())
}

/// A server in another process, which has the socket from this one.
fn start(listener: &OwnedFd, path: &Path, user: u32) -> Process {
    let left_open = rustix::io::dup(listener).unwrap(); // by the new process, too
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "server", "--nocapture", "--include-ignored", "--test-threads=1"]);
    let arguments = [path.to_str().unwrap().to_owned(), left_open.as_raw_fd().to_string(), user.to_string()];
    Process::run(command, "server", arguments)
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn server() {
    role("server", |parent, arguments| {
        // SAFETY: the parent has left it open for this process, and nobody else here takes it.
        let listener = unsafe { OwnedFd::from_raw_fd(arguments[1].parse().unwrap()) };
        wigwag_testing::others::become_user(arguments[2].parse().unwrap());
        let builder = Server::builder().from_listener(listener).allow_everyone();
        let mut server = match builder.bind(arguments[0]) {
            Ok(server) => server,
            Err(error) => return parent.tell(error),
        };
        parent.tell("ready");
        let stop = server.shutdown_handle();
        let _ = server.serve(|request: &mut wigwag::Request| {
            match &request[..] {
                b"wait" => {
                    parent.tell("in the handler");
                    std::thread::sleep(LIMIT); // it is killed
                }
                b"end" => stop.shutdown(),
                _ => {}
            }
        });
    });
}

#[test]
fn c9_who_connects_before_there_is_a_server_is_served_by_the_one_that_comes_and_by_the_next() {
    limited(|| {
        let ground = Ground::new();
        let listener = listening(&ground.socket());
        for round in 0..2 {
            let path = ground.socket();
            let client = std::thread::spawn(move || Client::builder().timeout(LIMIT).connect(path));
            let is_asked = || {
                let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
                let mut polled = [rustix::event::PollFd::new(&listener, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut polled, Some(&now)).unwrap() > 0
            };
            eventually("it has connected", is_asked);
            let mut server = on(&listener).bind(ground.socket()).unwrap();
            assert!(ground.path("server.lock").exists());
            let error = Server::bind(ground.socket()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NameTaken, "round {round}: {error}");
            let client = client.join().unwrap().unwrap();
            assert!(server.stats().sessions_refused > 0, "it has come again");
            let stop = server.shutdown_handle();
            std::thread::scope(|scope| {
                scope.spawn(|| server.serve(|_| ()).unwrap());
                assert_eq!(*client.call(b"hello").unwrap(), *b"hello");
                stop.shutdown();
            });
            drop(server);
            assert!(ground.socket().exists(), "it is not the server's to remove");
            assert!(!ground.path("server.lock").exists());
        }
    });
}

#[test]
fn c9_clients_know_who_serves_them_and_notice_its_death_and_the_next_takes_over() {
    limited(|| {
        let ground = Ground::new();
        let listener = listening(&ground.socket());
        let of_peer = || socket_peercred(wire::connect_to(&ground.socket())).unwrap().pid.as_raw_nonzero().get();
        assert_eq!(of_peer(), i32::try_from(std::process::id()).unwrap());
        for round in 0..3 {
            // After a kill, who was told to wait for a server waits for the next one on the same socket.
            let path = ground.socket();
            let builder = Client::builder().timeout(LIMIT).server_timeout(LIMIT);
            let early = std::thread::spawn(move || builder.connect(path).map(drop));
            let mut server = start(&listener, &ground.socket(), 0);
            server.expect("ready");
            early.join().unwrap().unwrap();
            assert_eq!(of_peer(), i32::try_from(server.id()).unwrap());
            let client = Client::connect(ground.socket()).unwrap();
            std::thread::scope(|scope| {
                let call = scope.spawn(move || client.call(b"wait").map(drop));
                server.expect("in the handler");
                server.kill();
                let error = call.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true }, "{round}: {error}");
            });
            // Who was not is told at once that nobody is there: it may be a child that holds the socket.
            let error = Client::builder().timeout(LIMIT).connect(ground.socket()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: false }, "{round}: {error}");
        }
    });
}

#[test]
fn c9_between_two_servers_a_client_waits_for_the_next_one() {
    limited(|| {
        let ground = Ground::new();
        let listener = listening(&ground.socket());
        let mut first = start(&listener, &ground.socket(), 0);
        first.expect("ready");
        Client::connect(ground.socket()).unwrap().call(b"end").unwrap();
        eventually("it has ended in order", || !first.is_alive());
        assert!(!ground.path("server.lock").exists());
        let path = ground.socket();
        let client = std::thread::spawn(move || Client::builder().timeout(LIMIT).connect(path).map(drop));
        let mut second = start(&listener, &ground.socket(), 0);
        second.expect("ready");
        client.join().unwrap().unwrap();
    });
}

#[test]
fn c9_a_server_of_another_user_than_who_made_the_socket_is_waited_for() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped, because only root can play another user");
    }
    limited(|| {
        let ground = Ground::new();
        fs::set_permissions(ground.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let listener = listening(&ground.socket());
        let mut refused = start(&listener, &ground.socket(), OTHER_USER);
        let said = refused.hear();
        assert!(said.contains("belongs to user 0") && said.contains("SocketUser="), "{said}");
        std::os::unix::fs::chown(ground.socket(), Some(OTHER_USER), None).unwrap();
        let path = ground.socket();
        let client = std::thread::spawn(move || Client::builder().timeout(LIMIT).server_user(OTHER_USER).connect(path));
        // Its directory lets it have no lock.
        let mut server = start(&listener, &ground.socket(), OTHER_USER);
        server.expect("ready");
        assert_eq!(*client.join().unwrap().unwrap().call(b"hello").unwrap(), *b"hello");
        assert!(!ground.path("server.lock").exists());
        server.kill();
    });
}

#[test]
fn c9_what_is_no_listener_of_that_name_is_told() {
    let ground = Ground::new();
    let bound = |kind, name: &str| {
        let socket = unix(kind);
        bind(&socket, &SocketAddrUnix::new(ground.path(name)).unwrap()).unwrap();
        socket
    };
    let stream = bound(SocketType::STREAM, "stream");
    listen(&stream, 8).unwrap();
    let abstract_one = unix(SocketType::SEQPACKET);
    let name = format!("wigwag-test-{}", std::process::id());
    bind(&abstract_one, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap()).unwrap();
    listen(&abstract_one, 8).unwrap();
    let removed = listening(&ground.path("removed"));
    fs::remove_file(ground.path("removed")).unwrap();
    let cases: [(OwnedFd, &str, &str); 8] = [
        (fs::File::open("/dev/null").unwrap().into(), "file", "it is no socket"),
        (std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(), "tcp", "it is no Unix socket"),
        (stream, "stream", "of another type: make one of type SOCK_SEQPACKET, under systemd with ListenSequential"),
        (bound(SocketType::DGRAM, "datagram"), "datagram", "of another type"),
        (bound(SocketType::SEQPACKET, "silent"), "silent", "it does not listen"),
        (listening(&ground.path("elsewhere")), "here", "elsewhere"),
        (abstract_one, "abstract", "it has no path"),
        (removed, "removed", "it listens at "),
    ];
    for (listener, name, why) in cases {
        let error = Server::builder().from_listener(listener).bind(ground.path(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
        let sentence = error.to_string();
        assert!(sentence.contains(why) && sentence.contains(&format!("not one for {}", ground.path(name).display())));
        assert!(!ground.path(&format!("{name}.lock")).exists());
    }
}

#[test]
fn c9_each_form_takes_a_listener_that_is_handed_over() {
    limited(|| {
        let ground = Ground::new();
        let listener = listening(&ground.socket());
        let again = || listener.try_clone().unwrap();
        let options = || ListenOptions::default().from_listener(again());
        for builder in [on(&listener), Server::builder().options(options())] {
            let _server = builder.bind(ground.socket()).unwrap();
            Client::connect(ground.socket()).unwrap();
        }
        for builder in [Receiver::builder().from_listener(again()), Receiver::builder().options(options())] {
            let receiver = builder.bind(ground.socket()).unwrap();
            let mut sender = Sender::connect(ground.socket()).unwrap();
            sender.send(b"message").unwrap();
            assert_eq!(*receiver.recv().unwrap(), *b"message");
        }
        for builder in [StreamListener::builder().from_listener(again()), StreamListener::builder().options(options())]
        {
            let streams = builder.bind(ground.socket()).unwrap();
            let _stream = Stream::connect(ground.socket()).unwrap();
            streams.accept().unwrap();
        }
        let flags = rustix::io::fcntl_getfd(&listener).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        assert!(ground.socket().exists());
    });
}

#[test]
fn c9_a_file_that_is_removed_is_not_made_again() {
    limited(|| {
        let ground = Ground::new();
        let listener = listening(&ground.socket());
        let server = on(&listener).bind(ground.socket()).unwrap();
        let client = Client::connect(ground.socket()).unwrap();
        fs::remove_file(ground.socket()).unwrap();
        drop(client);
        eventually("it has noticed", || server.stats().sessions == 0);
        assert!(!ground.socket().exists());
    });
}
