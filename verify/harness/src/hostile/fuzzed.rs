//! What the fuzz targets in `verify/fuzz/` call: one input each. A panic is a finding.
//!
//! The peer under test stays from input to input; its hostile session is a new one each time.

use std::cell::RefCell;

use super::client_memory;
use super::dice::Dice;
use super::messages::{ToClient, ToServer};
use super::server_memory::{self, SHAPES};

/// Most actions of one input.
const ACTIONS: usize = 400;

thread_local! {
    static SERVER: RefCell<Option<server_memory::Stage>> = const { RefCell::new(None) };
    static CLIENT: RefCell<Option<client_memory::Stage>> = const { RefCell::new(None) };
    static HANDSHAKES: RefCell<Option<(ToServer, ToClient)>> = const { RefCell::new(None) };
}

/// The server's memory, written by the actions that the bytes choose.
pub fn server_memory(bytes: &[u8]) {
    SERVER.with_borrow_mut(|stage| {
        let stage = stage.get_or_insert_with(|| server_memory::Stage::new(SHAPES[0]));
        let mut dice = Dice::given(bytes);
        let outcome = stage.begin_anew(&mut dice).and_then(|()| stage.play(&mut dice, ACTIONS));
        outcome.unwrap_or_else(|why| panic!("{why}"));
    });
}

/// The client's memory.
pub fn client_memory(bytes: &[u8]) {
    CLIENT.with_borrow_mut(|stage| {
        let stage = stage.get_or_insert_with(|| client_memory::Stage::new(5000));
        stage.play(&mut Dice::given(bytes), ACTIONS).unwrap_or_else(|why| panic!("{why}"));
    });
}

/// One handshake each way.
pub fn handshakes(bytes: &[u8]) {
    HANDSHAKES.with_borrow_mut(|stage| {
        let (to_server, to_client) = stage.get_or_insert_with(|| (ToServer::start(), ToClient::start()));
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let outcome = to_server.play(&mut Dice::given(first)).and_then(|()| to_client.play(&mut Dice::given(second)));
        outcome.unwrap_or_else(|why| panic!("{why}"));
    });
}
