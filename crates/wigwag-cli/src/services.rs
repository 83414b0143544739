//! The services of this user, held to be looked at as often as one likes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use wigwag::ErrorKind;
use wigwag::observe::{Observer, PermitSnapshot, ProcessState, Service, Snapshot};
use wigwag::runtime::{Entry, Kind, RuntimeDirectory, State};

/// A service at one moment.
pub struct Look<'a> {
    pub name: &'a OsStr,
    pub service: &'a Service,
    pub snapshot: Snapshot,
}

/// All services that have a name in the runtime directory. Looking asks nothing of them.
#[derive(Debug)]
pub struct Services {
    directory: RuntimeDirectory,
    observers: BTreeMap<OsString, Observer>,
    /// What stands in the directory, as of the last look.
    pub entries: Vec<Entry>,
    /// The semaphores, as of the last look.
    pub semaphores: BTreeMap<OsString, PermitSnapshot>,
    /// Services and semaphores that live and cannot be looked at, and why.
    pub hidden: BTreeMap<OsString, String>,
}

impl Services {
    /// Those of this process's runtime directory. Nothing is looked at yet.
    pub fn of_this_user() -> Services {
        Services {
            directory: RuntimeDirectory::find(),
            observers: BTreeMap::new(),
            entries: Vec::new(),
            semaphores: BTreeMap::new(),
            hidden: BTreeMap::new(),
        }
    }

    /// How many names are in that state.
    pub fn count(&self, kind: Kind, state: impl Fn(State) -> bool) -> usize {
        self.entries.iter().filter(|entry| entry.kind() == kind && state(entry.state())).count()
    }

    /// Looks at all of them, in the order of their names.
    ///
    /// # Errors
    /// No service can have a name in the directory.
    pub fn look(&mut self) -> anyhow::Result<Vec<Look<'_>>> {
        self.entries = self.directory.entries()?;
        let lives =
            |entry: &&Entry| entry.kind() == Kind::Service && !matches!(entry.state(), State::Dead | State::Foreign);
        let names: Vec<OsString> = self.entries.iter().filter(lives).map(|entry| entry.name().to_owned()).collect();
        self.hidden.clear();
        self.look_at_semaphores();
        let mut snapshots = BTreeMap::new();
        let mut before = std::mem::take(&mut self.observers);
        for name in names {
            let known = before.remove(&name).and_then(|observer| Some((running(&observer)?, observer)));
            let found = match known {
                Some(known) => Ok(Some(known)),
                None => Observer::open(&name).map(|observer| Some((running(&observer)?, observer))),
            };
            match found {
                Ok(Some((snapshot, observer))) => {
                    snapshots.insert(name.clone(), snapshot);
                    self.observers.insert(name, observer);
                }
                Ok(None) => {} // it ended just now
                Err(error) => drop(self.hidden.insert(name, error.to_string())),
            }
        }
        let looks = self.observers.iter().zip(snapshots.into_values());
        Ok(looks.map(|((name, observer), snapshot)| Look { name, service: observer.service(), snapshot }).collect())
    }
}

impl Services {
    fn look_at_semaphores(&mut self) {
        self.semaphores.clear();
        let semaphores = self.entries.iter().filter(|entry| entry.kind() == Kind::Semaphore);
        for entry in semaphores.filter(|entry| !matches!(entry.state(), State::Dead | State::Foreign)) {
            match PermitSnapshot::of(entry.name()) {
                Ok(permits) => drop(self.semaphores.insert(entry.name().to_owned(), permits)),
                Err(error) if error.kind() == ErrorKind::NotRunning => {} // it was closed just now
                Err(error) => drop(self.hidden.insert(entry.name().to_owned(), error.to_string())),
            }
        }
    }
}

/// A snapshot, unless the process is gone: another one may have the name by now.
fn running(observer: &Observer) -> Option<Snapshot> {
    observer.snapshot().ok().filter(|snapshot| snapshot.state != ProcessState::Gone)
}
