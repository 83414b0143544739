//! What does not change of a server while it lives.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::contract::{Contract, Encoding};
use crate::error::{Error, ErrorKind, Result};
use crate::form::Form;
use crate::statistics::{StatisticsHeader, Word};
use crate::sys::{clock, process};
use crate::wait::policy::Wait;

/// A server, a listener or a receiver, as it was bound.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let server = wigwag::Server::builder().allow_user(1001).contract(wigwag::Contract::named("frames", 2)).bind(name)?;
/// let observer = wigwag::observe::Observer::open(name)?;
/// assert_eq!(observer.service().contract, wigwag::Contract::named("frames", 2));
/// assert_eq!(observer.service().policy.users, [1001]);
/// assert_eq!(observer.service().path, *name);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Service {
    /// Its process, for people.
    pub pid: u32,
    /// The name of its program, as `/proc` has it.
    pub program: Option<String>,
    /// Where the socket is.
    pub path: PathBuf,
    /// What it is.
    pub form: Form,
    /// What it serves.
    pub contract: Contract,
    /// How its threads wait.
    pub wait: Wait,
    /// When it was bound, in nanoseconds of CLOCK_MONOTONIC.
    pub(super) began_ns: u64,
    /// How far its clock is ahead of the observer's: the two may be in different time namespaces.
    clock_ahead_ns: i64,
    /// The users who are let in besides the server's own.
    pub policy: Policy,
    /// How much a client gets.
    pub limits: Limits,
}

/// The users who are let in besides the server's own.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let server = wigwag::Server::bind(name)?;
/// let policy = wigwag::observe::Observer::open(name)?.service().policy.clone();
/// assert!(!policy.everyone && policy.users.is_empty() && policy.groups.is_empty());
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Everybody on the machine.
    pub everyone: bool,
    /// These users; of many the first 16.
    pub users: Vec<u32>,
    /// The members of these groups; of many the first 16.
    pub groups: Vec<u32>,
    /// Users and groups that are not listed because there are too many.
    pub more: u64,
}

/// The most that the server gives. See [`ServerBuilder`](crate::ServerBuilder) for each.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let server = wigwag::Server::builder().max_sessions(9).bind(name)?;
/// assert_eq!(wigwag::observe::Observer::open(name)?.service().limits.sessions, 9);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Sessions at a time.
    pub sessions: u64,
    /// Of one user.
    pub sessions_per_user: u64,
    /// Of one other user.
    pub sessions_per_other_user: u64,
    /// Slots of a session.
    pub slots: u64,
    /// Bytes of a payload; of a stream those of a ring.
    pub capacity: u64,
    /// Bytes of a session's segment.
    pub bytes_per_session: u64,
    /// Bytes of all segments.
    pub bytes_total: u64,
    /// Handshakes under way.
    pub handshakes: u64,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Service {
    /// Copies out what a server wrote of itself; `pid` is the process that was found to have written it.
    pub(super) fn read(head: &StatisticsHeader, pid: u32) -> Result<Service> {
        let impossible = |what: &str, number: u64| {
            let sentence = format!("the statistics of process {pid} name {what} {number}, which there is not");
            Error::new(ErrorKind::Violation, sentence)
        };
        let (form, wait) = (head.form.value(), head.wait.value());
        let number = u8::try_from(form).ok();
        let form = number.and_then(Form::from_number).ok_or_else(|| impossible("the form", form))?;
        let wait = match wait {
            0 => Wait::Adaptive,
            1 => Wait::Spin,
            2 => Wait::Park,
            other => return Err(impossible("the way to wait", other)),
        };
        let name = read_text(&head.contract_len, &head.contract);
        // For people to read: control characters do not steer their terminals.
        let name = String::from_utf8_lossy(&name).replace(char::is_control, " ");
        let contract = Contract {
            name,
            version: head.contract_version.value() as u32,
            size: head.contract_size.value() as u32,
            align: head.contract_align.value() as u16,
            // An encoding that is not known here is the server's affair.
            encoding: Encoding::from_number((head.contract_align.value() >> 16) as u8).unwrap_or_default(),
            form,
        };
        let (users, more_users) = read_list(&head.users_len, &head.users);
        let (groups, more_groups) = read_list(&head.groups_len, &head.groups);
        let everyone = head.everyone.value() != 0;
        let limits = &head.limits;
        Ok(Service {
            pid,
            program: process::status_of(pid).map(|status| status.name),
            path: PathBuf::from(OsString::from_vec(read_text(&head.path_len, &head.path))),
            form,
            contract,
            wait,
            began_ns: head.began_ns.value(),
            clock_ahead_ns: process::clock_ahead_ns(pid),
            policy: Policy { everyone, users, groups, more: more_users.saturating_add(more_groups) },
            limits: Limits {
                sessions: limits.sessions.value(),
                sessions_per_user: limits.sessions_per_user.value(),
                sessions_per_other_user: limits.sessions_per_other_user.value(),
                slots: limits.slots.value(),
                capacity: limits.capacity.value(),
                bytes_per_session: limits.bytes_per_session.value(),
                bytes_total: limits.bytes_total.value(),
                handshakes: limits.handshakes.value(),
                handshake_timeout: Duration::from_nanos(limits.handshake_timeout_ns.value()),
            },
        })
    }

    /// How long ago it was bound.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let server = wigwag::Server::bind(name)?;
    /// assert!(wigwag::observe::Observer::open(name)?.service().age() < std::time::Duration::from_secs(60));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn age(&self) -> Duration {
        Duration::from_nanos(self.now_ns().saturating_sub(self.began_ns))
    }

    /// What its clock shows now.
    pub(super) fn now_ns(&self) -> u64 {
        clock::now_ns().saturating_add_signed(self.clock_ahead_ns)
    }
}

/// A text, whatever its length is said to be.
fn read_text(len: &Word, words: &[Word]) -> Vec<u8> {
    let mut text: Vec<u8> = words.iter().flat_map(|word| word.value().to_ne_bytes()).collect();
    text.truncate(usize::try_from(len.value()).unwrap_or(usize::MAX));
    text
}

/// The ids that are listed, and how many more there are.
fn read_list(len: &Word, words: &[Word]) -> (Vec<u32>, u64) {
    let len = len.value();
    let listed = words.iter().take(usize::try_from(len).unwrap_or(usize::MAX));
    (listed.map(|word| word.value() as u32).collect(), len.saturating_sub(words.len() as u64))
}
