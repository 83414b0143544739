//! Another process's statistics, mapped to be read: checked before anything is believed.

use std::os::fd::OwnedFd;

use rustix::fs::fstat;

use crate::error::{Error, ErrorKind, Result};
use crate::statistics::{MAGIC, SIZE_MAX, STATISTICS_VERSION, Shape, Tables, tables};
use crate::sys::memory::{self, Mapping};

/// The statistics of a server, as an observer has them.
#[derive(Debug)]
pub struct View {
    mapping: Mapping,
    shape: Shape,
}

const SOURCE: &str = "what the lock file leads to is something";

impl View {
    /// Maps a memory object that is said to be a server's statistics. `owner` is whose it must be.
    pub fn open(memory: &OwnedFd, owner: u32) -> Result<View> {
        let violation = |what: String| Err(Error::new(ErrorKind::Violation, format!("{SOURCE} that {what}")));
        let stat = fstat(memory).map_err(|error| Error::io("look at a server's statistics", error))?;
        if stat.st_uid != owner {
            return violation(format!("belongs to user {}, where {owner} was expected", stat.st_uid));
        }
        let smallest = Shape::new(1, 1).size();
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if !(smallest..=SIZE_MAX).contains(&size) {
            return violation(format!("has {size} bytes, where {smallest} to {SIZE_MAX} are possible"));
        }
        memory::check_sealed(memory, size, SOURCE)?;
        let mapping = Mapping::read_only(memory, size)?;
        // The smallest shape is certainly there. Each word is read once.
        let head = tables(&mapping, Shape::new(1, 1)).head;
        let (magic, version) = (head.magic.value(), head.version.value());
        if magic != MAGIC {
            return violation("is no server's statistics".into());
        }
        if version != STATISTICS_VERSION {
            return Err(Error::new(
                ErrorKind::VersionMismatch,
                format!(
                    "the server keeps statistics of version {version}, and this program reads version \
                     {STATISTICS_VERSION}: build both with the same version of wigwag"
                ),
            ));
        }
        let (threads, sessions) = (head.threads.value(), head.sessions.value());
        match Shape::parse(threads, sessions, size as u64) {
            Some(shape) => Ok(View { mapping, shape }),
            None => violation(format!("claims {threads} threads and {sessions} sessions in {size} bytes")),
        }
    }

    /// The records, to be read.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked): a child does not have the memory.
    pub fn tables(&self) -> Result<Tables<'_>> {
        if self.mapping.is_forked() {
            return Err(Error::forked());
        }
        Ok(tables(&self.mapping, self.shape))
    }
}
