//! A subscriber's process.

use std::path::Path;

use wigwag::{ErrorKind, Message, Start, Subscriber};
use wigwag_testing::{Link, fill, word};

/// The longest message.
pub const LONGEST: usize = 3000;

/// The message with a number: its length follows from that, and so does each byte.
pub fn message(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; word(31, number) as usize % (LONGEST + 1)];
    fill(&mut bytes, number);
    bytes
}

/// What is wrong with a message.
pub fn fault_of(number: u64, bytes: &[u8]) -> Option<String> {
    (bytes != message(number)).then(|| format!("message {number} is torn"))
}

/// Keeps the account of a subscriber: each number came, or was told as lost.
#[derive(Default)]
pub struct Account {
    next: Option<u64>,
    /// Messages that came.
    pub came: u64,
    /// Messages that were told as lost.
    pub lost: u64,
}

impl Account {
    /// Of the next publisher, after so many were lost.
    pub fn after(lost: u64) -> Account {
        Account { lost, ..Account::default() }
    }

    /// One more; what is wrong with it.
    pub fn add(&mut self, number: u64, lost_before: u64, bytes: &[u8]) -> Option<String> {
        let first = number.wrapping_sub(lost_before);
        let gap = self.next.filter(|next| *next != first);
        (self.came, self.lost, self.next) = (self.came + 1, self.lost + lost_before, Some(number + 1));
        let silent = gap.map(|next| format!("message {number} comes with {lost_before} lost, where {next} was next"));
        silent.or_else(|| fault_of(number, bytes))
    }
}

/// Reads until the publisher ends: "held" keeps messages in hand, "copies" copies. Says at last how many came, how many
/// were lost, and what was wrong. Arguments: the socket, the way.
pub fn play(parent: &Link, arguments: &[&str]) {
    let (path, way) = (Path::new(arguments[0]), arguments[1]);
    let mut subscriber = Subscriber::builder().start(Start::Oldest).connect(path).expect("a publisher is there");
    parent.tell("connected");
    let (mut account, mut held, mut bytes) = (Account::default(), Vec::<Message>::new(), Vec::new());
    let ended = loop {
        let wrong = if way == "copies" {
            match subscriber.recv_into(&mut bytes) {
                Ok(receipt) => account.add(receipt.sequence, receipt.lost_before, &bytes),
                Err(error) => break error,
            }
        } else {
            match subscriber.recv() {
                Ok(message) => {
                    let wrong = account.add(message.sequence(), message.lost_before(), &message);
                    held.push(message);
                    if held.len() == 3 {
                        let oldest = held.remove(0);
                        wrong.or_else(|| fault_of(oldest.sequence(), &oldest))
                    } else {
                        wrong
                    }
                }
                Err(error) => break error,
            }
        };
        if let Some(wrong) = wrong {
            parent.tell(format!("wrong: {wrong}"));
            return;
        }
    };
    match ended.kind() {
        ErrorKind::Ended => parent.tell(format!("{} {}", account.came, account.lost)),
        _ => parent.tell(format!("wrong: {ended}")),
    }
}
