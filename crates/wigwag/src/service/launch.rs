//! What a service is started with.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::error::Result;
use crate::options::ListenOptions;
use crate::service::accept_queue::AcceptQueue;
use crate::service::audience::Audience;
use crate::service::name_claim::NameClaim;
use crate::service::takeover;
use crate::session::name::ServiceName;

/// A name that is taken, and what is to be done under it.
#[derive(Debug)]
pub struct Launch {
    /// The name, taken.
    pub claim: NameClaim,
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
            (None, Some(timeout)) => takeover::take_over(&place, &options.access, timeout)?,
            (None, None) => place.claim(&options.access)?,
        };
        Ok(Launch { claim, options, is_counting: true, accept_queue: None, audience: None })
    }
}
