//! Clients that come, call once and leave, a thread for each. They do not wait for a server: who finds none is told so.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wigwag::{Client, ErrorKind};
use wigwag_testing::Link;

use super::super::storm::scoreboard::now_ns;
use super::account::{Account, Failed, Fate, Span};
use super::company::name;

/// Who is turned away comes again after this.
const PAUSE: Duration = Duration::from_millis(1);

/// The role. `arguments`: the socket, how many threads, the first one's index. It says `ready`, stops when it is told
/// to, and then tells what became of the calls of each.
pub fn play(parent: &Link, arguments: &[&str]) {
    let [socket, threads, first] = arguments[..] else { panic!("{arguments:?}") };
    let [threads, first] = [threads, first].map(|number| number.parse::<u64>().expect("a number"));
    let is_over = AtomicBool::new(false);
    parent.tell("ready");
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let come = |index| scope.spawn(move || come_and_go(Path::new(socket), index, is_over));
        let threads: Vec<_> = (first..first + threads).map(come).collect();
        drop(parent.hear_at_last());
        is_over.store(true, Ordering::Relaxed);
        for thread in threads {
            Account::tell(thread.join().expect("it tells what it finds").as_ref(), parent);
        }
    });
}

fn come_and_go(socket: &Path, index: u64, is_over: &AtomicBool) -> Result<Account, String> {
    let mut account = Account::default();
    while !is_over.load(Ordering::Relaxed) {
        let (number, since) = (account.end, now_ns());
        account.end += 1;
        let (fate, error) = match Client::connect(socket) {
            Err(error) => (Fate::TurnedAway, error),
            Ok(client) => match call(&client, name(index, number)) {
                Ok(true) => continue,
                Ok(false) => return Err(format!("newcomer {index}: the reply to {number} is not its own")),
                Err(error) => match error.kind() {
                    ErrorKind::ServerClosed { maybe_executed: false } => (Fate::NotExecuted, error),
                    ErrorKind::PeerDied { maybe_executed: false } => (Fate::Bereft, error),
                    ErrorKind::ServerClosed { .. } | ErrorKind::PeerDied { .. } => (Fate::Maybe, error),
                    _ => return Err(format!("newcomer {index}: {number} was lost: {error}")),
                },
            },
        };
        let why = format!("{:?}: {error}", error.kind());
        account.failed.push(Failed { number, fate, span: Span::since(since), why });
        if fate == Fate::TurnedAway {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(account)
}

/// Whether the reply is the right one.
fn call(client: &Client, name: u64) -> wigwag::Result<bool> {
    Ok(client.call(&name.to_ne_bytes())?[..] == (!name).to_ne_bytes())
}
