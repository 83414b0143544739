//! What a publisher counts as lost before it had it: told with the next message to who listens, and to nobody else.

#[path = "support/publications.rs"]
mod publications;

use publications::{check, message, publish, read_out};
use wigwag::{ErrorKind, Overrun, Publisher, Start, Subscriber, Wait};
use wigwag_testing::{Ground, LIMIT, limited, word};

const WAITS: [Wait; 3] = [Wait::Adaptive, Wait::Park, Wait::Spin];

#[test]
fn what_a_publisher_skips_is_lost_to_who_listens_and_to_nobody_who_comes_later() {
    let most = 100;
    for skipped in [1, 3, 4, 5, 6, 1000, 1 << 40] {
        let ground = Ground::new();
        let builder = Publisher::builder().history(4).capacity(most).first_number(7);
        let mut publisher = builder.bind(ground.socket()).unwrap();
        let mut early = WAITS.map(|wait| {
            let start = if wait == Wait::Park { Start::Oldest } else { Start::Next };
            Subscriber::builder().wait(wait).start(start).connect(ground.socket()).unwrap()
        });
        publisher.wait_for_subscribers(3, LIMIT).unwrap();
        let mut lapped = Subscriber::connect(ground.socket()).unwrap();
        let expect = |subscriber: &mut Subscriber, number: u64, lost: u64| {
            let message = subscriber.recv_timeout(LIMIT).unwrap();
            check(&message, most);
            assert_eq!((message.sequence(), message.lost_before()), (number, lost), "{skipped}");
        };
        publish(&mut publisher, 1, most);
        early.iter_mut().for_each(|subscriber| expect(subscriber, 7, 0));
        publisher.skip(skipped).unwrap();
        for subscriber in &mut early {
            assert!(subscriber.try_recv().unwrap().is_none());
            assert!(subscriber.arm().unwrap(), "what is void wakes nobody who has passed it");
        }
        let late = |start| Subscriber::builder().start(start).connect(ground.socket()).unwrap();
        let [mut oldest, mut last, mut next] = [Start::Oldest, Start::Last, Start::Next].map(late);
        assert_eq!(next.next_number(), 8 + skipped);
        let is_kept = skipped < 4;
        let kept = oldest.try_recv().unwrap().map(|message| (message.sequence(), message.lost_before()));
        assert_eq!(kept, is_kept.then_some((7, 0)));
        publish(&mut publisher, 2, most);
        for subscriber in &mut early {
            expect(subscriber, 8 + skipped, skipped);
            expect(subscriber, 9 + skipped, 0);
        }
        for subscriber in [&mut last, &mut next] {
            expect(subscriber, 8 + skipped, 0);
        }
        expect(&mut oldest, 8 + skipped, if is_kept { skipped } else { 0 });
        // One that reads only now has lost message 7, too, if it was replaced.
        let first = lapped.recv_timeout(LIMIT).unwrap();
        assert_eq!(first.sequence() - first.lost_before(), 7);
        assert_eq!(early[0].stats().lost, skipped);
    }
}

#[test]
fn a_publisher_that_loses_nothing_skips_nothing_and_numbers_do_not_run_out() {
    let ground = Ground::new();
    let mut patient = Publisher::builder().overrun(Overrun::Wait(LIMIT)).bind(ground.socket()).unwrap();
    assert_eq!(patient.skip(1).unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    drop(patient);
    let mut publisher = Publisher::bind(ground.socket()).unwrap();
    assert_eq!(publisher.skip(u64::MAX).unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    assert_eq!(publisher.send(b"").unwrap(), 1);
    for number in [0, 1 << 62, u64::MAX] {
        let error = Publisher::builder().first_number(number).bind(ground.path("other")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    }
}

/// Skips run beside readers: whatever is between, each number either comes or is told as lost, once.
#[test]
fn skips_under_load_are_counted_to_the_last_number() {
    limited(|| {
        let (ground, most) = (Ground::new(), 100);
        let mut publisher = Publisher::builder().history(8).capacity(most).bind(ground.socket()).unwrap();
        std::thread::scope(|scope| {
            let readers = WAITS.map(|wait| {
                let mut subscriber = Subscriber::builder().wait(wait).connect(ground.socket()).unwrap();
                scope.spawn(move || read_out(&mut subscriber, most))
            });
            publisher.wait_for_subscribers(3, LIMIT).unwrap();
            let mut skipped = 0;
            for round in 0..20_000 {
                publish(&mut publisher, word(8, round) % 3 + 1, most);
                let count = word(9, round) % 30;
                skipped += count;
                publisher.skip(count).unwrap();
            }
            let last = publisher.send(&message(publisher.stats().published + 1, most)).unwrap();
            publisher.close();
            for reader in readers {
                let (came, lost) = reader.join().unwrap();
                assert!(came + lost == last && lost >= skipped, "{came} came, {lost} lost of {last}");
            }
        });
    });
}
