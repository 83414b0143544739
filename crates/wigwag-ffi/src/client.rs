//! The client of an exchange, and the calls that it has out.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsFd;
use std::ptr::NonNull;

use library::{Client, ClientStats};

use crate::call::{Call, wigwag_loan, wigwag_pending, wigwag_reply};
use crate::code::wigwag_code;
use crate::failure::{Failure, Result, guarded, guarded_value, wigwag_error};
use crate::given::{self, Alone, Kept, Object, Opaque, Place, opaque};
use crate::loop_descriptor::LoopDescriptor;
use crate::options::{connect_options, wigwag_connect_options};
use crate::time::Patience;

/// A client: a session with a server, with memory that only the two share. It asks, and gets back what it asked with,
/// changed.
///
/// One thread at a time may use a client and all loans, pendings and replies of it: they are one thing. It may be
/// another thread each time. Threads that call at the same time have a client each (wigwag_client_clone()).
#[allow(non_camel_case_types)]
pub struct wigwag_client([u8; 0]);

opaque! { wigwag_client = ClientState, b"wwClient"; }

/// What is behind it.
pub struct ClientState {
    client: Kept<Client>,
    /// All calls that there ever were at a time; those that are not out are used again.
    calls: Vec<NonNull<Object<Call>>>,
    /// The first of those that are not out; each knows the next.
    resting: Option<NonNull<Object<Call>>>,
    calls_out: usize,
    loop_descriptor: Option<LoopDescriptor>,
    /// Which call an event loop looks at next.
    looked_at: usize,
    is_freed: bool,
}

impl ClientState {
    fn new(client: Client) -> ClientState {
        ClientState {
            client: Kept::new(client),
            calls: Vec::new(),
            resting: None,
            calls_out: 0,
            loop_descriptor: None,
            looked_at: 0,
            is_freed: false,
        }
    }

    /// A call of this client's, to be filled. `object` is this client's.
    #[inline(always)]
    pub fn rested(&mut self, object: NonNull<Object<ClientState>>) -> NonNull<Object<Call>> {
        self.calls_out += 1;
        match self.resting {
            Some(call) => {
                self.resting = given::inside(call).next.take();
                call
            }
            None => self.another_call(object),
        }
    }

    #[cold]
    fn another_call(&mut self, object: NonNull<Object<ClientState>>) -> NonNull<Object<Call>> {
        let call = NonNull::from(Box::leak(Box::new(Object::new(wigwag_loan::MAGIC, Call::of(object)))));
        self.calls.push(call);
        call
    }

    /// A call is over. Whether the client is, too: it was freed before.
    #[inline(always)]
    pub fn rest(&mut self, call: NonNull<Object<Call>>) -> bool {
        given::inside(call).next = self.resting.replace(call);
        self.calls_out -= 1;
        self.is_freed && self.calls_out == 0
    }

    /// The session may be another one after any call.
    fn watch(&mut self) -> Result<()> {
        match &mut self.loop_descriptor {
            Some(descriptor) => descriptor.watch(self.client.lend().as_fd()),
            None => Ok(()),
        }
    }

    /// A call that has its reply or its error; all others ring.
    fn ready(&mut self) -> Option<NonNull<Object<Call>>> {
        for _ in 0..self.calls.len() {
            self.looked_at = (self.looked_at + 1) % self.calls.len();
            let call = self.calls[self.looked_at];
            if given::inside(call).is_ready_or_armed() {
                return Some(call);
            }
        }
        None
    }
}

impl Drop for ClientState {
    fn drop(&mut self) {
        self.calls.drain(..).for_each(given::free_object); // none is out: nothing borrows from the client
    }
}

fn object(client: *const wigwag_client) -> Result<(&'static Object<ClientState>, NonNull<Object<ClientState>>)> {
    let object = given::object(client)?;
    Ok((object, NonNull::from(object)))
}

/// Connects to a server of this user.
///
/// `name`: of the server, as its owner has bound it; a path that begins with "/", "./" or "../" is taken as it is.
/// `options`: NULL for all defaults. `client`: where the handle goes; wigwag_client_free() ends it.
///
/// It waits for the server to answer for up to 5 seconds, or `options->timeout_ns`.
///
/// Fails with `WIGWAG_ERR_NOT_RUNNING`, `WIGWAG_ERR_REFUSED`, `WIGWAG_ERR_BUSY`, `WIGWAG_ERR_CONTRACT_MISMATCH`,
/// `WIGWAG_ERR_VERSION_MISMATCH`, `WIGWAG_ERR_TIMED_OUT`, `WIGWAG_ERR_PEER_DIED`, and what is wrong with a name.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_connect(
    name: *const c_char,
    options: *const wigwag_connect_options,
    client: *mut *mut wigwag_client,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(client, "client")?;
        let builder = Client::builder().options(connect_options(options)?);
        place.put(given::give(ClientState::new(builder.connect(given::name(name)?)?)));
        Ok(())
    })
}

/// Another session with the same server and the same options: for another thread, or after the server has ended.
///
/// Fails as wigwag_client_connect().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_clone(
    client: *const wigwag_client,
    clone: *mut *mut wigwag_client,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(clone, "clone")?;
        let another = given::alone(client)?.client.lend().try_clone()?;
        place.put(given::give(ClientState::new(another)));
        Ok(())
    })
}

/// Ends a client, or does nothing with NULL. The session ends once the last loan, pending and reply of it is released,
/// which may come later; until then these can be used as before.
///
/// Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_free(client: *mut wigwag_client) -> c_int {
    if client.is_null() {
        return wigwag_code::WIGWAG_OK as c_int;
    }
    guarded(std::ptr::null_mut(), || {
        let (known, _) = object(client)?;
        let mut inside = known.enter()?;
        if inside.calls_out > 0 {
            inside.is_freed = true;
            known.retire();
            return Ok(());
        }
        drop(inside);
        given::take(client).map(drop)
    })
}

/// The largest payload in bytes, request or reply; 0 of what is no client.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_capacity(client: *const wigwag_client) -> usize {
    guarded_value(0, || Ok(given::alone(client)?.client.lend().capacity()))
}

/// How many calls can be out at a time; 0 of what is no client.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_slots(client: *const wigwag_client) -> usize {
    guarded_value(0, || Ok(given::alone(client)?.client.lend().slots()))
}

/// Borrows `len` bytes of memory that the server already has, to build a request there: no copy.
///
/// `data`: where the address of the bytes goes, which are what a former call left there, zero at first. Up to 48 bytes
/// are aligned to 16, more to 4096. They are valid until the loan is given to wigwag_loan_call(), wigwag_loan_send() or
/// wigwag_loan_release(): one of these must follow.
///
/// While all slots are out it waits for one that an abandoned call gives back, for up to `timeout_ns`:
/// `WIGWAG_FOREVER`, or 0 not to wait.
///
/// Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`; `WIGWAG_ERR_FULL` when all slots are held, so that waiting would never
/// end; `WIGWAG_ERR_TIMED_OUT`; `WIGWAG_ERR_PEER_DIED`, `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_loan(
    client: *mut wigwag_client,
    len: usize,
    timeout_ns: i64,
    loan: *mut *mut wigwag_loan,
    data: *mut *mut c_void,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(loan, "loan")?;
        let data = given::place(data, "data")?;
        let (known, pointer) = object(client)?;
        let mut inside = known.enter()?;
        // The usual one by itself: what it lends stays in registers.
        let mut lent = match timeout_ns {
            ..0 => inside.client.lend().loan(len)?,
            _ => return loan_soon(inside, pointer, len, timeout_ns, place, data),
        };
        data.put(lent.as_mut_ptr().cast());
        let call = inside.rested(pointer);
        given::inside(call).put_loan(lent);
        place.put(call.as_ptr().cast());
        Ok(())
    })
}

#[cold]
fn loan_soon(
    mut inside: Alone<'_, ClientState>,
    pointer: NonNull<Object<ClientState>>,
    len: usize,
    timeout_ns: i64,
    place: Place<*mut wigwag_loan>,
    data: Place<*mut c_void>,
) -> Result<()> {
    let client = inside.client.lend();
    let mut lent = match Patience::of(timeout_ns) {
        Patience::For(time) => client.loan_timeout(len, time)?,
        _ => client.try_loan(len)?,
    };
    data.put(lent.as_mut_ptr().cast());
    let call = inside.rested(pointer);
    given::inside(call).put_loan(lent);
    place.put(call.as_ptr().cast());
    Ok(())
}

/// Copies a request in, calls, and gives the reply: the short form of wigwag_client_loan(), memcpy() and
/// wigwag_loan_call().
///
/// `timeout_ns`: for all of it; `WIGWAG_FOREVER`, or 0 to look once.
/// `reply`: where the handle of the reply goes; wigwag_reply_release() ends it. `reply_data`, `reply_len`: where the
/// bytes of the reply are and how many; NULL if they are not wanted. They are valid until the reply is released.
///
/// Fails as wigwag_client_loan() and wigwag_loan_call().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_call(
    client: *mut wigwag_client,
    request: *const c_void,
    request_len: usize,
    timeout_ns: i64,
    reply: *mut *mut wigwag_reply,
    reply_data: *mut *mut c_void,
    reply_len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(reply, "reply")?;
        let request = given::bytes(request, request_len)?;
        let (known, pointer) = object(client)?;
        let mut inside = known.enter()?;
        let mut answer = match Patience::of(timeout_ns) {
            Patience::Forever => inside.client.lend().call(request)?,
            Patience::Now => return Err(no_time()),
            Patience::For(time) => inside.client.lend().call_timeout(request, time)?,
        };
        given::put_if_wanted(reply_data, answer.as_mut_ptr().cast());
        given::put_if_wanted(reply_len, answer.len());
        let call = inside.rested(pointer);
        given::inside(call).put_reply(answer);
        place.put(call.as_ptr().cast());
        Ok(())
    })
}

/// Copies a request in, calls, and copies the reply out: for small payloads, because no handle has to be made and
/// ended. `request` and `reply` may be the same bytes.
///
/// `timeout_ns`: for all of it; `WIGWAG_FOREVER`. `reply`, `reply_capacity`: room for the reply. `reply_len`: where its
/// length goes, also if it did not fit.
///
/// Fails as wigwag_client_call(), and with `WIGWAG_ERR_CAPACITY_EXCEEDED` if the reply does not fit: the request was
/// executed then, and the reply is lost.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_call_copied(
    client: *mut wigwag_client,
    request: *const c_void,
    request_len: usize,
    timeout_ns: i64,
    reply: *mut c_void,
    reply_capacity: usize,
    reply_len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(reply_len, "reply_len")?;
        let request = given::bytes(request, request_len)?;
        let inside = given::alone(client)?;
        if timeout_ns >= 0 {
            return call_copied_within(inside, request, timeout_ns, reply, reply_capacity, place);
        }
        // The usual one by itself: what it has stays in registers.
        let mut loan = inside.client.lend().loan(request.len())?;
        loan.copy_from_slice(request);
        let answer = loan.call()?;
        place.put(answer.len());
        if answer.len() > reply_capacity {
            return Err(no_room(answer.len(), reply_capacity));
        }
        given::bytes_mut(reply, answer.len())?.copy_from_slice(&answer);
        Ok(())
    })
}

#[cold]
fn call_copied_within(
    inside: Alone<'_, ClientState>,
    request: &[u8],
    timeout_ns: i64,
    reply: *mut c_void,
    reply_capacity: usize,
    place: Place<usize>,
) -> Result<()> {
    let Patience::For(time) = Patience::of(timeout_ns) else { return Err(no_time()) };
    let answer = inside.client.lend().call_timeout(request, time)?;
    place.put(answer.len());
    if answer.len() > reply_capacity {
        return Err(no_room(answer.len(), reply_capacity));
    }
    given::bytes_mut(reply, answer.len())?.copy_from_slice(&answer);
    Ok(())
}

#[cold]
fn no_room(len: usize, capacity: usize) -> Failure {
    let text = format!(
        "the reply has {len} bytes, and there is room for {capacity}; the request was executed. Make more room, or use \
         wigwag_client_call()"
    );
    Failure::executed(wigwag_code::WIGWAG_ERR_CAPACITY_EXCEEDED, text)
}

#[cold]
pub fn no_time() -> Failure {
    let text = "`timeout_ns` is 0, and no reply comes in no time: allow for some, or use wigwag_loan_send()";
    Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text)
}

/// The descriptor that an event loop polls for reading on behalf of this client, or a negative code. It is the
/// client's: do not close it, and do not read from it. It stays the same for as long as the client lives.
///
/// Once it is readable, call wigwag_client_process() until that finds nothing more. Call that once before the first
/// poll, too, and after each wigwag_loan_send().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_fd(client: *mut wigwag_client, error: *mut wigwag_error) -> c_int {
    let mut fd = -1;
    let code = guarded(error, || {
        let mut inside = given::alone(client)?;
        if inside.loop_descriptor.is_none() {
            inside.loop_descriptor = Some(LoopDescriptor::new()?);
        }
        inside.watch()?;
        fd = inside.loop_descriptor.as_ref().map_or(-1, LoopDescriptor::raw);
        Ok(())
    });
    if code == wigwag_code::WIGWAG_OK as c_int { fd } else { code }
}

/// What an event loop does when the client's descriptor is readable. It never waits.
///
/// `ready`: where a call goes whose reply or error is there, for wigwag_pending_wait(), which then returns at once; or
/// NULL when none is there: from then on the descriptor becomes readable when one is. So call it until it gives NULL.
/// A call that was found and not taken is found again.
///
/// Fails with `WIGWAG_ERR_PEER_DIED`, `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_VIOLATION` once the session is over and
/// no call has anything to tell: the descriptor is silent from then on. A client with `reconnect_ns` or
/// `follow_restarts_ns` goes on: call this, or anything else, from time to time until a server is there.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_process(
    client: *mut wigwag_client,
    ready: *mut *mut wigwag_pending,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(ready, "ready")?;
        let mut inside = given::alone(client)?;
        inside.watch()?;
        let alive = inside.client.lend().take_events();
        if let Some(call) = inside.ready() {
            place.put(call.as_ptr().cast());
            return Ok(());
        }
        place.put(std::ptr::null_mut());
        inside.watch()?; // a call may have found the next server
        Ok(alive?)
    })
}

/// What a client has counted since it connected: see wigwag_client_statistics().
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_client_stats {
    /// sizeof(wigwag_client_stats), set by the caller.
    pub size: usize,
    /// Requests passed to the server.
    pub calls: u64,
    /// Of these, with a system call because the server slept.
    pub doorbells_rung: u64,
    /// Times this client slept until a doorbell rang.
    pub sleeps: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// Calls given up before their reply came.
    pub abandoned: u64,
    /// Sessions made after the first, because the server had ended.
    pub reconnects: u64,
    /// Calls that went on at the next server.
    pub moved: u64,
}

given::plain!(wigwag_client_stats);

/// What a client has counted.
///
/// `stats`: a struct whose `size` is set; the rest is filled.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_client_statistics(
    client: *const wigwag_client,
    stats: *mut wigwag_client_stats,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let ClientStats { calls, doorbells_rung, sleeps, in_flight, abandoned, reconnects, moved, .. } =
            given::alone(client)?.client.lend().stats();
        let counted =
            wigwag_client_stats { size: 0, calls, doorbells_rung, sleeps, in_flight, abandoned, reconnects, moved };
        given::fill(stats, counted, "stats")
    })
}
