//! The subscriber of a broadcast.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsFd;

use library::{ErrorKind, Subscriber, SubscriberStats};

use crate::code::wigwag_code;
use crate::failure::{Failure, Result, free_handle, guarded, guarded_value, wigwag_error};
use crate::given::{self, opaque};
use crate::loop_descriptor::LoopDescriptor;
use crate::options::{subscriber_builder, wigwag_connect_options};
use crate::peer::wigwag_peer;
use crate::sample::{Places, Taken, wigwag_sample};
use crate::time::Patience;

/// A subscriber: it takes the messages of a publisher, all of them in order, or with the number of those that it was
/// too slow for. It can write nothing of the publisher's, and its death costs that one nothing.
///
/// One thread at a time may use a subscriber; its samples are handles of their own.
#[allow(non_camel_case_types)]
pub struct wigwag_subscriber([u8; 0]);

opaque! { wigwag_subscriber = SubscriberInside, b"wwSubscr"; }

/// What is behind it.
pub struct SubscriberInside {
    subscriber: Subscriber,
    /// A message that did not fit where it was to be copied: it is the next one.
    left: Option<Taken>,
    /// Memory for a copy when no more may be held.
    copy: Vec<u8>,
    loop_descriptor: Option<LoopDescriptor>,
}

impl SubscriberInside {
    /// The next message in place, within that time.
    fn take(&mut self, timeout_ns: i64) -> Result<Taken> {
        if let Some(taken) = self.left.take() {
            return Ok(taken);
        }
        let subscriber = &mut self.subscriber;
        let message = match Patience::of(timeout_ns) {
            Patience::Forever => subscriber.recv()?,
            Patience::Now => subscriber.try_recv()?.ok_or(Failure::WouldBlock(&"no message is there"))?,
            Patience::For(time) => subscriber.recv_timeout(time)?,
        };
        Ok(Taken::Message(message))
    }

    /// The next message, as a copy if as many are held as may be.
    fn take_or_copy(&mut self, timeout_ns: i64) -> Result<Taken> {
        loop {
            match self.take(timeout_ns) {
                Err(Failure::Library(error)) if error.kind() == ErrorKind::Full => {}
                taken => return taken,
            }
            // It is there. If not any more, it was replaced while it was copied.
            let mut copy = std::mem::take(&mut self.copy);
            if let Some(receipt) = self.subscriber.try_recv_into(&mut copy)? {
                return Ok(Taken::Copied(copy, receipt));
            }
        }
    }

    /// The session may be another one after any call.
    fn watch(&mut self) -> Result<()> {
        match &mut self.loop_descriptor {
            Some(descriptor) => descriptor.watch(self.subscriber.as_fd()),
            None => Ok(()),
        }
    }
}

/// Connects to a publisher of this user. The first message is the next one that is published, or what `options->start`
/// says.
///
/// `subscriber`: where the handle goes; wigwag_subscriber_free() ends it. The rest is as wigwag_client_connect() has
/// it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_connect(
    name: *const c_char,
    options: *const wigwag_connect_options,
    subscriber: *mut *mut wigwag_subscriber,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(subscriber, "subscriber")?;
        let subscriber = subscriber_builder(options)?.connect(given::name(name)?)?;
        place.put(given::give(SubscriberInside { subscriber, left: None, copy: Vec::new(), loop_descriptor: None }));
        Ok(())
    })
}

/// Ends a subscriber, or does nothing with NULL. Samples of it stay what they are until they are released.
///
/// Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_free(subscriber: *mut wigwag_subscriber) -> c_int {
    free_handle(subscriber)
}

/// Takes the next message, in place, and waits for it for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 to look whether
/// one is there. Who only looks learns of the publisher's end within 256 calls.
///
/// `sample`: where its handle goes; wigwag_sample_release() ends it. `data`, `len`: where its bytes are, aligned to 16,
/// and how many; NULL if they are not wanted. They are valid until the sample is released, and not to be written to:
/// the memory is mapped to be read only.
///
/// Fails with `WIGWAG_ERR_WOULD_BLOCK` (of 0) and `WIGWAG_ERR_TIMED_OUT` if there is none; `WIGWAG_ERR_ENDED` when the
/// publisher has ended the broadcast and all is read, `WIGWAG_ERR_PEER_DIED` when its process is gone and all is read
/// that it had published: with `reconnect_ns` it waits for the next publisher instead, and fails with
/// `WIGWAG_ERR_NOT_RUNNING` when none came within that. `WIGWAG_ERR_REFUSED`: this subscriber was cut off, with the
/// reason. `WIGWAG_ERR_FULL`: it holds as many samples as it may; release one, or copy: the message is not lost.
/// `WIGWAG_ERR_FORKED`, `WIGWAG_ERR_IO`; `WIGWAG_ERR_VIOLATION` of a publisher of another user.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_recv(
    subscriber: *mut wigwag_subscriber,
    timeout_ns: i64,
    sample: *mut *mut wigwag_sample,
    data: *mut *const c_void,
    len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let places = Places::of(sample, data, len)?;
        places.put(given::alone(subscriber)?.take(timeout_ns)?)
    })
}

/// What a message was that was copied: see wigwag_subscriber_recv_copied().
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_receipt {
    /// sizeof(wigwag_receipt), set by the caller.
    pub size: usize,
    /// As wigwag_sample_sequence().
    pub sequence: u64,
    /// As wigwag_sample_lost_before().
    pub lost_before: u64,
    /// As wigwag_sample_is_of_new_publisher().
    pub is_of_new_publisher: c_int,
    /// Zero.
    pub reserved: c_int,
}

given::plain!(wigwag_receipt);

impl wigwag_receipt {
    const NONE: wigwag_receipt =
        wigwag_receipt { size: 0, sequence: 0, lost_before: 0, is_of_new_publisher: 0, reserved: 0 };

    fn of(taken: &Taken) -> wigwag_receipt {
        wigwag_receipt {
            sequence: taken.sequence(),
            lost_before: taken.lost_before(),
            is_of_new_publisher: taken.is_of_new_publisher().into(),
            ..wigwag_receipt::NONE
        }
    }
}

/// Takes the next message as wigwag_subscriber_recv() does, and copies it: nothing is to be released.
///
/// `bytes`, `capacity`: room for it. `len`: where its length goes, also if it did not fit. `receipt`: a struct whose
/// `size` is set, and the rest of which is filled; NULL if it is not wanted.
///
/// Fails as wigwag_subscriber_recv(), but for `WIGWAG_ERR_FULL`; and with `WIGWAG_ERR_CAPACITY_EXCEEDED` if the message
/// does not fit: it is not lost, and is the next one. wigwag_subscriber_capacity() says how long it can be.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_recv_copied(
    subscriber: *mut wigwag_subscriber,
    timeout_ns: i64,
    bytes: *mut c_void,
    capacity: usize,
    len: *mut usize,
    receipt: *mut wigwag_receipt,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let len = given::place(len, "len")?;
        let room = given::bytes_mut(bytes, capacity)?;
        if !receipt.is_null() {
            given::fill(receipt, wigwag_receipt::NONE, "receipt")?; // what is wrong with it is told before one is taken
        }
        let mut inside = given::alone(subscriber)?;
        let taken = inside.take_or_copy(timeout_ns)?;
        let message = taken.bytes();
        len.put(message.len());
        let Some(room) = room.get_mut(..message.len()) else {
            let failure = no_room(message.len(), capacity);
            inside.left = Some(taken);
            return Err(failure);
        };
        room.copy_from_slice(message);
        if !receipt.is_null() {
            given::fill(receipt, wigwag_receipt::of(&taken), "receipt")?;
        }
        if let Taken::Copied(copy, _) = taken {
            inside.copy = copy;
        }
        Ok(())
    })
}

#[cold]
fn no_room(len: usize, capacity: usize) -> Failure {
    let text = format!(
        "the message has {len} bytes, and there is room for {capacity}; it is the next one still. Make more room, or \
         use wigwag_subscriber_recv()"
    );
    Failure::interface(wigwag_code::WIGWAG_ERR_CAPACITY_EXCEEDED, text)
}

/// The descriptor that an event loop polls for reading on behalf of this subscriber, or a negative code. It is the
/// subscriber's: do not close it, and do not read from it. It stays the same for as long as the subscriber lives.
///
/// Once it is readable, call wigwag_subscriber_process() until that finds nothing more. Call that once before the first
/// poll, too.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_fd(subscriber: *mut wigwag_subscriber, error: *mut wigwag_error) -> c_int {
    let mut fd = -1;
    let code = guarded(error, || {
        let mut inside = given::alone(subscriber)?;
        if inside.loop_descriptor.is_none() {
            inside.loop_descriptor = Some(LoopDescriptor::new()?);
        }
        inside.watch()?;
        fd = inside.loop_descriptor.as_ref().map_or(-1, LoopDescriptor::raw);
        Ok(())
    });
    if code == wigwag_code::WIGWAG_OK as c_int { fd } else { code }
}

/// What an event loop does when the subscriber's descriptor is readable. It never waits.
///
/// `sample`, `data`, `len`: as wigwag_subscriber_recv() has them; the sample is NULL when none is there: from then on
/// the descriptor becomes readable when one is, or when the publisher ends or dies. So call it until it gives NULL.
///
/// Fails as wigwag_subscriber_recv(). With `reconnect_ns` it gives NULL while no next publisher is there, and no
/// descriptor tells of that one: call this by a timer then.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_process(
    subscriber: *mut wigwag_subscriber,
    sample: *mut *mut wigwag_sample,
    data: *mut *const c_void,
    len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let places = Places::of(sample, data, len)?;
        let mut inside = given::alone(subscriber)?;
        let taken = match inside.left.take() {
            Some(left) => Some(left),
            None => inside.subscriber.recv_or_arm()?.map(Taken::Message),
        };
        match taken {
            Some(taken) => places.put(taken),
            None => {
                inside.watch()?;
                places.put_none();
                Ok(())
            }
        }
    })
}

/// How many messages were published and not taken yet; 0 of what is no subscriber.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_lag(subscriber: *const wigwag_subscriber) -> u64 {
    guarded_value(0, || {
        let inside = given::alone(subscriber)?;
        Ok(inside.subscriber.lag() + u64::from(inside.left.is_some()))
    })
}

/// The longest message in bytes; 0 of what is no subscriber. Another publisher may have another one.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_capacity(subscriber: *const wigwag_subscriber) -> usize {
    guarded_value(0, || Ok(given::alone(subscriber)?.subscriber.capacity()))
}

/// How many messages the publisher keeps; 0 of what is no subscriber.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_history(subscriber: *const wigwag_subscriber) -> usize {
    guarded_value(0, || Ok(given::alone(subscriber)?.subscriber.history()))
}

/// Who publishes.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_peer(
    subscriber: *const wigwag_subscriber,
    peer: *mut wigwag_peer,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        given::place(peer, "peer")?.put(given::alone(subscriber)?.subscriber.publisher().into());
        Ok(())
    })
}

/// What a subscriber has counted since it connected: see wigwag_subscriber_statistics().
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_subscriber_stats {
    /// sizeof(wigwag_subscriber_stats), set by the caller.
    pub size: usize,
    /// Messages taken.
    pub received: u64,
    /// Messages lost, all of which were told with a message or will be with the next.
    pub lost: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// Publishers after the first, because that one had ended.
    pub publishers: u64,
    /// How many messages it may hold at a time; 0: it gets copies.
    pub may_hold: u64,
    /// How many it holds.
    pub held: u64,
}

given::plain!(wigwag_subscriber_stats);

/// What a subscriber has counted.
///
/// `stats`: a struct whose `size` is set; the rest is filled.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_subscriber_statistics(
    subscriber: *const wigwag_subscriber,
    stats: *mut wigwag_subscriber_stats,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let SubscriberStats { received, lost, sleeps, publishers, may_hold, held, .. } =
            given::alone(subscriber)?.subscriber.stats();
        let (may_hold, held) = (may_hold as u64, held as u64);
        let counted = wigwag_subscriber_stats { size: 0, received, lost, sleeps, publishers, may_hold, held };
        given::fill(stats, counted, "stats")
    })
}
