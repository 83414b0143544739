//! The keeper of queues: what senders and receivers leave when both are dead.

use std::ffi::{CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use library::{Keeper, KeeperStats};

use crate::failure::{free_handle, guarded, guarded_value, wigwag_error};
use crate::given::{self, opaque};

/// A keeper: it has the messages of queues whose receivers name it (`kept_by` of wigwag_listen_options) until both
/// sides of a session are dead, and hands what was not acknowledged to whoever binds the queue's name next.
///
/// It works by threads of its own, and on no path of a message. It keeps for as long as its process lives: in the
/// process of a sender or a receiver it has no use. `wigwag queue keep NAME` is the same as a program. Any number of
/// threads may use one.
#[allow(non_camel_case_types)]
pub struct wigwag_keeper([u8; 0]);

opaque! { wigwag_keeper = KeeperState, b"wwKeeper"; }

/// What is behind it.
pub struct KeeperState {
    keeper: Keeper,
    path: CString,
}

/// What a keeper keeps at most. Set all of it to zero and `size` to its size; what stays zero is the default. NULL is
/// all defaults.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_keeper_options {
    /// sizeof(wigwag_keeper_options).
    pub size: usize,
    /// The most sessions at a time, each of which takes two descriptors: `ulimit -n` may make it fewer. 0: 4096.
    pub max_sessions: usize,
    /// The most bytes of all sessions' memory: address space, as for a receiver. 0: 64 GiB.
    pub max_bytes: u64,
}

given::plain!(wigwag_keeper_options);

/// Takes the name of a keeper, which is beside that of a queue of the same name, and starts to keep.
///
/// `name`: what receivers have as `kept_by`. `options`: NULL for all defaults. `keeper`: where the handle goes;
/// wigwag_keeper_free() ends it.
///
/// Fails with `WIGWAG_ERR_NAME_TAKEN` while another keeper has the name, `WIGWAG_ERR_IO`, and what is wrong with a
/// name.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_keeper_start(
    name: *const c_char,
    options: *const wigwag_keeper_options,
    keeper: *mut *mut wigwag_keeper,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(keeper, "keeper")?;
        let name = given::name(name)?;
        let wigwag_keeper_options { max_sessions, max_bytes, .. } = given::sized(options, "options")?;
        let mut builder = Keeper::builder();
        if max_sessions != 0 {
            builder = builder.max_sessions(max_sessions);
        }
        if max_bytes != 0 {
            builder = builder.max_bytes(max_bytes);
        }
        let started = builder.start(name)?;
        let path = CString::new(started.path().as_os_str().as_bytes()).unwrap_or_default();
        place.put(given::give(KeeperState { keeper: started, path }));
        Ok(())
    })
}

/// Ends a keeper, or does nothing with NULL: its name is free, and what it has of the dead is lost.
///
/// Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_keeper_free(keeper: *mut wigwag_keeper) -> c_int {
    free_handle(keeper)
}

/// Where the keeper's socket is, valid until the keeper is freed; NULL of what is no keeper.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_keeper_path(keeper: *const wigwag_keeper) -> *const c_char {
    guarded_value(std::ptr::null(), || Ok(given::shared(keeper)?.path.as_ptr()))
}

/// What a keeper has, and has done since it was started: see wigwag_keeper_statistics().
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_keeper_stats {
    /// sizeof(wigwag_keeper_stats), set by the caller.
    pub size: usize,
    /// Receivers that are connected.
    pub receivers: u64,
    /// Sessions whose memory it has.
    pub sessions: u64,
    /// Bytes of these: address space; memory is used as senders write.
    pub bytes: u64,
    /// Messages of dead senders and receivers that are not acknowledged yet.
    pub left: u64,
    /// Sessions ever kept.
    pub kept: u64,
    /// Sessions that were not, and their receivers were told so.
    pub refused: u64,
    /// Messages handed on and acknowledged.
    pub handed_on: u64,
    /// Of these, those that were marked as redelivered.
    pub redelivered: u64,
    /// Places of messages in which nothing was that could be read: their senders broke the protocol.
    pub unreadable: u64,
    /// The most sessions at a time.
    pub max_sessions: u64,
    /// The most bytes at a time.
    pub max_bytes: u64,
}

given::plain!(wigwag_keeper_stats);

/// What a keeper has, and has done.
///
/// `stats`: a struct whose `size` is set; the rest is filled.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_keeper_statistics(
    keeper: *const wigwag_keeper,
    stats: *mut wigwag_keeper_stats,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let counted = counted(given::shared(keeper)?.keeper.stats());
        given::fill(stats, counted, "stats")
    })
}

fn counted(stats: KeeperStats) -> wigwag_keeper_stats {
    let KeeperStats { receivers, sessions, bytes, left, kept, refused, .. } = stats;
    let KeeperStats { handed_on, redelivered, unreadable, max_sessions, max_bytes, .. } = stats;
    wigwag_keeper_stats {
        size: 0,
        receivers,
        sessions,
        bytes,
        left,
        kept,
        refused,
        handed_on,
        redelivered,
        unreadable,
        max_sessions,
        max_bytes,
    }
}
