//! What a sender does when its receiver is gone: finds the next one, and hands over what was not acknowledged.

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::memory::layout::{Descriptor, INLINE_CAPACITY, Kind};
use crate::memory::slot;
use crate::options::ConnectOptions;
use crate::queue::outbox::Outbox;
use crate::queue::sender::{Sender, SenderBuilder, is_acknowledgement};
use crate::session::connect::{ClientHandshake, Established};
use crate::session::connection::Connection;
use crate::sync::Ordering;
use crate::wait::deadline::Deadline;

impl Sender {
    /// The receiver is gone. Finds the next one, and hands it what the last one did not acknowledge. A search that this
    /// call has no more time for is kept, and the next call goes on with it: so one that never waits gets there as
    /// well.
    #[cold]
    pub(super) fn reconnect(&mut self, deadline: Deadline) -> Result<()> {
        let mut search = match self.search.take() {
            Some(search) => search,
            None => Box::new(self.search()?),
        };
        let until = if faults::is(Fault::PatientSearch) { None } else { deadline.as_instant() };
        match search.wait(until) {
            Ok(Some(established)) => {
                self.move_to(self.builder.connection(established));
                Ok(())
            }
            Ok(None) => {
                let error = self.missing(search.not_yet());
                self.search = Some(search);
                Err(match (deadline, error.kind()) {
                    // Who does not wait has not run out of time.
                    (Deadline::Now, ErrorKind::TimedOut { .. }) => Error::new(ErrorKind::NotRunning, error.to_string()),
                    _ => error,
                })
            }
            Err(error) => Err(self.missing(error)),
        }
    }

    /// The search for the next receiver; an error if there must not be one.
    pub(super) fn search(&self) -> Result<ClientHandshake> {
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
                ..self.builder.options.clone()
            }),
        }
    }

    /// Sends what is not acknowledged to the receiver of a new session, and everything from now on.
    pub(super) fn move_to(&mut self, connection: Connection) {
        let slots = connection.geometry().slots;
        let old_outbox = std::mem::replace(&mut self.outbox, Outbox::new(slots, slot::before_first()));
        let old = std::mem::replace(&mut self.connection, connection);
        self.counters.reconnects += 1;
        self.counters.doorbells_rung += old.doorbells_rung();
        self.counters.sleeps += old.sleeps();
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
            let was_untouched =
                turn.is_server() && matches!(Descriptor::parse(word), Some(Descriptor { kind: Kind::Message, .. }));
            let is_redelivered = record.is_redelivered || !was_untouched;
            let in_body = record.len > INLINE_CAPACITY;
            bytes.resize(record.len, 0);
            old.segment().copy_out(record.slot, in_body, &mut bytes);
            let segment = self.connection.segment();
            segment.copy_in(self.outbox.next(), in_body, &bytes);
            // for observers, whatever it is
            let committed = old.segment().committed(record.slot).load(Ordering::Relaxed);
            let record = self.outbox.push(record.len, is_redelivered, slot::next_sequence);
            segment.committed(record.slot).store(committed, Ordering::Relaxed); // published by the turn
            let kind = if is_redelivered { Kind::Redelivered } else { Kind::Message };
            let head = Descriptor { len: record.len as u32, kind, in_body, has_deadline: false };
            self.connection.pass_silently(segment.line(record.slot), head, record.sequence);
            self.counters.redelivered += u64::from(is_redelivered);
        }
        self.connection.ring_if_asleep();
    }

    #[cold]
    pub(super) fn missing(&self, error: Error) -> Error {
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

impl SenderBuilder {
    /// The session of an attachment.
    pub(super) fn connection(&self, established: Established) -> Connection {
        let connection = Connection::new(established, self.options.wait);
        connection.awaits_no_replies();
        connection
    }
}
