//! Receivers that share a name: each of them has a name of its own, `NAME@1` to `NAME@64`, and nobody has the name
//! itself. So each is a service like any other: it has its socket, its lock and its sessions, and dies alone.
//!
//! A receiver that does not share has the name itself. There is the one or the others, never both: each side takes its
//! own lock first and looks at the other's then, so that of two who begin at the same moment one sees the other, or
//! each does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::escape::escaped;
use crate::session::name::ServiceName;
use crate::sys::directory::{Directory, Found};
use crate::sys::owner_lock::OwnerLock;

/// The most receivers that share a name: their numbers are the bits of a word.
pub const MEMBERS_MAX: usize = 64;

/// What stands between a name and a member's number.
const SEPARATOR: &str = "@";

/// Of the socket of a name. In a path that ends so the number stands before it: who goes to `jobs.sock` by its path
/// finds those who share the name `jobs`.
const SOCKET_ENDING: &[u8] = b".sock";

/// Some of the members of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members(u64);

impl Members {
    /// With that one, too.
    pub fn with(self, number: usize) -> Members {
        debug_assert!((1..=MEMBERS_MAX).contains(&number));
        Members(self.0 | 1 << (number - 1))
    }

    /// Those that are not among the others.
    pub fn without(self, others: Members) -> Members {
        Members(self.0 & !others.0)
    }

    /// Whether that one is among them.
    pub fn has(self, number: usize) -> bool {
        (1..=MEMBERS_MAX).contains(&number) && self.0 & 1 << (number - 1) != 0
    }

    /// How many they are.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Their numbers, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (1..=MEMBERS_MAX).filter(move |&number| self.has(number))
    }

    /// The one that comes after a number, in a circle; `None` if there is none at all.
    pub fn next_after(self, number: usize) -> Option<usize> {
        self.iter().find(|&it| it > number).or_else(|| self.iter().next())
    }
}

/// Which of the receivers that share a name a search asks.
#[derive(Debug, Default)]
pub struct MemberChoice {
    /// Not asked: the search is for that very name.
    pub is_exact: bool,
    /// Those behind this one come first.
    pub after: usize,
    /// Asked in vain.
    tried: Members,
    /// The one that is being asked, and whether there is another who has not been asked yet.
    asked: Option<(usize, bool)>,
}

impl MemberChoice {
    /// Of a search that has asked nobody yet.
    pub fn new(is_exact: bool) -> MemberChoice {
        MemberChoice { is_exact, ..MemberChoice::default() }
    }

    /// Where to go: to the name itself if somebody has it, or to one of those who share it.
    pub fn choose(&mut self, place: ServiceName, server_uid: u32) -> ServiceName {
        self.asked = None;
        if self.is_exact || !place.is_vacant(server_uid) {
            return place;
        }
        let living = place.living_members(server_uid);
        if living.without(self.tried) == Members::default() {
            self.tried = Members::default();
        }
        let left = living.without(self.tried);
        let member = left.next_after(self.after).and_then(|number| Some((number, place.member(number).ok()?)));
        let Some((number, member)) = member else { return place };
        self.asked = Some((number, left.count() > 1));
        member
    }

    /// Whether the one that is asked is one of several, so that nobody need wait for it for long.
    pub fn has_others(&self) -> bool {
        self.asked.is_some_and(|(_, has_others)| has_others)
    }

    /// The one that was asked could not be had. Whether another is to be asked at once.
    pub fn next(&mut self) -> bool {
        let Some((number, has_others)) = self.asked.take() else { return false };
        self.tried = if has_others { self.tried.with(number) } else { Members::default() };
        self.after = number;
        has_others
    }
}

impl ServiceName {
    /// The name of one of those who share this one.
    ///
    /// # Errors
    /// With the number behind it the name is too long.
    pub fn member(&self, number: usize) -> Result<ServiceName> {
        let name = match self.is_path().then(|| self.called().as_bytes().strip_suffix(SOCKET_ENDING)).flatten() {
            Some(stem) => joined(&[stem, format!("{SEPARATOR}{number}").as_bytes(), SOCKET_ENDING]),
            None => joined(&[self.called().as_bytes(), format!("{SEPARATOR}{number}").as_bytes()]),
        };
        let mut member = ServiceName::find(&name)?.of_form(self.form());
        member.member = number;
        Ok(member)
    }

    /// What the files of all who share this name begin with.
    pub fn members_prefix(&self) -> OsString {
        let file = self.file("");
        let stem = if self.is_path() { file.as_bytes().strip_suffix(SOCKET_ENDING) } else { None };
        joined(&[stem.unwrap_or(file.as_bytes()), SEPARATOR.as_bytes()])
    }

    /// Whether nobody has the name itself, as far as can be seen.
    fn is_vacant(&self, server_uid: u32) -> bool {
        let is_free = |path: &Path| {
            let Some(directory) = open(path, server_uid) else { return true };
            matches!(directory.look(self.socket()), Ok(Found::Nothing))
                || OwnerLock::is_held(&directory, self.lock()).is_ok_and(|is_held| !is_held)
        };
        self.places().all(is_free)
    }

    /// Who shares this name: each of those whose lock is held.
    pub fn living_members(&self, server_uid: u32) -> Members {
        let prefix = self.members_prefix();
        let mut living = Members::default();
        for directory in self.places().filter_map(|path| open(path, server_uid)) {
            for file in directory.names() {
                if let Some(number) = number_in(&file, &prefix)
                    && OwnerLock::is_held(&directory, &file).is_ok_and(|is_held| is_held)
                {
                    living = living.with(number);
                }
            }
        }
        living
    }

    /// Server: that nobody shares the name, for one that wants it for itself. After it has its lock.
    pub fn check_not_shared(&self) -> Result<()> {
        let is_shared = || self.living_members(own_user()) != Members::default();
        if !seen_twice(is_shared) {
            return Ok(());
        }
        let living = self.living_members(own_user());
        let name = escaped(self.called());
        Err(Error::new(
            ErrorKind::NameTaken,
            format!(
                "the name `{name}` is shared by {} receivers (the first is `{name}{SEPARATOR}{}`): share it, too \
                 (ReceiverBuilder::shared), end them, or take another name",
                living.count(),
                living.next_after(0).unwrap_or(1)
            ),
        ))
    }

    /// Server: that nobody has the name for itself, for one that shares it. After it has a lock of its own.
    pub fn check_shareable(&self) -> Result<()> {
        let is_had = |path: &Path| {
            open(path, own_user()).is_some_and(|it| OwnerLock::is_held(&it, self.lock()).unwrap_or(false))
        };
        match seen_twice(|| self.places().any(is_had)) {
            true => Err(Error::new(
                ErrorKind::NameTaken,
                format!(
                    "a server that does not share it has the name `{}`: end that one, or let each receiver share \
                     (ReceiverBuilder::shared)",
                    escaped(self.called())
                ),
            )),
            false => Ok(()),
        }
    }
}

/// An observer that looks for dead servers holds a lock for an instant.
fn seen_twice(look: impl Fn() -> bool) -> bool {
    const INSTANT: Duration = Duration::from_millis(10);
    look() && {
        std::thread::sleep(INSTANT);
        look()
    }
}

fn joined(parts: &[&[u8]]) -> OsString {
    OsString::from_vec(parts.concat())
}

/// The number of the member whose lock a file is: of one that was bound by its name, or by its socket's path.
fn number_in(file: &OsStr, prefix: &OsStr) -> Option<usize> {
    let rest = file.as_bytes().strip_prefix(prefix.as_bytes())?.strip_suffix(b".lock")?;
    let rest = rest.strip_suffix(SOCKET_ENDING).unwrap_or(rest);
    let number = str::from_utf8(rest).ok()?.parse().ok()?;
    let is_plain = rest.first().is_some_and(u8::is_ascii_digit) && rest.first() != Some(&b'0');
    (is_plain && (1..=MEMBERS_MAX).contains(&number)).then_some(number)
}

fn open(directory: &Path, server_uid: u32) -> Option<Directory> {
    Directory::open(directory, &[own_user(), server_uid]).ok()
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_asked_in_a_circle() {
        let members = Members::default().with(2).with(64);
        assert_eq!(members.iter().collect::<Vec<_>>(), [2, 64]);
        assert_eq!([0, 2, 64].map(|after| members.next_after(after)), [Some(2), Some(64), Some(2)]);
        assert_eq!(members.without(members).next_after(0), None);
        assert!(members.has(64) && !members.has(0) && !members.has(65));
    }

    #[test]
    fn only_the_lock_of_a_member_tells_of_one() {
        let number = |file: &str| number_in(OsStr::new(file), OsStr::new("jobs@"));
        assert_eq!((number("jobs@1.lock"), number("jobs@64.sock.lock")), (Some(1), Some(64)));
        for file in ["jobs.lock", "jobs@1.sock", "jobs@0.lock", "jobs@01.lock", "jobs@+1.lock", "jobs@65.lock", "jobs@"]
        {
            assert_eq!(number(file), None, "{file}");
        }
    }

    #[test]
    fn the_path_of_a_names_socket_leads_to_those_who_share_the_name() {
        let member = |name: &str| ServiceName::find(OsStr::new(name)).unwrap().member(3).unwrap();
        assert_eq!(member("/run/jobs.sock").path(), Path::new("/run/jobs@3.sock"));
        assert_eq!(member("/run/jobs").path(), Path::new("/run/jobs@3"));
        assert_eq!(member("jobs").path().file_name(), Some(OsStr::new("jobs@3.sock")));
        assert_eq!(member("jobs.sock").called(), "jobs.sock@3");
        let prefix = |name: &str| ServiceName::find(OsStr::new(name)).unwrap().members_prefix();
        assert_eq!(["/run/jobs.sock", "/run/jobs", "jobs"].map(prefix), ["jobs@"; 3].map(OsString::from));
    }
}
