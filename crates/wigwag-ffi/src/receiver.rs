//! The receiver of a queue, and the messages in its hands.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use library::{Delivery, Receiver, ReceiverStats};

use crate::code::wigwag_code;
use crate::descriptors::hand_out;
use crate::failure::{free_handle, guarded, guarded_value, wigwag_error};
use crate::given::{self, opaque};
use crate::options::{receiver_builder, wigwag_listen_options};
use crate::peer::wigwag_peer;
use crate::server::nothing_came;
use crate::stop::wigwag_stop;
use crate::time::Patience;

/// The receiver of a queue: it owns the name, and takes what senders send there.
///
/// Any number of threads may receive at the same time. Whoever uses wigwag_receiver_fd() and wigwag_receiver_process()
/// is alone with it meanwhile.
#[allow(non_camel_case_types)]
pub struct wigwag_receiver([u8; 0]);

/// A message that was received: the sender's bytes where they lie, until it is given back. One thread at a time may use
/// it, and any may.
#[allow(non_camel_case_types)]
pub struct wigwag_message([u8; 0]);

opaque! {
    wigwag_receiver = ReceiverState, b"wwReceiv";
    wigwag_message = Delivery, b"wwMessag";
}

/// What is behind it.
pub struct ReceiverState {
    receiver: Receiver,
    path: CString,
    loop_descriptor: Option<OwnedFd>,
}

/// Takes a name, and begins to accept senders.
///
/// `receiver`: where the handle goes; wigwag_receiver_free() ends it. The rest is as wigwag_server_bind() has it.
///
/// With `options->shared` others may have the name, too, and it fails with `WIGWAG_ERR_NAME_TAKEN` when 64 have it.
/// With `options->kept_by` it fails with `WIGWAG_ERR_NOT_RUNNING` while that keeper does not run.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_receiver_bind(
    name: *const c_char,
    options: *const wigwag_listen_options,
    receiver: *mut *mut wigwag_receiver,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(receiver, "receiver")?;
        let name = given::name(name)?;
        let bound = receiver_builder(options)?.bind(name)?;
        let path = CString::new(bound.path().as_os_str().as_bytes()).unwrap_or_default();
        place.put(given::give(ReceiverState { receiver: bound, path, loop_descriptor: None }));
        Ok(())
    })
}

/// Ends a receiver, or does nothing with NULL: the name is free, and what was not received stays with its senders. To
/// have everything first, shut it down (wigwag_receiver_stop()) and receive until `WIGWAG_ERR_SERVER_CLOSED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_receiver_free(receiver: *mut wigwag_receiver) -> c_int {
    free_handle(receiver)
}

/// Waits for the next message for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 to look whether one is there.
///
/// `message`: where its handle goes; wigwag_message_ack() or wigwag_message_nack() ends it. `data`, `len`: where its
/// bytes are and how many; NULL if they are not wanted. They are valid until the message is ended, and not to be
/// written to.
///
/// Fails with `WIGWAG_ERR_WOULD_BLOCK` (of 0) and `WIGWAG_ERR_TIMED_OUT` if there is none; `WIGWAG_ERR_SERVER_CLOSED`
/// after a shutdown, once everything was received; `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_receiver_recv(
    receiver: *mut wigwag_receiver,
    timeout_ns: i64,
    message: *mut *mut wigwag_message,
    data: *mut *const c_void,
    len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(message, "message")?;
        let inside = given::shared(receiver)?;
        let receiver = &inside.receiver;
        let found = match Patience::of(timeout_ns) {
            Patience::Forever => Some(receiver.recv()?),
            Patience::Now => receiver.try_recv()?,
            Patience::For(time) => receiver.recv_timeout(time)?,
        };
        let found = found.ok_or_else(|| nothing_came(&"no message is there", timeout_ns))?;
        given::put_if_wanted(data, found.as_ptr().cast());
        given::put_if_wanted(len, found.len());
        place.put(given::give(found));
        Ok(())
    })
}

/// Waits for messages as wigwag_receiver_recv() does, and takes as many as are there, up to `most`.
///
/// `messages`: room for `most` handles, at least 1. `count`: where their number goes.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_receiver_recv_batch(
    receiver: *mut wigwag_receiver,
    timeout_ns: i64,
    messages: *mut *mut wigwag_message,
    most: usize,
    count: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let count = given::place(count, "count")?;
        let room = given::array_mut(messages, most, "messages")?;
        let inside = given::shared(receiver)?;
        let receiver = &inside.receiver;
        let found = match Patience::of(timeout_ns) {
            Patience::Forever => Some(receiver.recv_batch(most)?),
            Patience::Now => receiver.try_recv_batch(most)?,
            Patience::For(time) => receiver.recv_batch_timeout(most, time)?,
        };
        let found = found.ok_or_else(|| nothing_came(&"no message is there", timeout_ns))?;
        count.put(found.len());
        room.iter_mut().zip(found).for_each(|(room, message)| *room = given::give(message));
        Ok(())
    })
}

/// The descriptor that an event loop polls for reading on behalf of this receiver, or a negative code. It is the
/// receiver's: do not close it, and do not read from it.
///
/// Once it is readable, call wigwag_receiver_process() until that finds nothing more. Call that once before the first
/// poll, too.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_receiver_fd(receiver: *mut wigwag_receiver, error: *mut wigwag_error) -> c_int {
    let mut fd = -1;
    let code = guarded(error, || {
        let mut inside = given::alone(receiver)?;
        if inside.loop_descriptor.is_none() {
            inside.loop_descriptor = Some(inside.receiver.try_clone_descriptor()?);
        }
        fd = inside.loop_descriptor.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        Ok(())
    });
    if code == wigwag_code::WIGWAG_OK as c_int { fd } else { code }
}

/// What an event loop does when the receiver's descriptor is readable. It never waits.
///
/// `message`, `data`, `len`: as wigwag_receiver_recv() has them; the message is NULL when none is there: from then on
/// the descriptor becomes readable when one is. So call it until it gives NULL.
///
/// Fails with `WIGWAG_ERR_SERVER_CLOSED` after a shutdown, `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_receiver_process(
    receiver: *mut wigwag_receiver,
    message: *mut *mut wigwag_message,
    data: *mut *const c_void,
    len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(message, "message")?;
        match given::alone(receiver)?.receiver.recv_or_arm()? {
            None => place.put(std::ptr::null_mut()),
            Some(found) => {
                given::put_if_wanted(data, found.as_ptr().cast());
                given::put_if_wanted(len, found.len());
                place.put(given::give(found));
            }
        }
        Ok(())
    })
}

/// A handle by which other threads end this receiver; wigwag_stop_free() frees it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_receiver_stop(
    receiver: *const wigwag_receiver,
    stop: *mut *mut wigwag_stop,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(stop, "stop")?;
        place.put(given::give(given::shared(receiver)?.receiver.shutdown_handle()));
        Ok(())
    })
}

/// Where the receiver's socket is, valid until the receiver is freed; NULL of what is no receiver.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_receiver_path(receiver: *const wigwag_receiver) -> *const c_char {
    guarded_value(std::ptr::null(), || Ok(given::shared(receiver)?.path.as_ptr()))
}

/// What a receiver has counted since it was bound: see wigwag_receiver_statistics().
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_receiver_stats {
    /// sizeof(wigwag_receiver_stats), set by the caller.
    pub size: usize,
    /// Messages handed out, each time they were.
    pub received: u64,
    /// Of these, those that had been handed out before.
    pub redelivered: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages given back to be delivered again.
    pub returned: u64,
    /// Senders connected.
    pub senders: u64,
    /// Senders that ever connected.
    pub senders_accepted: u64,
    /// Handshakes refused or failed.
    pub senders_refused: u64,
    /// Sessions ended because the sender broke the protocol.
    pub violations: u64,
    /// Times a receiving thread slept.
    pub sleeps: u64,
}

given::plain!(wigwag_receiver_stats);

/// What a receiver has counted.
///
/// `stats`: a struct whose `size` is set; the rest is filled.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_receiver_statistics(
    receiver: *const wigwag_receiver,
    stats: *mut wigwag_receiver_stats,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let counted = counted(given::shared(receiver)?.receiver.stats());
        given::fill(stats, counted, "stats")
    })
}

fn counted(stats: ReceiverStats) -> wigwag_receiver_stats {
    let ReceiverStats { received, redelivered, acknowledged, returned, senders, .. } = stats;
    let ReceiverStats { senders_accepted, senders_refused, violations, sleeps, .. } = stats;
    wigwag_receiver_stats {
        size: 0,
        received,
        redelivered,
        acknowledged,
        returned,
        senders,
        senders_accepted,
        senders_refused,
        violations,
        sleeps,
    }
}

/// Where the bytes of a message are, and how many, as wigwag_receiver_recv() has given them.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_message_data(
    message: *const wigwag_message,
    data: *mut *const c_void,
    len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let data = given::place(data, "data")?;
        let len = given::place(len, "len")?;
        let inside = given::alone(message)?;
        data.put(inside.as_ptr().cast());
        len.put(inside.len());
        Ok(())
    })
}

/// Acknowledges a message: its memory is the sender's again. Does nothing with NULL.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_message_ack(message: *mut wigwag_message) -> c_int {
    free_handle(message)
}

/// Gives a message back: it is delivered again, here or by the next receiver, and marked. Does nothing with NULL.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_message_nack(message: *mut wigwag_message) -> c_int {
    if message.is_null() {
        return wigwag_code::WIGWAG_OK as c_int;
    }
    guarded(std::ptr::null_mut(), || given::take(message).map(Delivery::nack))
}

/// 1 if a receiver may have had the message before, 0 if not.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_message_is_redelivered(message: *const wigwag_message) -> c_int {
    guarded_value(0, || Ok(given::alone(message)?.is_redelivered().into()))
}

/// Who sent it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_message_peer(
    message: *const wigwag_message,
    peer: *mut wigwag_peer,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        given::place(peer, "peer")?.put(given::alone(message)?.peer().into());
        Ok(())
    })
}

/// Takes duplicates of the file descriptors that came with a message, once: they are yours to close.
///
/// `fds`: room for `capacity` of them, at least `WIGWAG_DESCRIPTORS_MAX`. `count`: where their number goes.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_message_take_descriptors(
    message: *mut wigwag_message,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let mut inside = given::alone(message)?;
        hand_out(fds, capacity, count, || Ok(inside.take_descriptors()?))
    })
}
