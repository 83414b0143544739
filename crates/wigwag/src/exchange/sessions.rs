//! The sessions of a blocking client: one that ends with its server, or the newest of those that the client has had.
//!
//! That a client outlives its server costs the others one look at which of the two it is.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::caller::Caller;
use crate::exchange::carrying::is_end;
use crate::exchange::lineage::Lineage;
use crate::options::ConnectOptions;
use crate::session::connect::ClientHandshake;
use crate::stats::ClientStats;
use crate::wait::deadline::Deadline;

/// What a client, its loans and its calls share.
#[allow(clippy::large_enum_variant, reason = "the usual one is reached without another load")]
pub enum Sessions {
    /// The client ends with its server.
    One(Caller),
    /// It does not.
    Outliving(Box<Outliving>),
}

/// A client that outlives its servers.
pub struct Outliving {
    pub lineage: Lineage,
    name: OsString,
    options: ConnectOptions,
    /// For the next server, begun by a call that had no time for its end.
    search: Cell<Option<Box<ClientHandshake>>>,
}

impl Sessions {
    /// Of a client that has just connected.
    pub fn new(caller: Caller, name: &OsStr, options: &ConnectOptions) -> Sessions {
        if !options.restarts.are_outlived() {
            return Sessions::One(caller);
        }
        Sessions::Outliving(Box::new(Outliving {
            lineage: Lineage::new(caller),
            name: name.to_owned(),
            options: options.clone(),
            search: Cell::new(None),
        }))
    }

    /// The session that new calls go to.
    pub fn current(&self) -> &Caller {
        match self {
            Sessions::One(caller) => caller,
            Sessions::Outliving(outliving) => outliving.lineage.current(),
        }
    }

    /// The same for who begins a loan, and has no reference to a former session.
    #[inline(always)]
    pub fn current_for_loan(&self) -> &Caller {
        match self {
            Sessions::One(caller) => caller,
            Sessions::Outliving(outliving) => outliving.lineage.current_after_pruning(),
        }
    }

    /// Frees the former sessions in which nothing lies. Whoever calls it and goes on in one has a slot or a hold of it.
    #[inline(always)]
    pub fn free_former(&self) {
        if let Sessions::Outliving(outliving) = self {
            outliving.lineage.current_after_pruning();
        }
    }

    /// What has happened in all of them.
    pub fn stats(&self) -> ClientStats {
        match self {
            Sessions::One(caller) => caller.stats(),
            Sessions::Outliving(outliving) => outliving.lineage.stats(),
        }
    }

    /// The session that is left when the client goes.
    #[cfg(not(loom))]
    pub fn into_current(self) -> Caller {
        match self {
            Sessions::One(caller) => caller,
            Sessions::Outliving(outliving) => outliving.lineage.into_current(),
        }
    }

    /// The session of the server's successor, where `error` says that the current one is over.
    #[cold]
    pub fn successor_for_loan(&self, error: Error, deadline: Deadline) -> Result<&Caller> {
        let Some(outliving) = self.outliving().filter(|outliving| outliving.is_over()) else { return Err(error) };
        match outliving.successor(deadline) {
            Ok(Some(caller)) => Ok(caller),
            Ok(None) if matches!(deadline, Deadline::Now) && is_end(&error) => Err(error),
            Ok(None) => Err(Error::timed_out(false)),
            Err(why) if why.kind() == ErrorKind::Violation => Err(why),
            Err(why) => Err(outliving.lineage.current().not_replaced(&why.to_string())),
        }
    }

    /// If the client outlives its servers.
    pub fn outliving(&self) -> Option<&Outliving> {
        match self {
            Sessions::One(_) => None,
            Sessions::Outliving(outliving) => Some(outliving),
        }
    }
}

impl Outliving {
    /// Whether calls that were passed go on at a successor.
    pub fn passes_again(&self) -> bool {
        self.options.restarts.are_followed()
    }

    /// How long a successor is looked for.
    pub fn time(&self) -> Duration {
        self.options.restarts.time().0
    }

    fn is_over(&self) -> bool {
        let connection = &self.lineage.current().connection;
        connection.is_over() && !connection.is_forked()
    }

    /// The session with a server that lives as far as is known: the current one, or one that is made now. `None`: there
    /// is no more time; the search goes on with the next call.
    ///
    /// # Errors
    /// Why no session was made within the time for that, or never will be.
    #[cold]
    pub fn successor(&self, deadline: Deadline) -> Result<Option<&Caller>> {
        // Servers may end one after the other for as long as the caller's time lasts: no session of theirs piles up.
        let current = self.lineage.current_after_pruning();
        let _hold = current.hold();
        if current.connection.is_forked() {
            return Err(Error::forked());
        }
        match current.connection.check_alive(false) {
            Ok(()) => return Ok(Some(current)),
            Err(error) if error.kind() == ErrorKind::Violation => return Err(error),
            Err(_) => {}
        }
        let mut search = match self.search.take() {
            Some(search) if !search.is_stale() => search,
            _ => Box::new(ClientHandshake::for_successor(&self.name, &self.options)?),
        };
        match search.wait(deadline.as_instant())? {
            Some(established) => Ok(Some(self.lineage.succeed(Caller::new(established, self.options.wait)))),
            None => {
                self.search.set(Some(search));
                Ok(None)
            }
        }
    }
}

/// A slot of a session, waited for while calls that were given up may bring some back.
#[cold]
pub fn wait_for_slot(caller: &Caller, deadline: Deadline) -> Result<usize> {
    let mut was_last_look = false;
    loop {
        caller.reclaim();
        if let Some(slot) = caller.take_slot() {
            return Ok(slot);
        }
        if !caller.has_abandoned() || matches!(deadline, Deadline::Now) {
            caller.connection.look()?;
            caller.connection.check_alive(false)?;
            return Err(caller.full());
        }
        caller.connection.check_alive(false)?;
        if was_last_look {
            return Err(Error::timed_out(false));
        }
        was_last_look = deadline.is_over();
        // Asked before sleeping: a reply that came before shows in the word, one that comes after rings.
        if !caller.arm_abandoned() {
            caller.connection.sleep(deadline)?;
        }
    }
}
