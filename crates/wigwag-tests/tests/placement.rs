//! What a serving thread says of where it polls, seen by a client by hand: the client's side of the waiting goes by it.

use std::sync::atomic::Ordering;
use std::sync::mpsc;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use wigwag::Server;
use wigwag_testing::{Ground, Raw, eventually};

/// Offsets in the segment (docs/layout.md).
const THINK_NS: usize = 1028;
const CLIENTS_PROCESSOR: usize = 1036;
const SERVERS_PROCESSOR: usize = 1160;
const POLLED: u32 = 1 << 31;

#[test]
fn who_becomes_hot_says_with_the_reply_whether_it_stays_or_leaves() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let (arrived, arrivals) = mpsc::channel();
    let (go_on, orders) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let serving = std::thread::spawn(move || {
        // On one processor for the whole test, so that there is one answer. It cannot leave it, but does not know that.
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here).unwrap();
        tell.send(sched_getcpu() as u32 + 1).unwrap();
        server.serve(|_| {
            arrived.send(()).unwrap();
            orders.recv().unwrap();
        })
    });
    let here = told.recv().unwrap();
    let raw = Raw::connect(&ground.socket());
    let processor = raw.half(SERVERS_PROCESSOR);

    // Four quick calls that ring make a session hot. The handler holds each of them while the word is looked at.
    let mut sequence = 0;
    let mut become_hot = |clients: u32| {
        let mut seen = Vec::new();
        for _ in 0..4 {
            eventually("the server sleeps", || raw.waiting().load(Ordering::SeqCst) == 1);
            sequence += 1;
            raw.half(THINK_NS).store(0, Ordering::Relaxed);
            raw.half(CLIENTS_PROCESSOR).store(clients, Ordering::Relaxed);
            raw.send(0, sequence, b"x");
            arrivals.recv().unwrap();
            seen.push(processor.load(Ordering::Relaxed));
            go_on.send(()).unwrap();
            raw.wait(0);
        }
        seen
    };
    assert_eq!(become_hot(here), [here, here, here, 0], "it is about to leave its client's processor");
    eventually("it says where it polls", || processor.load(Ordering::Relaxed) == here | POLLED);

    // Cold again after a while, and this time the client is elsewhere.
    assert_eq!(become_hot(here + 1), [here, here, here, here | POLLED], "it stays where it is");

    stop.shutdown();
    serving.join().unwrap().unwrap();
}
