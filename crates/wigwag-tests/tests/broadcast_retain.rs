//! Publishers that let go of what everybody has taken: nothing is lost for those who are here, and their memory is used
//! again at once.

#[path = "support/publications.rs"]
mod publications;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use publications::{check, message, publish, read_out};
use wigwag::{ErrorKind, Overrun, Publisher, PublisherBuilder, Start, Subscriber, Wait};
use wigwag_testing::{Ground, LIMIT, eventually, limited};

/// Messages are short and their memory is large, so that each is let go of by itself. What is not written takes none.
const LARGE: usize = 2 << 20;
const MOST: usize = 300;

fn builder(history: usize, retain: usize) -> PublisherBuilder {
    Publisher::builder().capacity(LARGE).history(history).overrun(Overrun::Wait(LIMIT)).max_holds(16).retain(retain)
}

#[test]
fn everybody_who_is_here_gets_every_message_however_much_is_retained() {
    for (history, retain) in [(1, 0), (1, 1), (4, 0), (4, 3), (16, 0)] {
        limited(move || {
            let ground = Ground::new();
            let mut publisher = builder(history, retain).bind(ground.socket()).unwrap();
            std::thread::scope(|scope| {
                let readers = [Wait::Adaptive, Wait::Park].map(|wait| {
                    let mut subscriber = Subscriber::builder().wait(wait).connect(ground.socket()).unwrap();
                    scope.spawn(move || read_out(&mut subscriber, MOST))
                });
                let mut copying = Subscriber::connect(ground.socket()).unwrap();
                let copying = scope.spawn(move || {
                    let (mut bytes, mut came) = (Vec::new(), 0);
                    while let Ok(receipt) = copying.recv_into(&mut bytes) {
                        came += 1;
                        assert_eq!((receipt.sequence, receipt.lost_before), (came, 0));
                        assert_eq!(bytes, message(came, MOST));
                    }
                    (came, 0)
                });
                publisher.wait_for_subscribers(3, LIMIT).unwrap();
                publish(&mut publisher, 2_000, MOST);
                publisher.close();
                for reader in readers.into_iter().chain([copying]) {
                    assert_eq!(reader.join().unwrap(), (2_000, 0), "{retain} of {history}");
                }
            });
        });
    }
}

#[test]
fn who_comes_while_messages_are_let_go_of_loses_none_of_those_that_follow() {
    limited(|| {
        let ground = Ground::new();
        let mut publisher = builder(64, 0).bind(ground.socket()).unwrap();
        let mut constant = Subscriber::connect(ground.socket()).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    publish(&mut publisher, 1, MOST);
                    std::thread::sleep(Duration::from_micros(10)); // no lap before the newcomer is known
                }
                publisher.close();
            });
            let reader = scope.spawn(move || read_out(&mut constant, MOST));
            for turn in 0..300 {
                let start = [Start::Next, Start::Oldest, Start::Last][turn % 3];
                let mut subscriber = Subscriber::builder().start(start).connect(ground.socket()).unwrap();
                // What was let go of while it came may be among those that it would have begun with.
                let newest = subscriber.next_number() + subscriber.lag() - 1;
                let mut last = subscriber.next_number() - 1;
                for _ in 0..8 {
                    let message = subscriber.recv().unwrap();
                    check(&message, MOST);
                    let lost = message.lost_before();
                    assert_eq!(message.sequence(), last + lost + 1);
                    assert!(
                        lost == 0 || last + lost <= newest,
                        "{start:?}: {lost} lost after {last}, came at {newest}"
                    );
                    last = message.sequence();
                }
            }
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(reader.join().unwrap().1, 0);
        });
    });
}

#[test]
fn who_comes_later_finds_what_is_retained() {
    for retain in [0, 1, 3, 8] {
        let ground = Ground::new();
        let mut publisher = builder(8, retain as usize).bind(ground.socket()).unwrap();
        let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        for number in 1..=20 {
            publisher.send(&[number; 100]).unwrap();
            assert_eq!(subscriber.recv().unwrap()[..], [number; 100]);
        }
        let begin = |start| Subscriber::builder().start(start).connect(ground.socket()).unwrap();
        // The last message is let go of no sooner than the next one is begun, and nobody is about to come.
        eventually("what is not retained is gone", || {
            drop(publisher.loan(100).unwrap());
            begin(Start::Oldest).lag() == retain
        });
        let [mut oldest, mut last, mut next] = [Start::Oldest, Start::Last, Start::Next].map(begin);
        assert_eq!((oldest.lag(), last.lag(), next.lag()), (retain, retain.min(1), 0), "{retain} retained");
        publisher.send(&[21; 100]).unwrap();
        for (subscriber, first) in [(&mut oldest, 21 - retain), (&mut last, 21 - retain.min(1)), (&mut next, 21)] {
            for number in first..=21 {
                let message = subscriber.recv().unwrap();
                assert_eq!((message.sequence(), message.lost_before()), (number, 0), "{retain} retained");
                assert_eq!(message[..], [number as u8; 100]);
            }
            assert!(subscriber.try_recv().unwrap().is_none());
        }
    }
}

#[test]
fn who_has_not_taken_a_message_keeps_it_and_those_behind_it() {
    let ground = Ground::new();
    let mut publisher = builder(8, 0).bind(ground.socket()).unwrap();
    let [mut quick, mut slow] = [0; 2].map(|_| Subscriber::connect(ground.socket()).unwrap());
    publisher.wait_for_subscribers(2, LIMIT).unwrap();
    for round in 0..5 {
        publish(&mut publisher, 9, MOST);
        for subscriber in [&mut quick, &mut slow] {
            for number in 9 * round + 1..=9 * round + 9 {
                let message = subscriber.recv().unwrap();
                assert_eq!((message.sequence(), message.lost_before()), (number, 0));
                check(&message, MOST);
            }
        }
    }
}

#[test]
fn the_memory_of_what_all_have_taken_is_used_again_at_once() {
    for (retain, most) in [(0, 3), (4, 7)] {
        let ground = Ground::new();
        let mut publisher = builder(64, retain).bind(ground.socket()).unwrap();
        let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        let mut held = None;
        // Until it is known that nobody else is about to come, everything is kept.
        eventually("few places are written to", || {
            let mut places = HashSet::new();
            for number in 1..=150 {
                let mut draft = publisher.loan(100).unwrap();
                draft.fill(number);
                places.insert(draft.as_ptr().addr());
                draft.commit().unwrap();
                let message = subscriber.recv().unwrap();
                assert_eq!(message[..], [number; 100]);
                if number == 100 {
                    held = Some(message);
                }
            }
            // The one in hand is as it was, and its memory is none of those that went round since.
            assert_eq!(held.take().unwrap()[..], [100; 100]);
            places.len() <= most + 1
        });
    }
}

#[test]
fn those_who_are_gone_or_say_nothing_keep_nothing_for_ever() {
    let ground = Ground::new();
    let mut publisher = builder(2, 0).bind(ground.socket()).unwrap();
    let mut constant = Subscriber::connect(ground.socket()).unwrap();
    let gone = Subscriber::connect(ground.socket()).unwrap();
    publisher.wait_for_subscribers(2, LIMIT).unwrap();
    drop(gone);
    for number in 1..=50 {
        publisher.send(&[number; 100]).unwrap();
        assert_eq!(constant.recv().unwrap()[..], [number; 100]);
    }
    eventually("the one who is gone is not counted", || publisher.stats().subscribers == 1);
    publisher.send(&[51; 100]).unwrap();
    constant.recv().unwrap();
    eventually("nothing is retained", || {
        drop(publisher.loan(100).unwrap());
        let oldest = Subscriber::builder().start(Start::Oldest).connect(ground.socket()).unwrap();
        oldest.lag() == 0
    });
}

#[test]
fn what_cannot_be_retained_is_refused_with_the_numbers_and_the_cure() {
    let ground = Ground::new();
    let waits = Publisher::builder().history(4).overrun(Overrun::Wait(LIMIT));
    let drops = Publisher::builder().history(4);
    for (builder, words) in [
        (waits.retain(5), ["5 messages", "history of 4", "PublisherBuilder::retain"]),
        (drops.retain(2), ["2 messages", "drops the oldest", "PublisherBuilder::overrun"]),
    ] {
        let error = builder.bind(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
