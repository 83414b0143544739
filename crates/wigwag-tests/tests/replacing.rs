//! Planned restarts: an heir takes a name over from the server that has it. At no moment is nobody there, whatever
//! becomes of the heir.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::Signal;
use wigwag::{
    Client, ErrorKind, ListenOptions, Receiver, Sender, Server, ServerBuilder, ShutdownHandle, Stream, StreamListener,
};
use wigwag_testing::{Ground, LIMIT, Process, eventually, limited, role, wire};

const OTHER_USER: u32 = 60_124;
/// What a server that wants to take a name over says.
const REPLACE: &[u8] = b"\x08WWHI";
/// What it hears once the name is free.
const BELL: &[u8] = &[6];

// ---- servers --------------------------------------------------------------------------------------------------------

/// A server in this process that answers with its number.
struct Serving(u8, ShutdownHandle, JoinHandle<wigwag::Result<()>>);

impl Serving {
    fn with(number: u8, builder: ServerBuilder, path: &Path) -> wigwag::Result<Serving> {
        let mut server = builder.bind(path)?;
        let stop = server.shutdown_handle();
        let thread = std::thread::spawn(move || server.serve(move |request| request.fill(number)));
        Ok(Serving(number, stop, thread))
    }

    fn start(number: u8, path: &Path) -> Serving {
        Serving::with(number, Server::builder(), path).unwrap()
    }

    fn replacing(number: u8, path: &Path) -> Serving {
        Serving::with(number, Server::builder().replace(LIMIT), path).unwrap()
    }

    /// It has been replaced: it comes back from serving.
    fn has_ended(self) {
        self.2.join().unwrap().unwrap();
    }

    fn shut_down(self) {
        self.1.shutdown();
        self.has_ended();
    }

    fn answers(&self, path: &Path) {
        assert_eq!(Client::connect(path).unwrap().call(&[0; 3]).unwrap()[..], [self.0; 3]);
    }
}

fn files(ground: &Ground) -> Vec<String> {
    let entries = fs::read_dir(ground.path("")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

// ---- in order -------------------------------------------------------------------------------------------------------

#[test]
fn nobody_is_turned_away_and_no_call_is_lost_while_a_server_is_replaced_again_and_again() {
    const TIMES: u8 = 30;
    limited(|| {
        let ground = Ground::new();
        let path = ground.socket();
        let mut serving = Serving::start(0, &path);
        let (is_over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let newcomer = || {
                while !is_over.load(Ordering::Relaxed) {
                    // It has not sent a request yet, so that it can only fail by being turned away.
                    let client = Client::connect(&path).unwrap_or_else(|error| panic!("turned away: {error}"));
                    match client.call(&[0]).map(|reply| reply.len()) {
                        Ok(_) => {}
                        Err(error) => {
                            let kind = error.kind();
                            assert_eq!(kind, ErrorKind::ServerClosed { maybe_executed: false }, "{error}");
                        }
                    }
                }
            };
            let follower = || {
                let client = Client::builder().follow_restarts(LIMIT).connect(&path).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    client.call(&[0; 200]).unwrap_or_else(|error| panic!("lost: {error}"));
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                client.stats()
            };
            let newcomers = [(); 2].map(|()| scope.spawn(newcomer));
            let followers = [(); 2].map(|()| scope.spawn(follower));
            for number in 1..=TIMES {
                let before = calls.load(Ordering::Relaxed);
                eventually("they call", || calls.load(Ordering::Relaxed) > before + 10);
                let next = Serving::replacing(number, &path);
                std::mem::replace(&mut serving, next).has_ended();
                serving.answers(&path);
            }
            is_over.store(true, Ordering::Relaxed);
            newcomers.into_iter().for_each(|newcomer| newcomer.join().unwrap());
            for follower in followers {
                let reconnects = follower.join().unwrap().reconnects;
                assert!((1..=TIMES.into()).contains(&reconnects), "{reconnects}");
            }
        });
        assert_eq!(files(&ground), ["server", "server.lock"]);
        serving.shut_down();
        assert!(files(&ground).is_empty(), "{:?}", files(&ground));
    });
}

#[test]
fn what_was_passed_is_served_by_the_former_one_and_who_does_not_follow_is_told() {
    limited(|| {
        let ground = Ground::new();
        let path = ground.socket();
        let mut former = Server::bind(&path).unwrap();
        let (client, follower) =
            (Client::connect(&path).unwrap(), Client::builder().follow_restarts(LIMIT).connect(&path).unwrap());
        let passed = client.loan(1).unwrap().send().unwrap();
        let mut heir = Server::replace(&path).unwrap();
        former.recv().unwrap().reply();
        assert_eq!(passed.wait().unwrap()[..], [0]);
        assert_eq!(former.recv().map(drop).unwrap_err().kind(), ErrorKind::ServerClosed { maybe_executed: false });
        let (late, followed) = (client.loan(1).unwrap().send().unwrap(), follower.loan(1).unwrap().send().unwrap());
        drop(former);
        let error = late.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ServerClosed { maybe_executed: false });
        assert!(error.to_string().contains("replaced"), "{error}");
        let stop = heir.shutdown_handle();
        let serving = std::thread::spawn(move || heir.serve(|request| request.fill(2)));
        assert_eq!(followed.wait().unwrap()[..], [2]);
        assert_eq!(follower.stats().moved, 1);
        stop.shutdown();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn a_name_that_nobody_has_is_taken_in_the_ordinary_way_whatever_was_left_there() {
    let ground = Ground::new();
    for left in [&[][..], &["server"], &["server.lock"], &["server~"], &["server", "server.lock", "server~"]] {
        for name in left {
            match name.ends_with(".lock") {
                true => drop(File::create(ground.path(name)).unwrap()),
                false => drop(socket_at(&ground.path(name))),
            }
        }
        let serving = Serving::replacing(1, &ground.socket());
        serving.answers(&ground.socket());
        let next = Serving::replacing(2, &ground.socket());
        next.answers(&ground.socket());
        serving.has_ended();
        next.shut_down();
        assert!(files(&ground).is_empty(), "{left:?}: {:?}", files(&ground));
    }
}

#[test]
fn two_heirs_take_turns() {
    limited(|| {
        let ground = Ground::new();
        let path = ground.socket();
        let first = Serving::start(0, &path);
        let heirs: Vec<_> = (1..5)
            .map(|number| {
                let path = path.clone();
                std::thread::spawn(move || Serving::replacing(number, &path))
            })
            .collect();
        let heirs: Vec<Serving> = heirs.into_iter().map(|heir| heir.join().unwrap()).collect();
        first.has_ended();
        let last = Client::connect(&path).unwrap().call(&[0]).unwrap()[0];
        for heir in heirs {
            if heir.0 == last { heir.shut_down() } else { heir.has_ended() }
        }
        assert!(files(&ground).is_empty(), "{:?}", files(&ground));
    });
}

#[test]
fn a_queue_loses_nothing_while_its_receiver_is_replaced() {
    const MESSAGES: u64 = 20_000;
    limited(|| {
        let ground = Ground::new();
        let path = ground.socket();
        let mut receiver = Receiver::bind(&path).unwrap();
        let sending = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut sender = Sender::connect(&path).unwrap();
                (0..MESSAGES).for_each(|number| sender.send(&number.to_ne_bytes()).unwrap());
                sender.close().unwrap();
            }
        });
        let mut next = 0;
        let mut receivers = 1;
        while next < MESSAGES {
            let taken = next + MESSAGES / 10;
            let heir = std::thread::spawn({
                let path = path.clone();
                move || Receiver::builder().replace(LIMIT).bind(path)
            });
            // It goes on until it is told that it has been replaced.
            while let Ok(message) = receiver.recv() {
                let number = u64::from_ne_bytes(message[..].try_into().unwrap());
                assert!(number <= next, "{number} came, and {next} is next");
                next = next.max(number + 1);
                if next > taken {
                    message.nack(); // it comes again
                    break;
                }
                message.ack();
            }
            let heir = heir.join().unwrap().unwrap();
            drop(std::mem::replace(&mut receiver, heir));
            receivers += 1;
        }
        while !sending.is_finished() {
            receiver.recv_timeout(Duration::from_millis(10)).unwrap().into_iter().for_each(|message| message.ack());
        }
        sending.join().unwrap();
        assert!(receivers > 2, "{receivers}");
    });
}

#[test]
fn streams_stay_with_the_listener_that_accepted_them_and_the_next_ones_come_to_its_heir() {
    use std::io::{Read, Write};
    limited(|| {
        let ground = Ground::new();
        let path = ground.socket();
        let listener = StreamListener::bind(&path).unwrap();
        let mut old = Stream::connect(&path).unwrap();
        let mut accepted = listener.accept().unwrap();
        let heir = StreamListener::builder().replace(LIMIT).bind(&path).unwrap();
        assert_eq!(listener.accept().map(drop).unwrap_err().kind(), std::io::ErrorKind::NotConnected);
        drop(listener);
        let mut new = Stream::connect(&path).unwrap();
        let mut second = heir.accept().unwrap();
        for (one, other) in [(&mut old, &mut accepted), (&mut new, &mut second)] {
            one.write_all(b"hello").unwrap();
            one.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = String::new();
            other.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello");
        }
    });
}

#[test]
fn who_waits_for_an_idle_thread_goes_on_while_another_is_busy() {
    limited(|| {
        let ground = Ground::new();
        let path = ground.socket();
        let mut former = Server::bind(&path).unwrap();
        let (begun, is_begun) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = std::sync::Mutex::new(released);
        let serving = std::thread::spawn(move || {
            former.serve_on(2, move |request| {
                if request.len() == 2 {
                    begun.send(()).unwrap();
                    released.lock().unwrap().recv().unwrap();
                }
                request.fill(1);
            })
        });
        // Each is another thread's.
        let clients = [(); 2].map(|()| Client::builder().follow_restarts(LIMIT).connect(&path).unwrap());
        let busy = clients[0].loan(2).unwrap().send().unwrap();
        is_begun.recv().unwrap();
        let heir = Serving::replacing(2, &path);
        eventually("the idle thread's client goes on", || clients[1].call(&[0]).unwrap()[..] == [2]);
        release.send(()).unwrap();
        assert_eq!(busy.wait().unwrap()[..], [1, 1], "what was begun is served to its end");
        eventually("the other client goes on", || clients[0].call(&[0]).unwrap()[..] == [2]);
        serving.join().unwrap().unwrap();
        heir.shut_down();
    });
}

#[test]
fn servers_of_tasks_replace_and_are_replaced() {
    use wigwag::tokio;
    limited(|| {
        let runtime = ::tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let ground = Ground::new();
            let serve = |mut server: tokio::Server, number: u8| {
                ::tokio::spawn(async move { server.serve(async move |request| request.fill(number)).await })
            };
            let mut former = serve(tokio::Server::bind(ground.socket()).unwrap(), 1);
            let follower = Client::builder().follow_restarts(LIMIT).connect_async(ground.socket()).await.unwrap();
            let stop = Client::builder().connect_async(ground.socket()).await.unwrap();
            for number in 2..6 {
                let before = follower.call(&[0]).await.unwrap();
                assert_eq!(before[..], [number - 1]);
                let heir = Server::builder().replace(LIMIT).bind_async(ground.socket()).unwrap();
                former.await.unwrap().unwrap();
                former = serve(heir, number);
            }
            assert_eq!(follower.call(&[0]).await.unwrap()[..], [5]);
            let error = stop.call(&[0]).await.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ServerClosed { maybe_executed: false }, "{error}");
            former.abort();
        });
    });
}

// ---- who may not, and who cannot ------------------------------------------------------------------------------------

#[test]
fn only_a_server_of_the_same_user_that_has_the_second_byte_is_heard() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not root: another user cannot be played");
    }
    limited(|| {
        let ground = Ground::new();
        let builder = Server::builder().allow_everyone();
        fs::set_permissions(ground.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let serving = Serving::with(1, builder, &ground.socket()).unwrap();
        let mut other = Process::start("other_user", [ground.socket()]);
        let said = other.hear();
        assert!(said.contains("only that one's servers replace it"), "{said}");
        let (reason, why) = ask(&ground).end().unwrap();
        assert_eq!(reason, wire::VIOLATION, "{why}");
        serving.answers(&ground.socket());
        serving.shut_down();
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn other_user() {
    role("other_user", |parent, arguments| {
        wigwag_testing::others::become_user(OTHER_USER);
        let socket = wire::connect_to(Path::new(arguments[0]));
        wire::send(&socket, REPLACE, &[]).unwrap();
        let (reason, why) = wire::receive(&socket).unwrap().end().unwrap();
        assert_eq!(reason, wire::REFUSED);
        parent.tell(why);
    });
}

#[test]
fn a_server_on_a_socket_of_another_program_is_not_replaced() {
    let ground = Ground::new();
    let socket = socket_at(&ground.socket());
    listen(&socket, 8).unwrap();
    let builder = || Server::builder().from_listener(socket.try_clone().unwrap());
    let serving = Serving::with(1, builder(), &ground.socket()).unwrap();
    let error = Server::replace(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameTaken);
    assert!(error.to_string().contains("systemd"), "{error}");
    let both = ListenOptions::default().from_listener(socket.try_clone().unwrap()).replace(LIMIT);
    let error = Server::builder().options(both).bind(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
    serving.answers(&ground.socket());
    serving.shut_down();
}

#[test]
fn a_server_that_is_stopped_keeps_its_name_and_its_heir_says_so_in_time() {
    limited(|| {
        let ground = Ground::new();
        let mut former = Process::start("service", [ground.socket()]);
        former.expect("ready");
        former.halt();
        let error = Server::builder().replace(Duration::from_millis(200)).bind(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken);
        assert!(error.to_string().contains("within 200 ms"), "{error}");
        former.signal(Signal::CONT);
        assert_eq!(Client::connect(ground.socket()).unwrap().call(&[0]).unwrap()[..], [9]);
        // The one that has gone had asked.
        let heir = Serving::replacing(1, &ground.socket());
        heir.answers(&ground.socket());
        former.expect("replaced");
        heir.shut_down();
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn service() {
    role("service", |parent, arguments| {
        let mut server = Server::bind(arguments[0]).unwrap();
        parent.tell("ready");
        server.serve(|request| request.fill(9)).unwrap();
        parent.tell("replaced");
    });
}

#[test]
fn a_server_that_is_killed_while_it_is_replaced_is_replaced_at_once() {
    limited(|| {
        let ground = Ground::new();
        let mut former = Process::start("service", [ground.socket()]);
        former.expect("ready");
        former.halt();
        let path = ground.socket();
        let heir = std::thread::spawn(move || Serving::replacing(1, &path));
        eventually("an heir is there", || !take(&open(&ground), 1));
        former.kill();
        heir.join().unwrap().shut_down();
    });
}

// ---- heirs by hand --------------------------------------------------------------------------------------------------

fn open(ground: &Ground) -> File {
    File::options().read(true).write(true).open(ground.path("server.lock")).unwrap()
}

/// Takes one byte of the lock file; whether that was to be had.
fn take(file: &File, byte: i64) -> bool {
    // SAFETY: all bytes zero is a value of this plain struct of numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as i16, byte, 1);
    // SAFETY: the descriptor is open, and `lock` is what the command reads.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) == 0 }
}

fn socket_at(path: &Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

fn ask(ground: &Ground) -> wire::Message {
    let socket = wire::connect_to(&ground.socket());
    wire::send(&socket, REPLACE, &[]).unwrap();
    wire::receive(&socket).unwrap()
}

/// How far an heir comes that then is gone, or says that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Asks,
    TakesTheLock,
    RenamesItsSocket,
    RemovesTheSocket,
    RemovesTheLock,
}

#[test]
fn a_holder_goes_on_whatever_step_its_heir_has_come_to() {
    use Step::*;
    limited(|| {
        for step in [Asks, TakesTheLock, RenamesItsSocket, RemovesTheSocket, RemovesTheLock] {
            // One that is waited for in vain is given two seconds.
            for keeps_connection in [false, true].into_iter().take(if step == Asks { 2 } else { 1 }) {
                let ground = Ground::new();
                let holder = Serving::start(7, &ground.socket());
                let before = Client::connect(ground.socket()).unwrap();
                let heir = open(&ground);
                assert!(take(&heir, 1));
                let connection = wire::connect_to(&ground.socket());
                wire::send(&connection, REPLACE, &[]).unwrap();
                assert_eq!(wire::receive(&connection).unwrap().bytes, BELL);
                let own = ground.path("server~");
                if step >= TakesTheLock {
                    assert!(take(&heir, 0), "it was let go");
                }
                let mut socket = None;
                match step {
                    RenamesItsSocket => {
                        let fresh = socket_at(&own);
                        listen(&fresh, 8).unwrap();
                        fs::rename(&own, ground.socket()).unwrap();
                        socket = Some(fresh);
                    }
                    RemovesTheSocket => fs::remove_file(ground.socket()).unwrap(),
                    RemovesTheLock => fs::remove_file(ground.path("server.lock")).unwrap(),
                    Asks | TakesTheLock => {}
                }
                assert_eq!(before.call(&[0]).unwrap()[..], [7], "{step:?}: it serves whom it has");
                drop((heir, socket)); // as the kernel does with one that is killed, in whatever order
                if !keeps_connection {
                    drop(connection);
                }
                let client = Client::builder().server_timeout(LIMIT).connect(ground.socket());
                assert_eq!(client.unwrap().call(&[0]).unwrap()[..], [7], "{step:?}: it is the server again");
                let next = Serving::replacing(8, &ground.socket());
                next.answers(&ground.socket());
                holder.has_ended();
                next.shut_down();
                assert!(files(&ground).is_empty(), "{step:?}: {:?}", files(&ground));
            }
        }
    });
}

#[test]
fn a_holder_whose_heir_is_killed_ends_for_the_one_that_has_the_name_then() {
    limited(|| {
        let ground = Ground::new();
        let mut holder = Process::start("service", [ground.socket()]);
        holder.expect("ready");
        let mut heir = Process::start("heir_that_is_killed", [ground.path("")]);
        heir.expect("has the name");
        holder.halt();
        heir.kill();
        let next = Serving::replacing(1, &ground.socket());
        next.answers(&ground.socket());
        holder.signal(Signal::CONT);
        holder.expect("replaced");
        next.answers(&ground.socket());
        next.shut_down();
        assert!(files(&ground).is_empty(), "{:?}", files(&ground));
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn heir_that_is_killed() {
    role("heir_that_is_killed", |parent, arguments| {
        let directory = Path::new(arguments[0]);
        let (name, own) = (directory.join("server"), directory.join("server~"));
        let lock = File::options().read(true).write(true).open(directory.join("server.lock")).unwrap();
        assert!(take(&lock, 1));
        let connection = wire::connect_to(&name);
        wire::send(&connection, REPLACE, &[]).unwrap();
        assert_eq!(wire::receive(&connection).unwrap().bytes, BELL);
        assert!(take(&lock, 0));
        let socket = socket_at(&own);
        listen(&socket, 8).unwrap();
        fs::rename(&own, &name).unwrap();
        parent.tell("has the name");
        drop(parent.hear_at_last());
    });
}

#[test]
fn an_heir_that_says_that_it_serves_has_the_name() {
    limited(|| {
        let ground = Ground::new();
        let holder = Serving::start(7, &ground.socket());
        let heir = open(&ground);
        assert!(take(&heir, 1));
        let connection = wire::connect_to(&ground.socket());
        wire::send(&connection, REPLACE, &[]).unwrap();
        assert!(take(&heir, 0) || wire::receive(&connection).unwrap().bytes == BELL && take(&heir, 0));
        wire::send(&connection, wire::READY, &[]).unwrap();
        holder.has_ended();
        assert!(ground.path("server.lock").exists(), "it is the heir's");
    });
}

#[test]
fn a_holder_that_is_told_to_end_meanwhile_ends_and_its_heir_begins() {
    limited(|| {
        for round in 0..20 {
            let ground = Ground::new();
            let holder = Serving::start(1, &ground.socket());
            let stop = holder.1.clone();
            let path = ground.socket();
            let heir = std::thread::spawn(move || Serving::replacing(2, &path));
            std::thread::sleep(Duration::from_micros(50 * round));
            stop.shutdown();
            holder.has_ended();
            let heir = heir.join().unwrap();
            heir.answers(&ground.socket());
            heir.shut_down();
            assert!(files(&ground).is_empty(), "{:?}", files(&ground));
        }
    });
}

#[test]
fn what_a_killed_heir_left_is_gone_with_the_next_server_of_that_directory() {
    let ground = Ground::new();
    let left: PathBuf = ground.path("server~");
    drop(socket_at(&left));
    let serving = Serving::start(1, &ground.socket());
    let next = Serving::replacing(2, &ground.socket());
    serving.has_ended();
    assert!(!left.exists());
    next.shut_down();
}

// ---- what holders must bear -----------------------------------------------------------------------------------------

/// An heir by hand that has both bytes, and the connection.
fn heir_with_the_lock(ground: &Ground) -> (File, OwnedFd) {
    let heir = open(ground);
    assert!(take(&heir, 1));
    let connection = wire::connect_to(&ground.socket());
    wire::send(&connection, REPLACE, &[]).unwrap();
    assert_eq!(wire::receive(&connection).unwrap().bytes, BELL);
    assert!(take(&heir, 0));
    (heir, connection)
}

/// It gives its socket the name.
fn renamed(ground: &Ground) -> OwnedFd {
    let fresh = socket_at(&ground.path("server~"));
    listen(&fresh, 8).unwrap();
    fs::rename(ground.path("server~"), ground.socket()).unwrap();
    fresh
}

fn patient() -> wigwag::ClientBuilder {
    Client::builder().server_timeout(LIMIT)
}

#[test]
fn files_are_removed_at_the_end_although_the_lock_file_was_gone_in_a_takeover() {
    limited(|| {
        let ground = Ground::new();
        let holder = Serving::start(7, &ground.socket());
        let (heir, connection) = heir_with_the_lock(&ground);
        fs::remove_file(ground.path("server.lock")).unwrap();
        drop((heir, connection));
        assert_eq!(patient().connect(ground.socket()).unwrap().call(&[0]).unwrap()[..], [7]);
        holder.shut_down();
        assert!(files(&ground).is_empty(), "{:?}", files(&ground));
    });
}

/// What this process's control threads have used of the processors, in hundredths of a second.
fn used_by_control_threads() -> u64 {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let (head, rest) = stat.rsplit_once(") ").unwrap();
        if head.contains("wigwag-control") {
            let fields: Vec<&str> = rest.split(' ').collect();
            sum += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    sum
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn waiting_holder() {
    role("waiting_holder", |parent, _| {
        let ground = Ground::new();
        let _holder = Serving::start(7, &ground.socket());
        let _heir = (heir_with_the_lock(&ground), renamed(&ground));
        let before = used_by_control_threads();
        std::thread::sleep(Duration::from_secs(4)); // so that it is late, too
        parent.tell(used_by_control_threads() - before);
    });
}

#[test]
fn a_holder_sleeps_while_its_heir_is_on_its_way() {
    let used: u64 = Process::start("waiting_holder", [""; 0]).hear().parse().unwrap();
    assert!(used < 100, "of 400 hundredths of a second it used {used}");
}

#[test]
fn a_holder_has_its_name_back_although_the_heirs_socket_is_closed_later_than_its_lock() {
    limited(|| {
        let ground = Ground::new();
        let _holder = Serving::start(7, &ground.socket());
        let (heir, connection) = heir_with_the_lock(&ground);
        let fresh = renamed(&ground);
        drop((heir, connection));
        std::thread::sleep(Duration::from_millis(50));
        drop(fresh);
        assert_eq!(patient().connect(ground.socket()).unwrap().call(&[0]).unwrap()[..], [7]);
    });
}

#[test]
fn a_holder_waits_for_the_lock_of_a_dying_heir_however_late_it_is_let_go() {
    limited(|| {
        let ground = Ground::new();
        let _holder = Serving::start(7, &ground.socket());
        let (heir, connection) = heir_with_the_lock(&ground);
        drop((renamed(&ground), connection));
        std::thread::sleep(Duration::from_secs(3));
        drop(heir);
        assert_eq!(patient().connect(ground.socket()).unwrap().call(&[0]).unwrap()[..], [7]);
    });
}

#[test]
fn what_has_the_place_of_an_heir_is_left_alone_if_it_is_another_program_s() {
    limited(|| {
        let ground = Ground::new();
        fs::write(ground.path("server~"), "precious").unwrap();
        let holder = Serving::start(7, &ground.socket());
        let error = Server::replace(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PathInvalid);
        assert!(error.to_string().contains("server~ is there, and no socket"), "{error}");
        assert_eq!(fs::read_to_string(ground.path("server~")).unwrap(), "precious");
        fs::remove_file(ground.path("server~")).unwrap();
        let other = Serving::start(5, &ground.path("server~"));
        let error = Server::replace(ground.socket()).unwrap_err();
        assert!(error.to_string().contains("another program listens"), "{error}");
        other.answers(&ground.path("server~"));
        holder.answers(&ground.socket());
        other.shut_down();
        holder.shut_down();
        assert!(files(&ground).is_empty(), "{:?}", files(&ground));
    });
}

#[test]
fn a_newcomer_waits_for_the_heir_when_the_holder_is_told_to_end_before_that_one_serves() {
    limited(|| {
        let ground = Ground::new();
        let holder = Serving::start(7, &ground.socket());
        let _heir = heir_with_the_lock(&ground);
        let path = ground.socket();
        let newcomer = std::thread::spawn(move || {
            Client::builder().timeout(Duration::from_secs(2)).connect(&path).map(drop).map_err(|error| error.kind())
        });
        std::thread::sleep(Duration::from_millis(50));
        holder.shut_down();
        let _fresh = renamed(&ground);
        // It has come to the heir, which, by hand, does not answer.
        let error = newcomer.join().unwrap().unwrap_err();
        assert!(matches!(error, ErrorKind::TimedOut { .. } | ErrorKind::Busy), "{error:?}");
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_heir() {
    role("poor_heir", |parent, arguments| {
        let most: u64 = arguments[1].parse().unwrap();
        let limit = rustix::process::Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let server = Server::replace(arguments[0]);
        parent.tell(server.as_ref().map_or_else(ToString::to_string, |_| "replaced".to_owned()));
        let _ = parent.hear_at_last();
    });
}

#[test]
fn a_holder_goes_on_and_nobody_is_turned_away_when_its_heir_has_too_few_descriptors() {
    limited(|| {
        let ground = Ground::new();
        let _holder = Serving::start(7, &ground.socket());
        for most in 5.. {
            let arguments = [ground.socket().into_os_string(), most.to_string().into()];
            let mut heir = Process::start("poor_heir", arguments);
            let is_over = AtomicBool::new(false);
            let said = std::thread::scope(|scope| {
                let newcomer = scope.spawn(|| {
                    let is_over = || is_over.load(Ordering::Relaxed);
                    std::iter::from_fn(|| (!is_over()).then(|| Client::connect(ground.socket()).err())).flatten().next()
                });
                let said = heir.hear();
                std::thread::sleep(Duration::from_millis(10));
                is_over.store(true, Ordering::Relaxed);
                let turned_away = newcomer.join().unwrap().filter(|_| said != "replaced");
                assert!(turned_away.is_none(), "{most}: {said}; {turned_away:?}");
                said
            });
            if said == "replaced" {
                assert!(most > 8, "so few descriptors are enough?");
                break;
            }
            assert_eq!(Client::connect(ground.socket()).unwrap().call(&[0]).unwrap()[..], [7], "{most}: {said}");
        }
    });
}
