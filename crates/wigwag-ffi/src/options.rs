//! Options, as C gives them: structs whose first field is their size, and whose zeros mean that nothing is said.

use std::ffi::{OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use library::{Access, ConnectOptions, Contract, Limits, ListenOptions, Overrun, Publisher, PublisherBuilder};
use library::{Receiver, ReceiverBuilder, Start, Subscriber, SubscriberBuilder, Wait};

use crate::code::wigwag_code;
use crate::failure::{Failure, Result};
use crate::given;
use crate::time;

/// Spin while the answer is nearer than a wake-up is long, sleep otherwise; learned from what happens. The default.
pub const WIGWAG_WAIT_ADAPTIVE: c_int = 0;
/// Never sleep: the least latency for the price of a processor.
pub const WIGWAG_WAIT_SPIN: c_int = 1;
/// Never spin: the least processor time for the price of a wake-up each way.
pub const WIGWAG_WAIT_PARK: c_int = 2;

/// As `linger_ns`: whoever frees the sender does not wait for anything.
pub const WIGWAG_NO_LINGER: i64 = -2;

/// A subscriber begins with the first message that is published from now on. The default.
pub const WIGWAG_START_NEXT: c_int = 0;
/// A subscriber begins with the oldest message that is kept.
pub const WIGWAG_START_OLDEST: c_int = 1;
/// A subscriber begins with the newest message that is there.
pub const WIGWAG_START_LAST: c_int = 2;

/// A publisher replaces the oldest message; a subscriber that has not read it loses it, and is told. The default.
pub const WIGWAG_OVERRUN_DROP_OLDEST: c_int = 0;
/// A publisher waits for its own user's subscribers, for each at most `patience_ns` within as many messages as are
/// kept; one that exceeds that is cut off and told.
pub const WIGWAG_OVERRUN_WAIT: c_int = 1;

/// What a client, a sender, a stream or a subscriber wishes for before it connects. Set all of it to zero and `size` to
/// its size; what stays zero is the default. NULL is all defaults.
///
///     wigwag_connect_options options = {0};
///     options.size = sizeof options;
///     options.slots = 4;
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_connect_options {
    /// sizeof(wigwag_connect_options).
    pub size: usize,
    /// How many calls or messages can be under way at a time, 1 to 4096. 0: the server's choice. Not of streams
    /// and subscribers.
    pub slots: usize,
    /// The largest payload in bytes, up to 1 GiB; of a stream, how many bytes can be under way in each direction.
    /// 0: the server's choice. Not of subscribers.
    pub capacity: usize,
    /// WIGWAG_WAIT_ADAPTIVE, WIGWAG_WAIT_SPIN or WIGWAG_WAIT_PARK.
    pub wait: c_int,
    /// 1: file descriptors may travel, if the other side says so too.
    pub descriptors: c_int,
    /// How long the server may take to answer the connect, in nanoseconds. 0: 5 seconds.
    pub timeout_ns: i64,
    /// How long to look for a server where none runs, in nanoseconds. 0: not at all.
    pub server_timeout_ns: i64,
    /// Of a client or a subscriber: its next call looks for the next server, or publisher, for so long once this one
    /// has ended. 0: it ends with its server.
    pub reconnect_ns: i64,
    /// Of a client: as `reconnect_ns`, and calls that the server had not begun go on at the next one. 0: they fail.
    pub follow_restarts_ns: i64,
    /// Of a sender: how long wigwag_sender_free() waits until all is acknowledged. 0: as long as a receiver lives, and
    /// 5 seconds where there is none. WIGWAG_NO_LINGER: not at all.
    pub linger_ns: i64,
    /// 1: the server runs as the user `server_user`. 0: as this one.
    pub has_server_user: c_int,
    /// See `has_server_user`.
    pub server_user: u32,
    /// What both sides call their payloads; the server is asked whether it speaks the same. NULL: "bytes".
    pub contract_name: *const c_char,
    /// The version of the payloads' meaning.
    pub contract_version: u32,
    /// Of a plain-memory type that the server names: its size in bytes. 0: payloads are bytes of any length.
    pub contract_size: u32,
    /// Of a plain-memory type that the server names: its alignment in bytes, at most 16.
    pub contract_align: u32,
    /// Of a subscriber: which message comes first. WIGWAG_START_NEXT, WIGWAG_START_OLDEST or WIGWAG_START_LAST.
    pub start: c_int,
}

/// What a server, a receiver, a listener or a publisher allows. Set all of it to zero and `size` to its size; what
/// stays zero is the default. NULL is all defaults: clients of the same user, and the limits that docs/failures.md
/// lists.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_listen_options {
    /// sizeof(wigwag_listen_options).
    pub size: usize,
    /// The most calls or messages of a session that can be under way, and what a client gets that does not ask. 0: 16
    /// calls, 256 messages. Of a publisher: the most messages that one subscriber may hold in place, up to 64. 0: 4.
    pub slots: usize,
    /// The largest payload in bytes, and what a client gets that does not ask; of a listener, the bytes under way in
    /// each direction of a stream. 0: 1 MiB of a server, 64 KiB of a receiver or a publisher, 2 MiB of a listener.
    pub capacity: usize,
    /// WIGWAG_WAIT_ADAPTIVE, WIGWAG_WAIT_SPIN or WIGWAG_WAIT_PARK.
    pub wait: c_int,
    /// 1: file descriptors may travel with those who ask for it, too.
    pub descriptors: c_int,
    /// Of a listener: how many streams may wait to be accepted. 0: 128.
    pub backlog: usize,
    /// The most sessions at a time. 0: 4096.
    pub max_sessions: usize,
    /// The most sessions of one user. 0: 4096 of the own one, 256 of each other.
    pub max_sessions_per_user: usize,
    /// The most memory of one session in bytes. 0: 8 GiB.
    pub max_bytes_per_session: usize,
    /// The most memory of all sessions in bytes. 0: 64 GiB.
    pub max_bytes_total: usize,
    /// How many may be connecting at a time. 0: 256.
    pub max_handshakes: usize,
    /// How long a client may take to connect, in nanoseconds. 0: 1 second.
    pub handshake_timeout_ns: i64,
    /// Takes the name over from the server that has it, which may take so long, in nanoseconds. 0: a name that is taken
    /// is an error.
    pub replace_ns: i64,
    /// Other users who may connect, by number.
    pub allow_users: *const u32,
    /// How many they are.
    pub allow_user_count: usize,
    /// Groups whose members may connect, by number.
    pub allow_groups: *const u32,
    /// How many they are.
    pub allow_group_count: usize,
    /// 1: everybody may connect.
    pub allow_everyone: c_int,
    /// 1: `listener` is the socket, as a service manager hands it over. It belongs to the server from then on.
    pub has_listener: c_int,
    /// See `has_listener`.
    pub listener: c_int,
    /// As wigwag_connect_options has it.
    pub contract_version: u32,
    /// As wigwag_connect_options has it.
    pub contract_name: *const c_char,
    /// As wigwag_connect_options has it.
    pub contract_size: u32,
    /// As wigwag_connect_options has it.
    pub contract_align: u32,
    /// Of a publisher: how many messages are kept for subscribers that read later, up to 65536. 0: 64.
    pub history: usize,
    /// Of a publisher: how many messages all subscribers together may hold in place, up to 65536; `slots` says how many
    /// each of them. Who comes when they are given away gets copies. 0: 64.
    pub max_holds: usize,
    /// Of a publisher: what becomes of the oldest message when the next one needs its place.
    /// WIGWAG_OVERRUN_DROP_OLDEST or WIGWAG_OVERRUN_WAIT.
    pub overrun: c_int,
    /// Of a publisher: 1: nobody holds messages in place, and every subscriber gets copies.
    pub has_no_holds: c_int,
    /// Of a publisher with WIGWAG_OVERRUN_WAIT: how long it waits for each subscriber, in nanoseconds. 0: it never
    /// waits, and sends are `WIGWAG_ERR_FULL` until there is room.
    pub patience_ns: i64,
    /// Of a receiver: the name of the keeper of its messages (`wigwag queue keep NAME`, or wigwag_keeper_start()),
    /// which may be the queue's own. What is not acknowledged outlives a sender and this process, and goes to whoever
    /// binds the name next. While there is no keeper, binding fails with `WIGWAG_ERR_NOT_RUNNING`. NULL: there is none.
    pub kept_by: *const c_char,
    /// Of a publisher: the number of its first message, for one that publishes again what another has published. 0: 1.
    pub first_number: u64,
    /// Of a receiver: 1: receivers in up to 64 processes, all of which say so, have the same name and take turns. What
    /// one of them leaves when it dies goes to another. Not together with `replace_ns` or `has_listener`.
    pub shared: c_int,
    /// Of a receiver with `kept_by`: 1: senders whose messages cannot be kept are let in, too. 0: they are refused.
    pub allow_unkept: c_int,
    /// Of a publisher with WIGWAG_OVERRUN_WAIT: 1: of the messages that every subscriber has taken only `retain` are
    /// kept for who comes later. The memory of the others is written to again while it is in the processor's cache,
    /// which is the quickest for large messages. 0: as many as `history` are kept.
    pub retains_less: c_int,
    /// Of a publisher with `retains_less`: how many, up to `history`.
    pub retain: usize,
}

given::plain!(wigwag_connect_options);
given::plain!(wigwag_listen_options);

fn wait(wait: c_int) -> Result<Wait> {
    match wait {
        WIGWAG_WAIT_ADAPTIVE => Ok(Wait::Adaptive),
        WIGWAG_WAIT_SPIN => Ok(Wait::Spin),
        WIGWAG_WAIT_PARK => Ok(Wait::Park),
        _ => Err(invalid(format!("`wait` is {wait}, and should be one of WIGWAG_WAIT_ADAPTIVE, _SPIN and _PARK"))),
    }
}

fn invalid(text: String) -> Failure {
    Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text)
}

fn contract(name: *const c_char, version: u32, size: u32, align: u32) -> Result<Option<Contract>> {
    let Some(name) = given::optional_text(name) else {
        if (version, size, align) != (0, 0, 0) {
            return Err(invalid(
                "a contract without a name has no version, size or alignment: set `contract_name`".into(),
            ));
        }
        return Ok(None);
    };
    let name = name.to_str().map_err(|_| invalid("`contract_name` is not UTF-8".into()))?;
    let align = u16::try_from(align).ok().filter(|&align| align <= 16);
    let align = align.ok_or_else(|| invalid("`contract_align` is more than 16, at which payloads begin".into()))?;
    Ok(Some(Contract::named(name, version).with_layout(size, align)))
}

/// The options of a connect.
pub fn connect_options(given: *const wigwag_connect_options) -> Result<ConnectOptions> {
    let given = given::sized(given, "options")?;
    let mut options = ConnectOptions::default().wait(wait(given.wait)?).descriptors(given.descriptors != 0);
    if given.slots != 0 {
        options = options.slots(given.slots);
    }
    if given.capacity != 0 {
        options = options.capacity(given.capacity);
    }
    if let Some(time) = time::optional(given.timeout_ns) {
        options = options.timeout(time);
    }
    if let Some(time) = time::optional(given.server_timeout_ns) {
        options = options.server_timeout(time);
    }
    match (time::optional(given.reconnect_ns), time::optional(given.follow_restarts_ns)) {
        (None, None) => {}
        (Some(time), None) => options = options.reconnect(time),
        (None, Some(time)) => options = options.follow_restarts(time),
        (Some(_), Some(_)) => {
            return Err(invalid("`reconnect_ns` and `follow_restarts_ns` exclude each other: set one".into()));
        }
    }
    match given.linger_ns {
        WIGWAG_NO_LINGER => options = options.linger(Duration::ZERO),
        linger_ns => options = time::optional(linger_ns).into_iter().fold(options, ConnectOptions::linger),
    }
    if given.has_server_user != 0 {
        options = options.server_user(given.server_user);
    }
    let wigwag_connect_options { contract_name, contract_version, contract_size, contract_align, .. } = given;
    let contract = contract(contract_name, contract_version, contract_size, contract_align)?;
    Ok(contract.into_iter().fold(options, ConnectOptions::contract))
}

/// The options of a server or a listener, of which there are none that only they have.
pub fn listen_options(given: *const wigwag_listen_options) -> Result<ListenOptions> {
    let given = given::sized(given, "options")?;
    refuse_those_of_receivers(&given)?;
    refuse_those_of_publishers(&given)?;
    common_listen_options(&given)
}

/// Options of a receiver, given to something else: to serve as if they had not been said would lose messages that
/// somebody believes to be kept.
fn refuse_those_of_receivers(given: &wigwag_listen_options) -> Result<()> {
    let wigwag_listen_options { shared, kept_by, allow_unkept, .. } = given;
    let said = [("shared", *shared != 0), ("kept_by", !kept_by.is_null()), ("allow_unkept", *allow_unkept != 0)];
    refuse(&said, "a receiver", "wigwag_receiver_bind()")
}

/// Options of a publisher, given to something else.
fn refuse_those_of_publishers(given: &wigwag_listen_options) -> Result<()> {
    let wigwag_listen_options { history, max_holds, has_no_holds, overrun, patience_ns, .. } = given;
    let wigwag_listen_options { first_number, retains_less, retain, .. } = given;
    let said = [
        ("history", *history != 0),
        ("max_holds", *max_holds != 0),
        ("has_no_holds", *has_no_holds != 0),
        ("overrun", *overrun != WIGWAG_OVERRUN_DROP_OLDEST),
        ("patience_ns", *patience_ns != 0),
        ("first_number", *first_number != 0),
        ("retains_less", *retains_less != 0),
        ("retain", *retain != 0),
    ];
    refuse(&said, "a publisher", "wigwag_publisher_bind()")
}

fn refuse(said: &[(&str, bool)], whose: &str, binds: &str) -> Result<()> {
    match said.iter().find(|(_, is_said)| *is_said) {
        None => Ok(()),
        Some((field, _)) => {
            let text = format!("`{field}` is an option of {whose}: set it to zero, or bind the name by {binds}");
            Err(invalid(text))
        }
    }
}

/// What all that bind a name have.
fn common_listen_options(given: &wigwag_listen_options) -> Result<ListenOptions> {
    let mut access = Access::default();
    for &user in given::array(given.allow_users, given.allow_user_count, "allow_users")? {
        access = access.allow_user(user);
    }
    for &group in given::array(given.allow_groups, given.allow_group_count, "allow_groups")? {
        access = access.allow_group(group);
    }
    if given.allow_everyone != 0 {
        access = access.allow_everyone();
    }
    let &wigwag_listen_options { contract_name, contract_version, contract_size, contract_align, .. } = given;
    let contract = contract(contract_name, contract_version, contract_size, contract_align)?;
    let options = ListenOptions::default().limits(limits(given)).access(access).wait(wait(given.wait)?);
    let mut options = options.descriptors(given.descriptors != 0);
    if given.backlog != 0 {
        options = options.backlog(given.backlog);
    }
    if let Some(time) = time::optional(given.replace_ns) {
        options = options.replace(time);
    }
    if given.has_listener != 0 {
        options = options.from_listener(given::owned_descriptor(given.listener)?);
    }
    Ok(contract.into_iter().fold(options, ListenOptions::contract))
}

/// What a receiver is bound by.
pub fn receiver_builder(given: *const wigwag_listen_options) -> Result<ReceiverBuilder> {
    let given = given::sized(given, "options")?;
    refuse_those_of_publishers(&given)?;
    let keeper = given::optional_text(given.kept_by).map(|keeper| OsStr::from_bytes(keeper.to_bytes()));
    if keeper.is_none() && given.allow_unkept != 0 {
        return Err(invalid("`allow_unkept` is of a receiver that has a keeper: set `kept_by` to its name".into()));
    }
    // The common ones take the place of all others, so they come first. Nothing fails after them: they may have taken
    // a descriptor, which then is in the builder.
    let builder = Receiver::builder().options(common_listen_options(&given)?);
    let builder = builder.shared(given.shared != 0).allow_unkept(given.allow_unkept != 0);
    Ok(keeper.into_iter().fold(builder, ReceiverBuilder::kept_by))
}

/// What a publisher is bound by.
pub fn publisher_builder(given: *const wigwag_listen_options) -> Result<PublisherBuilder> {
    let given = given::sized(given, "options")?;
    refuse_those_of_receivers(&given)?;
    let wigwag_listen_options { history, max_holds, has_no_holds, overrun, patience_ns, .. } = given;
    let wigwag_listen_options { first_number, retains_less, retain, .. } = given;
    let mut builder = Publisher::builder();
    if first_number != 0 {
        builder = builder.first_number(first_number);
    }
    if history != 0 {
        builder = builder.history(history);
    }
    match (max_holds, has_no_holds) {
        (0, 0) => {}
        (messages, 0) => builder = builder.max_holds(messages),
        (0, _) => builder = builder.max_holds(0),
        _ => return Err(invalid("`max_holds` and `has_no_holds` exclude each other: set one".into())),
    }
    match overrun {
        WIGWAG_OVERRUN_DROP_OLDEST if patience_ns != 0 => {
            let text = "`patience_ns` is of a publisher that waits: set `overrun` to WIGWAG_OVERRUN_WAIT";
            return Err(invalid(text.into()));
        }
        WIGWAG_OVERRUN_DROP_OLDEST => {}
        WIGWAG_OVERRUN_WAIT => {
            let patience = time::optional(patience_ns).unwrap_or(Duration::ZERO);
            builder = builder.overrun(Overrun::Wait(patience));
        }
        _ => {
            let text = format!("`overrun` is {overrun}, and should be WIGWAG_OVERRUN_DROP_OLDEST or _WAIT");
            return Err(invalid(text));
        }
    }
    match (retains_less, retain) {
        (0, 0) => {}
        (0, _) => return Err(invalid("`retain` counts only where `retains_less` is 1: set that, too".into())),
        (_, messages) => builder = builder.retain(messages),
    }
    // These last: they may take a descriptor, which then is in the builder.
    Ok(builder.options(common_listen_options(&given)?))
}

/// What a subscriber connects with.
pub fn subscriber_builder(given: *const wigwag_connect_options) -> Result<SubscriberBuilder> {
    let start = match given::sized(given, "options")?.start {
        WIGWAG_START_NEXT => Start::Next,
        WIGWAG_START_OLDEST => Start::Oldest,
        WIGWAG_START_LAST => Start::Last,
        start => {
            let text = format!("`start` is {start}, and should be one of WIGWAG_START_NEXT, _OLDEST and _LAST");
            return Err(invalid(text));
        }
    };
    Ok(Subscriber::builder().start(start).options(connect_options(given)?))
}

fn limits(given: &wigwag_listen_options) -> Limits {
    let number = |limits: Limits, number: usize, set: fn(Limits, usize) -> Limits| match number {
        0 => limits,
        number => set(limits, number),
    };
    let limits = number(Limits::default(), given.slots, Limits::slots);
    let limits = number(limits, given.capacity, Limits::capacity);
    let limits = number(limits, given.max_sessions, Limits::max_sessions);
    let limits = number(limits, given.max_sessions_per_user, Limits::max_sessions_per_user);
    let limits = number(limits, given.max_bytes_per_session, Limits::max_bytes_per_session);
    let limits = number(limits, given.max_bytes_total, Limits::max_bytes_total);
    let limits = number(limits, given.max_handshakes, Limits::max_handshakes);
    time::optional(given.handshake_timeout_ns).into_iter().fold(limits, Limits::handshake_timeout)
}
