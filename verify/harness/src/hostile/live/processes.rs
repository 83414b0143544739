//! The processes of a live attack: the server, those who attack it, and those who do not.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use wigwag::{Client, Request, Server};
use wigwag_testing::{Link, word};

use super::attack;
use crate::hostile::dice::Dice;

/// What an attacker is told to do: nothing but keep its processor busy, or call by the rules, or attack.
const BURN: u8 = 0;
const BEHAVE: u8 = 1;
const ATTACK: u8 = 2;
/// The longest payload.
const CAPACITY: usize = 9000;

/// The server: it inverts what it gets. Arguments: the socket, and the other user who is let in.
pub fn host(parent: &Link, arguments: &[&str]) {
    let other_user: u32 = arguments[1].parse().unwrap();
    let builder = Server::builder().slots(4).capacity(CAPACITY).allow_user(other_user);
    let mut server = builder.bind(arguments[0]).unwrap();
    let stop = server.shutdown_handle();
    parent.tell("ready");
    let (calls, changed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            parent.hear_at_last();
            stop.shutdown();
        });
        let handler = |request: &mut Request| {
            if request.peer().uid == other_user {
                calls.fetch_add(1, Ordering::Relaxed);
                changed.fetch_add(u64::from(changes(request)), Ordering::Relaxed);
            }
            request.iter_mut().for_each(|byte| *byte = !*byte);
        };
        server.serve(handler).unwrap();
    });
    let violations = server.stats().violations;
    parent.tell(format_args!("{} {} {violations}", calls.into_inner(), changed.into_inner()));
}

/// Whether the bytes of a request change while they are looked at twice.
fn changes(request: &Request) -> bool {
    let first = request.to_vec();
    (0..50).for_each(|_| std::hint::spin_loop());
    // Read anew: the compiler may not take the bytes for what they were.
    std::hint::black_box(request)[..] != first[..]
}

/// Calls and checks every byte, until it is told to stop; says how often when it is asked. Arguments: socket, number.
pub fn honest(parent: &Link, arguments: &[&str]) {
    let client = Client::connect(arguments[0]).unwrap();
    let number: u64 = arguments[1].parse().unwrap();
    let (calls, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let trouble = std::sync::Mutex::new(None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while parent.hear_at_last().is_some_and(|line| line == "count") {
                match &*trouble.lock().unwrap() {
                    None => parent.tell(calls.load(Ordering::Relaxed)),
                    Some(why) => parent.tell(why),
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            if let Err(why) = call(&client, number << 32 | calls.load(Ordering::Relaxed)) {
                *trouble.lock().unwrap() = Some(why);
                return;
            }
            calls.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn call(client: &Client, seed: u64) -> Result<(), String> {
    let len = word(seed, 1) as usize % [49, CAPACITY + 1][seed as usize % 2];
    let mut loan = client.loan(len).map_err(|error| error.to_string())?;
    wigwag_testing::fill(&mut loan, seed);
    let reply = loan.call().map_err(|error| error.to_string())?;
    let mut expected = vec![0; len];
    wigwag_testing::fill(&mut expected, seed);
    expected.iter_mut().for_each(|byte| *byte = !*byte);
    if reply[..] == expected[..] { Ok(()) } else { Err(format!("a reply of {len} bytes is wrong, seed {seed}")) }
}

/// Attacks, or behaves, as it is told. Arguments: the socket, the seed, and the user to do it as.
pub fn attacker(parent: &Link, arguments: &[&str]) {
    become_user(arguments[2].parse().unwrap());
    std::panic::set_hook(Box::new(|_| {})); // to be refused is no news for an attacker
    let mut dice = Dice::seeded(arguments[1].parse().unwrap());
    let (order, is_over) = (AtomicU8::new(BURN), AtomicBool::new(false));
    let mut holes = std::collections::BTreeSet::new();
    let mut sessions = 0u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                match parent.hear_at_last().as_deref() {
                    Some("attack") => order.store(ATTACK, Ordering::Relaxed),
                    Some("behave") => order.store(BEHAVE, Ordering::Relaxed),
                    Some("burn") => order.store(BURN, Ordering::Relaxed),
                    _ => return is_over.store(true, Ordering::Relaxed),
                }
            }
        });
        let (mut guest, mut own) = (None, vec![0u64; 2048]);
        while !is_over.load(Ordering::Relaxed) {
            match order.load(Ordering::Relaxed) {
                ATTACK => {
                    guest = None;
                    holes.extend(attack::one_session(Path::new(arguments[0]), &mut dice));
                    sessions += 1;
                }
                BEHAVE => {
                    guest.get_or_insert_with(|| attack::Guest::new(Path::new(arguments[0]))).call(&mut dice);
                }
                _ => {
                    own.iter_mut().for_each(|word| *word = dice.word());
                    std::hint::black_box(&mut own);
                }
            }
        }
    });
    let holes: Vec<&str> = holes.into_iter().collect();
    parent.tell(format_args!("{sessions} {}", holes.join(", ")));
}

/// Makes this process another user's, for good.
fn become_user(user: u32) {
    if user == rustix::process::geteuid().as_raw() {
        return;
    }
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresgid(user.into(), user.into(), user.into()).unwrap();
    nix::unistd::setresuid(user.into(), user.into(), user.into()).unwrap();
    // A process that changes its user loses the signal that it asked for.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
}
