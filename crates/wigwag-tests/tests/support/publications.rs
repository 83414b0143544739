//! Messages of a broadcast whose bytes follow from their numbers, so that no reader can mistake one.

use wigwag::{Message, Publisher, Subscriber};
use wigwag_testing::{fill, word};

/// The message with a number: its length follows from that, and so does each byte.
pub fn message(number: u64, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; word(7, number) as usize % (most + 1)];
    fill(&mut bytes, number);
    bytes
}

/// That it is that one, whole.
#[track_caller]
pub fn check(message_: &Message, most: usize) {
    let number = message_.sequence();
    assert!(message_[..] == message(number, most), "message {number} is not what was published: {message_:?}");
}

/// So many more, each with its number.
pub fn publish(publisher: &mut Publisher, count: u64, most: usize) {
    for _ in 0..count {
        let number = publisher.stats().published + 1;
        assert_eq!(publisher.send(&message(number, most)).unwrap(), number);
    }
}

/// Reads to the end: how many came, and how many were lost. Each number is either.
pub fn read_out(subscriber: &mut Subscriber, most: usize) -> (u64, u64) {
    let (mut came, mut lost, mut next) = (0, 0, None);
    for message in subscriber.messages() {
        let message = message.unwrap();
        check(&message, most);
        if let Some(next) = next {
            assert_eq!(message.sequence() - message.lost_before(), next, "what is lost is told");
        }
        (came, lost, next) = (came + 1, lost + message.lost_before(), Some(message.sequence() + 1));
    }
    (came, lost)
}
