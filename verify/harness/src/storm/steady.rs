//! A client that lives through the whole storm, calls all the time, and checks every byte.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wigwag::{Client, Reply, Wait};
use wigwag_testing::Link;

use super::dice::Dice;
use super::parcel;
use super::scoreboard::{Phase, now_ns};
use super::world::World;

/// Longer, and a reply is lost.
const LOST_AFTER: Duration = Duration::from_secs(20);

/// Bytes of the longest request.
const LONGEST: usize = 40 << 10;

/// The role: `index`, `seed`.
pub fn play(parent: &Link, arguments: &[&str]) {
    let (world, rest) = World::open(arguments);
    let [index, seed] = rest else { panic!("{arguments:?}") };
    let (index, seed): (usize, u64) = (index.parse().expect("an index"), seed.parse().expect("a seed"));
    let wait = if index % 2 == 0 { Wait::Adaptive } else { Wait::Park };
    let client = Client::builder().wait(wait).connect(world.socket()).expect("the server is there");
    let words = world.board.steady(index);
    parent.tell("ready");
    let mut dice = Dice::new(seed + index as u64);
    loop {
        match world.board.phase() {
            Phase::End => break,
            Phase::Pause => {
                words.is_paused.store(1, Ordering::Release);
                std::thread::sleep(Duration::from_micros(500));
            }
            Phase::Run => {
                words.is_paused.store(0, Ordering::Release);
                let nonce = words.acked.load(Ordering::Relaxed);
                let begin = now_ns();
                if let Err(what) = call(&client, &mut dice, index as u64, nonce) {
                    world.complain(format!("steady client {index}: {what}"));
                    break;
                }
                words.longest_ns.fetch_max(now_ns() - begin, Ordering::Relaxed);
                words.acked.store(nonce + 1, Ordering::Release);
                if nonce % 16 == 0 {
                    std::thread::sleep(dice.up_to_us(400)); // there are only so many processors
                }
            }
        }
    }
    words.is_paused.store(1, Ordering::Release);
    let _ = parent.hear();
}

/// One call in one of the forms there are.
fn call(client: &Client, dice: &mut Dice, row: u64, nonce: u64) -> Result<(), String> {
    // The first ones touch all the memory that it will ever use, so that its share does not grow later.
    let len = if nonce < 8 { LONGEST } else { any_len(dice) };
    let check = |reply: Reply<'_>| parcel::check_reply(&reply, len, row, nonce, client.capacity());
    let say = |error: wigwag::Error| format!("request {nonce}: {error:?}");
    if dice.once_in(4) {
        let mut bytes = vec![0; len];
        parcel::write(&mut bytes, row, nonce);
        return check(client.call_timeout(&bytes, LOST_AFTER).map_err(say)?);
    }
    let mut loan = client.loan(len).map_err(say)?;
    parcel::write(&mut loan, row, nonce);
    if dice.once_in(2) {
        return check(loan.call_deadline(Instant::now() + LOST_AFTER).map_err(say)?);
    }
    let mut pending = loan.send().map_err(say)?;
    match pending.wait_timeout(LOST_AFTER) {
        Some(reply) => check(reply.map_err(say)?),
        None => Err(format!("request {nonce}: no reply within {LOST_AFTER:?}")),
    }
}

/// Most requests fit into a line, some into a page, few are long.
pub fn any_len(dice: &mut Dice) -> usize {
    let most = match dice.below(10) {
        0..6 => 48,
        6..9 => 4096,
        _ => LONGEST,
    };
    parcel::SHORTEST + dice.below((most - parcel::SHORTEST) as u64 + 1) as usize
}
