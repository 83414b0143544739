//! Queues between two bridges on one host: a message is acknowledged end to end, or comes again and says so.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::{Pair, linked, random, status, until};
use wigwag::{Receiver, Sender};

/// What a receiver got, in its order: the number, whether it was marked as redelivered, and its length.
type Got = Vec<(u64, bool, usize)>;

/// Receives until told to stop, and 300 ms of silence after that.
fn receiving(name: String, work: Duration, stop: &AtomicBool) -> Got {
    let receiver = Receiver::builder().capacity(2 << 20).bind(&name).unwrap();
    let mut got = Vec::new();
    loop {
        match receiver.recv_timeout(Duration::from_millis(300)).unwrap() {
            Some(message) => {
                let number = u64::from_le_bytes(message[..8].try_into().unwrap());
                assert!(message[8..].iter().all(|byte| *byte == number as u8), "message {number} is as it was sent");
                got.push((number, message.is_redelivered(), message.len()));
                std::thread::sleep(work);
                message.ack();
            }
            None if stop.load(Ordering::Relaxed) => return got,
            None => {}
        }
    }
}

/// Also when a test has failed: its receiver must not wait for more.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn message(number: u64, len: usize) -> Vec<u8> {
    let mut message = vec![number as u8; len.max(8)];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

fn sender(pair: &Pair) -> Sender {
    let builder = Sender::builder().capacity(2 << 20).slots(8).server_timeout(Duration::from_secs(60));
    builder.connect(pair.near_name()).unwrap()
}

#[test]
fn messages_of_every_size_arrive_once_and_in_order() {
    let pair = Pair::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receiving(pair.far_name(), Duration::ZERO, &stop));
        let guard = Stop(&stop);
        let mut sender = sender(&pair);
        let sizes = [8, 48, 4096, 4097, 100_000, 2 << 20];
        for number in 1..=600_u64 {
            let len = if number.is_multiple_of(20) { sizes[(number / 20 % 6) as usize] } else { 48 };
            sender.send(&message(number, len)).unwrap();
        }
        sender.close().unwrap(); // all is acknowledged by the far receiver
        let counts = &status(&pair.ground, "a").imports[0].counts;
        assert_eq!((counts.sent, counts.answered), (600, 600));
        drop(guard);
        let got = receiving.join().unwrap();
        assert!(got.iter().map(|(number, ..)| *number).eq(1..=600), "in order and once: {} of 600", got.len());
        assert!(got.iter().all(|(_, is_redelivered, _)| !is_redelivered));
    });
}

#[test]
fn a_message_is_acknowledged_when_the_far_receiver_has_acknowledged_it_and_not_before() {
    let pair = Pair::new();
    let receiver = Receiver::bind(pair.far_name()).unwrap();
    let builder = Sender::builder().server_timeout(Duration::from_secs(60));
    let mut sender = builder.connect(pair.near_name()).unwrap();
    sender.send(b"job").unwrap();
    let held = receiver.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(sender.stats().acknowledged, 0);
    assert_eq!(status(&pair.ground, "a").imports[0].link.as_ref().unwrap().under_way, 1);
    held.nack();
    let held = receiver.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    assert!(held.is_redelivered());
    held.ack();
    until("the acknowledgement is here", Duration::from_secs(10), || sender.stats().acknowledged == 1);
}

/// The far bridge, the near one and the receiver are ended at random: no message is lost, and each that comes a second
/// time says so.
#[test]
fn nothing_is_lost_and_what_comes_twice_is_marked() {
    const MESSAGES: u64 = 10_000;
    let mut pair = Pair::new();
    let stop = AtomicBool::new(false);
    let (far, near) = (pair.far_name(), pair.near_name());
    let mut state = 0x0123_4567_89ab_cdef;
    let (mut kills, mut all) = ([0; 2], Got::new());
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receiving(far, Duration::from_micros(500), &stop));
        let guard = Stop(&stop);
        linked(&pair.ground, "a");
        let (done, is_done) = mpsc::channel();
        scope.spawn(move || {
            let builder = Sender::builder().capacity(2 << 20).slots(8).server_timeout(Duration::from_secs(60));
            let mut sender = builder.connect(near).unwrap();
            for number in 1..=MESSAGES {
                let len = if number.is_multiple_of(40) { 120_000 } else { 48 };
                sender.send(&message(number, len)).unwrap();
            }
            sender.close().unwrap();
            done.send(()).unwrap();
        });
        let began = Instant::now();
        let is_over = || is_done.try_recv().is_ok();
        while !is_over() {
            assert!(began.elapsed() < Duration::from_secs(200), "the sender is not done");
            std::thread::sleep(Duration::from_millis(300 + random(&mut state) % 700));
            let which = (kills[0] + kills[1]) % 2;
            kills[which] += 1;
            if which == 0 {
                pair.far.kill();
                pair.far = Pair::far(&pair.ground, &pair.endpoint, &[]);
            } else {
                pair.near.kill();
                pair.near = Pair::near(&pair.ground, &pair.endpoint, &[]);
            }
            std::thread::sleep(Duration::from_millis(700));
        }
        drop(guard);
        all = receiving.join().unwrap();
    });
    let mut times: HashMap<u64, usize> = HashMap::new();
    let mut unmarked = 0;
    for (number, is_redelivered, _) in &all {
        let before = times.entry(*number).or_default();
        unmarked += usize::from(*before > 0 && !is_redelivered);
        *before += 1;
    }
    let twice = times.values().filter(|times| **times > 1).count();
    println!(
        "killed: exporter {}, importer {}; {} messages, {twice} came more than once",
        kills[0],
        kills[1],
        times.len()
    );
    assert_eq!(times.len() as u64, MESSAGES, "none is lost");
    assert_eq!(unmarked, 0, "each that came twice was marked");
    assert!(kills[0] > 0 && kills[1] > 0 && twice > 0);
}
