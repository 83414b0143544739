//! Errors of calls that somebody else has answered, for servers that pass them on: one of each kind, and whether the
//! request may have been executed there.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use wigwag::{Client, Error, ErrorKind};
use wigwag_testing::{Ground, IN_BODY, RawServer, SERVER, word};

use super::model::seed;

/// How the text of each begins.
pub const FAR: &str = "planned: far away";
/// In a head: an error that is no handler's.
const ERRORED: u64 = 11 << 32;

/// What a call can end with, by the number that stands for it in the memory.
const KINDS: [(u8, ErrorKind); 11] = [
    (1, ErrorKind::NotRunning),
    (2, ErrorKind::PeerDied { maybe_executed: false }),
    (2, ErrorKind::PeerDied { maybe_executed: true }),
    (3, ErrorKind::TimedOut { maybe_executed: false }),
    (3, ErrorKind::TimedOut { maybe_executed: true }),
    (4, ErrorKind::ServerClosed { maybe_executed: false }),
    (4, ErrorKind::ServerClosed { maybe_executed: true }),
    (5, ErrorKind::Refused),
    (6, ErrorKind::Busy),
    (7, ErrorKind::Full),
    (8, ErrorKind::Unanswered),
];

/// Which of them a request is answered with.
fn choice(party: usize, number: u64) -> usize {
    word(seed(party, number), 9) as usize % KINDS.len()
}

/// What the client of that request must get.
pub fn expected(party: usize, number: u64) -> ErrorKind {
    KINDS[choice(party, number)].1
}

/// What its server passes on.
pub fn passed_on(party: usize, number: u64) -> &'static Error {
    static ALL: OnceLock<Vec<Error>> = OnceLock::new();
    &ALL.get_or_init(told_by_hand)[choice(party, number)]
}

/// Asks a server by hand that answers each call with an error.
fn told_by_hand() -> Vec<Error> {
    let ground = Ground::new();
    let server = RawServer::bind(&ground.socket());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let raw = server.serve(1, 4096);
            for (number, kind) in KINDS {
                while raw.turn(0).load(Ordering::Acquire) & SERVER == 0 {
                    std::thread::yield_now();
                }
                let maybe_executed = match kind {
                    ErrorKind::PeerDied { maybe_executed }
                    | ErrorKind::TimedOut { maybe_executed }
                    | ErrorKind::ServerClosed { maybe_executed } => maybe_executed,
                    ErrorKind::Unanswered => true,
                    _ => false,
                };
                let mut bytes = vec![number, maybe_executed.into(), 0, 0, 0, 0, 0, 0];
                bytes.extend(format!("{FAR}, number {number}, and by hand").as_bytes());
                raw.write(0, true, &bytes);
                raw.head(0).store(ERRORED | IN_BODY | bytes.len() as u64, Ordering::Relaxed);
                raw.turn(0).fetch_and(!SERVER, Ordering::AcqRel);
            }
        });
        let client = Client::builder().wait(wigwag::Wait::Spin).connect(ground.socket());
        let client = client.expect("a server by hand");
        KINDS.iter().map(|_| client.call(&[]).expect_err("an answer by hand is an error")).collect()
    })
}
