//! What a service is started with.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::escape::escaped;
use crate::options::ListenOptions;
use crate::service::accept_queue::AcceptQueue;
use crate::service::audience::Audience;
use crate::service::name_claim::NameClaim;
use crate::service::takeover;
use crate::session::members::MEMBERS_MAX;
use crate::session::name::ServiceName;
use crate::sys::process;

/// Descriptors that a session takes: its socket, its memory while hands are shaken, two bells, the client's process;
/// rounded up.
const DESCRIPTORS_OF_SESSION: usize = 6;
/// Descriptors that a service and its program take besides, about.
const DESCRIPTORS_BESIDES: usize = 64;

/// A name that is taken, and what is to be done under it.
#[derive(Debug)]
pub struct Launch {
    /// The name, taken.
    pub claim: NameClaim,
    /// The path by which senders and clients find it: of those who share a name it is the same.
    pub address: PathBuf,
    /// The users who are let in, their limits, and the contract.
    pub options: ListenOptions,
    /// Whether calls are counted: not in one half of a benchmark.
    pub is_counting: bool,
    /// Of a broadcast: where new sessions go, and what they read.
    pub audience: Option<Arc<Audience>>,
    /// Where new sessions go that nobody serves: they are accepted. `None`: to the serving threads.
    pub accept_queue: Option<Arc<AcceptQueue>>,
}

impl Launch {
    /// Checks the options and takes the name.
    pub fn claim(name: &OsStr, mut options: ListenOptions) -> Result<Launch> {
        options.check()?;
        let place = ServiceName::find(name)?;
        // Taken out: the claim has a copy, and the socket shall have no other when the server closes that.
        let claim = match (options.listener.take(), options.replace) {
            (Some(listener), _) => place.claim_for(&listener)?,
            (None, Some(timeout)) => {
                // The clients of the other server come all at once, and the thread that greets them is not to wait.
                let sessions = options.limits.sessions.saturating_mul(DESCRIPTORS_OF_SESSION);
                process::make_room_for_descriptors(sessions.saturating_add(DESCRIPTORS_BESIDES));
                takeover::take_over(&place, &options.access, timeout)?
            }
            (None, None) if options.shared => claim_part(&place, &options)?,
            (None, None) => place.claim(&options.access)?,
        };
        let address = if options.shared { place.path() } else { claim.path() };
        if !options.shared {
            place.check_not_shared()?;
        }
        Ok(Launch { claim, address, options, is_counting: true, accept_queue: None, audience: None })
    }
}

/// Takes the lowest part of a name that nobody has.
fn claim_part(place: &ServiceName, options: &ListenOptions) -> Result<NameClaim> {
    place.check_shareable()?; // before anything is made
    let taken = place.living_members(rustix::process::geteuid().as_raw());
    for number in (1..=MEMBERS_MAX).filter(|&number| !taken.has(number)) {
        match place.member(number)?.claim(&options.access) {
            Ok(claim) => {
                place.check_shareable()?;
                return Ok(claim);
            }
            Err(error) if error.kind() == ErrorKind::NameTaken => {} // somebody who began just now
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(
        ErrorKind::NameTaken,
        format!(
            "{MEMBERS_MAX} receivers share the name `{}`, and more cannot: give them more threads, or use a second \
             name",
            escaped(place.called())
        ),
    ))
}
