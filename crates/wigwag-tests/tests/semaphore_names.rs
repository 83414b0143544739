//! The file of a semaphore, its name, and the room it needs: what others remove, what is full, and waiters that stay
//! away for ever.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::Signal;
use wigwag::{ErrorKind, Permit, Semaphore};
use wigwag_testing::{Ground, LIMIT, Process, eventually, limited, no_process_starts, role, start, word};

fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().as_raw() == 0;
    if !is_root {
        println!("skipped, because only root can do so: {what}");
    }
    is_root
}

/// Makes this process another user's, for good.
fn become_user(user: u32) {
    // SAFETY: no memory is involved but an empty list.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(user, user, user), 0);
        assert_eq!(libc::setresuid(user, user, user), 0);
    }
}

/// Opens a semaphore and does what it is told.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn member() {
    role("member", |link, arguments| {
        let is_shared = arguments.contains(&"shared");
        let semaphore = match Semaphore::builder().shared_with_children(is_shared).open(arguments[0]) {
            Ok(semaphore) => semaphore,
            Err(error) => return link.tell(format_args!("{error:?}")),
        };
        link.tell("open");
        let mut held: Vec<Permit<'_>> = Vec::new();
        while let Some(order) = link.hear_at_last() {
            match order.as_str() {
                "acquire" => match semaphore.acquire() {
                    Ok(permit) => {
                        held.push(permit);
                        link.tell("acquired");
                    }
                    Err(error) => link.tell(format_args!("{:?}", error.kind())),
                },
                "check" => link.tell(match semaphore.check_name() {
                    Ok(()) => "fine".to_owned(),
                    Err(error) => format!("{:?}", error.kind()),
                }),
                "release" => {
                    held.clear();
                    link.tell("released");
                }
                "fork" => {
                    // SAFETY: the child does nothing but wait for its end.
                    let child = unsafe { libc::fork() };
                    if child == 0 {
                        std::thread::sleep(LIMIT);
                        // SAFETY: no memory is involved.
                        unsafe { libc::_exit(0) };
                    }
                    link.tell(child);
                }
                "spawn" => {
                    #[allow(clippy::zombie_processes, reason = "who asked for it ends it")]
                    let child = Command::new("sleep").arg(LIMIT.as_secs().to_string()).spawn().unwrap();
                    link.tell(child.id());
                }
                other => panic!("{other}"),
            }
        }
    });
}

fn member_of(path: &Path) -> Process {
    let mut member = Process::start("member", [path]);
    member.expect("open");
    member
}

fn ask(member: &mut Process, order: &str) -> String {
    member.tell(order);
    member.hear()
}

fn kill_by_number(number: &str) {
    let process = rustix::process::Pid::from_raw(number.parse().unwrap()).unwrap();
    let _ = rustix::process::kill_process(process, Signal::KILL);
}

#[track_caller]
fn is_lost(path: &Path, says: &str) {
    let error = Semaphore::open(path, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameLost, "{error}");
    assert!(error.to_string().contains(says), "{error} does not say {says:?}");
}

// ---- a waiter that is stopped
// -----------------------------------------------------------------------------------------

#[test]
fn w3_a_waiter_that_is_stopped_keeps_no_permit_from_anybody_however_long() {
    limited(|| {
        // The word that calls it is another one each time, as it is after any time at all: small, large, in between.
        for age in [0, 1, 60_000_000, 1 << 30, (1 << 31) - 7, (1 << 31) + 7, 3_600_000_000] {
            let ground = Ground::new();
            let path = ground.path("x");
            let semaphore = Semaphore::open(&path, 1).unwrap();
            let permit = semaphore.acquire().unwrap();
            let mut waiter = member_of(&path);
            waiter.tell("acquire");
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let spot = |at: u64, len: usize| {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, 4096 + at).unwrap();
                bytes
            };
            let is_closed = || {
                let mut flags = [0; 4];
                file.read_exact_at(&mut flags, 64).unwrap();
                u32::from_ne_bytes(flags) & 2 != 0
            };
            eventually("it has waited for so long that it closed the door", || spot(8, 8) != [0; 8] && is_closed());
            waiter.signal(Signal::STOP);
            let is_stopped =
                || std::fs::read_to_string(format!("/proc/{}/stat", waiter.id())).unwrap().contains(") T ");
            eventually("it is stopped", is_stopped);
            drop(permit);
            eventually("it is called", || spot(16, 4) != [0; 4]);
            let call = u32::from_ne_bytes(spot(16, 4).try_into().unwrap());
            file.write_all_at(&call.wrapping_sub(age).clamp(1, u32::MAX - 1).to_ne_bytes(), 4096 + 16).unwrap();
            // A caller that tries gets it after some tries, and one that waits gets it.
            eventually("who only tries gets it", || semaphore.try_acquire().is_ok());
            drop(semaphore.acquire_timeout(LIMIT).unwrap());
            drop(semaphore.acquire_many_timeout(1, LIMIT).unwrap());
            waiter.signal(Signal::CONT);
            waiter.expect("acquired");
            assert_eq!(semaphore.try_acquire().unwrap_err().kind(), ErrorKind::Full);
        }
    });
}

// ---- names that are taken away
// ----------------------------------------------------------------------------------------

#[test]
fn n1_a_file_that_is_removed_or_replaced_under_a_holder_is_told_to_both_and_no_permit_is_there_twice() {
    limited(|| {
        type Way = fn(&Path);
        let ways: [(&str, Way); 5] = [
            ("removed", |path| std::fs::remove_file(path).unwrap()),
            ("replaced by an empty one", |path| {
                std::fs::remove_file(path).unwrap();
                File::create(path).unwrap();
            }),
            ("replaced by a copy", |path| {
                let bytes = std::fs::read(path).unwrap();
                std::fs::remove_file(path).unwrap();
                std::fs::write(path, bytes).unwrap();
                std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
            }),
            ("moved away", |path| std::fs::rename(path, path.with_extension("old")).unwrap()),
            ("gone with its directory, which was made anew", |path| {
                let directory = path.parent().unwrap();
                std::fs::remove_dir_all(directory).unwrap();
                std::fs::create_dir(directory).unwrap();
                std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700)).unwrap();
            }),
        ];
        for (what, way) in ways {
            let ground = Ground::new();
            let path = ground.path("directory").join("x");
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            std::fs::set_permissions(path.parent().unwrap(), PermissionsExt::from_mode(0o700)).unwrap();
            let mut holder = member_of(&path);
            let mut waiter = member_of(&path);
            assert_eq!(ask(&mut holder, "acquire"), "acquired");
            waiter.tell("acquire");
            assert_eq!(ask(&mut holder, "check"), "fine");
            way(&path);
            println!("{what}");
            // A waiter is told while it waits, and ends its part; a holder is told when it asks.
            waiter.expect("NameLost");
            assert_eq!(ask(&mut holder, "check"), "NameLost");
            is_lost(&path, "processes (");
            waiter.kill();
            is_lost(&path, &format!("process {}", holder.id()));
            assert_eq!(ask(&mut holder, "release"), "released");
            assert_eq!(ask(&mut holder, "acquire"), "NameLost");
            is_lost(&path, &format!("process {}", holder.id()));
            holder.kill();
            let semaphore = Semaphore::open(&path, 1).unwrap();
            drop(semaphore.try_acquire().unwrap());
            semaphore.check_name().unwrap();
        }
    });
}

#[test]
fn n1_nothing_is_left_where_a_lost_name_was_opened_in_vain() {
    limited(|| {
        let ground = Ground::new();
        let holder = member_of(&ground.path("x"));
        std::fs::remove_file(ground.path("x")).unwrap();
        is_lost(&ground.path("x"), &format!("process {}", holder.id()));
        assert!(!ground.path("x").exists());
        // Other names in the same directory are not concerned.
        drop(Semaphore::open(ground.path("y"), 1).unwrap().acquire().unwrap());
    });
}

#[test]
fn n1_children_keep_a_lost_name_only_if_they_share_the_permits() {
    limited(|| {
        let ground = Ground::new();
        let path = ground.path("x");
        // A forked child has nothing.
        let mut holder = member_of(&path);
        let child = ask(&mut holder, "fork");
        std::fs::remove_file(&path).unwrap();
        is_lost(&path, &format!("process {}", holder.id()));
        holder.kill();
        drop(Semaphore::open(&path, 1).unwrap());
        kill_by_number(&child);
        // A program that was started by one who shares has the permit, and so it has the name.
        let mut holder = Process::start("member", [path.as_os_str(), "shared".as_ref()]);
        holder.expect("open");
        assert_eq!(ask(&mut holder, "acquire"), "acquired");
        let child = ask(&mut holder, "spawn");
        std::fs::remove_file(&path).unwrap();
        holder.kill();
        is_lost(&path, &format!("process {child}"));
        kill_by_number(&child);
        eventually("the child is gone", || Semaphore::open(&path, 1).is_ok());
        // A process that shares and closes gives it up, whatever its children do.
        let shared = Semaphore::builder().shared_with_children(true).open(&path).unwrap();
        let mut child = start(Command::new("sleep").arg(LIMIT.as_secs().to_string()));
        drop(shared);
        drop(Semaphore::open(&path, 1).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn n1_who_removes_what_is_old_is_kept_away_as_long_as_a_semaphore_is_open() {
    limited(|| {
        let ground = Ground::new();
        let _guard = no_process_starts();
        // What systemd-tmpfiles does before it looks into a directory (tmpfiles.d(5)).
        let cleaner = File::open(ground.path(".")).unwrap();
        let is_spared = || flock(&cleaner, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
        let semaphore = Semaphore::open(ground.path("x"), 1).unwrap();
        let other = Semaphore::open(ground.path("y"), 1).unwrap();
        assert!(is_spared());
        drop(semaphore);
        assert!(is_spared());
        drop(other);
        assert!(!is_spared());
        // One that is about its work holds up nobody.
        drop(Semaphore::open(ground.path("x"), 1).unwrap());
    });
}

/// The offset at which this process claims the name of the only semaphore that it has open.
fn own_claim(path: &Path) -> u64 {
    let inode = format!(":{}", std::fs::metadata(path).unwrap().ino());
    let list = std::fs::read_to_string("/proc/locks").unwrap();
    let lines = list.lines().filter(|line| line.split_whitespace().any(|word| word.ends_with(&inode)));
    lines.filter_map(|line| line.split_whitespace().nth(6)?.parse().ok()).max().unwrap()
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn pretender() {
    role("pretender", |link, arguments| {
        become_user(60_004);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(arguments[0]).unwrap();
        // SAFETY: all bytes zero is a value of this plain struct of numbers.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = libc::F_WRLCK as libc::c_short;
        lock.l_start = arguments[1].parse().unwrap();
        lock.l_len = 1;
        // SAFETY: the descriptor is open, and `lock` is what this command reads.
        let result = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_OFD_SETLK, &raw const lock) };
        link.tell(result);
        link.hear();
    });
}

#[test]
fn n1_what_another_user_locks_keeps_nobody_from_a_semaphore() {
    limited(|| {
        if !is_root("locks of other users") {
            return;
        }
        let (ground, open_to_all) = (Ground::new(), Ground::new());
        std::fs::set_permissions(open_to_all.path("."), PermissionsExt::from_mode(0o777)).unwrap();
        let path = ground.path("x");
        let semaphore = Semaphore::open(&path, 1).unwrap();
        let claim = own_claim(&path);
        assert!(claim > 1 << 60, "{claim}");
        drop(semaphore);
        let mut pretender =
            Process::start("pretender", [open_to_all.path("file").into_os_string(), claim.to_string().into()]);
        pretender.expect("0");
        drop(Semaphore::open(&path, 1).unwrap().acquire().unwrap());
    });
}

// ---- at random
// --------------------------------------------------------------------------------------------------------

/// The witness: the holder of the permit has its lock, too, and its number stands in it.
fn witness(file: &mut File) -> Result<(), String> {
    loop {
        match flock(&*file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.rewind().unwrap();
                file.read_to_string(&mut text).unwrap();
                let Ok(other) = text.trim().parse::<u32>() else { continue };
                let stat = std::fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
                // A process that is dying lets its memory go, and the permit with it, before its descriptors
                // (PF_EXITING).
                let after_name = stat.rsplit(") ").next().unwrap_or_default();
                let flags = after_name.split(' ').nth(6).and_then(|flags| flags.parse::<u64>().ok());
                if flags.is_some_and(|flags| flags & 4 == 0) {
                    return Err(format!("process {other} has it as well"));
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    file.write_all(std::process::id().to_string().as_bytes()).unwrap();
    Ok(())
}

/// Opens, holds, closes, dies and removes the file as the dice say.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn vandal() {
    role("vandal", |link, arguments| {
        let (path, seed) = (PathBuf::from(arguments[0]), arguments[1].parse::<u64>().unwrap());
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(arguments[2]).unwrap();
        let mut step = 0;
        let mut dice = |most: u64| {
            step += 1;
            word(seed, step) % most
        };
        let mut held = 0;
        for _ in 0..20 {
            let is_shared = dice(4) == 0;
            let semaphore = match Semaphore::builder().shared_with_children(is_shared).open(&path) {
                Ok(semaphore) => semaphore,
                // Lost, or its directory is just not there.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::NameLost | ErrorKind::NotRunning | ErrorKind::PathInvalid | ErrorKind::Io
                    ) =>
                {
                    std::thread::sleep(Duration::from_micros(dice(3_000)));
                    continue;
                }
                Err(error) => return link.tell(format_args!("{error:?}")),
            };
            for _ in 0..dice(30) {
                match semaphore.acquire_timeout(Duration::from_micros(dice(20_000))) {
                    Ok(permit) => {
                        if let Err(why) = witness(&mut file) {
                            return link.tell(why);
                        }
                        if dice(60) == 0 {
                            link.tell(format_args!("dies {held}"));
                            // SAFETY: no memory is involved.
                            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
                        }
                        if dice(3) == 0 {
                            std::thread::sleep(Duration::from_micros(dice(500)));
                        }
                        file.set_len(0).unwrap();
                        flock(&file, FlockOperation::Unlock).unwrap();
                        drop(permit);
                        held += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::NameLost => break,
                    Err(_) => {}
                }
                match dice(75) {
                    0 | 1 => drop(std::fs::remove_file(&path)),
                    2 => drop(std::fs::rename(&path, path.with_extension("old"))),
                    3 => {
                        let directory = path.parent().unwrap();
                        let _ = std::fs::remove_dir_all(directory);
                        let _ = std::fs::create_dir(directory);
                    }
                    // A child that lives on for a while, with all that a fork inherits.
                    // SAFETY: the child does nothing but wait for its end.
                    4 if unsafe { libc::fork() } == 0 => {
                        std::thread::sleep(Duration::from_micros(10_000));
                        // SAFETY: no memory is involved.
                        unsafe { libc::_exit(0) };
                    }
                    _ => {}
                }
            }
        }
        link.tell(format_args!("ends {held}"));
    });
}

#[test]
fn n1_processes_that_open_hold_die_and_remove_the_file_at_random_never_hold_one_permit_twice() {
    limited(|| {
        let ground = Ground::new();
        let path = ground.path("directory").join("x");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let mut held = 0;
        let witness = ground.path("witness");
        let start =
            |seed: u64| Process::start("vandal", [path.as_os_str(), seed.to_string().as_ref(), witness.as_os_str()]);
        let mut vandals: Vec<Process> = (0..5).map(start).collect();
        // More of them for who looks for what is rare.
        let last_seed = std::env::var("WIGWAG_VANDALS").ok().and_then(|lives| lives.parse().ok()).unwrap_or(60);
        for seed in 5..last_seed {
            let vandal = vandals.remove(0);
            let last = vandal.hear_at_last().unwrap_or_default();
            let mut words = last.split(' ');
            assert!(matches!(words.next(), Some("dies" | "ends")), "{last}");
            held += words.next().unwrap().parse::<usize>().unwrap();
            vandals.push(start(seed));
        }
        println!("a permit was held {held} times");
        assert!(held > 0);
        drop(vandals);
        eventually("the name is free again", || {
            Semaphore::open(&path, 1).is_ok_and(|semaphore| semaphore.acquire().is_ok())
        });
    });
}

// ---- room, and modes
// --------------------------------------------------------------------------------------------------

/// Opens a semaphore under odd circumstances, and tells what becomes of it and of the directory.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn cramped() {
    role("cramped", |link, arguments| {
        let directory = Path::new(arguments[0]);
        let path = directory.join("x");
        let mount = |flags: libc::c_ulong, options: &str| {
            let [directory, tmpfs, options] =
                [directory.to_str().unwrap(), "tmpfs", options].map(|text| std::ffi::CString::new(text).unwrap());
            // SAFETY: all texts live for the call.
            let result = unsafe {
                libc::mount(tmpfs.as_ptr(), directory.as_ptr(), tmpfs.as_ptr(), flags, options.as_ptr().cast())
            };
            assert_eq!(result, 0);
        };
        if matches!(arguments[1], "full" | "inodes" | "read only") {
            // SAFETY: no memory is involved; the texts live for the call.
            unsafe {
                assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
                let flags = libc::MS_REC | libc::MS_PRIVATE;
                assert_eq!(libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null()), 0);
            }
        }
        match arguments[1] {
            "full" => mount(0, "size=24k,mode=700"),
            "inodes" => mount(0, "nr_inodes=1,mode=700"),
            "read only" => mount(libc::MS_RDONLY, "mode=700"),
            "limit" => {
                let limit = rustix::process::Rlimit { current: Some(1000), maximum: Some(1000) };
                rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
            }
            "umask" => {
                become_user(60_005);
                // SAFETY: no memory is involved.
                unsafe { libc::umask(0o777) };
            }
            other => panic!("{other}"),
        }
        link.tell(match Semaphore::open(&path, 1) {
            Ok(semaphore) => {
                let again = Semaphore::open(&path, 1).map(|again| again.available());
                format!("{again:?} {:03o}", std::fs::metadata(semaphore.path()).unwrap().mode() & 0o777)
            }
            Err(error) => error.to_string(),
        });
        link.tell(std::fs::read_dir(directory).unwrap().count());
    });
}

#[test]
fn n5_where_there_is_no_room_it_is_said_and_nothing_is_left() {
    let ground = Ground::new();
    let shown = ground.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let mut cases = vec![("limit", "raise `ulimit -f`".to_owned())];
    if is_root("file systems that are full") {
        cases.push(("full", format!("no space left in {shown}: ")));
        cases.push(("inodes", format!("no space left in {shown}: ")));
        cases.push(("read only", format!("{shown} is mounted for reading only")));
    }
    for (case, says) in cases {
        let mut cramped = Process::start("cramped", [ground.path("").as_os_str(), case.as_ref()]);
        let told = cramped.hear();
        assert!(told.contains(&says), "{case}: {told:?} does not say {says:?}");
        assert!(case != "full" || told.contains("40960 bytes"), "{told}");
        assert!(!told.contains("Bad address"), "{told}");
        cramped.expect("0");
    }
}

#[test]
fn n4_a_semaphore_that_is_made_under_any_umask_can_be_opened_again() {
    if !is_root("another user, whom the mode of a file binds") {
        return;
    }
    let ground = Ground::new();
    chown(ground.path(""), Some(60_005), Some(60_005)).unwrap();
    let mut cramped = Process::start("cramped", [ground.path("").as_os_str(), "umask".as_ref()]);
    cramped.expect("Ok(1) 600");
}
