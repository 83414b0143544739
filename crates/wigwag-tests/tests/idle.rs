//! Whoever waits, or has nothing to do, costs no processor time, whatever became of the other side: alive and silent,
//! stopped, killed. Threads of the library count, too: each party is a process of its own, and all of it is measured.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use wigwag::{Client, Keeper, Publisher, Receiver, Semaphore, Sender, Server, Subscriber};
use wigwag_testing::{Ground, LIMIT, Process, limited, role};

/// Parts that meet under one name, in the order in which they come: all but the first one have somebody to find.
const SCENES: [&[&str]; 8] = [
    &["server", "idle-client"],
    &["silent-server", "caller"],
    &["silent-server", "follower"],
    &["receiver", "sender"],
    &["holding-receiver", "sender", "full-sender"],
    &["keeper", "holding-receiver", "sender"],
    &["publisher", "subscriber"],
    &["holder", "waiter"],
];

/// What happens to one of them.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lives,
    Stopped,
    Killed,
}

/// Arguments: the name, the part. Once it has begun it says so, and then, each time that it is asked, what processor
/// time it takes in 400 ms.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn party() {
    role("party", |parent, arguments| {
        let (name, part) = (arguments[0].to_owned(), arguments[1].to_owned());
        let (begun, has_begun) = std::sync::mpsc::channel();
        thread::spawn(move || take_part(&name, &part, || begun.send(()).unwrap()));
        has_begun.recv().unwrap();
        parent.tell("begun");
        while parent.hear().is_some() {
            thread::sleep(Duration::from_millis(150)); // what was under way is done
            let spent = || clock_gettime(ClockId::ProcessCPUTime);
            let before = spent();
            thread::sleep(Duration::from_millis(400));
            let after = spent();
            parent.tell((after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec);
        }
        std::process::exit(0);
    });
}

/// Does what there is to do, and waits as long as the other side allows.
fn take_part(name: &str, part: &str, begun: impl Fn()) {
    let for_ever = || loop {
        thread::sleep(LIMIT);
    };
    match part {
        "server" | "silent-server" => {
            let mut server = Server::bind(name).unwrap();
            begun();
            let is_silent = part == "silent-server";
            server
                .serve(|_| {
                    if is_silent {
                        for_ever()
                    }
                })
                .unwrap();
        }
        "idle-client" => {
            let client = Client::connect(name).unwrap();
            client.call(b"").unwrap();
            begun();
            for_ever();
        }
        "caller" | "follower" => {
            let builder = Client::builder().server_timeout(LIMIT);
            let builder = if part == "follower" { builder.follow_restarts(LIMIT) } else { builder };
            let mut client = builder.clone().connect(name).unwrap();
            begun();
            while client.call(b"").is_err() {
                client = builder.clone().connect(name).unwrap(); // waits for the next server
            }
        }
        "receiver" | "holding-receiver" => {
            let receiver = Receiver::bind(name).unwrap();
            begun();
            let mut held = Vec::new();
            loop {
                let delivery = receiver.recv().unwrap();
                if part == "holding-receiver" {
                    held.push(delivery);
                }
            }
        }
        "sender" | "full-sender" => {
            let mut sender = Sender::builder().slots(4).server_timeout(LIMIT).connect(name).unwrap();
            (0..3).for_each(|_| sender.send(b"message").unwrap());
            begun();
            if part == "full-sender" {
                while sender.send(b"more").is_ok() {}
            }
            for_ever();
        }
        "keeper" => {
            let _keeper = Keeper::start(name).unwrap();
            begun();
            for_ever();
        }
        "publisher" => {
            let mut publisher = Publisher::bind(name).unwrap();
            begun();
            publisher.wait_for_subscribers(1, LIMIT).unwrap();
            for _ in 0..3 {
                publisher.send(b"message").unwrap();
            }
            for_ever();
        }
        "subscriber" => {
            let builder = Subscriber::builder().server_timeout(LIMIT);
            let mut subscriber = builder.clone().connect(name).unwrap();
            begun();
            loop {
                if subscriber.recv().is_err() {
                    subscriber = builder.clone().connect(name).unwrap(); // waits for the next publisher
                }
            }
        }
        "holder" => {
            let semaphore = Semaphore::open(name, 1).unwrap();
            let _permit = semaphore.acquire().unwrap();
            begun();
            for_ever();
        }
        "waiter" => {
            let semaphore = Semaphore::open(name, 1).unwrap();
            begun();
            let _permit = semaphore.acquire().unwrap();
            for_ever();
        }
        other => panic!("there is no part {other}"),
    }
}

/// One of those in a scene meets its fate; each of the others is at rest then.
fn check(scene: &[&str], victim: usize, fate: Fate) {
    let ground = Ground::new();
    let mut parties: Vec<Process> = Vec::new();
    for part in scene {
        let mut party = Process::start("party", [ground.socket().as_os_str(), part.as_ref()]);
        party.expect("begun");
        parties.push(party);
    }
    thread::sleep(Duration::from_millis(50)); // all of them sleep
    match fate {
        Fate::Lives => {}
        Fate::Stopped => parties[victim].signal(Signal::STOP),
        Fate::Killed => drop(parties[victim].kill()),
    }
    let is_asked = |at: &usize| *at != victim || matches!(fate, Fate::Lives);
    let asked: Vec<usize> = (0..scene.len()).filter(is_asked).collect();
    asked.iter().for_each(|at| parties[*at].tell("measure"));
    for at in asked {
        let spent_ns: i64 = parties[at].hear().parse().unwrap();
        let of = scene[at];
        assert!(
            spent_ns < 10_000_000,
            "{scene:?}, {} {fate:?}: the {of} takes {spent_ns} ns of processor time in 400 ms",
            scene[victim]
        );
    }
    parties[victim].signal(Signal::CONT);
}

fn in_each_scene(fate: Fate) {
    limited(move || {
        thread::scope(|scope| {
            for scene in SCENES {
                // All victims of one scene at the same time; they sleep.
                let all: Vec<_> = (0..scene.len()).map(|at| scope.spawn(move || check(scene, at, fate))).collect();
                for one in all {
                    if let Err(panic) = one.join() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        });
    });
}

#[test]
fn who_waits_for_somebody_silent_costs_nothing() {
    in_each_scene(Fate::Lives);
}

#[test]
fn who_waits_for_somebody_stopped_costs_nothing() {
    in_each_scene(Fate::Stopped);
}

#[test]
fn who_was_left_by_somebody_killed_costs_nothing() {
    in_each_scene(Fate::Killed);
}
