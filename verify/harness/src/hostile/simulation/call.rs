//! What the model knows of the calls.

use std::collections::BTreeMap;

use wigwag_testing::word;

/// How a call was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With these bytes.
    Reply(Vec<u8>),
    /// With the handler's error.
    Failed(String),
    /// Not at all: the request was dropped.
    Unanswered,
}

/// Where a call is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Passed, not received yet.
    Sent,
    /// The server has it.
    Held,
    /// The answer was passed.
    Answered(Answer),
    /// Its session ended before the server received it: it never will.
    Lost,
}

/// A call, as the model has it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Bytes of the request.
    pub len: usize,
    /// Whose it is.
    pub owner: u64,
    /// Where it is.
    pub state: State,
    /// Whether its client gave it up while the server had it.
    pub is_abandoned: bool,
    /// Whether its client said when it stops waiting.
    pub has_deadline: bool,
}

/// All calls by their number, which each request carries in its first eight bytes.
#[derive(Default)]
pub struct Calls(pub BTreeMap<u64, Call>);

impl Calls {
    /// Notes a call that was passed just now.
    pub fn sent(&mut self, id: u64, owner: u64, len: usize, has_deadline: bool) {
        let call = Call { len, owner, state: State::Sent, is_abandoned: false, has_deadline };
        assert!(self.0.insert(id, call).is_none());
    }

    /// Where a call is.
    pub fn state(&self, id: u64) -> &State {
        &self.0[&id].state
    }

    /// The call is somewhere else now.
    pub fn moves(&mut self, id: u64, state: State) {
        self.0.get_mut(&id).expect("a call that was made").state = state;
    }

    /// Its client gave it up.
    pub fn abandon(&mut self, id: u64) {
        self.0.get_mut(&id).expect("a call that was made").is_abandoned = true;
    }

    /// The session of an owner is over: what was not received is lost.
    pub fn lose(&mut self, owner: u64) {
        let calls = self.0.values_mut().filter(|call| call.owner == owner && call.state == State::Sent);
        calls.for_each(|call| call.state = State::Lost);
    }

    /// The first call of these owners that was passed and not received.
    pub fn untaken(&self, owners: impl Fn(u64) -> bool) -> Option<u64> {
        self.0.iter().find(|(_, call)| call.state == State::Sent && owners(call.owner)).map(|(id, _)| *id)
    }

    /// Slots of an owner that its abandoned calls still have.
    pub fn slots_abandoned(&self, owner: u64) -> usize {
        let is_out =
            |call: &&Call| call.owner == owner && call.is_abandoned && !matches!(call.state, State::Answered(_));
        self.0.values().filter(is_out).count()
    }
}

/// The bytes of a request.
pub fn request(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    wigwag_testing::fill(&mut bytes, id);
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes
}

/// Some bytes for a reply.
pub fn reply(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    wigwag_testing::fill(&mut bytes, word(id, 99));
    bytes
}
