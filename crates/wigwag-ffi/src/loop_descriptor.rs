//! The one descriptor that an event loop polls for a handle whose session may become another one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::epoll;
use rustix::io::Errno;

use crate::failure::Result;

/// An epoll with the descriptor of the present session in it.
pub struct LoopDescriptor {
    epoll: OwnedFd,
    watched: Option<RawFd>,
}

impl LoopDescriptor {
    /// With nothing in it.
    pub fn new() -> Result<LoopDescriptor> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(std::io::Error::from)?;
        Ok(LoopDescriptor { epoll, watched: None })
    }

    /// What C polls.
    pub fn raw(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// The session has this descriptor now.
    pub fn watch(&mut self, session: BorrowedFd<'_>) -> Result<()> {
        let raw = session.as_raw_fd();
        if let Some(former) = self.watched.filter(|&former| former != raw) {
            // Closed, it has left by itself. That of a former session which still lives would tell of nothing new.
            if let Ok(former) = crate::given::descriptor(former) {
                let _ = epoll::delete(&self.epoll, former);
            }
        }
        // The number may be the former one's, whose session is closed: so it is added each time.
        match epoll::add(&self.epoll, session.as_fd(), epoll::EventData::new_u64(0), epoll::EventFlags::IN) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
        self.watched = Some(raw);
        Ok(())
    }
}
