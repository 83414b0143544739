//! Keepers, one after the other: each has what the dead leave until it is killed, ends, or nothing is left.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wigwag::Keeper;

use crate::history::act::{Actor, COLLECTED};
use crate::history::plan::{Role, Step};
use crate::history::stage::Word;

/// How often it looks whether it is wanted.
const LOOK: Duration = Duration::from_micros(200);

/// A keeper.
pub fn keeper(actor: &Actor) {
    let Actor { stage, history, me } = actor;
    let is_collected = || stage.cell(COLLECTED).load(Ordering::SeqCst) != 0;
    let is_before = |party: usize| history.parties[party].role == Role::Keeper;
    for former in (0..*me).filter(|&party| is_before(party)) {
        stage.wait_until(|| stage.read(former, Word::Over) != 0 || is_collected());
    }
    std::thread::sleep(Duration::from_micros(actor.party().delay_us));
    if is_collected() {
        return;
    }
    let builder = match actor.party().limit {
        0 => Keeper::builder(),
        limit => Keeper::builder().max_sessions(limit),
    };
    let keeper = match builder.start(stage.name()) {
        Ok(keeper) => keeper,
        Err(error) => return actor.complain(format!("a keeper: {error:?}")),
    };
    stage.set(*me, Word::Bound, 1);
    let mut is_over = false;
    actor.play(|step| is_over |= step == Step::ShutDownSelf);
    while !is_over && !is_collected() {
        std::thread::sleep(LOOK);
    }
    drop(keeper);
}
