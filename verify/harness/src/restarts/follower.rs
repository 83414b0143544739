//! Clients that follow, a thread for each: several calls under way at a time, of all lengths, and loans that wait.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wigwag::{Client, ErrorKind, Pending};
use wigwag_testing::{Link, fill};

use super::super::storm::dice::Dice;
use super::super::storm::scoreboard::now_ns;
use super::account::{Account, Failed, Fate, Span};
use super::company::name;

/// So long a client looks for its server's successor.
const TIME: Duration = Duration::from_secs(20);
/// Calls of one client under way at a time.
const UNDER_WAY: u64 = 4;

/// The role. `arguments`: the socket, how many clients, the first one's index, a seed. It says `ready`, stops when it
/// is told to, and then tells what became of the calls of each client; at the second word it ends.
pub fn play(parent: &Link, arguments: &[&str]) {
    let [socket, clients, first, seed] = arguments[..] else { panic!("{arguments:?}") };
    let [clients, first, seed] = [clients, first, seed].map(|number| number.parse::<u64>().expect("a number"));
    let is_over = AtomicBool::new(false);
    let connect = |_| Client::builder().follow_restarts(TIME).connect(Path::new(socket)).expect("a server");
    let clients: Vec<Client> = (0..clients).map(connect).collect();
    parent.tell("ready");
    let accounts: Vec<Result<(Client, Account), String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (first..)
            .zip(clients)
            .map(|(index, client)| {
                let is_over = &is_over;
                scope.spawn(move || call(client, index, Dice::new(seed ^ index), is_over))
            })
            .collect();
        drop(parent.hear_at_last());
        is_over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("it tells what it finds")).collect()
    });
    let mut kept = Vec::new();
    for account in accounts {
        Account::tell(account.as_ref().map(|(_, account)| account), parent);
        kept.extend(account.ok().map(|(client, _)| client)); // what it has is looked at
    }
    drop(parent.hear_at_last());
}

fn call(client: Client, index: u64, mut dice: Dice, is_over: &AtomicBool) -> Result<(Client, Account), String> {
    let mut account = Account::default();
    while !is_over.load(Ordering::Relaxed) {
        let count = 1 + dice.below(UNDER_WAY);
        let lengths: Vec<usize> = (0..count).map(|_| [8, 48, 49, 3000][dice.below(4) as usize]).collect();
        let numbers = account.end..account.end + count;
        account.end += count;
        let send = |(number, len): (u64, &usize)| -> wigwag::Result<(u64, usize, Pending<'_>)> {
            let mut loan = client.loan(*len)?;
            loan.copy_from_slice(&request(index, number, *len));
            Ok((number, *len, loan.send()?))
        };
        let since = now_ns();
        let pending: Vec<_> = numbers.clone().zip(&lengths).map(send).collect();
        for (number, outcome) in numbers.zip(pending) {
            let reply = outcome.and_then(|(number, len, call)| {
                if dice.once_in(4) {
                    std::thread::sleep(dice.up_to_us(200));
                }
                call.wait().map(|reply| (number, len, reply))
            });
            match reply {
                Ok((number, len, reply)) => {
                    let is_right = reply.iter().zip(request(index, number, len)).all(|(byte, sent)| *byte == !sent);
                    if !is_right || reply.len() != len {
                        return Err(format!("client {index}: the reply to {number} is not its own"));
                    }
                }
                Err(error) if error.kind() == (ErrorKind::PeerDied { maybe_executed: true }) => {
                    let (span, why) = (Span::since(since), error.to_string());
                    account.failed.push(Failed { number, fate: Fate::Maybe, span, why });
                }
                Err(error) => return Err(format!("client {index}: {number} was lost: {error}")),
            }
        }
    }
    // What nobody needs any more goes with the next loan.
    client.loan(8).map(drop).map_err(|error| format!("client {index} is lost: {error}"))?;
    let stats = client.stats();
    (account.moved, account.reconnects) = (stats.moved, stats.reconnects);
    Ok((client, account))
}

/// A request that begins with whose it is and which.
fn request(index: u64, number: u64, len: usize) -> Vec<u8> {
    let name = name(index, number);
    let mut bytes = vec![0; len];
    fill(&mut bytes, name);
    bytes[..8].copy_from_slice(&name.to_ne_bytes());
    bytes
}
