//! What becomes of a sender whose receiver is gone: whom to ask for next, and how what was not acknowledged is handed
//! over. The senders wait for the search.

use crate::error::{Error, ErrorKind, Result};
use crate::memory::layout::{Head, INLINE_CAPACITY, Kind};
use crate::memory::slot;
use crate::options::ConnectOptions;
use crate::queue::outbox::Outbox;
use crate::queue::producer::{self, Producer, is_acknowledgement};
use crate::session::agreement::Protocol;
use crate::session::connect::{ClientHandshake, Established};
use crate::session::connection::Connection;
use crate::sync::Ordering;
use crate::sys::clock;

impl Producer {
    /// The search for the next receiver, not begun; an error if there must not be one.
    pub fn search(&self) -> Result<ClientHandshake> {
        ClientHandshake::begin(&self.name, self.wishes_for_successor()?)
    }

    /// What is asked of the next receiver: all under way shall fit, so the new session is as large as the old one or is
    /// refused. After a violation there is none.
    fn wishes_for_successor(&self) -> Result<ConnectOptions> {
        match self.connection.check_alive(false) {
            Err(error) if error.kind() == ErrorKind::Violation => Err(error),
            _ => Ok(ConnectOptions {
                slots: Some(self.slots()),
                capacity: Some(self.capacity()),
                ..self.options.clone()
            }),
        }
    }

    /// The session of a search that ended well.
    pub fn connection_of(&self, established: Established) -> Connection {
        producer::connection(&self.options, established)
    }

    /// Sends what is not acknowledged to the receiver of a new session, and everything from now on.
    pub fn move_to(&mut self, connection: Connection) {
        let slots = connection.geometry().slots;
        let old_outbox = std::mem::replace(&mut self.outbox, Outbox::new(slots, slot::before_first()));
        let old = std::mem::replace(&mut self.connection, connection);
        self.alive_at = clock::tick();
        self.counters.reconnects += 1;
        self.counters.doorbells_rung += old.doorbells_rung();
        self.counters.sleeps += old.sleeps();
        if old.protocol() >= Protocol::V2 && !old.is_forked() {
            // Whoever keeps the messages of the dead reads it when this process is dead, too, and then sees everything
            // that this thread had done: before the passes below, which are no weaker than Release.
            old.segment().client_line().moving.store(1, Ordering::Relaxed);
        }
        let mut bytes = Vec::new();
        for record in (0..old_outbox.len()).filter_map(|place| old_outbox.get(place)) {
            let line = old.segment().line(record.slot);
            let turn = slot::load(&line.turn);
            let word = line.head.load(Ordering::Relaxed); // of a process that is gone; read once
            let is_back = !turn.is_server() && turn.sequence() == record.sequence;
            if is_back && is_acknowledgement(word) {
                self.counters.acknowledged += 1;
                continue;
            }
            // Only what the last receiver cannot have had goes out as new.
            let was_untouched = turn.is_server() && matches!(Head::parse(word), Some(Head { kind: Kind::Message, .. }));
            let is_redelivered = record.is_redelivered || !was_untouched;
            let in_body = record.len > INLINE_CAPACITY;
            bytes.resize(record.len, 0);
            old.segment().copy_out(record.slot, in_body, &mut bytes);
            let segment = self.connection.segment();
            segment.copy_in(self.outbox.next(), in_body, &bytes);
            // for observers, whatever it is; of this process's own clock
            let committed = old.segment().committed(record.slot).load(Ordering::Relaxed);
            let committed = if self.connection.has_same_clock() { committed } else { 0 };
            let record = self.outbox.push(record.len, is_redelivered, slot::next_sequence);
            segment.committed(record.slot).store(committed, Ordering::Relaxed); // published by the turn
            let kind = if is_redelivered { Kind::Redelivered } else { Kind::Message };
            let head = Head { len: record.len as u32, kind, in_body, has_deadline: false, descriptors: 0 };
            self.connection.pass_silently(segment.line(record.slot), head, record.sequence);
            self.counters.redelivered += u64::from(is_redelivered);
        }
        self.connection.ring_if_asleep();
    }

    /// No receiver was found, for now or within the time for that.
    #[cold]
    pub fn not_found(&self, error: Error) -> Error {
        let kept = self.unacknowledged();
        let sentence = format!(
            "the receiver is gone, and no other took its place: {error}; {kept} messages are kept for one, which the \
             next call looks for again (SenderBuilder::server_timeout says for how long)"
        );
        // One that went away while it was asked is as missing as one that was never there.
        let kind = match error.kind() {
            ErrorKind::PeerDied { .. } | ErrorKind::ServerClosed { .. } => ErrorKind::NotRunning,
            kind => kind,
        };
        Error::new(kind, sentence)
    }
}
