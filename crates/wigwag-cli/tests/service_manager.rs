//! The program under a service manager: sockets that were made for it, and what it tells.

mod harness;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use harness::{Ended, Running, Runtime, end_of, first_line};
use nix::sys::signal::Signal;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

/// A socket that listens at a path, as systemd makes one of ListenSequentialPacket=.
fn listening(path: &Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 16).unwrap();
    socket
}

/// `wigwag ARGUMENTS` as systemd starts it with these sockets: they have the numbers from 3 on, and the variables say
/// so.
fn activated(runtime: &Runtime, sockets: &[(&str, &dyn AsFd)], arguments: &str) -> Running {
    started(runtime, sockets, "$$", arguments)
}

/// The same where the sockets are for that process.
fn started(runtime: &Runtime, sockets: &[(&str, &dyn AsFd)], process: &str, arguments: &str) -> Running {
    let mut script = String::new();
    let copies: Vec<_> = sockets.iter().map(|(_, socket)| left_open(socket)).collect();
    for (index, copy) in copies.iter().enumerate() {
        script += &format!("exec {}<&{copy}; exec {copy}<&-; ", 3 + index, copy = copy.as_raw_fd());
    }
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    let variables = format!("LISTEN_PID={process} LISTEN_FDS={} LISTEN_FDNAMES={}", sockets.len(), names.join(":"));
    let mut command = runtime.shell(&format!("{script}{variables} exec wigwag {arguments}"));
    let notifications = runtime.path().join("notify");
    command.envs(notifications.exists().then_some(("NOTIFY_SOCKET", notifications)));
    Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// A copy that programs get which begin now, under a number that is none of those from 3 on.
fn left_open(socket: impl AsFd) -> OwnedFd {
    let copy = rustix::io::fcntl_dupfd_cloexec(socket, 100).unwrap();
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
    copy
}

/// What such a program left when it ends by itself.
fn ended(mut running: Running) -> Ended {
    let status = running.status();
    let mut stderr = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Ended { code: status.code(), stdout: running.output().into_bytes(), stderr }
}

fn notified(socket: &UnixDatagram) -> String {
    let mut message = [0; 100];
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = socket.recv(&mut message).expect("the program tells something");
    String::from_utf8_lossy(&message[..length]).into_owned()
}

#[test]
fn c9_a_server_takes_the_socket_that_was_made_for_it_and_leaves_it_and_commands_get_neither() {
    let runtime = Runtime::new();
    let path = runtime.path().join("shout.sock");
    let listener = listening(&path);
    for _ in 0..2 {
        // It comes before its server.
        let call = runtime.wigwag(["call", "./shout.sock", "x", "--timeout", "60"]).stdout(Stdio::piped()).spawn();
        let script = "serve ./shout.sock --json --exec 'env | grep -c ^LISTEN; [ -e /proc/$$/fd/3 ]; echo $?'";
        let mut server = activated(&runtime, &[("", &listener)], script);
        let line = first_line(server.0.stdout.take().unwrap());
        assert!(line.contains("shout.sock"), "{line}");
        assert_eq!(Ended::from(end_of(call.unwrap())).succeeded().text(), "0\n1\n");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.code(), Some(0));
        assert!(path.exists() && !runtime.path().join("shout.sock.lock").exists());
    }
}

#[test]
fn c9_queues_and_streams_take_such_a_socket_as_well_and_one_of_several_by_its_name() {
    let runtime = Runtime::new();
    let (jobs, files) = (runtime.path().join("jobs"), runtime.path().join("files"));
    let (jobs, files) = (listening(&jobs), listening(&files));
    let both: [(&str, &dyn AsFd); 2] = [("files", &files), ("jobs", &jobs)];
    let receiver = activated(&runtime, &both, "queue recv ./jobs");
    let send = runtime.shell("echo all | wigwag queue send ./jobs").output().unwrap();
    Ended::from(send).succeeded();
    assert_eq!(ended(receiver).succeeded().text(), "all\n");
    let listener = activated(&runtime, &both, "stream listen ./files --recv-only");
    let send = runtime.shell("echo bytes | wigwag stream connect ./files").output().unwrap();
    Ended::from(send).succeeded();
    assert_eq!(ended(listener).succeeded().text(), "bytes\n");
    let said = ended(activated(&runtime, &both, "serve ./shout --do upper")).failed(1);
    assert!(said.contains("2 sockets were left") && said.contains("called files, jobs"), "{said}");
}

#[test]
fn c9_the_page_is_served_on_a_socket_that_was_made_for_it() {
    let runtime = Runtime::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = activated(&runtime, &[("", &listener)], "metrics");
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    client.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.code(), Some(0));
    let wrong = listening(&runtime.path().join("wrong"));
    let said = ended(activated(&runtime, &[("", &wrong)], "metrics")).failed(1);
    assert!(said.contains("no TCP socket that listens"), "{said}");
    let said = ended(activated(&runtime, &[("", &listener)], "serve x --do echo")).failed(2);
    assert!(said.contains("it is no Unix socket"), "{said}");
}

#[test]
fn c9_sockets_that_are_for_another_process_are_left_alone() {
    let runtime = Runtime::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // of no use here, which would be said
    let mut server = started(&runtime, &[("", &listener)], "1", "serve own --do echo --json");
    assert!(first_line(server.0.stdout.take().unwrap()).contains("own.sock"));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.code(), Some(0));
}

#[test]
fn c9_the_service_manager_is_told_when_it_serves_and_when_it_ends() {
    let runtime = Runtime::new();
    let by_path = runtime.path().join("notify");
    let name = format!("wigwag-test-{}", std::process::id());
    let sockets = [
        (by_path.to_str().unwrap().to_owned(), UnixDatagram::bind(&by_path).unwrap()),
        (format!("@{name}"), UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap()),
    ];
    for (address, socket) in &sockets {
        for arguments in [
            &["serve", "name", "--do", "echo"][..],
            &["queue", "recv", "name", "--keep"],
            &["stream", "listen", "name", "--keep"],
            &["metrics", "--listen", "127.0.0.1:0"],
        ] {
            println!("{address} {arguments:?}");
            let mut command = runtime.wigwag(arguments);
            let child = command.env("NOTIFY_SOCKET", address).stdout(Stdio::null()).spawn();
            let mut child = Running(child.unwrap());
            assert_eq!(notified(socket), "READY=1");
            child.signal(Signal::SIGTERM);
            assert_eq!(notified(socket), "STOPPING=1");
            assert_eq!(child.code(), Some(0));
        }
    }
    // One that cannot be told is no reason not to serve.
    drop(sockets);
    let mut command = runtime.wigwag(["queue", "recv", "name", "--timeout", "0.01"]);
    let ended = command.env("NOTIFY_SOCKET", &by_path).output().unwrap();
    assert!(String::from_utf8_lossy(&ended.stderr).contains("the service manager cannot be told READY=1"));
}

/// The value of a setting in the units of docs/operating.md.
fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    let line = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{unit} has no {name}="))
}

#[test]
fn c9_the_units_in_the_documentation_do_what_they_say() {
    let text = include_str!("../../../docs/operating.md");
    let unit = |file: &str| {
        let block = text.split("```ini\n").find(|block| block.starts_with(&format!("# /etc/systemd/system/{file}\n")));
        block.and_then(|block| block.split("```").next()).expect("the unit is there")
    };
    let (socket, service) = (unit("shout.socket"), unit("shout.service"));
    assert_eq!(setting(socket, "SocketUser"), setting(service, "User"), "clients ask for it");
    assert_eq!((setting(service, "Type"), setting(service, "Requires")), ("notify", "shout.socket"));
    let runtime = Runtime::new();
    let notifications = UnixDatagram::bind(runtime.path().join("notify")).unwrap();
    let path = setting(socket, "ListenSequentialPacket");
    let listener = listening(&runtime.path().join("shout.sock"));
    let (program, arguments) = setting(service, "ExecStart").split_once(' ').unwrap();
    assert!(program.ends_with("/wigwag") && arguments.contains(path));
    let arguments = arguments.replace(path, "./shout.sock");
    let mut server = activated(&runtime, &[("", &listener)], &arguments);
    assert_eq!(notified(&notifications), "READY=1");
    assert_eq!(runtime.run(&["call", "./shout.sock", "hello"]).succeeded().text(), "HELLO");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.code(), Some(0));
}
