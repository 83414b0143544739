//! The list of all file locks, `/proc/locks` (proc_locks(5)), and whose they are: how a lock is found on a file that
//! has lost its name.
//!
//! Open-file-description locks stand there without a process, but with the file's device and inode, in every PID
//! namespace. The processes that have the file are then looked for among those of this user, in `/proc/PID/maps` and
//! `/proc/PID/fd`. So what another user locks to look alike is not taken for one of ours.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{major, minor};

/// A file by the device and the inode that the kernel prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// As `MAJOR:MINOR`, in hexadecimal digits.
    device: String,
    inode: u64,
}

/// The files on which somebody has an exclusive open-file-description lock that begins in this range.
pub fn files_locked_at(range: &std::ops::Range<u64>) -> Vec<ListedFile> {
    // The kernel gives the list in parts, and an unlock between two of them can make it skip an entry: reading twice is
    // enough to find one that stays.
    let mut files = Vec::new();
    for _ in 0..2 {
        let list = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        for file in list.lines().filter_map(|line| locked_file(line, range)) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    files
}

/// Whether the list can be read here: there may be no `/proc`, or one of processes alone (`subset=pid`).
pub fn are_listed() -> bool {
    std::fs::File::open("/proc/locks").is_ok()
}

/// `1: OFDLCK ADVISORY  WRITE -1 00:2f:1234 100 100`
fn locked_file(line: &str, range: &std::ops::Range<u64>) -> Option<ListedFile> {
    let mut words = line.split_ascii_whitespace().skip(1);
    if words.next()? != "OFDLCK" || words.next()? != "ADVISORY" || words.next()? != "WRITE" {
        return None;
    }
    let file = words.nth(1)?;
    let (device, inode) = file.rsplit_once(':').filter(|(device, _)| device.contains(':'))?;
    let start: u64 = words.next()?.parse().ok()?;
    range.contains(&start).then_some(ListedFile { device: device.to_owned(), inode: inode.parse().ok()? })
}

/// The processes of this user that have the file mapped, as far as they can be seen; if none has, those that have it
/// open, as the children have of one who shares its permits with them.
pub fn users_of(file: &ListedFile) -> Vec<u32> {
    let own_uid = rustix::process::geteuid().as_raw();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let of_own = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        (entry.metadata().ok()?.uid() == own_uid).then_some(process)
    });
    let of_own: Vec<u32> = of_own.collect();
    let those_who = |have: fn(u32, &ListedFile) -> bool| {
        of_own.iter().copied().filter(|process| have(*process, file)).collect::<Vec<u32>>()
    };
    let mapped = those_who(has_mapped);
    if mapped.is_empty() { those_who(has_open) } else { mapped }
}

/// `7f00-7f01 rw-s 00000000 00:2f 1234    /run/user/1000/wigwag/x.semaphore (deleted)`
fn has_mapped(process: u32, file: &ListedFile) -> bool {
    mapped_as(process, file).is_some()
}

/// The path by which a process has a file mapped, as the kernel tells it now, and whether that path has been taken from
/// it since.
pub fn path_of(process: u32, file: &ListedFile) -> Option<(PathBuf, bool)> {
    let path = mapped_as(process, file)?;
    let kept = path.strip_suffix(b" (deleted)");
    Some((PathBuf::from(OsStr::from_bytes(kept.unwrap_or(&path))), kept.is_some()))
}

fn mapped_as(process: u32, file: &ListedFile) -> Option<Vec<u8>> {
    let maps = std::fs::read(format!("/proc/{process}/maps")).unwrap_or_default();
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        // Addresses, rights, offset, device, inode, and after blanks the path to the end of the line.
        let mut words = line.split(|byte| *byte == b' ');
        let device = words.by_ref().nth(3)?;
        let inode: u64 = str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let is_it = device == file.device.as_bytes() && inode == file.inode;
        is_it.then(|| words.skip_while(|word| word.is_empty()).collect::<Vec<_>>().join(&b' '))
    })
}

fn has_open(process: u32, file: &ListedFile) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    descriptors.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok()).any(|stat| {
        stat.ino() == file.inode && format!("{:02x}:{:02x}", major(stat.dev()), minor(stat.dev())) == file.device
    })
}

#[cfg(test)]
mod tests {
    use wigwag_testing::no_process_starts;

    use super::*;
    use crate::sys::memory::Mapping;
    use crate::sys::record_lock;

    #[test]
    fn a_lock_is_found_although_its_file_has_no_name_and_its_descriptor_is_closed() {
        let _guard = no_process_starts();
        let base = 1 << 61;
        let find = || files_locked_at(&(base..base + 8));
        let (named, file) = (tempfile::NamedTempFile::new().unwrap(), tempfile::tempfile().unwrap());
        named.as_file().set_len(4096).unwrap();
        file.set_len(4096).unwrap();
        assert!(find().is_empty());
        assert!(
            record_lock::take_claim(&file, base + 3).unwrap() && record_lock::take_claim(&named, base + 9).unwrap()
        );
        let [found] = &find()[..] else { panic!("{:?}", find()) };
        assert_eq!(found.inode, file.metadata().unwrap().ino());
        assert_eq!(users_of(found), [std::process::id()]);
        let mapping = Mapping::new(&file, 4096, 0).unwrap();
        drop(file);
        assert_eq!(find().len(), 1);
        assert_eq!(users_of(&find()[0]), [std::process::id()]);
        let (path, is_taken) = path_of(std::process::id(), &find()[0]).unwrap();
        assert!(path.parent() == Some(&std::env::temp_dir()) && is_taken, "{path:?}");
        drop(mapping);
        // A child that another test starts has a copy until it executes its program.
        wigwag_testing::eventually("it is let go", || find().is_empty());
    }

    #[test]
    fn lines_that_say_something_else_are_passed_over() {
        let _guard = no_process_starts();
        let range = 100..200;
        let found = locked_file("1: OFDLCK ADVISORY  WRITE -1 00:2f:1234 100 100", &range);
        assert_eq!(found, Some(ListedFile { device: "00:2f".into(), inode: 1234 }));
        for line in [
            "",
            "1:",
            "1: OFDLCK ADVISORY  WRITE -1 00:2f:1234 200 200",
            "1: OFDLCK ADVISORY  READ -1 00:2f:1234 100 100",
            "1: POSIX  ADVISORY  WRITE 77 00:2f:1234 100 100",
            "1: FLOCK  ADVISORY  WRITE 77 00:2f:1234 0 EOF",
            "1: -> OFDLCK ADVISORY  WRITE -1 00:2f:1234 100 100",
            "1: OFDLCK ADVISORY  WRITE -1 <none>:0 100 100",
            "1: OFDLCK ADVISORY  WRITE -1 00:2f:x 100 100",
        ] {
            assert_eq!(locked_file(line, &range), None, "{line}");
        }
    }
}
