//! What a server's welcome brings, checked before anything of it is touched.

use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::faults::{self, Fault};
use crate::memory::board::{Board, BoardGeometry};
use crate::memory::layout::{Geometry, PAGE_SIZE};
use crate::memory::segment::Segment;
use crate::options::ConnectOptions;
use crate::session::agreement::Agreement;
use crate::session::connect::{BoardParts, violation};
use crate::session::protocol::Welcome;
use crate::sys::eventfd::Bell;
use crate::sys::memory;
use crate::sys::socket::Received;

/// What a welcome brings, checked before it is touched: the segment, and the bells.
pub(super) fn map(
    options: &ConnectOptions,
    agreement: Agreement,
    welcome: &Welcome,
    received: Received,
) -> Result<Parts> {
    let form = options.contract.form;
    let geometry = Geometry::of_form(form, welcome.slots as usize, welcome.capacity as usize)
        .filter(|geometry| geometry.segment_size as u64 == welcome.segment_size)
        .ok_or_else(|| violation("it announced a segment of impossible geometry"))?;
    // A server grants what was asked for or refuses: a caller that relies on the size, such as a sender that has
    // messages to move, would write beyond a smaller one.
    for (what, wish, granted) in
        [("slots", options.slots, geometry.slots), ("bytes of capacity", options.capacity, geometry.capacity)]
    {
        if let Some(wish) = wish.filter(|wish| *wish != granted && !faults::is(Fault::UncheckedGrant)) {
            return Err(violation(&format!("it granted {granted} {what}, where {wish} were asked for")));
        }
    }
    let mut fds = received.fds.into_iter();
    let (Some(memory), Some(server_bell)) = (fds.next(), fds.next()) else {
        return Err(violation("it sent too few descriptors"));
    };
    // A later version may send more; what is here goes by what was announced.
    let client_bell = if welcome.has_client_bell || !form.has_board() { fds.next().map(Bell::from_fd) } else { None };
    let board = match form.has_board() {
        true => Some(board_of(welcome, geometry.capacity, &mut fds)?),
        false => None,
    };
    if client_bell.is_some() != welcome.has_client_bell || fds.next().is_some() {
        return Err(violation("it sent other descriptors than it announced"));
    }
    memory::check_sealed(&memory, geometry.segment_size, "the server sent a segment")?;
    let segment = Segment::map_for(form, &memory, geometry)?;
    let header = geometry.header(&options.contract, agreement.protocol.layout_version());
    header.check(&segment.read_header()).map_err(|why| violation(&why))?;
    Ok(Parts { segment, server_bell: Bell::from_fd(server_bell), client_bell, memory, board })
}

/// What a welcome brings.
pub(super) struct Parts {
    pub segment: Segment,
    pub server_bell: Bell,
    pub client_bell: Option<Bell>,
    pub memory: OwnedFd,
    pub board: Option<BoardParts>,
}

/// The publisher's memory, if it is what was announced.
fn board_of(welcome: &Welcome, capacity: usize, fds: &mut impl Iterator<Item = OwnedFd>) -> Result<BoardParts> {
    let told = welcome.extension.and_then(|extension| extension.board);
    let told = told.ok_or_else(|| violation("it said nothing of its memory"))?;
    let geometry = BoardGeometry::new(told.entries as usize, told.bodies as usize, capacity)
        .filter(|_| told.holds <= welcome.slots)
        .ok_or_else(|| violation("it announced a board of impossible geometry"))?;
    let Some(memory) = fds.next() else { return Err(violation("it sent too few descriptors")) };
    memory::check_sealed(&memory, geometry.size, "the publisher sent a board")?;
    let hints = if welcome.has_client_bell { fds.next() } else { None };
    if let Some(hints) = &hints {
        memory::check_sealed(hints, PAGE_SIZE, "the publisher sent a hint line")?;
    }
    if hints.is_some() != welcome.has_client_bell {
        return Err(violation("it sent too few descriptors"));
    }
    let board = Board::map_to_read(&memory, geometry, hints.is_some())?;
    Ok(BoardParts { newest: board.newest(), memory, board, hints, told })
}
