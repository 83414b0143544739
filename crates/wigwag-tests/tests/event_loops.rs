//! Event loops of other makes than tokio's: one descriptor for each handle, calls that never wait, no ring that is
//! lost, and a peer's death that is told once.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use wigwag::{Client, ErrorKind, Pending, Receiver, Sender, Server};
use wigwag_testing::{Ground, LIMIT, Process, eventually, fill, limited, role, word};

/// Waits until a descriptor is readable; fails if it is not within the time limit of a test.
#[track_caller]
fn wait_for(descriptor: impl AsFd) {
    assert!(is_readable(descriptor, LIMIT), "nothing made the descriptor readable");
}

fn is_readable(descriptor: impl AsFd, within: Duration) -> bool {
    let within = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: within.subsec_nanos().into() };
    poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&within)).unwrap() > 0
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn bound() {
    role("bound", |parent, arguments| {
        let [form, socket] = arguments[..] else { panic!("{arguments:?}") };
        match form {
            "server" => {
                let mut server = Server::bind(socket).unwrap();
                parent.tell("there");
                let _held = server.recv().unwrap();
                parent.tell("called");
                std::thread::park();
            }
            _ => {
                let _receiver = Receiver::builder().shared(form == "sharing").bind(socket).unwrap();
                parent.tell("there");
                std::thread::park();
            }
        }
    });
}

/// What one loop makes of the calls that it waits for: as many as there are slots are under way at a time.
fn call_from_a_loop(client: &Client, calls: u64) {
    let mut under_way: Vec<(u64, Pending<'_>)> = Vec::new();
    let (mut next, mut answered) = (0, 0);
    while answered < calls {
        while next < calls
            && let Ok(mut loan) = client.try_loan(word(3, next) as usize % 200)
        {
            fill(&mut loan, next);
            under_way.push((next, loan.send().unwrap()));
            next += 1;
        }
        client.take_events().unwrap();
        let mut is_to_wait = true;
        under_way.retain_mut(|(call, pending)| match pending.try_wait() {
            Some(reply) => {
                wigwag_testing::check_inverted(&reply.unwrap(), word(3, *call) as usize % 200, *call);
                answered += 1;
                is_to_wait = false;
                false
            }
            None => {
                is_to_wait &= pending.arm();
                true
            }
        });
        if is_to_wait && answered < calls {
            wait_for(client);
        }
    }
}

/// Answers from a loop until it is shut down. How often the loop slept.
fn serve_from_a_loop(server: &mut Server) -> u64 {
    let descriptor = server.try_clone_descriptor().unwrap();
    let (mut sleeps, mut held) = (0, Vec::new());
    loop {
        match server.recv_or_arm() {
            Ok(Some(mut request)) => {
                request.iter_mut().for_each(|byte| *byte = !*byte);
                held.push(request);
                if held.len() % 3 == 0 {
                    held.drain(..).rev().for_each(wigwag::Request::reply); // in another order than they came
                }
            }
            Ok(None) if !held.is_empty() => held.drain(..).for_each(wigwag::Request::reply),
            Ok(None) => {
                sleeps += 1;
                wait_for(&descriptor);
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::ServerClosed { .. }), "{error}");
                return sleeps;
            }
        }
    }
}

#[test]
fn loops_on_both_sides_lose_no_ring() {
    let ground = Ground::new();
    let mut server = Server::builder().slots(4).bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    limited(move || {
        std::thread::scope(|scope| {
            let serving = scope.spawn(move || serve_from_a_loop(&mut server));
            let clients: Vec<_> = (0..3)
                .map(|_| {
                    let socket = ground.socket();
                    scope.spawn(move || call_from_a_loop(&Client::connect(socket).unwrap(), 5_000))
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
            stop.shutdown(); // while the loop sleeps
            assert!(serving.join().unwrap() > 0, "it never slept: nothing was tried");
        });
    });
}

#[test]
fn a_loop_and_calls_that_wait_take_turns_at_one_server() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let descriptor = server.try_clone_descriptor().unwrap();
    let client = Client::connect(ground.socket()).unwrap();
    for round in 0..50 {
        assert!(server.recv_or_arm().unwrap().is_none());
        let pending = client.loan(1).unwrap().send().unwrap();
        let request = match round % 3 {
            0 => server.recv().unwrap(),
            1 => server.recv_timeout(LIMIT).unwrap().unwrap(),
            _ => {
                wait_for(&descriptor);
                server.recv_or_arm().unwrap().unwrap()
            }
        };
        request.reply();
        pending.wait().unwrap();
    }
}

#[test]
fn abandoned_calls_give_their_slots_back_to_a_loop() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let client = Client::builder().slots(1).connect(ground.socket()).unwrap();
    drop(client.try_loan(8).unwrap().send().unwrap());
    let request = server.recv().unwrap();
    client.take_events().unwrap();
    assert_eq!(client.try_loan(8).unwrap_err().kind(), ErrorKind::Full);
    assert!(!is_readable(&client, Duration::ZERO));
    request.reply();
    wait_for(&client);
    client.take_events().unwrap();
    drop(client.try_loan(8).unwrap());
}

#[test]
fn the_death_of_a_server_makes_the_descriptor_readable_and_is_told_once() {
    let ground = Ground::new();
    let mut server = Process::start("bound", ["server".into(), ground.socket()]);
    server.expect("there");
    let client = Client::connect(ground.socket()).unwrap();
    let mut pending = client.try_loan(8).unwrap().send().unwrap();
    server.expect("called");
    client.take_events().unwrap();
    assert!(pending.try_wait().is_none() && pending.arm());
    server.kill();
    let killed = Instant::now();
    let error = loop {
        wait_for(&client);
        match client.take_events() {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    println!("noticed within {:?}", killed.elapsed());
    assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: false });
    let error = pending.try_wait().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true });
    assert!(!pending.arm(), "nobody rings any more");
    client.take_events().unwrap_err();
    assert!(!is_readable(&client, Duration::from_millis(20)), "a loop that waits there would run hot");
}

#[test]
fn a_queue_fed_and_emptied_by_loops_loses_no_ring() {
    const MESSAGES: u64 = 10_000;
    let ground = Ground::new();
    let mut receiver = Receiver::builder().slots(4).bind(ground.socket()).unwrap();
    limited(move || {
        std::thread::scope(|scope| {
            let socket = ground.socket();
            let sending = scope.spawn(move || {
                let mut sender = Sender::builder().slots(4).connect(socket).unwrap();
                let descriptor = sender.try_clone_descriptor().unwrap();
                for number in 0..MESSAGES {
                    while !sender.send_or_arm(&number.to_le_bytes()).unwrap() {
                        wait_for(&descriptor);
                    }
                }
                while !sender.flush_or_arm().unwrap() {
                    wait_for(&descriptor);
                }
                let stats = sender.stats();
                assert_eq!((stats.sent, stats.acknowledged), (MESSAGES, MESSAGES));
            });
            let descriptor = receiver.try_clone_descriptor().unwrap();
            for number in 0..MESSAGES {
                let message = loop {
                    match receiver.recv_or_arm().unwrap() {
                        Some(message) => break message,
                        None => wait_for(&descriptor),
                    }
                };
                assert_eq!(message[..], number.to_le_bytes());
            }
            sending.join().unwrap();
        });
    });
}

/// What a loop does with a sender: it polls one descriptor for all its life.
struct Loop {
    sender: Sender,
    descriptor: OwnedFd,
}

impl Loop {
    fn connect(ground: &Ground, slots: usize, server_timeout: Duration) -> Loop {
        let builder = Sender::builder().slots(slots).server_timeout(server_timeout);
        let mut sender = builder.connect(ground.socket()).unwrap();
        let descriptor = sender.try_clone_descriptor().unwrap();
        Loop { sender, descriptor }
    }

    fn send(&mut self, message: &[u8]) -> wigwag::Result<()> {
        while !self.sender.send_or_arm(message)? {
            wait_for(&self.descriptor);
        }
        Ok(())
    }

    fn flush(&mut self) -> wigwag::Result<()> {
        while !self.sender.flush_or_arm()? {
            wait_for(&self.descriptor);
        }
        Ok(())
    }

    /// A loop that polls the descriptor all the time takes in what it tells, and is silent then.
    #[track_caller]
    fn falls_silent(&mut self) {
        eventually("it is silent", || {
            self.sender.take_events().unwrap();
            !is_readable(&self.descriptor, Duration::from_millis(20))
        });
    }
}

#[test]
fn a_loop_that_sends_is_told_of_the_next_receiver() {
    limited(|| {
        let ground = Ground::new();
        let mut first = Process::start("bound", ["receiver".into(), ground.socket()]);
        first.expect("there");
        let mut sending = Loop::connect(&ground, 1, LIMIT);
        sending.send(b"one").unwrap();
        assert!(!sending.sender.send_or_arm(b"two").unwrap());
        first.kill();
        wait_for(&sending.descriptor);
        assert!(!sending.sender.send_or_arm(b"two").unwrap(), "nobody is there");
        sending.falls_silent();
        let second = Receiver::bind(ground.socket()).unwrap();
        let receiving = std::thread::spawn(move || {
            ["one", "two"].map(|expected| {
                let message = second.recv().unwrap();
                assert_eq!(&message[..], expected.as_bytes());
                message.is_redelivered()
            })
        });
        sending.send(b"two").unwrap();
        sending.flush().unwrap();
        receiving.join().unwrap();
        sending.falls_silent();
        assert_eq!(sending.sender.stats().reconnects, 1);
    });
}

#[test]
fn a_loop_is_told_when_nobody_comes_in_time() {
    limited(|| {
        let ground = Ground::new();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let mut sending = Loop::connect(&ground, 1, Duration::from_millis(50));
        sending.send(b"one").unwrap();
        drop(receiver);
        assert_eq!(sending.send(b"two").unwrap_err().kind(), ErrorKind::NotRunning);
        assert_eq!(sending.flush().unwrap_err().kind(), ErrorKind::NotRunning);
        assert_eq!((sending.sender.unacknowledged(), sending.sender.stats().refused), (1, 1));
        // The next call looks again.
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let receiving = std::thread::spawn(move || (0..2).map(|_| receiver.recv().unwrap()[0]).collect::<Vec<_>>());
        sending.send(b"two").unwrap();
        sending.flush().unwrap();
        assert_eq!(receiving.join().unwrap(), b"ot");
    });
}

/// The thread that stands in for idle senders has been there before the loop asks for anything.
#[test]
fn an_idle_loop_goes_on_where_the_thread_has_brought_its_messages() {
    for kind in ["receiver", "sharing"] {
        limited(move || {
            let ground = Ground::new();
            let mut first = Process::start("bound", [kind.into(), ground.socket()]);
            first.expect("there");
            let mut sending = Loop::connect(&ground, 4, LIMIT);
            sending.send(b"one").unwrap();
            first.kill();
            let second = Receiver::builder().shared(kind == "sharing").bind(ground.socket()).unwrap();
            // No call of the sender's was made since.
            let message = second.recv().unwrap();
            assert_eq!(&message[..], b"one");
            message.ack();
            sending.send(b"two").unwrap();
            assert_eq!(&second.recv().unwrap()[..], b"two");
            sending.flush().unwrap();
            let stats = sending.sender.stats();
            assert_eq!((stats.sent, stats.acknowledged, stats.reconnects), (2, 2, 1));
        });
    }
}

/// The loop's one descriptor stands for all receivers that share the name, those that come later among them.
#[test]
fn a_sender_of_a_shared_name_is_told_of_room_at_any_of_them_and_of_those_who_come() {
    limited(|| {
        let ground = Ground::new();
        let share = || Receiver::builder().shared(true).bind(ground.socket()).unwrap();
        let receivers = [share(), share()];
        let mut sending = Loop::connect(&ground, 1, LIMIT);
        let fill_up =
            |sending: &mut Loop| (0..100).take_while(|number| sending.sender.send_or_arm(&[*number]).unwrap()).count();
        assert_eq!(fill_up(&mut sending), 2);
        for receiver in receivers.iter().rev() {
            assert!(!sending.sender.has_room_or_arm().unwrap());
            sending.falls_silent();
            assert!(!sending.sender.has_room_or_arm().unwrap());
            receiver.recv().unwrap().ack();
            while !sending.sender.has_room_or_arm().unwrap() {
                wait_for(&sending.descriptor);
            }
            assert_eq!(fill_up(&mut sending), 1);
        }
        let third = share();
        while !sending.sender.has_room_or_arm().unwrap() {
            wait_for(&sending.descriptor);
        }
        assert_eq!(fill_up(&mut sending), 1);
        third.recv().unwrap().ack();
        assert!(!sending.sender.flush_or_arm().unwrap(), "two are open");
        receivers.iter().for_each(|receiver| receiver.recv().unwrap().ack());
        sending.flush().unwrap();
        assert_eq!(sending.sender.stats().acknowledged, 5);
    });
}

/// As in a loop that has its descriptors in an epoll: they are nested four deep.
#[test]
fn the_descriptor_may_be_in_an_epoll_also_of_a_shared_name() {
    limited(|| {
        let ground = Ground::new();
        let mut first = Process::start("bound", ["sharing".into(), ground.socket()]);
        first.expect("there");
        let second = Receiver::builder().shared(true).bind(ground.socket()).unwrap();
        let mut sending = Loop::connect(&ground, 1, LIMIT);
        let outside = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        epoll::add(&outside, &sending.descriptor, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
        sending.send(b"one").unwrap();
        sending.send(b"two").unwrap();
        assert!(!sending.sender.send_or_arm(b"three").unwrap());
        sending.falls_silent();
        assert!(!is_readable(&outside, Duration::ZERO));
        first.kill();
        let receiving = std::thread::spawn(move || {
            (0..3).for_each(|_| second.recv().unwrap().ack());
            second.try_recv().unwrap().is_none()
        });
        while !sending.sender.send_or_arm(b"three").unwrap() {
            wait_for(&outside);
        }
        while !sending.sender.flush_or_arm().unwrap() {
            wait_for(&outside);
        }
        assert!(receiving.join().unwrap());
        let stats = sending.sender.stats();
        assert_eq!((stats.sent, stats.acknowledged), (3, 3));
    });
}

#[test]
fn a_sender_that_ends_in_the_background_keeps_nobody_and_hands_all_on() {
    limited(|| {
        let ground = Ground::new();
        let mut first = Process::start("bound", ["receiver".into(), ground.socket()]);
        first.expect("there");
        let mut sending = Loop::connect(&ground, 4, LIMIT);
        sending.send(b"one").unwrap();
        sending.sender.end_in_background(); // the first never acknowledges it
        first.kill();
        let second = Receiver::bind(ground.socket()).unwrap();
        assert_eq!(&second.recv().unwrap()[..], b"one");
    });
}
