//! The descriptors that travel with a call and its reply: each says to which call it belongs, which way it goes, and
//! where its place is, so that one that is lost, doubled or given to another call is seen.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, memfd_create};
use wigwag::{Error, ErrorKind, Request};
use wigwag_testing::word;

use super::model::{HEAD, cell, seed};
use crate::history::act::Actor;
use crate::history::dialect::Dialect;
use crate::history::plan::{History, Home};
use crate::history::run::CARGO_NAME;

/// In a call's cell: how many descriptors went with its request, and with its reply.
const THERE_SHIFT: u32 = 24;
const BACK_SHIFT: u32 = 32;
const COUNT_MASK: u64 = 0x1f;
/// How many one session has under way at most, in each direction.
const UNDER_WAY_MAX: usize = 64;

/// Which way a descriptor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Journey {
    /// With a request.
    There,
    /// With a reply.
    Back,
}

/// What one call shall carry, and who takes it.
#[derive(Clone, Copy)]
pub struct Cargo {
    there: usize,
    back: usize,
    is_taken_there: bool,
    /// Whether the client takes what comes with the reply.
    pub is_taken_back: bool,
}

/// What a call carries, which follows from its number.
pub fn cargo(history: &History, party: usize, number: u64, len: usize) -> Cargo {
    let most = history.parties.iter().map(|party| party.descriptors).max().unwrap_or(0);
    let dice = word(seed(party, number), 11);
    let count = |dice: u64| match dice % 4 {
        _ if most == 0 || len < HEAD || history.dialect != Dialect::Bytes => 0,
        0 => 0,
        1 => most,
        _ => (dice >> 4) as usize % (most + 1),
    };
    Cargo {
        there: count(dice),
        back: count(dice >> 16),
        is_taken_there: dice >> 32 & 3 != 0,
        is_taken_back: dice >> 34 & 3 != 0,
    }
}

/// Whether descriptors travel between a client and its server; `None`: its servers differ in that.
fn travel(history: &History, party: usize, server: Option<usize>) -> Option<bool> {
    let client = &history.parties[party];
    let is_like_us = client.home != Home::OtherUser && !client.is_of_version_1;
    let may_travel = client.descriptors > 0 && is_like_us;
    let hosts: Vec<usize> = server.map_or_else(|| history.hosts(), |server| vec![server]);
    let mut agreed = hosts.into_iter().map(|host| may_travel && history.parties[host].descriptors > 0);
    let first = agreed.next().unwrap_or(false);
    agreed.all(|other| other == first).then_some(first)
}

/// A file in memory with what it is.
fn file(journey: Journey, party: usize, number: u64, index: usize) -> File {
    let file = File::from(memfd_create(CARGO_NAME, MemfdFlags::CLOEXEC).expect("a file in memory"));
    let what = [journey as u8, party as u8, number as u8, (number >> 8) as u8, index as u8];
    rustix::io::pwrite(&file, &what, 0).expect("room for five bytes");
    file
}

/// What a file says that came.
fn says(descriptor: impl AsFd) -> [u8; 5] {
    let mut what = [0xff; 5];
    let _ = rustix::io::pread(descriptor, &mut what, 0);
    what
}

/// Attaches what goes that way, as much as is let in.
fn attach(
    actor: &Actor,
    journey: Journey,
    (party, number): (usize, u64),
    count: usize,
    mut attach: impl FnMut(&File) -> wigwag::Result<()>,
) {
    let Actor { stage, history, me } = actor;
    let server = (journey == Journey::Back).then_some(*me);
    let agreed = travel(history, party, server);
    let mut attached = 0;
    while attached < count {
        match attach(&file(journey, party, number, attached)) {
            Ok(()) if agreed == Some(false) => {
                actor.complain(format!("a descriptor was attached {journey:?}, where none travel"));
            }
            Ok(()) => {}
            Err(error) => {
                let most = history.parties.iter().map(|party| party.descriptors).max().unwrap_or(0);
                let is_right = match error.kind() {
                    ErrorKind::NotAgreed => agreed != Some(true),
                    ErrorKind::Full => most * history.parties[party].slots > UNDER_WAY_MAX,
                    _ => false,
                };
                if !is_right {
                    actor.complain(format!("descriptor {attached} of {count} {journey:?}: {error:?}"));
                }
                break;
            }
        }
        attached += 1;
    }
    let shift = if journey == Journey::There { THERE_SHIFT } else { BACK_SHIFT };
    cell(stage, party, number).fetch_or((attached as u64) << shift, Ordering::SeqCst);
}

/// How many went that way with a call, by who sent them.
fn sent(actor: &Actor, journey: Journey, party: usize, number: u64) -> usize {
    let shift = if journey == Journey::There { THERE_SHIFT } else { BACK_SHIFT };
    (cell(&actor.stage, party, number).load(Ordering::SeqCst) >> shift & COUNT_MASK) as usize
}

/// Attaches to a loan what its request carries.
pub fn load(actor: &Actor, cargo: Cargo, number: u64, attach_one: impl FnMut(&File) -> wigwag::Result<()>) {
    if cargo.there > 0 {
        attach(actor, Journey::There, (actor.me, number), cargo.there, attach_one);
    }
}

/// Checks what came one way with a call.
pub fn check(actor: &Actor, journey: Journey, (party, number): (usize, u64), came: &[OwnedFd]) {
    let sent = sent(actor, journey, party, number);
    let of_client = format!("request {number} of client {party}");
    if came.len() != sent {
        actor.complain(format!("{} descriptors came {journey:?} with {of_client}, and {sent} were sent", came.len()));
    }
    for (index, descriptor) in came.iter().enumerate() {
        let right = [journey as u8, party as u8, number as u8, (number >> 8) as u8, index as u8];
        let what = says(descriptor);
        if what != right {
            actor.complain(format!("descriptor {index} that came {journey:?} with {of_client} is another: {what:?}"));
        }
    }
}

/// A handler takes what came, or leaves it, and attaches what goes back. Whether its request is one that has a cargo.
pub fn exchange(actor: &Actor, request: &mut Request) {
    let history = &actor.history;
    if request.len() < HEAD || history.parties.iter().all(|party| party.descriptors == 0) {
        return;
    }
    let (party, number) = (request[1] as usize, u64::from(u16::from_le_bytes([request[2], request[3]])));
    if party >= history.parties.len() || number > 255 {
        return; // nobody sent it, which is complained about elsewhere
    }
    let cargo = cargo(history, party, number, request.len());
    if cargo.is_taken_there {
        let came = request.take_descriptors();
        check(actor, Journey::There, (party, number), &came);
        if !request.take_descriptors().is_empty() {
            actor.complain(format!("descriptors of request {number} of client {party} came twice"));
        }
    }
    if cargo.back > 0 {
        attach(actor, Journey::Back, (party, number), cargo.back, |file| request.attach(file));
    }
}

/// Whether an error says that descriptors had no room, and whether the request was executed then.
pub fn told_full(actor: &Actor, number: u64, error: &Error) -> Option<bool> {
    let text = error.to_string();
    let carried = |journey| sent(actor, journey, actor.me, number) > 0;
    match error.kind() {
        ErrorKind::Full if text.contains("executed the request") || text.contains("request was executed") => {
            carried(Journey::Back).then_some(true)
        }
        ErrorKind::Full if text.contains("not executed") => carried(Journey::There).then_some(false),
        _ => None,
    }
}
