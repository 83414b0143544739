//! The publisher of a broadcast.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use library::{ErrorKind, Publication, Publisher, PublisherStats, SubscriberState};

use crate::code::wigwag_code;
use crate::failure::{Failure, Result, free_handle, guarded, guarded_value, wigwag_error};
use crate::given::{self, Alone, Kept, User, opaque};
use crate::options::{publisher_builder, wigwag_listen_options};
use crate::peer::wigwag_peer;
use crate::stop::wigwag_stop;
use crate::time::Patience;

/// A publisher: it owns a name, and its messages go to all who listen there, each of whom reads them in place. It does
/// not know whether somebody does, and a subscriber that is slow, stopped or dead costs it nothing, but with
/// `WIGWAG_OVERRUN_WAIT`.
///
/// One thread at a time may use a publisher. wigwag_stop ends one from any thread.
#[allow(non_camel_case_types)]
pub struct wigwag_publisher([u8; 0]);

opaque! { wigwag_publisher = PublisherInside, b"wwPublis"; }

/// What is behind it.
pub struct PublisherInside {
    /// Borrows from `publisher`: it is dropped first. A short message lies in it until it is published, so it has a
    /// place of its own, which nobody touches while C writes there.
    loan: Kept<Option<Publication<'static>>>,
    is_lent: bool,
    publisher: Kept<Publisher>,
    path: CString,
}

/// A publisher of which no loan is out.
#[inline(always)]
fn alone<'o>(publisher: *const wigwag_publisher) -> Result<Alone<'o, PublisherInside>> {
    let inside = given::alone(publisher)?;
    if inside.is_lent {
        return Err(loan_is_out());
    }
    Ok(inside)
}

#[cold]
fn loan_is_out() -> Failure {
    let text = "a message of this publisher is being written: wigwag_publisher_commit() or wigwag_publisher_discard() \
                it first";
    Failure::interface(wigwag_code::WIGWAG_ERR_IN_USE, text)
}

#[cold]
fn no_loan() -> Failure {
    let text = "no message of this publisher is being written: wigwag_publisher_loan() begins one";
    Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text)
}

/// Takes a name, and begins to let subscribers in.
///
/// `publisher`: where the handle goes; wigwag_publisher_free() ends it. The rest is as wigwag_server_bind() has it. Of
/// the options `history`, `capacity`, `slots`, `max_holds`, `overrun` and `patience_ns` say how much is kept, for whom,
/// and what is done for who is slow.
///
/// Fails as wigwag_server_bind(), and with `WIGWAG_ERR_INVALID_CONFIGURATION` if what is to be kept is more memory than
/// `max_bytes_total` allows.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_bind(
    name: *const c_char,
    options: *const wigwag_listen_options,
    publisher: *mut *mut wigwag_publisher,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(publisher, "publisher")?;
        let name = given::name(name)?;
        let bound = publisher_builder(options)?.bind(name)?;
        let path = CString::new(bound.path().as_os_str().as_bytes()).unwrap_or_default();
        let publisher = Kept::new(bound);
        place.put(given::give(PublisherInside { loan: Kept::new(None), is_lent: false, publisher, path }));
        Ok(())
    })
}

/// Ends a broadcast in good order, or does nothing with NULL: the name is free when this returns, and subscribers read
/// what they have not read yet and get `WIGWAG_ERR_ENDED`. A message that was being written is not published.
///
/// Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_free(publisher: *mut wigwag_publisher) -> c_int {
    free_handle(publisher)
}

/// Publishes a copy of a message. With `WIGWAG_OVERRUN_WAIT` it waits until the message has room, for up to
/// `timeout_ns`: `WIGWAG_FOREVER` is as long as the publisher's patience lasts, 0 does not wait. Without it none waits.
///
/// `sequence`: where the message's number goes; NULL if that is not wanted. The first message has 1, and each has one
/// more than the one before.
///
/// A subscriber that dies makes room within milliseconds, and is no error. Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`;
/// `WIGWAG_ERR_FULL` (of 0, or of a patience of 0) and `WIGWAG_ERR_TIMED_OUT` if a subscriber has not made room;
/// `WIGWAG_ERR_SERVER_CLOSED` after wigwag_stop_shutdown(), or if another publisher has taken the name;
/// `WIGWAG_ERR_FORKED`, `WIGWAG_ERR_IO`. Nothing is published then.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_send(
    publisher: *mut wigwag_publisher,
    message: *const c_void,
    len: usize,
    timeout_ns: i64,
    sequence: *mut u64,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let message = given::bytes(message, len)?;
        let mut inside = alone(publisher)?;
        let publisher = inside.publisher.lend_alone();
        let number = match Patience::of(timeout_ns) {
            Patience::Forever => publisher.send(message)?,
            Patience::Now => publisher.try_send(message)?,
            Patience::For(time) => publisher.send_timeout(message, time)?,
        };
        given::put_if_wanted(sequence, number);
        Ok(())
    })
}

/// Borrows `len` bytes, to write a message where all subscribers will read it: no copy. One of up to 48 bytes is copied
/// once more when it is published. It waits for room as wigwag_publisher_send() does.
///
/// `data`: where the address of the bytes goes, aligned to 16. What lies there is anything, such as parts of earlier
/// messages: write all of it. They are valid until wigwag_publisher_commit() or wigwag_publisher_discard(): one of
/// these must follow, and until then nothing else can be done with this publisher but to free it.
///
/// Fails as wigwag_publisher_send().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_loan(
    publisher: *mut wigwag_publisher,
    len: usize,
    timeout_ns: i64,
    data: *mut *mut c_void,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(data, "data")?;
        let mut inside = alone(publisher)?;
        let lending = inside.publisher.lend_alone();
        let loan = match Patience::of(timeout_ns) {
            Patience::Forever => lending.loan(len)?,
            Patience::Now => lending.try_loan(len)?,
            Patience::For(time) => lending.loan_timeout(len, time)?,
        };
        inside.is_lent = true;
        place.put(inside.loan.lend_alone().insert(loan).as_mut_ptr().cast());
        Ok(())
    })
}

/// Publishes the message that was written into what wigwag_publisher_loan() lent: from here on every subscriber may
/// read it, whatever happens to this process. It does not wait.
///
/// `sequence`: as wigwag_publisher_send() has it. Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if nothing is lent;
/// `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_FORKED`: the loan is over then, too, and nothing is published.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_commit(
    publisher: *mut wigwag_publisher,
    sequence: *mut u64,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let number = returned(publisher)?.commit()?;
        given::put_if_wanted(sequence, number);
        Ok(())
    })
}

/// Gives back what wigwag_publisher_loan() lent, and publishes nothing.
///
/// Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if nothing is lent.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_discard(publisher: *mut wigwag_publisher) -> c_int {
    guarded(std::ptr::null_mut(), || returned(publisher).map(drop))
}

/// The loan that C gives back.
fn returned(publisher: *mut wigwag_publisher) -> Result<Publication<'static>> {
    let mut inside = given::alone(publisher)?;
    if !std::mem::take(&mut inside.is_lent) {
        return Err(no_loan());
    }
    inside.loan.lend_alone().take().ok_or_else(no_loan)
}

/// Waits until at least `count` subscribers are there, for up to `timeout_ns`.
///
/// Fails with `WIGWAG_ERR_TIMED_OUT`, which says how many there are; `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_FORKED`,
/// `WIGWAG_ERR_IO`. Those that die no longer count once the kernel says so.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_wait_for_subscribers(
    publisher: *mut wigwag_publisher,
    count: usize,
    timeout_ns: i64,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let time = match Patience::of(timeout_ns) {
            Patience::Forever => Duration::MAX,
            Patience::Now => Duration::ZERO,
            Patience::For(time) => time,
        };
        Ok(alone(publisher)?.publisher.lend_alone().wait_for_subscribers(count, time)?)
    })
}

/// The descriptor that an event loop polls for reading on behalf of this publisher, or a negative code. It is the
/// publisher's: do not close it, and do not read from it. It stays the same for as long as the publisher lives.
///
/// Once it is readable, call wigwag_publisher_process(). Call that once before the first poll, too.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_fd(publisher: *mut wigwag_publisher, error: *mut wigwag_error) -> c_int {
    let mut fd = -1;
    let code = guarded(error, || {
        fd = alone(publisher)?.publisher.lend().as_fd().as_raw_fd();
        Ok(())
    });
    if code == wigwag_code::WIGWAG_OK as c_int { fd } else { code }
}

/// What an event loop does when the publisher's descriptor is readable. It never waits.
///
/// `has_room`: where 1 goes if a message has room, which without `WIGWAG_OVERRUN_WAIT` each has; 0 if a subscriber has
/// to read first: then the descriptor becomes readable when one has. `subscribers`: where their number goes; NULL if it
/// is not wanted. The descriptor becomes readable when one comes or goes.
///
/// Fails with `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_FORKED`, `WIGWAG_ERR_IO`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_process(
    publisher: *mut wigwag_publisher,
    has_room: *mut c_int,
    subscribers: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(has_room, "has_room")?;
        let mut inside = alone(publisher)?;
        let publisher = inside.publisher.lend_alone();
        // Takes in what rang. What makes room after that rings again, and the second look asks for it.
        publisher.wait_for_subscribers(0, Duration::ZERO)?;
        let has_room = match publisher.try_loan(0) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::Full => false,
            Err(error) => return Err(error.into()),
        };
        given::put_if_wanted(subscribers, publisher.stats().subscribers);
        place.put(has_room.into());
        Ok(())
    })
}

/// A handle by which other threads end this publisher; wigwag_stop_free() frees it. After a shutdown the name is free,
/// nobody subscribes any more, and each call of the publisher, also one that waits, gives `WIGWAG_ERR_SERVER_CLOSED`.
/// Subscribers are told by wigwag_publisher_free().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_stop(
    publisher: *const wigwag_publisher,
    stop: *mut *mut wigwag_stop,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(stop, "stop")?;
        place.put(given::give(alone(publisher)?.publisher.lend().shutdown_handle()));
        Ok(())
    })
}

/// Where the publisher's socket is, valid until the publisher is freed; NULL of what is no publisher.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_path(publisher: *const wigwag_publisher) -> *const c_char {
    guarded_value(std::ptr::null(), || Ok(given::alone(publisher)?.path.as_ptr()))
}

/// What a publisher has counted since it was bound: see wigwag_publisher_statistics().
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_publisher_stats {
    /// sizeof(wigwag_publisher_stats), set by the caller.
    pub size: usize,
    /// Messages published.
    pub published: u64,
    /// Subscribers just now.
    pub subscribers: u64,
    /// Subscribers that slept and were rung by the publishing thread.
    pub rung: u64,
    /// Messages for which a thread of its own was given the sleepers to wake, because they were many.
    pub handed_over: u64,
    /// Looks at what all subscribers hold.
    pub scans: u64,
    /// Subscribers that were cut off, because the publisher's patience was over.
    pub cut_off: u64,
}

given::plain!(wigwag_publisher_stats);

/// What a publisher has counted.
///
/// `stats`: a struct whose `size` is set; the rest is filled.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_statistics(
    publisher: *const wigwag_publisher,
    stats: *mut wigwag_publisher_stats,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let PublisherStats { published, subscribers, rung, handed_over, scans, cut_off, .. } =
            alone(publisher)?.publisher.lend().stats();
        let subscribers = subscribers as u64;
        let counted = wigwag_publisher_stats { size: 0, published, subscribers, rung, handed_over, scans, cut_off };
        given::fill(stats, counted, "stats")
    })
}

/// One subscriber, as its publisher sees it: see wigwag_publisher_subscribers(). What one of another user says of
/// itself may be anything.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_subscriber_state {
    /// sizeof(wigwag_subscriber_state) of the library: fields behind those that you know may follow.
    pub size: usize,
    /// Who it is.
    pub peer: wigwag_peer,
    /// 1 if it is of the publisher's user.
    pub is_same_user: c_int,
    /// Messages that were published and that it has not taken.
    pub lag: u64,
    /// Messages that it took.
    pub received: u64,
    /// Messages that it has lost.
    pub lost: u64,
    /// How many messages it may hold at a time.
    pub may_hold: usize,
    /// How many it holds.
    pub holds: usize,
    /// 1 while it sleeps.
    pub is_asleep: c_int,
}

impl From<SubscriberState> for wigwag_subscriber_state {
    fn from(state: SubscriberState) -> wigwag_subscriber_state {
        wigwag_subscriber_state {
            size: size_of::<wigwag_subscriber_state>(),
            peer: state.peer.into(),
            is_same_user: state.is_same_user.into(),
            lag: state.lag,
            received: state.received,
            lost: state.lost,
            may_hold: state.may_hold,
            holds: state.holds,
            is_asleep: state.is_asleep.into(),
        }
    }
}

/// Called for each subscriber: with what is seen of it, valid until it returns, and the pointer that
/// wigwag_publisher_subscribers() was given. Returns 0 to go on, anything else to end. It must return.
#[allow(non_camel_case_types)]
pub type wigwag_subscriber_visitor =
    Option<extern "C" fn(subscriber: *const wigwag_subscriber_state, user: *mut c_void) -> c_int>;

/// Visits those who listen just now; none, in a child after fork(). The publisher must not be used meanwhile.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_publisher_subscribers(
    publisher: *const wigwag_publisher,
    visitor: wigwag_subscriber_visitor,
    user: *mut c_void,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let Some(visitor) = visitor else {
            return Err(Failure::interface(wigwag_code::WIGWAG_ERR_NULL, "the visitor is NULL"));
        };
        let user = User(user);
        let inside = alone(publisher)?;
        for state in inside.publisher.lend().subscribers() {
            if visitor(&wigwag_subscriber_state::from(state), user.0) != 0 {
                break;
            }
        }
        Ok(())
    })
}
