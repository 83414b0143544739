//! The three states of a slot in C's hands: a loan to be filled, a pending call, a reply. They are one object, which
//! the client keeps and uses again, so that a call needs no memory.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use library::{Loan, Pending, Reply};

use crate::client::{ClientState, no_time};
use crate::code::wigwag_code;
use crate::descriptors::hand_out;
use crate::failure::{Failure, Result, guarded, guarded_value, wigwag_error};
use crate::given::{self, Alone, Object, Opaque, Place, Room, opaque};
use crate::time::Patience;

/// Memory that the server already has, borrowed to build a request there.
#[allow(non_camel_case_types)]
pub struct wigwag_loan([u8; 0]);

/// A call that is with the server.
#[allow(non_camel_case_types)]
pub struct wigwag_pending([u8; 0]);

/// The same memory, changed by the server.
#[allow(non_camel_case_types)]
pub struct wigwag_reply([u8; 0]);

// One object is all three, one after another: what it is at a time, its state says.
opaque! {
    wigwag_loan = Call, b"wwCall__";
    wigwag_pending = Call, b"wwCall__";
    wigwag_reply = Call, b"wwCall__";
}

/// What is behind them.
pub struct Call {
    /// Whose it is. That object is freed after this one.
    pub client: NonNull<Object<ClientState>>,
    /// What it is now: which of the rooms is full (A3).
    full: Full,
    loan: Room<Loan<'static>>,
    waiting: Room<Waiting>,
    reply: Room<Reply<'static>>,
    /// Of one that is not out: the next such one of its client.
    pub next: Option<NonNull<Object<Call>>>,
    /// C's own.
    user: *mut c_void,
}

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// Nothing: it waits to be used again.
    Nothing,
    Loan,
    Waiting,
    Reply,
}

/// A call that is with the server, as far as C knows.
enum Waiting {
    Pending(Pending<'static>),
    /// Found ready by an event loop, and not taken yet.
    Answered(Result<Reply<'static>>),
}

impl Call {
    /// One that is nothing yet.
    pub fn of(client: NonNull<Object<ClientState>>) -> Call {
        let user = std::ptr::null_mut();
        let (loan, waiting, reply) = (Room::EMPTY, Room::EMPTY, Room::EMPTY);
        Call { client, full: Full::Nothing, loan, waiting, reply, next: None, user }
    }

    /// It is a loan.
    #[inline(always)]
    pub fn put_loan(&mut self, loan: Loan<'static>) {
        self.full = Full::Loan;
        self.loan.put(loan);
    }

    /// It is a reply.
    #[inline(always)]
    pub fn put_reply(&mut self, reply: Reply<'static>) {
        self.full = Full::Reply;
        self.reply.put(reply);
    }

    fn put_waiting(&mut self, waiting: Waiting) {
        self.full = Full::Waiting;
        self.waiting.put(waiting);
    }

    /// Checks that it is what C has said, and empties it. The room that is meant is to be taken next.
    #[inline(always)]
    fn leave<O: Opaque>(&mut self, expected: Full) -> Result<()> {
        self.check::<O>(expected)?;
        self.full = Full::Nothing;
        Ok(())
    }

    #[inline(always)]
    fn check<O: Opaque>(&self, expected: Full) -> Result<()> {
        if self.full == expected { Ok(()) } else { Err(self.is_none_of::<O>()) }
    }

    #[cold]
    fn is_none_of<O: Opaque>(&self) -> Failure {
        let is = match self.full {
            Full::Nothing => "released",
            Full::Loan => "a wigwag_loan",
            Full::Waiting => "a wigwag_pending",
            Full::Reply => "a wigwag_reply",
        };
        let text = format!("this is no {}: it is {is}", O::NAME);
        Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_HANDLE, text)
    }

    /// For an event loop: whether the reply or the error is there; if not, the server rings when it is.
    pub fn is_ready_or_armed(&mut self) -> bool {
        if self.full != Full::Waiting {
            return false;
        }
        let Waiting::Pending(pending) = self.waiting.get() else { return true };
        // It may come, or its session end, between the look and the arming. One that is to go on at the next server,
        // which is not there yet, has neither: nobody rings for it, and it is looked at when the loop comes again.
        for _ in 0..3 {
            if let Some(outcome) = pending.try_wait() {
                *self.waiting.get() = Waiting::Answered(outcome.map_err(Failure::from));
                return true;
            }
            if pending.arm() {
                return false;
            }
        }
        false
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        match self.full {
            Full::Nothing => {}
            Full::Loan => drop(self.loan.take()),
            Full::Waiting => drop(self.waiting.take()),
            Full::Reply => drop(self.reply.take()),
        }
    }
}

/// A handle, and the call and the client that it is of: who is in the client is alone with all of its calls.
struct Inside<'o> {
    pointer: NonNull<Object<Call>>,
    call: &'o mut Call,
    client: Alone<'o, ClientState>,
}

impl<'o> Inside<'o> {
    #[inline(always)]
    fn of<O: Opaque<Inner = Call>>(handle: *const O) -> Result<Inside<'o>> {
        let pointer = NonNull::from(given::object(handle)?);
        let client = given::owned(given::inside(pointer).client).enter()?;
        Ok(Inside { pointer, call: given::inside(pointer), client })
    }

    /// The reply is there, and C has it.
    #[inline(always)]
    fn answered(
        &mut self,
        mut answer: Reply<'static>,
        place: Place<*mut wigwag_reply>,
        data: *mut *mut c_void,
        len: *mut usize,
    ) {
        given::put_if_wanted(data, answer.as_mut_ptr().cast());
        given::put_if_wanted(len, answer.len());
        self.call.put_reply(answer);
        place.put(self.pointer.as_ptr().cast());
    }

    /// The call has failed, and is over.
    #[cold]
    fn failed(self, failure: Failure) -> Failure {
        self.rest();
        failure
    }

    /// The call is over, and its object is used again.
    #[inline(always)]
    fn rest(self) {
        let Inside { pointer, call, mut client } = self;
        let client_pointer = call.client;
        let is_last = client.rest(pointer);
        drop(client);
        if is_last {
            end_client(client_pointer);
        }
    }
}

#[cold]
fn end_client(client: NonNull<Object<ClientState>>) {
    given::free_object(client);
}

/// Passes a loan to the server and waits for the reply: the same memory, changed.
///
/// The loan is a loan no more, whatever comes of it, unless the code is `WIGWAG_ERR_INVALID_HANDLE`,
/// `WIGWAG_ERR_IN_USE`, `WIGWAG_ERR_NULL` or `WIGWAG_ERR_INVALID_ARGUMENT`. `timeout_ns`: how long to wait;
/// `WIGWAG_FOREVER`. The server learns of it. `reply`: where the handle of the reply goes; wigwag_reply_release() or
/// wigwag_reply_into_loan() ends it. `reply_data`, `reply_len`: where the bytes of the reply are and how many; NULL if
/// they are not wanted. They are valid until the reply is ended.
///
/// Fails with `WIGWAG_ERR_TIMED_OUT`, `WIGWAG_ERR_PEER_DIED` and `WIGWAG_ERR_SERVER_CLOSED`, for which
/// wigwag_error_maybe_executed() says whether the request may have been executed; `WIGWAG_ERR_HANDLER_FAILED`,
/// `WIGWAG_ERR_HANDLER_PANICKED`, `WIGWAG_ERR_UNANSWERED`, `WIGWAG_ERR_VIOLATION`, `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_loan_call(
    loan: *mut wigwag_loan,
    timeout_ns: i64,
    reply: *mut *mut wigwag_reply,
    reply_data: *mut *mut c_void,
    reply_len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(reply, "reply")?;
        let mut inside = Inside::of(loan)?;
        if timeout_ns >= 0 {
            return call_within(inside, timeout_ns, place, reply_data, reply_len);
        }
        // The usual one by itself: what it takes and puts stays in registers.
        inside.call.leave::<wigwag_loan>(Full::Loan)?;
        match inside.call.loan.take().call() {
            Ok(answer) => {
                inside.answered(answer, place, reply_data, reply_len);
                Ok(())
            }
            Err(error) => Err(inside.failed(error.into())),
        }
    })
}

#[cold]
fn call_within(
    mut inside: Inside<'_>,
    timeout_ns: i64,
    place: Place<*mut wigwag_reply>,
    reply_data: *mut *mut c_void,
    reply_len: *mut usize,
) -> Result<()> {
    let Patience::For(time) = Patience::of(timeout_ns) else { return Err(no_time()) };
    inside.call.leave::<wigwag_loan>(Full::Loan)?;
    match inside.call.loan.take().call_timeout(time) {
        Ok(answer) => {
            inside.answered(answer, place, reply_data, reply_len);
            Ok(())
        }
        Err(error) => Err(inside.failed(error.into())),
    }
}

/// Passes a loan to the server and returns at once. The reply is waited for later: by wigwag_pending_wait(), or by an
/// event loop with wigwag_client_fd() and wigwag_client_process().
///
/// The loan is a loan no more, as with wigwag_loan_call().
/// `pending`: where the handle of the call goes; wigwag_pending_wait() or wigwag_pending_abandon() ends it.
///
/// Fails with `WIGWAG_ERR_PEER_DIED`, `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_VIOLATION`, `WIGWAG_ERR_FORKED`: the
/// request was not sent.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_loan_send(
    loan: *mut wigwag_loan,
    pending: *mut *mut wigwag_pending,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(pending, "pending")?;
        let inside = Inside::of(loan)?;
        inside.call.leave::<wigwag_loan>(Full::Loan)?;
        match inside.call.loan.take().send() {
            Ok(pending) => {
                inside.call.user = std::ptr::null_mut();
                inside.call.put_waiting(Waiting::Pending(pending));
                place.put(inside.pointer.as_ptr().cast());
                Ok(())
            }
            Err(error) => Err(inside.failed(error.into())),
        }
    })
}

/// Gives a loan back without sending it, or does nothing with NULL.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_loan_release(loan: *mut wigwag_loan) -> c_int {
    end(loan, Full::Loan, |call| drop(call.loan.take()))
}

/// Attaches a duplicate of a file descriptor to a request; yours stays yours.
///
/// Fails with `WIGWAG_ERR_NOT_AGREED` unless both sides have asked for descriptors, `WIGWAG_ERR_FULL`, `WIGWAG_ERR_IO`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_loan_attach(loan: *mut wigwag_loan, fd: c_int, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        let inside = Inside::of(loan)?;
        inside.call.check::<wigwag_loan>(Full::Loan)?;
        Ok(inside.call.loan.get().attach(given::descriptor(fd)?)?)
    })
}

/// Waits for the reply of a call for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 to look whether it is there.
///
/// `WIGWAG_ERR_WOULD_BLOCK` (of 0) and `WIGWAG_ERR_TIMED_OUT` with wigwag_error_maybe_executed(): it is not there yet,
/// the call goes on, and may be waited for again. Otherwise the pending is a pending no more.
/// `reply`, `reply_data`, `reply_len`, and the other errors: as wigwag_loan_call() has them.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_pending_wait(
    pending: *mut wigwag_pending,
    timeout_ns: i64,
    reply: *mut *mut wigwag_reply,
    reply_data: *mut *mut c_void,
    reply_len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(reply, "reply")?;
        let mut inside = Inside::of(pending)?;
        inside.call.leave::<wigwag_pending>(Full::Waiting)?;
        let outcome = match inside.call.waiting.take() {
            Waiting::Answered(outcome) => outcome,
            Waiting::Pending(mut pending) => {
                let outcome = match Patience::of(timeout_ns) {
                    Patience::Forever => Some(pending.wait()),
                    patience => {
                        let outcome = match patience {
                            Patience::For(time) => pending.wait_timeout(time),
                            _ => pending.try_wait(),
                        };
                        if outcome.is_none() {
                            inside.call.put_waiting(Waiting::Pending(pending));
                        }
                        outcome
                    }
                };
                outcome.ok_or_else(|| not_yet(timeout_ns))?.map_err(Failure::from)
            }
        };
        match outcome {
            Ok(answer) => {
                inside.answered(answer, place, reply_data, reply_len);
                Ok(())
            }
            Err(failure) => Err(inside.failed(failure)),
        }
    })
}

#[cold]
fn not_yet(timeout_ns: i64) -> Failure {
    match timeout_ns {
        0 => Failure::WouldBlock(&"the reply is not there yet"),
        _ => Failure::interface(wigwag_code::WIGWAG_ERR_TIMED_OUT, "the reply did not come within the time allowed"),
    }
}

/// Gives a call up, or does nothing with NULL: the server learns of it, may execute it all the same, and nobody gets
/// the reply.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_pending_abandon(pending: *mut wigwag_pending) -> c_int {
    end(pending, Full::Waiting, |call| drop(call.waiting.take()))
}

/// Remembers a pointer of yours with a call, for whoever finds the call by wigwag_client_process().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_pending_set_user(pending: *mut wigwag_pending, user: *mut c_void) -> c_int {
    guarded(std::ptr::null_mut(), || {
        Inside::of(pending)?.call.user = user;
        Ok(())
    })
}

/// The pointer that was remembered with a call, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_pending_user(pending: *const wigwag_pending) -> *mut c_void {
    guarded_value(std::ptr::null_mut(), || Ok(Inside::of(pending)?.call.user))
}

/// Ends a reply, whose bytes are valid no more, or does nothing with NULL.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_reply_release(reply: *mut wigwag_reply) -> c_int {
    end(reply, Full::Reply, |call| drop(call.reply.take()))
}

/// Makes a reply the next request, of `len` bytes, without copying: what is in it stays where it is, unless the new
/// length moves it between a slot's line and its body (48 bytes).
///
/// The reply is a reply no more, as with wigwag_loan_call(). `loan`, `data`: as wigwag_client_loan() has them.
///
/// Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`, `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_reply_into_loan(
    reply: *mut wigwag_reply,
    len: usize,
    loan: *mut *mut wigwag_loan,
    data: *mut *mut c_void,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(loan, "loan")?;
        let data = given::place(data, "data")?;
        let inside = Inside::of(reply)?;
        inside.call.leave::<wigwag_reply>(Full::Reply)?;
        match inside.call.reply.take().into_loan(len) {
            Ok(mut lent) => {
                data.put(lent.as_mut_ptr().cast());
                inside.call.put_loan(lent);
                place.put(inside.pointer.as_ptr().cast());
                Ok(())
            }
            Err(error) => Err(inside.failed(error.into())),
        }
    })
}

/// Takes the file descriptors that came with a reply, once: they are yours to close.
///
/// `fds`: room for `capacity` of them, at least `WIGWAG_DESCRIPTORS_MAX`. `count`: where their number goes.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_reply_take_descriptors(
    reply: *mut wigwag_reply,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let inside = Inside::of(reply)?;
        inside.call.check::<wigwag_reply>(Full::Reply)?;
        hand_out(fds, capacity, count, || Ok(inside.call.reply.get().take_descriptors()))
    })
}

#[inline(always)]
fn end<O: Opaque<Inner = Call>>(handle: *mut O, expected: Full, empty: impl FnOnce(&mut Call)) -> c_int {
    if handle.is_null() {
        return wigwag_code::WIGWAG_OK as c_int;
    }
    guarded(std::ptr::null_mut(), || {
        let inside = Inside::of(handle)?;
        inside.call.leave::<O>(expected)?;
        empty(inside.call);
        inside.rest();
        Ok(())
    })
}
