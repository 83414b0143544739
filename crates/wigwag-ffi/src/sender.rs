//! The sender of a queue.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};

use library::{MessageLoan, Sender, SenderStats};

use crate::code::wigwag_code;
use crate::failure::{Failure, Result, free_handle, guarded, guarded_value, wigwag_error};
use crate::given::{self, Alone, Kept, opaque};
use crate::options::{connect_options, wigwag_connect_options};
use crate::time::Patience;

/// A sender of a queue: messages go one way, to the one receiver of the name, and each is kept until the receiver has
/// acknowledged it. If the receiver dies, the next call finds its successor and gives it what was not.
///
/// One thread at a time may use a sender. Threads that send at the same time have one each.
#[allow(non_camel_case_types)]
pub struct wigwag_sender([u8; 0]);

opaque! { wigwag_sender = SenderState, b"wwSender"; }

/// What is behind it.
pub struct SenderState {
    /// Borrows from `sender`: it is dropped first.
    loan: Option<MessageLoan<'static>>,
    sender: Kept<Sender>,
    loop_descriptor: Option<OwnedFd>,
}

impl SenderState {
    fn new(sender: Sender) -> SenderState {
        SenderState { loan: None, sender: Kept::new(sender), loop_descriptor: None }
    }
}

/// A sender of which no loan is out.
#[inline(always)]
fn alone<'o>(sender: *const wigwag_sender) -> Result<Alone<'o, SenderState>> {
    let inside = given::alone(sender)?;
    if inside.loan.is_some() {
        return Err(loan_is_out());
    }
    Ok(inside)
}

#[cold]
fn loan_is_out() -> Failure {
    let text = "a message of this sender is being written: wigwag_sender_commit() or wigwag_sender_discard() it first";
    Failure::interface(wigwag_code::WIGWAG_ERR_IN_USE, text)
}

/// Connects to the receiver of a name, of this user.
///
/// `sender`: where the handle goes; wigwag_sender_close() or wigwag_sender_free() ends it. The rest is as
/// wigwag_client_connect() has it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_connect(
    name: *const c_char,
    options: *const wigwag_connect_options,
    sender: *mut *mut wigwag_sender,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(sender, "sender")?;
        let builder = Sender::builder().options(connect_options(options)?);
        place.put(given::give(SenderState::new(builder.connect(given::name(name)?)?)));
        Ok(())
    })
}

/// Another sender to the same queue with the same options: for another thread.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_clone(
    sender: *const wigwag_sender,
    clone: *mut *mut wigwag_sender,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(clone, "clone")?;
        let another = alone(sender)?.sender.lend().try_clone()?;
        place.put(given::give(SenderState::new(another)));
        Ok(())
    })
}

/// Waits until everything that was sent is acknowledged, as long as a receiver lives, and ends the sender.
///
/// The handle is none any more, whatever comes of it, unless the code is `WIGWAG_ERR_INVALID_HANDLE`,
/// `WIGWAG_ERR_IN_USE` or `WIGWAG_ERR_NULL`. Fails as wigwag_sender_send(): what was not acknowledged is then received
/// if the receiver lives, and lost if it does not.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_close(sender: *mut wigwag_sender, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        drop(alone(sender)?);
        let SenderState { sender, .. } = given::take(sender)?;
        Ok(sender.into_inner().close()?)
    })
}

/// Ends a sender, or does nothing with NULL. It waits until everything is acknowledged within `options->linger_ns`, and
/// tells nobody what came of it. A message that was being written is not sent.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_free(sender: *mut wigwag_sender) -> c_int {
    free_handle(sender)
}

/// The longest message in bytes; 0 of what is no sender.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_capacity(sender: *const wigwag_sender) -> usize {
    guarded_value(0, || Ok(alone(sender)?.sender.lend().capacity()))
}

/// How many messages can be under way: sent and not acknowledged; 0 of what is no sender.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_slots(sender: *const wigwag_sender) -> usize {
    guarded_value(0, || Ok(alone(sender)?.sender.lend().slots()))
}

/// Sends a copy of a message. While the queue is full it waits for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 not to
/// wait, neither for room nor for a receiver.
///
/// Each error says that this message was not sent; what was sent before is kept. Fails with
/// `WIGWAG_ERR_CAPACITY_EXCEEDED`, `WIGWAG_ERR_FULL` (of 0), `WIGWAG_ERR_TIMED_OUT`; `WIGWAG_ERR_NOT_RUNNING` when the
/// receiver is gone and no other took its place: the next call looks again; `WIGWAG_ERR_REFUSED`,
/// `WIGWAG_ERR_CONTRACT_MISMATCH` by its successor; `WIGWAG_ERR_VIOLATION`, for good; `WIGWAG_ERR_FORKED`,
/// `WIGWAG_ERR_IO`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_send(
    sender: *mut wigwag_sender,
    message: *const c_void,
    len: usize,
    timeout_ns: i64,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let message = given::bytes(message, len)?;
        let mut inside = alone(sender)?;
        let sender = inside.sender.lend_alone();
        match Patience::of(timeout_ns) {
            Patience::Forever => sender.send(message)?,
            Patience::Now => sender.try_send(message)?,
            Patience::For(time) => sender.send_timeout(message, time)?,
        }
        Ok(())
    })
}

/// Bytes of yours.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_bytes {
    /// Where they are; NULL if there are none.
    pub data: *const c_void,
    /// How many.
    pub len: usize,
}

/// Sends copies of many messages, and wakes the receiver once for all of them. It waits for room as long as it takes.
///
/// `sent`: how many were sent, also if this fails; NULL if that is not wanted. Fails as wigwag_sender_send().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_send_batch(
    sender: *mut wigwag_sender,
    messages: *const wigwag_bytes,
    count: usize,
    sent: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        given::put_if_wanted(sent, 0);
        let messages = given::array(messages, count, "messages")?;
        let messages: Vec<&[u8]> =
            messages.iter().map(|message| given::bytes(message.data, message.len)).collect::<Result<_>>()?;
        let mut inside = alone(sender)?;
        let sender = inside.sender.lend_alone();
        let before = sender.stats().sent;
        let outcome = sender.send_batch(messages);
        given::put_if_wanted(sent, (sender.stats().sent - before) as usize);
        outcome?;
        Ok(())
    })
}

/// Borrows `len` bytes of the queue's own memory, to write a message where it will be read: no copy. While the queue is
/// full it waits for up to `timeout_ns`, as wigwag_sender_send() does.
///
/// `data`: where the address of the bytes goes, which are what a former message left there, zero at first. They are
/// valid until wigwag_sender_commit() or wigwag_sender_discard(): one of these must follow, and until then nothing else
/// can be done with this sender but to free it.
///
/// Fails as wigwag_sender_send().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_loan(
    sender: *mut wigwag_sender,
    len: usize,
    timeout_ns: i64,
    data: *mut *mut c_void,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(data, "data")?;
        let mut inside = alone(sender)?;
        let lending = inside.sender.lend_alone();
        let mut loan = match Patience::of(timeout_ns) {
            Patience::Forever => lending.loan(len)?,
            Patience::Now => lending.try_loan(len)?,
            Patience::For(time) => lending.loan_timeout(len, time)?,
        };
        place.put(loan.as_mut_ptr().cast());
        inside.loan = Some(loan);
        Ok(())
    })
}

fn no_loan() -> Failure {
    let text = "no message of this sender is being written: wigwag_sender_loan() begins one";
    Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text)
}

/// Sends the message that was written into what wigwag_sender_loan() lent.
///
/// Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if nothing is lent, and as wigwag_sender_send() if descriptors are
/// attached.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_commit(sender: *mut wigwag_sender, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        let loan = given::alone(sender)?.loan.take();
        Ok(loan.ok_or_else(no_loan)?.commit()?)
    })
}

/// Gives back what wigwag_sender_loan() lent, and sends nothing.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_discard(sender: *mut wigwag_sender) -> c_int {
    guarded(std::ptr::null_mut(), || given::alone(sender)?.loan.take().map(drop).ok_or_else(no_loan))
}

/// Attaches a duplicate of a file descriptor to the message that is being written; yours stays yours.
///
/// Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if none is, `WIGWAG_ERR_NOT_AGREED` unless both sides have asked for
/// descriptors, `WIGWAG_ERR_FULL`, `WIGWAG_ERR_IO`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_attach(sender: *mut wigwag_sender, fd: c_int, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        let mut inside = given::alone(sender)?;
        Ok(inside.loan.as_mut().ok_or_else(no_loan)?.attach(given::descriptor(fd)?)?)
    })
}

/// Waits until everything that was sent is acknowledged, for up to `timeout_ns`.
///
/// Fails with `WIGWAG_ERR_TIMED_OUT`, which says how many are not, and as wigwag_sender_send(). They are kept all the
/// same.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_flush(sender: *mut wigwag_sender, timeout_ns: i64, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        let time = match Patience::of(timeout_ns) {
            Patience::Forever => std::time::Duration::MAX,
            Patience::Now => std::time::Duration::ZERO,
            Patience::For(time) => time,
        };
        Ok(alone(sender)?.sender.lend_alone().flush(time)?)
    })
}

/// The descriptor that an event loop polls for reading on behalf of this sender, or a negative code. It is the
/// sender's: do not close it, and do not read from it. It stays the same for as long as the sender lives.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_fd(sender: *mut wigwag_sender, error: *mut wigwag_error) -> c_int {
    let mut fd = -1;
    let code = guarded(error, || {
        let mut inside = alone(sender)?;
        if inside.loop_descriptor.is_none() {
            let descriptor = inside.sender.lend_alone().try_clone_descriptor()?;
            inside.loop_descriptor = Some(descriptor);
        }
        fd = inside.loop_descriptor.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        Ok(())
    });
    if code == wigwag_code::WIGWAG_OK as c_int { fd } else { code }
}

/// What an event loop does when the sender's descriptor is readable, and before it waits for that. It never waits.
///
/// `has_room`: where 1 goes if a message can be sent; 0 if the queue is full, or no receiver is there: from then on the
/// descriptor becomes readable when it is worth to call this again, also for the next receiver. `unacknowledged`: where
/// the number of messages goes that are not acknowledged; NULL if it is not wanted. If it is and there are some, and a
/// message can be sent, the descriptor becomes readable when the newest is acknowledged.
///
/// Fails with `WIGWAG_ERR_NOT_RUNNING` once no other receiver has come within `options->server_timeout_ns`: the next
/// call looks again; `WIGWAG_ERR_REFUSED`, `WIGWAG_ERR_CONTRACT_MISMATCH` by the next receiver; `WIGWAG_ERR_FORKED`,
/// `WIGWAG_ERR_IO`, `WIGWAG_ERR_VIOLATION`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_process(
    sender: *mut wigwag_sender,
    has_room: *mut c_int,
    unacknowledged: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(has_room, "has_room")?;
        let mut inside = alone(sender)?;
        let sender = inside.sender.lend_alone();
        sender.take_events()?;
        let has_room = sender.has_room_or_arm()?;
        if !unacknowledged.is_null() {
            if has_room {
                sender.flush_or_arm()?;
            }
            given::put_if_wanted(unacknowledged, sender.unacknowledged());
        }
        place.put(has_room.into());
        Ok(())
    })
}

/// What a sender has counted since it connected: see wigwag_sender_statistics().
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_sender_stats {
    /// sizeof(wigwag_sender_stats), set by the caller.
    pub size: usize,
    /// Messages sent, each counted once.
    pub sent: u64,
    /// Of these, acknowledged.
    pub acknowledged: u64,
    /// Times a message that a receiver had been handed was sent again, to its successor.
    pub redelivered: u64,
    /// Messages that were not sent.
    pub refused: u64,
    /// Receivers found after one was gone.
    pub reconnects: u64,
    /// Times the receiver had to be rung for because it slept.
    pub doorbells_rung: u64,
    /// Times this sender slept until something was acknowledged.
    pub sleeps: u64,
}

given::plain!(wigwag_sender_stats);

/// What a sender has counted.
///
/// `stats`: a struct whose `size` is set; the rest is filled.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sender_statistics(
    sender: *const wigwag_sender,
    stats: *mut wigwag_sender_stats,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let SenderStats { sent, acknowledged, redelivered, refused, reconnects, doorbells_rung, sleeps, .. } =
            alone(sender)?.sender.lend().stats();
        let counted = wigwag_sender_stats {
            size: 0,
            sent,
            acknowledged,
            redelivered,
            refused,
            reconnects,
            doorbells_rung,
            sleeps,
        };
        given::fill(stats, counted, "stats")
    })
}
