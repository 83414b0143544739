//! Death at any moment: a killed client costs nobody else anything and leaves nothing behind; a killed server is
//! noticed by everybody who waits for it, and its name is free for the next one. Figures are printed (`--nocapture`);
//! what is asserted is only that nothing hangs.

#[path = "support/workshop.rs"]
mod workshop;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use wigwag::{Client, ErrorKind, Server};
use wigwag_testing::Snapshot;
use wigwag_testing::{Ground, LIMIT, Over, Process, check_inverted, eventually, fill, role, word};
use workshop::{ORDER, Workshop};

/// So long may it take until a death is noticed, on a machine that does many other things. The figure is printed.
const SOON: Duration = Duration::from_secs(5);

#[test]
#[ignore = "a role: other tests start it as a process"]
fn workshop() {
    role("workshop", workshop::play);
}

#[track_caller]
fn invert(client: &Client, len: usize, seed: u64) {
    let mut loan = client.loan(len).unwrap();
    fill(&mut loan, seed);
    check_inverted(&loan.call().unwrap(), len, seed);
}

fn order(client: &Client, words: &str) -> wigwag::Result<()> {
    client.call(format!("{ORDER}{words}").as_bytes()).map(drop)
}

/// A client that calls, and checks every byte, for as long as something else runs.
fn beside_a_steady_client(ground: &Ground, run: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    let calls = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            let _over = Over(&is_over);
            let client = Client::connect(ground.socket()).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                invert(&client, word(1, call) as usize % 3000, call);
                if call.is_multiple_of(16) {
                    std::thread::sleep(Duration::from_micros(200)); // there are only so many processors
                }
            }
        });
        let goes_on = |calls: &AtomicU64| {
            let before = calls.load(Ordering::Relaxed);
            let mut now = before;
            eventually("the steady client goes on", || {
                now = calls.load(Ordering::Relaxed);
                now > before + 1 || is_over.load(Ordering::Relaxed)
            });
            assert!(now > before + 1, "the steady client failed");
        };
        goes_on(&calls);
        run();
        goes_on(&calls);
    });
}

// ---- clients that die -----------------------------------------------------------------------------------------------

/// Gets into a state, says so, and stays there until it is killed.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn victim() {
    role("victim", |parent, arguments| {
        let [socket, state] = arguments[..] else { panic!("{arguments:?}") };
        let wait = workshop::wait(if state == "spins" { "spin" } else { "park" });
        let client = Client::builder().wait(wait).connect(socket).unwrap();
        match state {
            "idles" => parent.tell("there"),
            "holds a loan" => {
                let _loan = client.loan(5000).unwrap();
                parent.tell("there");
                std::thread::park();
            }
            "holds a reply" => {
                let _reply = client.call(&[1; 5000]).unwrap();
                parent.tell("there");
                std::thread::park();
            }
            "holds all slots" => {
                let _held: Vec<_> = (0..client.slots()).map(|_| client.loan(100).unwrap().send().unwrap()).collect();
                parent.tell("there");
                std::thread::park();
            }
            "sleeps" | "spins" => {
                parent.tell("there");
                drop(order(&client, "work 100000000"));
            }
            "calls" => {
                parent.tell("there");
                for seed in 0.. {
                    invert(&client, word(2, seed) as usize % 9000, seed);
                }
            }
            "gives up" => {
                parent.tell("there");
                for _ in 0.. {
                    let _ = client.call_timeout(&[3; 100], Duration::from_micros(1));
                }
            }
            _ => panic!("{state}"),
        }
        std::thread::park();
    });
}

/// The server is back to what it was before the victims came.
#[track_caller]
fn is_back(server: &mut Workshop, baseline: &Snapshot, sessions: u64) {
    eventually("the sessions of the dead are over", || {
        server.process.tell("stats");
        server.process.hear().split(' ').next() == Some(&sessions.to_string())
    });
    baseline.is_back(server.process.child.id());
}

#[test]
fn a_client_that_is_killed_in_any_state_leaves_nothing_behind() {
    let ground = Ground::new();
    let mut server = Workshop::start(&ground, &["recv", "slots=4"]);
    drop(Client::connect(ground.socket()).unwrap());
    let baseline = Snapshot::when_settled(server.process.child.id(), 0);
    for state in ["idles", "holds a loan", "holds a reply", "holds all slots", "calls", "gives up"] {
        beside_a_steady_client(&ground, || {
            for _ in 0..3 {
                let mut victim = Process::start("victim", [ground.socket().as_os_str(), state.as_ref()]);
                victim.expect("there");
                std::thread::sleep(Duration::from_millis(2));
                victim.kill();
            }
        });
        is_back(&mut server, &baseline, 0);
    }
    server.stop();
}

/// The handler is busy with the dead client's request: its memory goes when the handler returns, or at the end.
#[test]
fn a_client_that_is_killed_while_it_waits_leaves_nothing_behind() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    for state in ["sleeps", "spins"] {
        let mut victim = Process::start("victim", [ground.socket().as_os_str(), state.as_ref()]);
        let mut request = server.recv().unwrap();
        victim.expect("there");
        std::thread::sleep(Duration::from_millis(5)); // it waits by now
        beside_a_server_thread(&mut server, &ground, || {
            victim.kill();
        });
        eventually("the session is over while its request is still held", || server.stats().sessions == 0);
        // The bytes are still there, and answering harms nobody.
        assert!(request.starts_with(ORDER.as_bytes()));
        request.resize(5000).unwrap();
        request.reply();
    }
}

/// Serves a steady client by hand while something happens.
fn beside_a_server_thread(server: &mut Server, ground: &Ground, run: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if let Some(mut request) = server.recv_timeout(Duration::from_millis(1)).unwrap() {
                    request.iter_mut().for_each(|byte| *byte = !*byte);
                    request.reply();
                }
            }
        });
        beside_a_steady_client(ground, run);
    });
}

/// `WIGWAG_TEST_KILLS` makes it as many as there is time for.
#[test]
fn two_hundred_kills_leave_no_trace() {
    const AT_A_TIME: usize = 8;
    let kills = std::env::var("WIGWAG_TEST_KILLS").map_or(200, |kills| kills.parse().unwrap());
    let ground = Ground::new();
    let mut server = Workshop::start(&ground, &["recv", "slots=4"]);
    drop(Client::connect(ground.socket()).unwrap());
    let baseline = Snapshot::when_settled(server.process.child.id(), 0);
    let states = ["calls", "gives up", "holds all slots", "calls", "holds a reply", "calls", "idles", "holds a loan"];
    let begin = Instant::now();
    beside_a_steady_client(&ground, || {
        for round in 0..kills / AT_A_TIME {
            let mut victims: Vec<_> = states
                .iter()
                .map(|state| Process::start("victim", [ground.socket().as_os_str(), state.as_ref()]))
                .collect();
            for (number, victim) in victims.iter_mut().enumerate() {
                // Some die in the middle of what they do, some in the handshake, some before it.
                let dice = word(round as u64, number as u64);
                match dice % 4 {
                    0 => std::thread::sleep(Duration::from_micros(dice >> 8 & 0xfff)),
                    _ => victim.expect("there"),
                }
                std::thread::sleep(Duration::from_micros(dice >> 20 & 0x3ff));
                victim.kill();
            }
        }
    });
    is_back(&mut server, &baseline, 0);
    println!("{kills} clients killed in {:?}", begin.elapsed());
    server.process.tell("stats");
    let stats = server.process.hear();
    assert!(stats.ends_with(" 0"), "a death is no violation: {stats}");
    server.stop();
}

#[test]
fn many_deaths_at_once_are_all_noticed() {
    let ground = Ground::new();
    let mut server = Workshop::start(&ground, &["recv"]);
    drop(Client::connect(ground.socket()).unwrap());
    let baseline = Snapshot::when_settled(server.process.child.id(), 0);
    let victims: Vec<_> = (0..12)
        .map(|_| {
            let mut victim = Process::start("victim", [ground.socket().as_os_str(), "holds all slots".as_ref()]);
            victim.expect("there");
            victim
        })
        .collect();
    let begin = Instant::now();
    victims.iter().for_each(|victim| victim.signal(Signal::KILL));
    is_back(&mut server, &baseline, 0);
    println!("12 deaths noticed and cleared after {:?}", begin.elapsed());
    server.stop();
}

/// The dead client's child holds copies of all its descriptors: only the pidfd tells.
#[test]
fn a_death_is_noticed_although_a_forked_child_holds_the_socket() {
    let ground = Ground::new();
    let mut server = Workshop::start(&ground, &["recv"]);
    drop(Client::connect(ground.socket()).unwrap());
    let baseline = Snapshot::when_settled(server.process.child.id(), 0);
    let mut parent = Process::start("client_with_child", [ground.socket()]);
    let child = Orphan::new(&parent.hear());
    let begin = Instant::now();
    parent.kill();
    is_back(&mut server, &baseline, 0);
    println!("a death behind a forked child noticed after {:?}", begin.elapsed());
    assert!(child.is_alive(), "the child was there all the time");
    server.stop();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn client_with_child() {
    role("client_with_child", |parent, arguments| {
        let client = Client::connect(arguments[0]).unwrap();
        invert(&client, 100, 1);
        parent.tell(fork_a_sleeper());
        loop {
            std::thread::park();
        }
    });
}

/// A child that holds a copy of every descriptor and does nothing. Its parent dies; the test ends it.
fn fork_a_sleeper() -> i32 {
    // SAFETY: the child only sleeps in the kernel, until it is killed.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed"),
        0 => loop {
            // SAFETY: no memory is involved. The alarm ends it should the test be gone.
            unsafe { libc::alarm(120) };
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        },
        child => child,
    }
}

/// A process that is not our child, held by its pidfd so that no other can be meant.
struct Orphan(std::os::fd::OwnedFd);

impl Orphan {
    fn new(pid: &str) -> Orphan {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        Orphan(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap())
    }

    fn is_alive(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 0
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
    }
}

// ---- clients that stop ----------------------------------------------------------------------------------------------

/// SIGSTOP, and waits until it stands still.
fn stop(process: &Process) {
    process.signal(Signal::STOP);
    let pid = Pid::from_raw(process.child.id() as i32);
    let (_, status) = waitpid(pid, WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn caller() {
    role("caller", |parent, arguments| {
        let wait = workshop::wait(arguments[1]);
        let client = Client::builder().wait(wait).connect(arguments[0]).unwrap();
        parent.tell("there");
        let mut calls = 0;
        // A call each time the test says so, and then as many as there is time for.
        while let Some(line) = parent.hear() {
            let more = if line == "many" { 500 } else { 1 };
            for _ in 0..more {
                invert(&client, 3000, calls);
                calls += 1;
            }
            parent.tell(calls);
        }
    });
}

#[test]
fn a_stopped_client_harms_nobody_and_goes_on_where_it_was() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &[]);
    for wait in ["adaptive", "spin", "park"] {
        let mut stopped = Process::start("caller", [ground.socket().as_os_str(), wait.as_ref()]);
        stopped.expect("there");
        for round in 1..=5 {
            stopped.tell("many");
            std::thread::sleep(Duration::from_micros(300 * round)); // in the middle of a call
            stop(&stopped);
            beside_a_steady_client(&ground, || std::thread::sleep(Duration::from_millis(5)));
            stopped.signal(Signal::CONT);
            stopped.expect(&(500 * round).to_string());
        }
    }
    server.stop();
}

#[test]
fn a_stopped_server_is_not_a_dead_one() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &[]);
    for wait in ["adaptive", "spin", "park"] {
        let client = Client::builder().wait(workshop::wait(wait)).connect(ground.socket()).unwrap();
        invert(&client, 100, 1);
        stop(&server.process);
        let error = client.call_timeout(b"is anybody there", Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: true });
        let mut pending = client.loan(100).unwrap();
        fill(&mut pending, 2);
        let mut pending = pending.send().unwrap();
        assert!(pending.wait_timeout(Duration::from_millis(20)).is_none());
        let late = Client::connect_timeout(ground.socket(), Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut { maybe_executed: false });
        server.process.signal(Signal::CONT);
        check_inverted(&pending.wait().unwrap(), 100, 2);
        invert(&client, 100, 3);
    }
    server.stop();
}

// ---- servers that die -----------------------------------------------------------------------------------------------

/// Kills the server and returns how long the client's error took, which is checked.
fn kill_mid_call(server: &mut Workshop, ground: &Ground, wait: &str, pipelined: usize) -> Duration {
    let client = Client::builder().wait(workshop::wait(wait)).connect(ground.socket()).unwrap();
    invert(&client, 100, 1);
    let pid = server.process.id() as i32;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let others: Vec<_> = (0..pipelined).map(|_| client.loan(100).unwrap().send().unwrap()).collect();
            let error = order(&client, "hang").unwrap_err();
            let end = Instant::now();
            assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true }, "{error}");
            assert!(error.to_string().contains("may have been executed"), "{error}");
            let last = *error.peer_death().expect("what was known when it died");
            assert!((1..=1 + pipelined).contains(&last.in_flight) && last.pid == pid, "{last:?}");
            assert!(last.noticed_at <= end && last.lived < LIMIT, "{last:?}");
            let (mut answered, mut lost) = (0, 0);
            for pending in others {
                match pending.wait() {
                    Ok(_) => answered += 1, // served before
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true });
                        lost += 1;
                    }
                }
            }
            assert_eq!(answered + lost, pipelined);
            for _ in 0..3 {
                let again = client.call(b"hello?").unwrap_err();
                assert!(matches!(again.kind(), ErrorKind::PeerDied { .. }), "{again:?}");
                assert_eq!(again.peer_death(), Some(&last), "it is of the moment when it was noticed");
            }
            end
        });
        server.process.expect("hanging");
        std::thread::sleep(Duration::from_millis(5)); // the client waits by now, in its way
        let begin = Instant::now();
        server.process.signal(Signal::KILL);
        waiting.join().unwrap().duration_since(begin)
    })
}

fn server_killed_mid_call(wait: &str) {
    let ground = Ground::new();
    let mut took = Vec::new();
    for pipelined in [0, 0, 5] {
        let mut server = Workshop::start(&ground, &[]);
        took.push(kill_mid_call(&mut server, &ground, wait, pipelined));
        server.process.kill();
    }
    println!("a waiting call ({wait}) ended {took:?} after the server's death; reached is 250 ms");
    assert!(took.iter().all(|took| *took < SOON), "{took:?}");
}

#[test]
fn a_server_killed_mid_call_is_noticed_by_an_adaptive_client() {
    server_killed_mid_call("adaptive");
}

#[test]
fn a_server_killed_mid_call_is_noticed_by_a_spinning_client() {
    server_killed_mid_call("spin");
}

#[test]
fn a_server_killed_mid_call_is_noticed_by_a_parking_client() {
    server_killed_mid_call("park");
}

#[test]
fn a_server_killed_mid_call_is_noticed_by_those_who_poll_or_wait_for_a_slot() {
    let ground = Ground::new();
    let mut server = Workshop::start(&ground, &["slots=1"]);
    let polling = Client::connect(ground.socket()).unwrap();
    let queueing = Client::connect(ground.socket()).unwrap();
    invert(&polling, 100, 1);
    invert(&queueing, 100, 1);
    let mut pending = polling.loan(100).unwrap().send().unwrap();
    eventually("an answer by polling", || pending.try_wait().is_some());
    let mut hang = queueing.loan(ORDER.len() + 4).unwrap();
    hang.copy_from_slice(format!("{ORDER}hang").as_bytes());
    drop(hang.send().unwrap()); // given up, while the server has it
    server.process.expect("hanging");
    let mut pending = polling.loan(100).unwrap().send().unwrap();
    assert!(pending.try_wait().is_none());
    let slot = std::thread::spawn(move || queueing.loan(100).map(drop));
    std::thread::sleep(Duration::from_millis(5));
    server.process.kill();
    let mut outcome = None;
    eventually("polling ends", || {
        outcome = pending.try_wait();
        outcome.is_some()
    });
    assert!(matches!(outcome.unwrap().unwrap_err().kind(), ErrorKind::PeerDied { maybe_executed: true }));
    assert!(pending.try_wait().is_none(), "it has been told");
    let error = slot.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: false });
}

#[test]
fn an_idle_client_learns_of_the_death_at_its_next_call_and_reconnects_to_the_next_server() {
    let ground = Ground::new();
    let mut server = Workshop::start(&ground, &[]);
    let clients: Vec<_> = ["adaptive", "spin", "park"]
        .into_iter()
        .map(|wait| Client::builder().wait(workshop::wait(wait)).connect(ground.socket()).unwrap())
        .collect();
    clients.iter().for_each(|client| invert(client, 100, 1));
    server.process.kill();
    for client in &clients {
        let error = client.call(b"hello?").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::PeerDied { .. }), "{error:?}");
        let error = client.loan(100).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: false }, "known by now");
        assert_eq!(client.try_clone().unwrap_err().kind(), ErrorKind::NotRunning);
    }
    // All it left, and the next one takes them over.
    let mut left: Vec<PathBuf> = fs::read_dir(ground.path("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    left.sort();
    assert_eq!(left, [ground.socket(), ground.path("server.lock")]);
    let next = Workshop::start(&ground, &[]);
    for client in &clients {
        invert(&client.try_clone().unwrap(), 100, 2);
    }
    next.stop();
    assert_eq!(fs::read_dir(ground.path("")).unwrap().count(), 0, "a graceful exit leaves no file");
}

/// The dead server's child holds copies of all its descriptors, the client's socket among them: only the pidfd tells.
#[test]
fn a_servers_death_is_noticed_although_a_forked_child_holds_the_socket() {
    for wait in ["adaptive", "spin", "park"] {
        let ground = Ground::new();
        let mut server = Process::start("server_with_child", [ground.socket()]);
        server.expect("ready");
        let client = Client::builder().wait(workshop::wait(wait)).connect(ground.socket()).unwrap();
        let waiting = std::thread::spawn(move || (client.call(b"hello").map(drop).unwrap_err(), Instant::now()));
        let child = Orphan::new(&server.hear());
        std::thread::sleep(Duration::from_millis(5));
        let begin = Instant::now();
        server.kill();
        let (error, end) = waiting.join().unwrap();
        println!("a server's death behind a forked child ({wait}) noticed after {:?}", end - begin);
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true });
        assert!(child.is_alive() && end - begin < SOON);
        // The child holds the listening socket as well, so whoever comes now gets a connection that nobody will accept.
        let newcomer = Client::connect_timeout(ground.socket(), LIMIT).unwrap_err();
        assert_eq!(newcomer.kind(), ErrorKind::PeerDied { maybe_executed: false }, "{newcomer}");
    }
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn server_with_child() {
    role("server_with_child", |parent, arguments| {
        let mut server = Server::bind(arguments[0]).unwrap();
        parent.tell("ready");
        let _request = server.recv().unwrap();
        parent.tell(fork_a_sleeper());
        loop {
            std::thread::park();
        }
    });
}

/// What a client holds of a dead server goes with the client; looked at in a process of its own.
#[test]
fn a_client_of_dead_servers_keeps_nothing() {
    let ground = Ground::new();
    let mut client = Process::start("survivor", [ground.socket()]);
    for _ in 0..20 {
        let mut server = Workshop::start(&ground, &[]);
        client.tell("connect");
        server.process.expect("hanging");
        server.process.kill();
        client.expect("noticed");
    }
    client.tell("end");
    client.join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn survivor() {
    role("survivor", |parent, arguments| {
        let mut baseline = None;
        while parent.hear().unwrap() == "connect" {
            let client = Client::connect(arguments[0]).unwrap();
            let error = order(&client, "hang").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true });
            drop(client);
            let now = Snapshot::of(std::process::id());
            assert_eq!(&now, baseline.get_or_insert_with(|| now.clone()));
            parent.tell("noticed");
        }
    });
}

/// A program that the server starts inherits nothing of it.
#[test]
fn nothing_is_inherited_by_a_program_that_is_started() {
    let ground = Ground::new();
    Process::start("starter", [ground.socket()]).join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn starter() {
    role("starter", |_, arguments| {
        let born_with = descriptors_of_a_program();
        let mut server = Server::bind(arguments[0]).unwrap();
        let client = Client::connect(arguments[0]).unwrap();
        let pending = client.loan(100).unwrap().send().unwrap();
        let request = server.recv().unwrap();
        assert_eq!(descriptors_of_a_program(), born_with);
        request.reply();
        drop(pending.wait().unwrap());
    });
}

fn descriptors_of_a_program() -> Vec<String> {
    let program = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let listing = String::from_utf8(program.stdout).unwrap();
    let targets = listing.lines().filter_map(|line| line.split_once(" -> ").map(|(_, target)| target));
    // Pipes and its own directory are new each time.
    targets.filter(|target| !target.starts_with("pipe:") && !target.starts_with("/proc/")).map(str::to_owned).collect()
}

#[test]
fn a_signal_that_a_waiting_client_handles_does_not_end_its_call() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &[]);
    let mut caller = Process::start("interrupted", [ground.socket()]);
    caller.expect("there");
    for _ in 0..20 {
        kill_process(Pid::from_raw(caller.child.id() as i32).unwrap(), Signal::USR1).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    caller.expect("answered");
    caller.join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn interrupted() {
    role("interrupted", |parent, arguments| {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: the handler does nothing, which is async-signal-safe. Without SA_RESTART, so that sleeps are
        // interrupted.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
        let client = Client::builder().wait(workshop::wait("park")).connect(arguments[0]).unwrap();
        parent.tell("there");
        order(&client, "work 60").unwrap();
        invert(&client, 100, 1);
        parent.tell("answered");
    });
}
