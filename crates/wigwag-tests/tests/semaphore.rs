//! Semaphores between processes: counting, dying, waiting, forking, and what is left behind. Figures are printed
//! (`--nocapture`); what is asserted is only that nothing hangs and nothing is lost.

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use wigwag::{ErrorKind, Permit, Permits, Semaphore};
use wigwag_testing::{Ground, LIMIT, Link, Process, eventually, no_process_starts, role, start};

/// Does what it is told with a semaphore: a word for each order, a word back.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn member() {
    role("member", |link, arguments| {
        let permits = arguments[1].parse().unwrap();
        let semaphore = Semaphore::builder()
            .permits(permits)
            .shared_with_children(arguments.contains(&"shared"))
            .open(arguments[0]);
        let semaphore = match semaphore {
            Ok(semaphore) => semaphore,
            Err(error) => return link.tell(format_args!("{:?}", error.kind())),
        };
        link.tell("open");
        obey(link, &semaphore);
    });
}

fn obey(link: &Link, semaphore: &Semaphore) {
    let mut held: Vec<Permit<'_>> = Vec::new();
    let mut many: Vec<Permits<'_>> = Vec::new();
    while let Some(order) = link.hear_at_last() {
        let number = || order.split(' ').nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap();
        match order.split(' ').next().unwrap() {
            "acquire" => {
                held.push(semaphore.acquire().unwrap());
                link.tell(if held.last().unwrap().recovered() { "recovered" } else { "acquired" });
            }
            "try" => match semaphore.try_acquire() {
                Ok(permit) => {
                    held.push(permit);
                    link.tell("acquired");
                }
                Err(error) => link.tell(format_args!("{:?}", error.kind())),
            },
            "many" => {
                many.push(semaphore.acquire_many(number() as usize).unwrap());
                link.tell("acquired");
            }
            "release" => {
                drop(held.pop());
                link.tell("released");
            }
            "timeout" => match semaphore.acquire_timeout(Duration::from_millis(number())) {
                Ok(_) => link.tell("acquired"),
                Err(error) => link.tell(format_args!("{:?}", error.kind())),
            },
            // A child that does not execute anything, and lives on.
            "fork" => {
                // SAFETY: the child calls only what needs no other thread, and ends by `_exit`.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    let is_told = semaphore.acquire().unwrap_err().kind() == ErrorKind::Forked
                        && semaphore.try_acquire_many(1).unwrap_err().kind() == ErrorKind::Forked
                        && semaphore.available() == 0;
                    held.clear(); // the parent's
                    std::thread::sleep(Duration::from_secs(number()));
                    // SAFETY: no memory is involved.
                    unsafe { libc::_exit(if is_told { 0 } else { 1 }) };
                }
                link.tell(child);
            }
            "spawn" => {
                #[allow(clippy::zombie_processes, reason = "who asked for it ends it")]
                let child = Command::new("sleep").arg(number().to_string()).spawn().unwrap();
                link.tell(child.id());
            }
            "exec" => {
                use std::os::unix::process::CommandExt;
                link.tell("executing");
                panic!("{}", Command::new("sleep").arg(number().to_string()).exec());
            }
            // Holds and gives back as fast as it can, and says how often that was.
            "busy" => {
                let begin = Instant::now();
                let mut rounds = 0u64;
                while begin.elapsed() < Duration::from_millis(number()) {
                    drop(semaphore.acquire().unwrap());
                    rounds += 1;
                }
                link.tell(rounds);
            }
            other => panic!("{other}?"),
        }
    }
}

fn member_of(path: &Path, permits: usize) -> Process {
    let mut member = Process::start("member", [path.as_os_str().to_owned(), permits.to_string().into()]);
    member.expect("open");
    member
}

fn ask(member: &mut Process, order: &str) -> String {
    member.tell(order);
    member.hear()
}

/// Orders something that does not end at once.
fn begin(member: &Process, order: &str) {
    member.tell(order);
    assert!(!member.has_said_something(Duration::from_millis(30)).unwrap(), "{order}: at once");
}

/// Stops a process, and waits until each of its threads stands still: the signal alone does not.
fn stop(member: &Process) {
    member.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", member.id());
    let stands_still = |task: PathBuf| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    eventually("the process stands still", || {
        std::fs::read_dir(&tasks).unwrap().all(|task| stands_still(task.unwrap().path()))
    });
}

fn kill_by_number(number: &str) {
    let pid = rustix::process::Pid::from_raw(number.parse().unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

fn named(ground: &Ground) -> PathBuf {
    ground.path("semaphore")
}

// ---- counting -------------------------------------------------------------------------------------------------------

#[test]
fn permits_are_counted_across_processes() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 3).unwrap();
    let mut member = member_of(&named(&ground), 3);
    assert_eq!(ask(&mut member, "acquire"), "acquired");
    assert_eq!((semaphore.available(), semaphore.permits()), (2, 3));
    let two = semaphore.try_acquire_many(2).unwrap();
    assert_eq!((two.len(), two.recovered()), (2, 0));
    let error = semaphore.try_acquire().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("1 of 3 permits were asked for, and 0 are free"), "{error}");
    assert_eq!(ask(&mut member, "try"), "Full");
    drop(two);
    assert_eq!(ask(&mut member, "try"), "acquired");
    assert_eq!(semaphore.try_acquire_many(2).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(semaphore.available(), 1, "what was taken of too few went back");
    for wrong in [0, 4] {
        assert_eq!(semaphore.acquire_many(wrong).unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    }
    assert_eq!(ask(&mut member, "release"), "released");
    assert_eq!(semaphore.available(), 2);
    let mode = std::fs::metadata(named(&ground)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn another_count_is_an_error_that_shows_both() {
    let ground = Ground::new();
    let _guard = no_process_starts();
    let semaphore = Semaphore::open(named(&ground), 3).unwrap();
    let error = Semaphore::open(named(&ground), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch);
    assert!(error.to_string().contains("open with 3 permits, and was opened with 1 permit here"), "{error}");
    drop(semaphore);
    assert!(!named(&ground).exists(), "the last one takes the file with it");
    assert_eq!(Semaphore::open(named(&ground), 1).unwrap().available(), 1);
    for wrong in [0, 4097, usize::MAX] {
        let error = Semaphore::open(named(&ground), wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert!(error.to_string().contains("1 to 4096 are possible"), "{error}");
    }
    assert_eq!(Semaphore::open(named(&ground), 4096).unwrap().available(), 4096);
}

#[test]
fn unsafe_directories_and_files_of_others_are_refused() {
    let ground = Ground::new();
    let open = ground.path("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(Semaphore::open(open.join("x"), 1).unwrap_err().kind(), ErrorKind::DirectoryUnsafe);
    assert_eq!(Semaphore::open(ground.path("gone/x"), 1).unwrap_err().kind(), ErrorKind::PathInvalid);

    // A file with something in it is nobody's semaphore, and stays as it is.
    for text in ["precious", &"precious".repeat(100)] {
        std::fs::write(named(&ground), text).unwrap();
        let error = Semaphore::open(named(&ground), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PathInvalid);
        assert!(error.to_string().contains("is not a semaphore"), "{error}");
        assert_eq!(std::fs::read_to_string(named(&ground)).unwrap(), text);
    }
    std::fs::write(named(&ground), "").unwrap();
    std::fs::set_permissions(named(&ground), std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = Semaphore::open(named(&ground), 1).unwrap_err();
    assert!(error.to_string().contains("may be written to by others (mode 666)"), "{error}");
    std::fs::remove_file(named(&ground)).unwrap();
    std::os::unix::fs::symlink("elsewhere", named(&ground)).unwrap();
    assert_eq!(Semaphore::open(named(&ground), 1).unwrap_err().kind(), ErrorKind::Io);
    assert!(!ground.path("elsewhere").exists());
}

// ---- death ----------------------------------------------------------------------------------------------------------

#[test]
fn a_killed_holders_permit_comes_back_and_the_next_one_is_told_once() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    let mut member = member_of(&named(&ground), 1);
    assert_eq!(ask(&mut member, "acquire"), "acquired");
    let longest = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let permit = semaphore.acquire().unwrap();
            let now = Instant::now();
            assert!(permit.recovered());
            now
        });
        std::thread::sleep(Duration::from_millis(120));
        member.signal(Signal::KILL);
        let killed = Instant::now();
        waiter.join().unwrap() - killed
    });
    println!("a killed holder's permit was back after {longest:?}");
    assert!(!semaphore.acquire().unwrap().recovered(), "told once");

    // Without a waiter the next try has it.
    let mut member = member_of(&named(&ground), 1);
    assert_eq!(ask(&mut member, "acquire"), "acquired");
    member.kill();
    std::thread::sleep(Duration::from_millis(2));
    assert!(semaphore.try_acquire().unwrap().recovered());
}

#[test]
fn who_dies_after_it_was_told_is_told_again_to_the_next() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    for _ in 0..3 {
        let mut member = member_of(&named(&ground), 1);
        let heard = ask(&mut member, "acquire");
        member.kill();
        assert!(["acquired", "recovered"].contains(&heard.as_str()));
    }
    assert!(semaphore.acquire().unwrap().recovered());
}

#[test]
fn a_killed_waiter_holds_up_nobody() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    let permit = semaphore.acquire().unwrap();
    let mut first = member_of(&named(&ground), 1);
    begin(&first, "acquire");
    let mut second = member_of(&named(&ground), 1);
    begin(&second, "acquire");
    first.kill();
    drop(permit);
    assert_eq!(second.hear(), "acquired");
    second.kill();
    assert!(semaphore.acquire().unwrap().recovered());
}

/// A waiter that was called and is killed before it comes loses the call: another waiter notices.
#[test]
fn a_waiter_that_is_killed_between_its_call_and_its_coming_loses_no_permit() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    for round in 0..20 {
        let permit = semaphore.acquire().unwrap();
        let mut first = member_of(&named(&ground), 1);
        begin(&first, "acquire");
        let mut second = member_of(&named(&ground), 1);
        begin(&second, "acquire");
        // Stopped, it is called and cannot come; then it is killed.
        stop(&first);
        drop(permit);
        if round % 2 == 0 {
            assert!(["acquired", "recovered"].contains(&second.hear().as_str()));
            first.kill();
        } else {
            first.kill();
            assert!(["acquired", "recovered"].contains(&second.hear().as_str()));
        }
        assert_eq!(ask(&mut second, "release"), "released");
        drop(second);
        assert_eq!(semaphore.available(), 1);
    }
}

#[test]
fn a_stopped_holder_keeps_its_permit_and_a_stopped_waiter_holds_up_nobody() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 2).unwrap();
    let mut holder = member_of(&named(&ground), 2);
    assert_eq!(ask(&mut holder, "acquire"), "acquired");
    let permit = semaphore.acquire().unwrap();
    let waiter = member_of(&named(&ground), 2);
    begin(&waiter, "acquire");
    stop(&holder);
    stop(&waiter);
    assert!(semaphore.acquire_timeout(Duration::from_millis(300)).is_err(), "silence is not death");
    drop(permit);
    let begin = Instant::now();
    for _ in 0..100 {
        drop(semaphore.acquire().unwrap());
    }
    println!("100 rounds beside a stopped waiter: {:?}", begin.elapsed());
    waiter.signal(Signal::CONT);
    let mut waiter = waiter;
    assert_eq!(waiter.hear(), "acquired");
    holder.signal(Signal::CONT);
    assert_eq!(ask(&mut holder, "release"), "released");
    assert_eq!(semaphore.available(), 1);
}

// ---- children -------------------------------------------------------------------------------------------------------

#[test]
fn a_forked_child_has_nothing_and_keeps_nothing() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    let mut member = member_of(&named(&ground), 1);
    assert_eq!(ask(&mut member, "acquire"), "acquired");
    let child = ask(&mut member, "fork 100");
    assert_eq!(semaphore.try_acquire().unwrap_err().kind(), ErrorKind::Full, "the child gave the parent's back");
    member.kill();
    // The child lives, and has every descriptor that the parent had.
    assert!(semaphore.acquire().unwrap().recovered());
    kill_by_number(&child);
}

#[test]
fn a_child_that_ends_takes_nothing_from_its_parent() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    let _permit = semaphore.acquire().unwrap();
    let mut member = member_of(&named(&ground), 1);
    assert_eq!(ask(&mut member, "try"), "Full");
    for _ in 0..3 {
        assert!(start(&mut Command::new("true")).wait().unwrap().success());
        ask(&mut member, "fork 0");
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(ask(&mut member, "try"), "Full");
    assert!(named(&ground).exists());
}

#[test]
fn executing_another_program_gives_everything_back() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    let mut member = member_of(&named(&ground), 1);
    assert_eq!(ask(&mut member, "acquire"), "acquired");
    assert_eq!(ask(&mut member, "exec 100"), "executing");
    assert!(semaphore.acquire().unwrap().recovered());
    assert!(member.is_alive());
}

#[test]
fn permits_that_are_shared_with_children_last_as_long_as_they_do() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    let mut member = Process::start("member", [named(&ground).as_os_str().to_owned(), "1".into(), "shared".into()]);
    member.expect("open");
    assert_eq!(ask(&mut member, "acquire"), "acquired");
    let child = ask(&mut member, "spawn 100");
    member.kill();
    assert!(semaphore.acquire_timeout(Duration::from_millis(200)).is_err(), "its child lives");
    kill_by_number(&child);
    assert!(semaphore.acquire().unwrap().recovered());

    // Closed in good order, its children have nothing more.
    let mut sleeper = {
        let shared = Semaphore::builder().shared_with_children(true).open(ground.path("other")).unwrap();
        let _permit = shared.acquire().unwrap();
        start(Command::new("sleep").arg("100"))
    };
    assert!(!ground.path("other").exists());
    assert_eq!(Semaphore::open(ground.path("other"), 5).unwrap().available(), 5);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

// ---- what is left behind --------------------------------------------------------------------------------------------

#[test]
fn once_everybody_is_dead_it_begins_afresh_and_still_tells() {
    let ground = Ground::new();
    for permits in [1, 2, 5] {
        let mut member = member_of(&named(&ground), permits);
        let heard = ask(&mut member, "acquire");
        assert_eq!(heard, if permits == 1 { "acquired" } else { "recovered" });
        member.kill();
    }
    let _guard = no_process_starts();
    let semaphore = Semaphore::open(named(&ground), 3).unwrap();
    assert_eq!(semaphore.available(), 3);
    let all = semaphore.acquire_many(3).unwrap();
    assert_eq!(all.recovered(), 1);
    drop(all);
    drop(semaphore);
    assert!(!named(&ground).exists(), "everything is told");
}

#[test]
fn what_nobody_has_been_told_of_stays_in_the_file() {
    let ground = Ground::new();
    let mut member = member_of(&named(&ground), 1);
    assert_eq!(ask(&mut member, "acquire"), "acquired");
    member.kill();
    let _guard = no_process_starts();
    drop(Semaphore::open(named(&ground), 1).unwrap());
    assert!(named(&ground).exists());
    assert!(Semaphore::open(named(&ground), 1).unwrap().acquire().unwrap().recovered());
    assert!(!named(&ground).exists());
}

#[test]
fn descriptors_and_mappings_go_with_the_handle() {
    let ground = Ground::new();
    // Of this file only: other tests run beside.
    let count = || {
        let leads_here = |target: PathBuf| target.to_string_lossy().contains(&*named(&ground).to_string_lossy());
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        let descriptors = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mappings = maps.lines().filter(|line| line.contains(&*named(&ground).to_string_lossy())).count();
        (descriptors.filter(|target| leads_here(target.clone())).count(), mappings)
    };
    assert_eq!(count(), (0, 0));
    let semaphore = Semaphore::open(named(&ground), 2).unwrap();
    assert_eq!(count(), (1, 1), "one descriptor to see the others' lives by");
    drop(semaphore);
    assert_eq!(count(), (0, 0));
}

/// Closes, and opens in vain, with no descriptor left.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_member() {
    role("poor_member", |link, arguments| {
        let path = Path::new(arguments[0]);
        let limit = |most: u64| {
            setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(1000) }).unwrap();
        };
        let (first, second) = (Semaphore::open(path, 2).unwrap(), Semaphore::open(path, 2).unwrap());
        limit(0);
        drop(first);
        assert!(path.exists(), "somebody has it open");
        drop(second.try_acquire().unwrap());
        drop(second);
        link.tell(if path.exists() { "left" } else { "removed" });
        limit(1000);
        let first_free = rustix::io::dup(std::io::stdin()).unwrap().as_raw_fd() as u64;
        for spare in 0.. {
            limit(first_free + spare);
            match Semaphore::open(path, 2) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.os_error(), Some(libc::EMFILE), "{error}"),
            }
            assert!(!path.exists(), "with {spare} descriptors it leaves an empty file");
        }
        assert!(!path.exists());
        link.tell("opened");
    });
}

#[test]
fn a_semaphore_that_is_closed_without_a_descriptor_left_leaves_no_file() {
    let ground = Ground::new();
    let mut member = Process::start("poor_member", [named(&ground)]);
    member.expect("removed");
    member.expect("opened");
    member.join();
}

#[test]
fn opening_and_closing_at_the_same_time_never_splits_a_semaphore() {
    let ground = Ground::new();
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    // Each is an opener of its own; between two of them there may be no file.
                    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
                    let _permit = semaphore.acquire().unwrap();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two have the one permit");
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    // A process that another test starts holds what is being opened for the moment between its fork and its exec, so
    // that the last one to close may not have been the last one to live.
    eventually("the last one takes the file away", || {
        drop(Semaphore::open(named(&ground), 1).unwrap());
        !named(&ground).exists()
    });
}

// ---- waiting --------------------------------------------------------------------------------------------------------

#[test]
fn a_timeout_is_kept_and_leaves_nothing() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 2).unwrap();
    let both = semaphore.acquire_many(2).unwrap();
    for milliseconds in [0, 1, 120] {
        let timeout = Duration::from_millis(milliseconds);
        let begin = Instant::now();
        let error = semaphore.acquire_timeout(timeout).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut { maybe_executed: false }), "{error}");
        assert!(begin.elapsed() >= timeout);
        assert!(semaphore.acquire_many_timeout(2, timeout).is_err());
    }
    drop(both);
    assert_eq!(semaphore.try_acquire_many(2).unwrap().len(), 2, "the door is open");
    assert!(semaphore.acquire_timeout(Duration::MAX).is_ok());
}

#[test]
fn who_needs_many_is_not_passed_over_for_ever() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 4).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let _permit = semaphore.acquire().unwrap();
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
        }
        eventually("they are busy", || semaphore.available() == 0);
        let begin = Instant::now();
        for _ in 0..10 {
            assert_eq!(semaphore.acquire_many(4).unwrap().len(), 4);
        }
        println!("all four, ten times, beside four who are busy: {:?}", begin.elapsed());
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(semaphore.available(), 4);
}

#[test]
fn waiters_are_served_in_the_order_in_which_they_came() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    let permit = semaphore.acquire().unwrap();
    let served = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (semaphore, served) = (&semaphore, &served);
            scope.spawn(move || {
                let _permit = semaphore.acquire().unwrap();
                served.lock().unwrap().push(number);
            });
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(permit);
    });
    let served = served.into_inner().unwrap();
    println!("served in the order {served:?}");
    assert_eq!(served.len(), 8);
}

#[test]
fn nobody_starves_beside_processes_that_are_busy() {
    let ground = Ground::new();
    let mut busy: Vec<Process> = (0..4).map(|_| member_of(&named(&ground), 1)).collect();
    let semaphore = Semaphore::open(named(&ground), 1).unwrap();
    for member in &busy {
        member.tell("busy 1000");
    }
    let (mut waits, begin) = (Vec::new(), Instant::now());
    while begin.elapsed() < Duration::from_millis(900) {
        let before = Instant::now();
        drop(semaphore.acquire_timeout(LIMIT).unwrap());
        waits.push(before.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    let rounds: Vec<u64> = busy.iter_mut().map(|member| member.hear().parse().unwrap()).collect();
    println!("rounds of each: {rounds:?}; longest of {} waits: {:?}", waits.len(), waits.iter().max().unwrap());
    assert!(rounds.iter().all(|rounds| *rounds > 0), "{rounds:?}");
}

#[test]
fn many_processes_share_few_permits_and_none_is_lost() {
    let ground = Ground::new();
    let semaphore = Semaphore::open(named(&ground), 3).unwrap();
    let mut members: Vec<Process> = (0..12).map(|_| member_of(&named(&ground), 3)).collect();
    for member in &members {
        member.tell("busy 300");
    }
    for member in members.iter_mut().step_by(2) {
        std::thread::sleep(Duration::from_millis(20));
        member.kill();
    }
    for member in members.iter_mut().skip(1).step_by(2) {
        assert!(member.hear().parse::<u64>().unwrap() > 0);
    }
    drop(members);
    eventually("all permits are back", || semaphore.available() == 3);
}

#[test]
fn a_permit_that_keeps_its_semaphore_is_given_back_by_another_thread_and_closes_it_last() {
    let _guard = no_process_starts();
    let ground = Ground::new();
    let observer = Semaphore::open(named(&ground), 3).unwrap();
    let semaphore = Arc::new(Semaphore::open(named(&ground), 3).unwrap());
    drop((semaphore.acquire_owned().unwrap(), semaphore.acquire_many_owned(2).unwrap()));
    assert_eq!(observer.available(), 3, "given back");
    let one = semaphore.acquire_owned().unwrap();
    let two = semaphore.acquire_many_owned(2).unwrap();
    assert_eq!((one.recovered(), two.len(), two.recovered(), observer.available()), (false, 2, 0, 0));
    assert_eq!(semaphore.try_acquire_owned().unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(semaphore.try_acquire_many_owned(2).unwrap_err().kind(), ErrorKind::Full);
    let error = semaphore.acquire_owned_timeout(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }));
    let error = semaphore.acquire_many_owned_timeout(3, Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }));
    drop(semaphore); // what is held keeps it
    assert_eq!(observer.available(), 0);
    std::thread::spawn(move || drop(two)).join().unwrap();
    assert_eq!(observer.available(), 2);
    drop(observer);
    assert_eq!(Semaphore::open(named(&ground), 4).unwrap_err().kind(), ErrorKind::ContractMismatch);
    drop(one);
    assert_eq!(Semaphore::open(named(&ground), 4).unwrap().available(), 4);
}
