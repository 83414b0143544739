//! The runtime directory: which one, why, and whether names can be made there. The rules are the library's own.

use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, statfs, statvfs};
use wigwag::runtime::{Rule, RuntimeDirectory};

use super::finding::{Report, Section::Directory};
use crate::output::shell_word;

/// File systems by number (statfs(2)): those in memory, and those on which sockets, locks or shared mappings may not
/// work.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
const DOUBTFUL: [(u64, &str); 6] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x4d44, "FAT"),
];

/// Room below which there is none: a semaphore's file has some hundreds of kilobytes at most.
const ROOM_MIN: u64 = 1 << 20;

/// Looks at the directory of names.
pub fn examine(directory: &RuntimeDirectory, report: &mut Report) {
    place(directory, report);
    let path = directory.path();
    let there = match directory.check() {
        Ok(true) => {
            report.ok(Directory, "directory-safe", format!("{} is private: {}", path.display(), owner_and_mode(path)));
            path.to_owned()
        }
        Ok(false) => {
            report.ok(
                Directory,
                "directory-safe",
                format!("{} is not there; the first server makes it", path.display()),
            );
            path.parent().unwrap_or(path).to_owned()
        }
        Err(error) => {
            report.wrong(Directory, "directory-safe", error.to_string(), cure(path));
            return;
        }
    };
    writable(&there, report);
    file_system(&there, report);
}

fn place(directory: &RuntimeDirectory, report: &mut Report) {
    let path = directory.path().display();
    let stated = std::env::var_os("XDG_RUNTIME_DIR").filter(|stated| !stated.is_empty());
    if let Some(stated) = stated.filter(|stated| !Path::new(stated).is_absolute()) {
        report.note(
            Directory,
            "directory-variable",
            format!("XDG_RUNTIME_DIR is {}, which is no absolute path, so it is ignored", shell_word(&stated)),
            "set it to an absolute path, or unset it",
        );
    }
    match directory.rule() {
        Rule::Stated => report.ok(Directory, "directory-place", format!("names are in {path}, by XDG_RUNTIME_DIR")),
        Rule::Named => report.ok(Directory, "directory-place", format!("names are in {path}, by WIGWAG_DIRECTORY")),
        Rule::Temporary => report.ok(
            Directory,
            "directory-place",
            format!("names are in {path}, the same for all programs of this user, whether it is logged in or not"),
        ),
        _ => report.note(
            Directory,
            "directory-place",
            format!(
                "names are in {path}, because /tmp/wigwag-{} cannot be had: programs for which that is otherwise, or \
                 with \
                 another TMPDIR, may not find each other",
                rustix::process::geteuid().as_raw()
            ),
            "set WIGWAG_DIRECTORY to one directory of this user for all of them (mode 700, in memory, such as under \
             /run)",
        ),
    }
}

/// What to do about a directory that the library does not use: the outer one first, because the inner one lies in it.
fn cure(path: &Path) -> String {
    let parent = path.parent().unwrap_or(path);
    cure_of(parent, true).or_else(|| cure_of(path, false)).unwrap_or_else(|| {
        format!("make {} a directory of your own: rm -r it, or set WIGWAG_DIRECTORY to another one", path.display())
    })
}

fn cure_of(path: &Path, is_outer: bool) -> Option<String> {
    let word = shell_word(path.as_os_str());
    let Ok(stat) = std::fs::symlink_metadata(path) else {
        return is_outer.then(|| format!("mkdir -m 700 {word}, or unset XDG_RUNTIME_DIR"));
    };
    let own = rustix::process::geteuid().as_raw();
    // The temporary directory is everybody's, and ours lies in it safely: it has the sticky bit.
    let is_shared = stat.mode() & 0o1000 != 0 && is_outer;
    if stat.file_type().is_symlink() {
        let target = std::fs::canonicalize(path).map(|target| target.display().to_string()).unwrap_or_default();
        return Some(match is_outer {
            true => format!("set XDG_RUNTIME_DIR to the directory itself: {target}"),
            false => format!("rm {word}: the first server makes a directory there"),
        });
    }
    if !stat.is_dir() {
        let kind = if stat.file_type().is_socket() { "a socket" } else { "a file" };
        return Some(match is_outer {
            true => format!("set XDG_RUNTIME_DIR to a directory; {} is {kind}", path.display()),
            false => format!("rm {word}: it is {kind}, and the first server makes a directory there"),
        });
    }
    let lacks = stat.uid() == own && stat.mode() & 0o700 != 0o700 && !is_outer;
    if lacks {
        return Some(format!("chmod 700 {word}"));
    }
    if stat.uid() != own && stat.uid() != 0 {
        return Some(format!(
            "run this program as user {}, or set XDG_RUNTIME_DIR to a directory of user {own} (after sudo: unset it)",
            stat.uid()
        ));
    }
    (stat.mode() & 0o022 != 0 && !is_shared).then(|| format!("chmod go-w {word}"))
}

fn owner_and_mode(path: &Path) -> String {
    match std::fs::symlink_metadata(path) {
        Ok(stat) => format!("of user {}, mode {:03o}", stat.uid(), stat.mode() & 0o7777),
        Err(error) => error.to_string(),
    }
}

fn writable(there: &Path, report: &mut Report) {
    let read_only = statvfs(there).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    match access(there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if !read_only => {}
        _ if read_only => report.wrong(
            Directory,
            "directory-writable",
            format!("{} lies on a file system that is mounted for reading only", there.display()),
            "set WIGWAG_DIRECTORY to a directory of this user on another one, such as a tmpfs",
        ),
        _ => report.wrong(
            Directory,
            "directory-writable",
            format!("this user cannot make files in {}", there.display()),
            format!("chmod u+rwx {}, or set WIGWAG_DIRECTORY to another directory", shell_word(there.as_os_str())),
        ),
    }
}

fn file_system(there: &Path, report: &mut Report) {
    let Ok(stat) = statfs(there) else { return };
    let kind = stat.f_type as u64 & 0xffff_ffff;
    let mount = mount_point(there);
    let place = format!("{} (mounted at {})", there.display(), mount.display());
    if let Some((_, name)) = DOUBTFUL.iter().find(|(number, _)| *number == kind) {
        report.note(
            Directory,
            "directory-filesystem",
            format!("{place} is {name}: sockets, locks or shared mappings may not work there"),
            "set WIGWAG_DIRECTORY to a directory of this user on a tmpfs",
        );
    } else if IN_MEMORY.contains(&kind) {
        report.ok(Directory, "directory-filesystem", format!("{place} is in memory"));
    } else {
        report.note(
            Directory,
            "directory-filesystem",
            format!("{place} is on a disk: a semaphore that is in use is written to it now and then"),
            "set WIGWAG_DIRECTORY to a directory of this user on a tmpfs",
        );
    }
    let Ok(room) = statvfs(there) else { return };
    let bytes = room.f_bavail.saturating_mul(room.f_frsize);
    let no_files = room.f_files > 0 && room.f_favail == 0;
    if bytes < ROOM_MIN || no_files {
        let what = if no_files { "no file more can be made".to_owned() } else { format!("{bytes} bytes are left") };
        report.wrong(
            Directory,
            "directory-room",
            format!("{place} is full: {what}"),
            "remove what is not needed there, or make the file system larger (mount -o remount,size=)",
        );
    }
}

/// Where the file system is mounted: the outermost directory on the same device.
fn mount_point(there: &Path) -> PathBuf {
    let there = std::fs::canonicalize(there).unwrap_or_else(|_| there.to_owned());
    let device = |path: &Path| std::fs::metadata(path).map(|stat| stat.dev()).ok();
    let own = device(&there);
    there.ancestors().take_while(|path| device(path) == own).last().unwrap_or(&there).to_owned()
}

/// A name in it, for sentences.
pub fn file(directory: &RuntimeDirectory, name: &OsStr, ending: &str) -> String {
    let mut file = name.to_owned();
    file.push(ending);
    shell_word(directory.path().join(file).as_os_str())
}
