//! A client of protocol version 1, by hand, beside those of this version: it gets what it knows, and nothing else.

use std::sync::atomic::Ordering;

use wigwag_testing::wire::hello_of_version_1;
use wigwag_testing::{IN_BODY, Raw, SERVER};

use super::far_errors::FAR;
use super::model::{Asker, Call};
use crate::history::act::Actor;
use crate::history::plan::{HandlerAction, Step};
use crate::history::stage::Word;

/// What a head says of an answer, as version 1 has it.
const REPLY: u64 = 2;
const FAILED: u64 = 3;
const PANICKED: u64 = 4;
const UNANSWERED: u64 = 5;
/// The bits of a head that are a length, a kind, and where the payload lies. Version 1 has no others.
const KNOWN: u64 = 0xff_ffff_ffff | IN_BODY;

/// The client. Its server comes, and stays while there are clients.
pub fn guest(actor: &Actor) {
    let host = actor.history.hosts()[0];
    let stage = &actor.stage;
    if !stage.wait_until(|| stage.read(host, Word::Bound) != 0) {
        return;
    }
    let party = actor.party();
    let raw = Raw::connect_saying(&stage.name(), hello_of_version_1(), 1, party.capacity as u32, 0);
    let mut asker = Asker::new(actor);
    asker.capacity = raw.capacity as usize;
    let mut sequence = 0;
    for index in 0..party.steps.len() {
        let Some(Step::Call(len, action, _)) = actor.begin(index) else { continue };
        let Some((call, bytes)) = asker.call(len.min(asker.capacity), action) else { continue };
        sequence += 1;
        raw.send(0, sequence, &bytes);
        if !stage.wait_until(|| raw.turn(0).load(Ordering::Acquire) & SERVER == 0) {
            return;
        }
        judge(&asker, &raw, call, action);
    }
}

fn judge(asker: &Asker<'_>, raw: &Raw, call: Call, action: HandlerAction) {
    let head = raw.head(0).load(Ordering::Relaxed);
    let len = head as u32 as usize;
    if head & !KNOWN != 0 || len > asker.capacity.max(1024) {
        return asker.actor.complain(format!("version 1 knows no head {head:#x}"));
    }
    let bytes = raw.read(0, head & IN_BODY != 0, len);
    let text = String::from_utf8_lossy(&bytes);
    let is_right = match head >> 32 & 0xff {
        REPLY => {
            asker.judge(call, Ok(&bytes));
            true
        }
        FAILED => match action {
            HandlerAction::FailAs => text.starts_with(FAR) || text.starts_with("planned failure"),
            HandlerAction::Fail => text.starts_with("planned failure"),
            _ => text == "planned: given back",
        },
        PANICKED => matches!(action, HandlerAction::Panic | HandlerAction::PanicLater),
        UNANSWERED => matches!(action, HandlerAction::Panic | HandlerAction::PanicLater),
        _ => false,
    };
    if !is_right {
        asker.actor.complain(format!("{action:?} of a client of version 1 was answered with {head:#x}: {text}"));
    }
}
