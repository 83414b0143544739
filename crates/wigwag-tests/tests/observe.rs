//! Looking at servers from outside: while they work, hang, are stopped, die, and lie.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use wigwag::observe::{Observer, PermitSnapshot, PermitState, Polling, ProcessState, Snapshot, ThreadState};
use wigwag::{Client, ErrorKind, Semaphore, Server, Stream, StreamListener, Wait};
use wigwag_testing::{Ground, Process, eventually, role};

#[path = "support/workshop.rs"]
mod workshop;

use workshop::{ORDER, Workshop};

#[test]
#[ignore = "a role: other tests start it as a process"]
fn workshop() {
    role("workshop", workshop::play);
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn victim() {
    role("victim", |parent, arguments| {
        let client = Client::builder().slots(4).connect(Path::new(arguments[0])).unwrap();
        for _ in 0..3 {
            client.call(b"alive").unwrap();
        }
        let _pending = client.loan(7).unwrap().send().unwrap();
        parent.tell("there");
        loop {
            std::thread::park();
        }
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn holder() {
    role("holder", |parent, arguments| {
        let semaphore = Semaphore::open(Path::new(arguments[0]), 3).unwrap();
        let _permits = semaphore.acquire_many(2).unwrap();
        parent.tell("there");
        loop {
            std::thread::park();
        }
    });
}

fn look(name: &Path) -> Snapshot {
    Observer::open(name).unwrap().snapshot().unwrap()
}

/// Serves on a thread for as long as `work` takes.
fn serving(server: &mut Server, work: impl FnOnce()) {
    let stop = server.shutdown_handle();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            server.serve(|request| match &request[..] {
                b"fail" => Err("as asked".to_owned()),
                b"grow" => request.resize(100).map_err(|error| error.to_string()),
                _ => Ok(()),
            })
        });
        // The server ends also if the work panics, so that the test does not hang.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.shutdown();
        thread.join().unwrap().unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn what_is_counted_is_what_was_done() {
    let ground = Ground::new();
    let name = ground.socket();
    let mut server = Server::builder().slots(4).bind(&name).unwrap();
    serving(&mut server, || {
        let client = Client::connect(&name).unwrap();
        for _ in 0..1000 {
            client.call(&[7; 40]).unwrap();
        }
        client.call(b"grow").unwrap();
        assert_eq!(client.call(b"fail").unwrap_err().kind(), ErrorKind::HandlerFailed);
        // The last call is counted after its answer.
        eventually("all is counted", || look(&name).counts.calls == 1002);
        let snapshot = look(&name);
        assert!(snapshot.is_whole && snapshot.state == ProcessState::Running);
        let counts = &snapshot.counts;
        assert_eq!((counts.bytes_in, counts.bytes_out, counts.failed), (40_008, 40_000 + 100 + 8, 1));
        assert_eq!(counts.calls, counts.doorbells_rung + counts.doorbells_saved());
        assert_eq!(counts.calls, counts.doorbells_heard + counts.found_by_polling());
        let timed = counts.durations.total();
        assert!((1..=1002).contains(&timed), "{timed} calls are spoken for by those that were timed");
        assert!(counts.busy > Duration::ZERO && counts.durations.quantile(0.5).is_some());
        let [session] = &snapshot.sessions[..] else { panic!("{snapshot:?}") };
        assert_eq!((session.slots, session.counts.calls, session.in_flight), (4, 1002, 0));
        assert_eq!(session.peer.pid as u32, std::process::id());
        assert!(session.is_trusted && session.program().is_some() && session.slots_in_use_max >= 1);
        drop(client);
        eventually("the session is over", || look(&name).sessions.is_empty());
        let snapshot = look(&name);
        assert_eq!((snapshot.counts.calls, snapshot.counts.bytes_in), (1002, 40_008), "what is over still counts");
        assert_eq!((snapshot.sessions_accepted, snapshot.sessions_max), (1, 1));
        Client::connect(&name).unwrap().call(b"once more").unwrap();
        eventually("a record is used again, and counts afresh", || look(&name).counts.calls == 1003);
    });
    let stats = server.stats();
    assert_eq!((stats.calls, stats.failed, stats.sessions_accepted), (1003, 1, 2));
}

#[test]
fn a_server_tells_other_threads_what_it_counted_while_it_serves() {
    fn is_for_any_thread<T: Clone + Send + Sync + 'static>(_: &T) {}
    let ground = Ground::new();
    let name = ground.socket();
    let mut server = Server::bind(&name).unwrap();
    let (told, stop) = (server.stats_handle(), server.shutdown_handle());
    is_for_any_thread(&told);
    let (enter, entered) = std::sync::mpsc::channel();
    let (leave, left) = std::sync::mpsc::channel::<()>();
    let serving = std::thread::spawn(move || {
        server.serve(|request| {
            if &request[..] == b"hang" {
                enter.send(()).unwrap();
                let _ = left.recv(); // an error: the test is over
            }
        })
    });
    let client = Client::connect(&name).unwrap();
    client.call(b"first").unwrap();
    let hanging = std::thread::spawn(move || client.call(b"hang").map(drop));
    entered.recv().unwrap();
    let elsewhere = told.clone();
    let seen = std::thread::spawn(move || elsewhere.stats()).join().unwrap();
    assert_eq!((seen.calls, seen.bytes_in, seen.sessions), (1, 5, 1), "the handler hangs");
    leave.send(()).unwrap();
    hanging.join().unwrap().unwrap();
    stop.shutdown();
    serving.join().unwrap().unwrap(); // the server is dropped there
    let seen = told.stats();
    assert_eq!((seen.calls, seen.bytes_in, seen.sessions), (2, 9, 0), "the server is gone");
}

#[test]
fn several_threads_are_each_seen() {
    let ground = Ground::new();
    let mut workshop = Workshop::start(&ground, &["threads=3"]);
    let clients: Vec<Client> = (0..6).map(|_| Client::connect(ground.socket()).unwrap()).collect();
    for (index, client) in clients.iter().enumerate() {
        for _ in 0..=index {
            client.call(&[1; 10]).unwrap();
        }
    }
    eventually("all is counted", || look(&ground.socket()).counts.calls == 21);
    let snapshot = look(&ground.socket());
    let mut calls: Vec<u64> = snapshot.sessions.iter().map(|session| session.counts.calls).collect();
    calls.sort_unstable();
    assert_eq!((calls, snapshot.threads.len()), (vec![1, 2, 3, 4, 5, 6], 3));
    // One of them hangs: which, for whom, and that the others go on.
    let hanging = clients[2].loan(ORDER.len() + 4).map(|mut loan| {
        loan.copy_from_slice(format!("{ORDER}hang").as_bytes());
        loan.send().unwrap()
    });
    workshop.process.expect("hanging");
    let snapshot = look(&ground.socket());
    let (thread, at_most) = snapshot.longest_now().unwrap();
    let ThreadState::Serving { session, .. } = thread.state else { panic!("{thread:?}") };
    let stuck: Vec<u64> = snapshot.sessions.iter().filter(|session| session.in_flight > 0).map(|one| one.id).collect();
    assert_eq!(stuck, [session.unwrap()]);
    std::thread::sleep(Duration::from_millis(20));
    let (_, later) = look(&ground.socket()).longest_now().map(|(thread, at_most)| (thread.clone(), at_most)).unwrap();
    assert!(later >= at_most + Duration::from_millis(20), "{at_most:?} {later:?}");
    drop(hanging);
}

/// A handler that never returns, in a process that is stopped besides: everything is still to be seen, and nothing
/// moves.
#[test]
fn a_server_that_hangs_or_is_stopped_is_seen_all_the_same() {
    let ground = Ground::new();
    let mut workshop = Workshop::start(&ground, &["slots=3"]);
    let client = Client::connect(ground.socket()).unwrap();
    client.call(&[1; 10]).unwrap();
    let mut loan = client.loan(ORDER.len() + 4).unwrap();
    loan.copy_from_slice(format!("{ORDER}hang").as_bytes());
    let _pending = loan.send().unwrap();
    workshop.process.expect("hanging");
    let check = |state: ProcessState| {
        let observer = Observer::open(ground.socket()).unwrap();
        assert_eq!(observer.service().pid, workshop.process.child.id());
        let snapshot = observer.snapshot().unwrap();
        assert_eq!((snapshot.state, snapshot.counts.calls, snapshot.sessions[0].in_flight), (state, 1, 1));
        let (_, at_most) = snapshot.longest_now().expect("the thread that hangs is seen");
        assert!(at_most < observer.service().age(), "{at_most:?}");
    };
    check(ProcessState::Running);
    workshop.process.signal(Signal::STOP);
    eventually("it is stopped", || look(&ground.socket()).state == ProcessState::Stopped);
    check(ProcessState::Stopped);
    workshop.process.signal(Signal::CONT);
    eventually("it goes on", || look(&ground.socket()).state == ProcessState::Running);
    check(ProcessState::Running);
    let observer = Observer::open(ground.socket()).unwrap();
    workshop.process.kill();
    let last = observer.snapshot().unwrap();
    assert_eq!((last.state, last.counts.calls), (ProcessState::Gone, 1), "what it left is still there to be read");
    let error = Observer::open(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
}

#[test]
fn a_client_that_is_killed_leaves_its_numbers_and_nothing_else() {
    let ground = Ground::new();
    let name = ground.socket();
    let mut server = Server::bind(&name).unwrap();
    serving(&mut server, || {
        for round in 1..=3 {
            let mut victim = Process::start("victim", [name.as_os_str()]);
            victim.expect("there");
            assert!(look(&name).sessions.len() <= 1);
            // What the dead one had passed, and nobody had taken when the server heard of its death, is never executed.
            eventually("its last request has been answered", || look(&name).counts.calls == 4 * round);
            victim.kill();
            eventually("the session of the dead is over", || look(&name).sessions.is_empty());
            let snapshot = look(&name);
            assert_eq!((snapshot.counts.calls, snapshot.sessions_accepted), (4 * round, round));
            assert_eq!(snapshot.counts.bytes_in, (3 * 5 + 7) * round);
        }
    });
}

#[test]
fn who_answers_later_holds_what_is_listed_as_kept() {
    let ground = Ground::new();
    let name = ground.socket();
    let mut server = Server::bind(&name).unwrap();
    let client = Client::connect(&name).unwrap();
    let _pending: Vec<_> = (0..3).map(|_| client.loan(9).unwrap().send().unwrap()).collect();
    let mut requests: Vec<_> = (0..3).map(|_| server.recv().unwrap()).collect();
    let snapshot = look(&name);
    let mut slots: Vec<u32> = snapshot.kept.iter().map(|kept| kept.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots.len(), 3);
    slots.dedup();
    assert_eq!((slots.len(), snapshot.sessions[0].in_flight, snapshot.counts.calls), (3, 3, 0));
    assert!(snapshot.kept.iter().all(|kept| kept.session == Some(snapshot.sessions[0].id)));
    let last = requests.pop().unwrap();
    std::thread::spawn(move || last.reply()).join().unwrap();
    requests.pop().unwrap().fail("as the test wants it");
    let snapshot = look(&name);
    assert_eq!((snapshot.kept.len(), snapshot.sessions[0].in_flight, snapshot.counts.calls), (1, 1, 2));
    assert_eq!((snapshot.counts.failed, snapshot.counts.bytes_in), (1, 18));
    drop(requests);
    let counts = look(&name).counts;
    assert_eq!((counts.calls, counts.failed, counts.kept), (3, 2, 0), "what is dropped is answered, and has failed");
    assert_eq!(server.stats().calls, 3);
}

#[test]
fn how_the_server_waits_is_seen() {
    let ground = Ground::new();
    let name = ground.socket();
    let mut server = Server::builder().wait(Wait::Park).bind(&name).unwrap();
    let client = Client::connect(&name).unwrap();
    eventually("the session is there", || look(&name).sessions.len() == 1);
    assert_eq!(look(&name).sessions[0].polling, Polling::NotYet, "nobody serves");
    serving(&mut server, || {
        client.call(b"x").unwrap();
        eventually("it sleeps until it is rung for", || look(&name).sessions[0].polling == Polling::Armed);
        eventually("its thread sleeps", || look(&name).threads[0].state == ThreadState::Asleep);
        let heard = look(&name).counts.doorbells_heard;
        client.call(b"x").unwrap();
        assert_eq!(look(&name).counts.doorbells_heard, heard + 1);
    });
}

#[test]
fn streams_are_seen_at_their_listener() {
    let ground = Ground::new();
    let name = ground.socket();
    let listener = StreamListener::builder().ring_bytes(8192).bind(&name).unwrap();
    let mut connecting = Stream::connect(&name).unwrap();
    let mut accepted = listener.accept().unwrap();
    connecting.write_all(&[1; 3000]).unwrap();
    accepted.read_exact(&mut [0; 3000]).unwrap();
    accepted.write_all(&[2; 500]).unwrap();
    let snapshot = look(&name);
    assert_eq!((snapshot.counts.bytes_in, snapshot.counts.bytes_out), (3000, 500));
    assert_eq!((snapshot.sessions[0].capacity, snapshot.sessions[0].in_flight), (8192, 0));
    drop(listener);
    assert_eq!(Observer::open(&name).unwrap_err().kind(), ErrorKind::NotRunning);
    accepted.write_all(&[2; 10]).unwrap(); // what is counted outlives the listener
    connecting.read_exact(&mut [0; 510]).unwrap();
}

#[test]
fn who_holds_a_permit_is_seen_also_when_it_is_dead() {
    let ground = Ground::new();
    let name = ground.socket();
    assert_eq!(PermitSnapshot::of(&name).unwrap_err().kind(), ErrorKind::NotRunning);
    let semaphore = Semaphore::open(&name, 3).unwrap();
    let mut other = Process::start("holder", [name.as_os_str()]);
    other.expect("there");
    let mine = semaphore.acquire().unwrap();
    let snapshot = PermitSnapshot::of(&name).unwrap();
    let mut holders: Vec<_> = snapshot.held().map(|(_, holder)| (holder.pid, holder.is_alive)).collect();
    holders.sort_unstable();
    let mut expected = [(Some(std::process::id()), true), (Some(other.id()), true), (Some(other.id()), true)];
    expected.sort_unstable();
    assert_eq!((&holders[..], snapshot.free(), snapshot.waiting.len()), (&expected[..], 0, 0));
    std::thread::scope(|scope| {
        scope.spawn(|| drop(semaphore.acquire_many(2).unwrap()));
        eventually("somebody waits for two", || {
            let waiting = PermitSnapshot::of(&name).unwrap().waiting;
            waiting.len() == 1 && waiting[0].needs == 2 && waiting[0].is_alive
        });
        other.signal(Signal::STOP);
        assert!(PermitSnapshot::of(&name).unwrap().held().all(|(_, holder)| holder.is_alive), "stopped is not dead");
        other.kill();
    });
    drop(mine);
    // Nobody looks after the dead while nobody waits.
    let mut other = Process::start("holder", [name.as_os_str()]);
    other.expect("there");
    other.kill();
    let dead = |snapshot: &PermitSnapshot| snapshot.held().filter(|(_, holder)| !holder.is_alive).count();
    eventually("the dead one's lock is gone", || dead(&PermitSnapshot::of(&name).unwrap()) == 2);
    assert_eq!(semaphore.available(), 3);
    let snapshot = PermitSnapshot::of(&name).unwrap();
    let recovered = snapshot.permits.iter().filter(|state| **state == PermitState::Recovered).count();
    assert_eq!((snapshot.free(), recovered), (3, 2));
    let raw = std::fs::File::options().write(true).open(&name).unwrap();
    raw.write_all_at(&[0xff; 4096], 0).unwrap();
    assert_eq!(
        PermitSnapshot::of(&name).unwrap_err().kind(),
        ErrorKind::PathInvalid,
        "what is none is not shown as one"
    );
}

#[test]
fn what_a_killed_server_left_is_not_taken_for_one() {
    let ground = Ground::new();
    Workshop::start(&ground, &[]).stop();
    assert!(!ground.socket().exists() && !lock_of(&ground).exists(), "who ends in good order leaves nothing");
    let mut workshop = Workshop::start(&ground, &[]);
    let hint = std::fs::read_to_string(lock_of(&ground)).unwrap();
    workshop.process.kill();
    assert!(ground.socket().exists(), "it left its socket");
    assert_eq!(Observer::open(ground.socket()).unwrap_err().kind(), ErrorKind::NotRunning);
    // The next one writes a hint of its own.
    let server = Server::bind(ground.socket()).unwrap();
    assert_ne!(std::fs::read_to_string(lock_of(&ground)).unwrap(), hint);
    assert_eq!(Observer::open(ground.socket()).unwrap().service().pid, std::process::id());
    drop(server);
    assert_eq!(Observer::open(ground.socket()).unwrap_err().kind(), ErrorKind::NotRunning);
}

fn lock_of(ground: &Ground) -> PathBuf {
    let mut lock = ground.socket().into_os_string();
    lock.push(".lock");
    lock.into()
}

#[test]
fn a_hint_that_leads_elsewhere_is_not_followed() {
    let ground = Ground::new();
    let server = Server::bind(ground.socket()).unwrap();
    let other_ground = Ground::new();
    let _other = Server::bind(other_ground.socket()).unwrap();
    let good = std::fs::read_to_string(lock_of(&ground)).unwrap();
    let others = std::fs::read_to_string(lock_of(&other_ground)).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let own = std::process::id();
    let pipe = format!("{own} {}\n", reader.as_raw_fd());
    let long = "1".repeat(100);
    for bad in ["", "nonsense", &long, "1 1\n", "4294967295 3\n", "0 0\n", &pipe, &others, &good[..good.len() - 1]] {
        std::fs::write(lock_of(&ground), bad).unwrap();
        let error = Observer::open(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{bad:?}: {error}");
        assert!(error.to_string().contains("cannot be looked at"), "{error}");
    }
    std::fs::write(lock_of(&ground), &good).unwrap();
    Observer::open(ground.socket()).unwrap();
    // The server takes a lock that was removed again, and writes the hint into the new one.
    std::fs::remove_file(lock_of(&ground)).unwrap();
    eventually("the server is seen through its new lock", || match Observer::open(ground.socket()) {
        Ok(observer) => observer.service().pid == own,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            false
        }
    });
    drop(server);
}

/// An observer has no way to write: not through what it opened, and not through a mapping of its own.
#[test]
fn nobody_but_the_server_can_write_to_its_statistics() {
    let ground = Ground::new();
    let _server = Server::bind(ground.socket()).unwrap();
    let hint = std::fs::read_to_string(lock_of(&ground)).unwrap();
    let fd = hint.trim().split(' ').nth(1).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(format!("/proc/self/fd/{fd}")).unwrap();
    assert!(file.write_at(&[1; 8], 0).is_err());
    assert!(file.set_len(0).is_err() && file.set_len(1 << 30).is_err());
    let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
    use rustix::fs::SealFlags;
    assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL));
}

/// What a liar writes into memory of its own: every word of the smallest statistics there can be, in turn, with what is
/// likely to hurt. Nothing panics, and nothing takes for ever.
#[test]
fn lies_do_no_harm() {
    let ground = Ground::new();
    let server = Server::builder().max_sessions(4).bind(ground.socket()).unwrap();
    let client = Client::connect(ground.socket()).unwrap();
    eventually("the session is there", || look(&ground.socket()).sessions.len() == 1);
    let hint = std::fs::read_to_string(lock_of(&ground)).unwrap();
    let fd = hint.trim().split(' ').nth(1).unwrap();
    let true_bytes = std::fs::read(format!("/proc/self/fd/{fd}")).unwrap();
    let lie = |bytes: &[u8]| {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory: std::fs::File = memfd_create("statistics-of-wigwag", flags).unwrap().into();
        memory.write_all_at(bytes, 0).unwrap();
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        std::fs::write(lock_of(&ground), format!("{} {}\n", std::process::id(), memory.as_raw_fd())).unwrap();
        match Observer::open(ground.socket()) {
            Ok(observer) => Ok(observer.snapshot().unwrap()),
            Err(error) => Err(error.kind()),
        }
    };
    assert_eq!(lie(&true_bytes).unwrap().sessions.len(), 1, "the copy is as good as the truth");
    for kind in [&true_bytes[..4096], &[0; 65_536][..], &true_bytes[..true_bytes.len() - 1]] {
        assert_eq!(lie(kind).unwrap_err(), ErrorKind::Violation, "{} bytes", kind.len());
    }
    let mut refused = 0;
    let sessions_at = true_bytes.len() - 4096;
    // The head and the control thread's words, the beginning of the other tables, and the sessions.
    let words = (0..2560).chain(4096..4128).chain(20_480..20_544).chain(sessions_at..sessions_at + 1024).step_by(8);
    for at in words {
        for value in [0, 1, u64::MAX, 1 << 63, 1 << 32, 4096] {
            let mut bytes = true_bytes.clone();
            bytes[at..at + 8].copy_from_slice(&u64::to_ne_bytes(value));
            match lie(&bytes) {
                Ok(snapshot) => assert!(snapshot.sessions.len() <= 4),
                Err(kind) => {
                    use ErrorKind::{Io, VersionMismatch, Violation};
                    assert!(matches!(kind, Violation | VersionMismatch | Io), "{at}: {kind:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused >= 30, "{refused} lies were found out");
    drop((client, server));
}
