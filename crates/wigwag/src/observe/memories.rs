//! Finds the memory objects of sessions, to read them: the process that keeps one open for observers shows it below
//! `/proc`.
//!
//! The client of a session keeps it if it is of the server's user, else the server does. Nothing is kept open here
//! between two looks, so that no memory lives longer because somebody looked; only where it was found is remembered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use crate::form::Form;
use crate::memory::layout::Geometry;
use crate::observe::{Backlog, Rings, Service, Session, Snapshot, Subscription, ThreadState};
use crate::sync;
use crate::sys::{memory, process};

/// What the memory objects of sessions are called.
const NAME: &str = "wigwag";

/// Where sessions' memory was found.
#[derive(Debug, Default)]
pub struct Memories {
    /// By inode: the process and its descriptor.
    places: Mutex<HashMap<u64, (u32, u32)>>,
}

impl Memories {
    /// Looks into the memory of each session. `server`: the server's process.
    pub fn look(&self, snapshot: &mut Snapshot, service: &Service) {
        let (form, server) = (service.form, service.pid);
        // Nothing panics while it is held but an allocation; what is in it then is a hint like all else.
        let mut places = sync::lock(&self.places);
        let mut search = Search { places: std::mem::take(&mut *places), scanned: HashMap::new() };
        let mut found = HashMap::new();
        let begun = begun_slots(snapshot);
        let (now_ns, published) = (service.now_ns(), snapshot.published);
        for session in &mut snapshot.sessions {
            let begun = begun.get(&session.id).map_or(&[][..], Vec::as_slice);
            let is_found = search.open(form, session, server).and_then(|(memory, geometry, place)| {
                found.insert(session.memory_inode, place);
                if form.has_board() {
                    session.subscription = Some(Subscription::read(&memory, &geometry, published)?);
                } else if form.has_rings() {
                    session.rings = Some(Rings::read(&memory, &geometry)?);
                } else {
                    session.backlog = Some(Backlog::read(&memory, &geometry, form, session, begun, now_ns)?);
                }
                Some(())
            });
            session.is_hidden = is_found.is_none();
        }
        *places = found;
    }
}

/// The slots of each session whose calls a thread serves, or somebody keeps, and for how long.
fn begun_slots(snapshot: &Snapshot) -> HashMap<u64, Vec<crate::observe::backlog::Begun>> {
    let serving = snapshot.threads.iter().filter_map(|thread| match thread.state {
        ThreadState::Serving { session: Some(id), slot, at_most } => Some((id, (slot, at_most))),
        _ => None,
    });
    let kept = snapshot.kept.iter().filter_map(|kept| Some((kept.session?, (kept.slot, kept.at_most))));
    let mut begun: HashMap<u64, Vec<_>> = HashMap::new();
    serving.chain(kept).for_each(|(id, slot)| begun.entry(id).or_default().push(slot));
    begun
}

struct Search {
    places: HashMap<u64, (u32, u32)>,
    /// What processes have, once each was looked through.
    scanned: HashMap<u32, HashMap<u64, u32>>,
}

impl Search {
    fn open(&mut self, form: Form, session: &Session, server: u32) -> Option<(OwnedFd, Geometry, (u32, u32))> {
        let (slots, capacity) = (usize::try_from(session.slots).ok()?, usize::try_from(session.capacity).ok()?);
        let geometry = Geometry::of_form(form, slots, capacity)?;
        let inode = Some(session.memory_inode).filter(|inode| *inode != 0)?;
        let client = u32::try_from(session.peer.pid).ok().filter(|pid| *pid != 0 && session.is_trusted);
        let number = client.unwrap_or(server);
        let size = geometry.segment_size as u64;
        let open = |fd| process::open_object(number, fd, inode, size).map(|memory| (memory, geometry, (number, fd)));
        let known = self.places.get(&inode).filter(|place| place.0 == number);
        if let Some(found) = known.and_then(|place| open(place.1)) {
            return Some(found);
        }
        let objects = match self.scanned.entry(number) {
            Entry::Occupied(scanned) => scanned.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(process::memory_objects(number, NAME)),
        };
        open(*objects.get(&inode)?)
    }
}

/// Reads a part of a memory object into words.
pub(super) fn words(object: &OwnedFd, offset: usize, count: usize) -> Option<Vec<u64>> {
    let mut bytes = vec![0; count * 8];
    // By `pread`, which cannot fault whatever becomes of the object.
    let is_read = memory::read_exact(object, offset as u64, &mut bytes);
    is_read.then(|| bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect())
}
