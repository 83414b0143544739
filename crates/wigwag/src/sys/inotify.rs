//! Noticing that a name is removed, renamed or replaced: inotify(7) on the two files and on their directory, which
//! reports to the epoll that their server's control thread sleeps in; and that a name comes, for clients that wait for
//! its server. It costs one descriptor, and nothing while nothing happens.
//!
//! The kernel closes such a descriptor slowly: it waits until nobody in the whole system can still be looking at the
//! marks (a grace period of SRCU, by a work queue): some 20 milliseconds, and on a machine that is very busy more than
//! ten seconds. So nobody who is waited for closes one, unless very many are being closed, since a user may have only
//! so many. The end of the process cannot avoid it, and closes the last descriptors first: what shall tell others of
//! that end is opened after the watch, as far as that is possible.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::sys::directory::Directory;
use crate::sys::fork::ForkGuard;

/// A watch on some files of a directory.
#[derive(Debug)]
pub struct NameWatch {
    /// There until it is dropped.
    watch: Option<OwnedFd>,
    fork: ForkGuard,
}

impl NameWatch {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// This user or this process may have no more of them (fs.inotify.max_user_instances).
    pub fn new() -> rustix::io::Result<NameWatch> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(NameWatch { watch: Some(watch), fork: ForkGuard::new() })
    }

    /// Watches these from now on.
    ///
    /// # Errors
    /// This user may have no more watches (fs.inotify.max_user_watches), or a file is gone.
    pub fn begin(&self, directory: &Directory, names: &[&OsStr]) -> rustix::io::Result<()> {
        let itself = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        let path = directory.path_now();
        inotify::add_watch(self, &path, itself | WatchFlags::ONLYDIR)?;
        for name in names {
            // A file that somebody has open, or is bound to, is not deleted when its name is: only its count of links
            // changes.
            inotify::add_watch(self, path.join(name), itself | WatchFlags::ATTRIB | WatchFlags::DONT_FOLLOW)?;
        }
        Ok(())
    }

    /// Watches a directory for files that come or change, and for its own end. The number is that of the watch: the
    /// same for a directory that is watched already.
    ///
    /// # Errors
    /// There is no such directory (`NOENT`, `NOTDIR`), this user may not read it, or may have no more watches.
    pub fn await_files(&self, directory: &Path) -> rustix::io::Result<i32> {
        let files = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::MODIFY;
        let itself = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        inotify::add_watch(self, directory, files | itself | WatchFlags::ONLYDIR)
    }

    /// Ends one watch.
    pub fn stop(&self, watch: i32) {
        let _ = inotify::remove_watch(self, watch); // one whose directory is gone has ended by itself
    }

    /// Whether something has happened to files of these names, to others that begin so, or to a directory itself; then
    /// it is forgotten.
    pub fn has_news(&self, names: &[OsString], prefix: &OsStr) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(self, &mut buffer);
        let mut has_news = false;
        // It ends: nothing is waited for, and each event is read once.
        while let Ok(event) = events.next() {
            has_news |= match event.file_name() {
                Some(file) => {
                    let file = file.to_bytes();
                    file.starts_with(prefix.as_bytes()) || names.iter().any(|name| name.as_bytes() == file)
                }
                None => event.events() != ReadFlags::IGNORED, // which is the end of a watch, told besides its reason
            };
        }
        has_news
    }

    /// Forgets what has happened until now.
    pub fn clear(&self) {
        let mut buffer = [0u8; 1024];
        while rustix::io::read(self, &mut buffer).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for NameWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_ref().expect("it is there until it is dropped").as_fd()
    }
}

impl Drop for NameWatch {
    fn drop(&mut self) {
        let Some(watch) = self.watch.take() else { return };
        if self.fork.is_forked() {
            return; // the parent has it, too: a child's close is not the last, and waits for nothing
        }
        // Relaxed: a number that nothing else depends on.
        let is_one_of_many = BURIALS.fetch_add(1, Ordering::Relaxed) >= BURIALS_MAX;
        let burial = Burial(Some(watch));
        if !is_one_of_many {
            // If there is no thread to be had, it is closed with the closure: here and now.
            let _ = std::thread::Builder::new().name("wigwag-burial".into()).spawn(move || drop(burial));
        }
    }
}

/// A user may have 128 instances if nobody has said otherwise, and those that are being closed count.
const BURIALS_MAX: usize = 16;
/// How many are being closed.
static BURIALS: AtomicUsize = AtomicUsize::new(0);

/// One that is being closed.
struct Burial(Option<OwnedFd>);

impl Drop for Burial {
    fn drop(&mut self) {
        drop(self.0.take());
        BURIALS.fetch_sub(1, Ordering::Relaxed); // as above
    }
}
