//! Waiting for a server that is not there yet: its directory is watched, or what is to have that directory, up to the
//! first one that is there. So who waits costs no processor time, and hears of a server as soon as it has its name.
//!
//! Some things come without an event: a server that has bound its socket begins to listen, a symbolic link on the way
//! leads elsewhere, a file system is mounted over the directory. For these the name is looked for besides, now and
//! then.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use crate::session::name::ServiceName;
use crate::sys::epoll::{Interest, Poller};
use crate::sys::inotify::NameWatch;
use crate::trace;

/// How long a name is left alone of which nothing is heard.
pub const SILENCE: Duration = Duration::from_secs(5);
/// The same where nothing can be heard.
pub const BLIND: Duration = Duration::from_millis(50);

/// What tells that a name may have come. It watches nothing until a server is missing.
#[derive(Debug, Default)]
pub struct ServerWatch {
    watch: Option<NameWatch>,
    /// The watches, as the kernel numbers them.
    watches: Vec<i32>,
    /// The files that are waited for.
    names: Vec<OsString>,
    /// What the files of those begin with who share the name.
    members_prefix: OsString,
    is_blind: bool,
}

/// What is known once the watch is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It watches what it did not watch before: what came until then is found by another look.
    Anew,
    /// Whatever comes will be told.
    Watched,
    /// Nothing will be told.
    Blind,
}

impl ServerWatch {
    /// Watches what has to change before the server can be there, and tells that poller of it.
    pub fn watch(&mut self, place: &ServiceName, poller: &Poller, key: u64) -> Outlook {
        match self.try_watch(place, poller, key) {
            Ok(true) => Outlook::Anew,
            Ok(false) => Outlook::Watched,
            Err(error) => {
                self.end(poller);
                if !std::mem::replace(&mut self.is_blind, true) {
                    trace::unwatched_arrival(&place.path(), error);
                }
                Outlook::Blind
            }
        }
    }

    fn try_watch(&mut self, place: &ServiceName, poller: &Poller, key: u64) -> rustix::io::Result<bool> {
        if self.watch.is_none() {
            let watch = NameWatch::new()?;
            poller.add(&watch, key, Interest::Readable).map_err(|_| Errno::NOMEM)?;
            self.watch = Some(watch);
        }
        let Some(watch) = &self.watch else { return Err(Errno::BADF) };
        let mut names = vec![place.socket().to_owned(), place.lock().to_owned()];
        let mut watches = Vec::new();
        for directory in place.places() {
            let (number, missing) = watch_nearest(watch, directory)?;
            watches.push(number);
            names.extend(missing);
        }
        let is_new = watches != self.watches;
        self.watches.iter().filter(|number| !watches.contains(number)).for_each(|number| watch.stop(*number));
        (self.watches, self.names) = (watches, names);
        self.members_prefix = place.members_prefix();
        Ok(is_new)
    }

    /// Whether something has happened that is a reason to look; then it is forgotten.
    pub fn has_news(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.has_news(&self.names, &self.members_prefix))
    }

    /// Watches nothing any more. A forked child may hold the descriptor open: it is taken out by name.
    pub fn end(&mut self, poller: &Poller) {
        self.watches.clear();
        self.watch.take().iter().for_each(|watch| poller.remove(watch));
    }
}

/// Watches a directory, or the nearest above it that is there; with what is missing on the way.
fn watch_nearest(watch: &NameWatch, directory: &Path) -> rustix::io::Result<(i32, Vec<OsString>)> {
    let mut missing = Vec::new();
    let mut nearest = directory;
    loop {
        let path = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
        match (watch.await_files(path), nearest.parent()) {
            (Ok(number), _) => return Ok((number, missing)),
            (Err(Errno::NOENT | Errno::NOTDIR), Some(parent)) => {
                missing.extend(nearest.file_name().map(OsString::from));
                nearest = parent;
            }
            (Err(error), _) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::fs;
    use wigwag_testing::no_process_starts;

    fn place(path: &Path) -> ServiceName {
        ServiceName::find(path.as_os_str()).unwrap()
    }

    #[test]
    fn the_nearest_directory_is_watched_until_the_right_one_is_there() {
        let _guard = no_process_starts();
        let ground = tempfile::tempdir().unwrap();
        let place = place(&ground.path().join("a/b/name"));
        let poller = Poller::new().unwrap();
        let mut watch = ServerWatch::default();
        let mut watch = || {
            let has_news = watch.has_news();
            (watch.watch(&place, &poller, 7), has_news)
        };
        assert_eq!(watch(), (Outlook::Anew, false));
        assert_eq!(watch(), (Outlook::Watched, false));
        fs::write(ground.path().join("other"), "").unwrap();
        assert_eq!(watch(), (Outlook::Watched, false), "a file that nobody waits for");
        fs::create_dir(ground.path().join("a")).unwrap();
        assert_eq!(watch(), (Outlook::Anew, true));
        fs::create_dir(ground.path().join("a/b")).unwrap();
        assert_eq!(watch(), (Outlook::Anew, true));
        assert_eq!(watch(), (Outlook::Watched, false), "the end of the watches above is no news");
        for file in ["name", "name.lock"] {
            fs::write(ground.path().join("a/b").join(file), "").unwrap();
            assert_eq!(watch(), (Outlook::Watched, true), "{file}");
            assert_eq!(watch(), (Outlook::Watched, false), "{file}");
        }
        fs::rename(ground.path().join("a/b"), ground.path().join("a/c")).unwrap();
        assert_eq!(watch(), (Outlook::Anew, true), "the directory has gone: the one above it is watched again");
    }

    #[test]
    fn what_cannot_be_watched_is_said() {
        let poller = Poller::new().unwrap();
        let place = ServiceName::find(OsStr::new("/proc/self/exe/name")).unwrap();
        let mut watch = ServerWatch::default();
        // A file is no directory: the nearest one above is watched.
        assert_eq!(watch.watch(&place, &poller, 7), Outlook::Anew);
        watch.end(&poller);
        assert!(!watch.has_news());
    }
}
