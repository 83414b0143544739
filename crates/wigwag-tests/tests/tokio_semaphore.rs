//! Semaphores whose waiters are tasks: futures that are dropped at any point, processes that are killed, and a thread
//! that does nothing while nobody waits.

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use wigwag::observe::PermitSnapshot;
use wigwag::tokio::Semaphore;
use wigwag::{ErrorKind, OwnedPermit, OwnedPermits};
use wigwag_testing::{Ground, LIMIT, Link, Process, eventually, no_process_starts, role, word};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn run(test: impl Future<Output = ()>) {
    runtime().block_on(async { tokio::time::timeout(LIMIT, test).await.expect("it never ended") });
}

fn named(ground: &Ground) -> PathBuf {
    ground.path("semaphore")
}

async fn open(ground: &Ground, permits: usize) -> Semaphore {
    Semaphore::open(named(ground), permits).await.unwrap()
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn waiting(path: &Path) -> usize {
    PermitSnapshot::of(path).unwrap().waiting.len()
}

async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let reached = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Nobody holds a permit, nobody waits, and nothing keeps a newcomer out.
fn adds_up(semaphore: &Semaphore) -> bool {
    let all = semaphore.try_acquire_many(semaphore.permits());
    all.is_ok() && waiting(&semaphore.path()) == 0
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn task_member() {
    role("task_member", |link, arguments| {
        let path = Path::new(arguments[0]);
        let permits = arguments[1].parse().unwrap();
        let runtime = runtime();
        let semaphore = runtime.block_on(Semaphore::open(path, permits)).unwrap();
        link.tell("open");
        let mut held = Vec::new();
        while let Some(order) = link.hear_at_last() {
            match order.as_str() {
                "acquire" => {
                    held.push(runtime.block_on(semaphore.acquire()).unwrap());
                    link.tell("acquired");
                }
                "wait" => {
                    for _ in 0..10 {
                        let semaphore = semaphore.clone();
                        runtime.spawn(async move { semaphore.acquire().await.map(drop) });
                    }
                    eventually("ten wait", || waiting(path) == 10);
                    link.tell("waiting");
                }
                "storm" => link.tell(runtime.block_on(storm(&semaphore, path))),
                "idle" => idle(&runtime, &semaphore, link),
                "fork" => fork(&runtime, &semaphore, link),
                other => panic!("{other}?"),
            }
        }
    });
}

/// Eight tasks that acquire, give up at any point, and hold the only permit for a moment. How often they had it.
async fn storm(semaphore: &Semaphore, path: &Path) -> usize {
    let seed = u64::from(std::process::id());
    let tasks = (0..8).map(|task| {
        let (semaphore, held) = (semaphore.clone(), path.with_extension("held"));
        tokio::spawn(async move {
            let mut count = 0;
            for round in 0..150 {
                let random = word(seed * 8 + task, round);
                let Some(permit) = give_up_somewhere(&semaphore, random).await else { continue };
                // It is an error if the file is there: then somebody else has the permit.
                drop(File::options().write(true).create_new(true).open(&held).expect("nobody else has the permit"));
                if random.is_multiple_of(3) {
                    tokio::task::yield_now().await;
                }
                std::fs::remove_file(&held).unwrap();
                drop(permit);
                count += 1;
            }
            count
        })
    });
    let mut count = 0;
    for task in tasks.collect::<Vec<_>>() {
        count += task.await.unwrap();
    }
    count
}

/// Acquires, or drops the future: before it was polled, after some polls, or after some time.
async fn give_up_somewhere(semaphore: &Semaphore, random: u64) -> Option<OwnedPermit> {
    let mut acquiring = pin!(semaphore.acquire());
    match random % 4 {
        0 => Some(acquiring.await.unwrap()),
        1 => {
            for _ in 0..random / 4 % 4 {
                if let Poll::Ready(permit) = poll(acquiring.as_mut()) {
                    return Some(permit.unwrap());
                }
                tokio::task::yield_now().await;
            }
            None
        }
        _ => {
            let limit = Duration::from_micros(random / 4 % 3000);
            tokio::time::timeout(limit, acquiring).await.ok().map(Result::unwrap)
        }
    }
}

/// How often the threads of this name have given up their processor, and how many there are.
fn switches(name: &str) -> (u64, usize) {
    let (mut switches, mut count) = (0, 0);
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        if status.lines().next() == Some(&format!("Name:\t{name}")) {
            count += 1;
            let numbers = status.lines().filter(|line| line.contains("ctxt_switches"));
            switches += numbers.map(|line| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()).sum::<u64>();
        }
    }
    (switches, count)
}

/// Says how many threads sleep for tasks before anybody waits, and while nobody waits any more. Does not end if the one
/// that there is does anything while nobody waits, or stays in the end.
fn idle(runtime: &Runtime, semaphore: &Semaphore, link: &Link) {
    let own =
        Semaphore::from_blocking(Arc::new(wigwag::Semaphore::open(semaphore.path(), semaphore.permits()).unwrap()));
    let (_, before) = switches("wigwag-permits");
    runtime.block_on(async {
        let permit = own.acquire().await.unwrap();
        let mut waiting = [pin!(own.acquire()), pin!(own.acquire())];
        waiting.iter_mut().for_each(|acquiring| assert!(poll(acquiring.as_mut()).is_pending()));
        drop(permit);
    });
    // It has nothing to do once it has left the slot on whose word it slept.
    let mut last = switches("wigwag-permits");
    eventually("the thread sleeps", || {
        std::thread::sleep(Duration::from_millis(150));
        std::mem::replace(&mut last, switches("wigwag-permits")) == switches("wigwag-permits")
    });
    let (_, after) = last;
    drop(own);
    // The kernel lists a thread for a moment longer than its end is waited for.
    eventually("the thread is gone", || switches("wigwag-permits").1 == 0);
    link.tell(format_args!("{before} {after}"));
}

/// A child that has a future of its parent's and the handle: says what it got.
fn fork(runtime: &Runtime, semaphore: &Semaphore, link: &Link) {
    let _context = runtime.enter();
    let mut waiting = Box::pin(semaphore.acquire());
    assert!(poll(waiting.as_mut()).is_pending());
    // SAFETY: the child calls only what needs no other thread, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_forked = |outcome: Poll<wigwag::Result<OwnedPermit>>| match outcome {
            Poll::Ready(Err(error)) => error.kind() == ErrorKind::Forked,
            _ => false,
        };
        let is_told = is_forked(poll(waiting.as_mut())) && is_forked(poll(pin!(semaphore.acquire())));
        drop(waiting);
        // SAFETY: no memory is involved.
        unsafe { libc::_exit(if is_told { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: the status is a number of this stack.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    drop(waiting);
    link.tell(status);
}

fn member(ground: &Ground, permits: usize) -> Process {
    let mut member = Process::start("task_member", [named(ground).into_os_string(), permits.to_string().into()]);
    member.expect("open");
    member
}

fn ask(member: &mut Process, order: &str) -> String {
    member.tell(order);
    member.hear()
}

#[test]
fn tasks_are_served_beside_blocking_callers() {
    run(async {
        let ground = Ground::new();
        let semaphore = open(&ground, 1).await;
        let blocking = Arc::new(wigwag::Semaphore::open(named(&ground), 1).unwrap());
        let permit = blocking.acquire_owned().unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..20 {
            let (semaphore, order) = (semaphore.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _permit = semaphore.acquire().await.unwrap();
                order.lock().unwrap().push(number);
            }));
            until("it waits", || waiting(&named(&ground)) == number + 1).await;
        }
        let thread = std::thread::spawn(move || blocking.acquire_owned().map(drop));
        until("the thread waits", || waiting(&semaphore.path()) == 21).await;
        tokio::time::sleep(Duration::from_millis(5)).await; // nobody may pass them any more
        drop(permit);
        for task in tasks {
            task.await.unwrap();
        }
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap().unwrap();
        // A task that is polled late is passed over, so only who was woken in time keeps the order.
        let order = order.lock().unwrap().clone();
        println!("served in this order: {order:?}");
        assert_eq!(order.len(), 20);
        until("it adds up", || adds_up(&semaphore)).await;
    });
}

#[test]
fn who_gives_up_holds_up_nobody_from_that_moment_on() {
    run(async {
        let ground = Ground::new();
        let (semaphore, other) = (open(&ground, 2).await, open(&ground, 2).await);
        for pause in [Duration::ZERO, Duration::from_millis(3), Duration::from_millis(60)] {
            let permit = semaphore.acquire().await.unwrap();
            // The first needs both, and keeps the second from the one that is free, also from a newcomer.
            let mut both = Box::pin(semaphore.acquire_many(2));
            assert!(poll(both.as_mut()).is_pending());
            let mut one = Box::pin(other.acquire_many(1));
            assert!(poll(one.as_mut()).is_pending());
            tokio::time::sleep(pause).await; // the threads are anywhere
            assert!(poll(one.as_mut()).is_pending());
            drop(both);
            // Without a poll of its own it is woken; and a newcomer is not kept out.
            let got: OwnedPermits = one.await.unwrap();
            drop(got);
            let newcomer = other.try_acquire().expect("the one that gave up keeps nobody out");
            drop((permit, newcomer));
            until("it adds up", || adds_up(&semaphore)).await;
        }
    });
}

#[test]
fn a_killed_holders_permit_comes_to_a_task_which_is_told() {
    run(async {
        let ground = Ground::new();
        let semaphore = open(&ground, 1).await;
        let mut holder = tokio::task::spawn_blocking({
            let name = named(&ground);
            move || {
                let mut holder = Process::start("task_member", [name.into_os_string(), "1".into()]);
                holder.expect("open");
                assert_eq!(ask(&mut holder, "acquire"), "acquired");
                holder
            }
        })
        .await
        .unwrap();
        let task = tokio::spawn({
            let semaphore = semaphore.clone();
            async move { semaphore.acquire().await }
        });
        until("it waits", || waiting(&semaphore.path()) == 1).await;
        holder.kill();
        assert!(task.await.unwrap().unwrap().recovered());
        assert!(!semaphore.acquire().await.unwrap().recovered(), "told once");
        // Waiting tasks of a killed process hold up nobody.
        let permit = semaphore.acquire().await.unwrap();
        let mut waiters = member(&ground, 1);
        assert_eq!(ask(&mut waiters, "wait"), "waiting");
        let task = tokio::spawn({
            let semaphore = semaphore.clone();
            async move { semaphore.acquire().await.map(drop) }
        });
        until("it waits behind them", || waiting(&semaphore.path()) == 11).await;
        waiters.kill();
        drop(permit);
        task.await.unwrap().unwrap();
        until("it adds up", || adds_up(&semaphore)).await;
    });
}

#[test]
fn futures_are_dropped_at_any_point_in_several_processes_and_the_permit_adds_up() {
    let ground = Ground::new();
    let runtime = runtime();
    let semaphore = runtime.block_on(open(&ground, 1));
    let mut members: Vec<Process> = (0..3).map(|_| member(&ground, 1)).collect();
    members.iter().for_each(|member| member.tell("storm"));
    let counts: Vec<usize> = members.iter_mut().map(|member| member.hear().parse().unwrap()).collect();
    println!("permits of each process: {counts:?}");
    // A quarter of the futures is awaited to its end.
    assert!(counts.iter().all(|count| *count >= 200), "{counts:?}");
    eventually("it adds up", || adds_up(&semaphore));
}

#[test]
fn more_tasks_than_one_process_lines_up_and_than_there_are_slots_all_have_their_turn() {
    run(async {
        let ground = Ground::new();
        let openings: Vec<Semaphore> = {
            let mut openings = Vec::new();
            for _ in 0..9 {
                openings.push(open(&ground, 2).await);
            }
            openings
        };
        let both = openings[0].acquire_many(2).await.unwrap();
        let mut tasks = Vec::new();
        for (number, semaphore) in openings.iter().enumerate() {
            for _ in 0..if number == 0 { 300 } else { 130 } {
                let semaphore = semaphore.clone();
                tasks.push(tokio::spawn(async move { semaphore.acquire().await.map(drop) }));
            }
        }
        until("all slots are taken", || waiting(&named(&ground)) == 1024).await;
        // Some of those that wait in the process, in a slot or without one, give up.
        tasks.iter().step_by(3).for_each(|task| task.abort());
        drop(both);
        for task in tasks {
            match task.await {
                Ok(outcome) => outcome.unwrap(),
                Err(error) => assert!(error.is_cancelled()),
            }
        }
        until("it adds up", || adds_up(&openings[0])).await;
    });
}

#[test]
fn tasks_that_wait_are_told_that_the_name_is_lost() {
    run(async {
        let ground = Ground::new();
        let semaphore = open(&ground, 1).await;
        let _permit = semaphore.acquire().await.unwrap();
        let waiting = tokio::join!(semaphore.acquire(), semaphore.acquire_many(1), async {
            until("both wait", || waiting(&named(&ground)) == 2).await;
            std::fs::remove_file(named(&ground)).unwrap();
        });
        assert_eq!(waiting.0.unwrap_err().kind(), ErrorKind::NameLost);
        assert_eq!(waiting.1.unwrap_err().kind(), ErrorKind::NameLost);
    });
}

#[test]
fn a_runtime_that_shuts_down_leaves_no_waiter_and_no_permit() {
    let ground = Ground::new();
    let blocking = Arc::new(wigwag::Semaphore::open(named(&ground), 1).unwrap());
    let first = runtime();
    let semaphore = Semaphore::from_blocking(Arc::clone(&blocking));
    for _ in 0..20 {
        let semaphore = semaphore.clone();
        first.spawn(async move {
            let _permit = semaphore.acquire().await.unwrap();
            std::future::pending::<()>().await;
        });
    }
    eventually("all others wait", || waiting(&named(&ground)) == 19);
    drop(semaphore); // so the last one that goes is a future, wherever it is dropped
    drop(first);
    eventually("it adds up", || blocking.try_acquire().is_ok() && waiting(&named(&ground)) == 0);
}

#[test]
fn nothing_runs_while_no_task_waits_and_the_thread_ends_with_the_opening() {
    let ground = Ground::new();
    let mut member = member(&ground, 1);
    assert_eq!(ask(&mut member, "idle"), "0 1");
}

#[test]
fn an_opening_is_closed_when_its_last_handle_is_dropped_whatever_its_thread_does() {
    let _guard = no_process_starts(); // one that starts in the moment of an opening has its file, until it executes
    run(async {
        let ground = Ground::new();
        for round in 0..100 {
            // Another number is an error while anybody has it open.
            let semaphore = open(&ground, 1 + round % 2).await;
            let all = semaphore.acquire_many(semaphore.permits()).await.unwrap();
            assert!(poll(pin!(semaphore.acquire())).is_pending());
            drop(all);
        }
    });
}

#[test]
fn a_forked_child_gets_an_error_and_takes_nothing_from_its_parent() {
    let ground = Ground::new();
    let semaphore = wigwag::Semaphore::open(named(&ground), 1).unwrap();
    let permit = semaphore.acquire().unwrap();
    let mut member = member(&ground, 1);
    assert_eq!(ask(&mut member, "fork"), "0");
    assert_eq!(ask(&mut member, "wait"), "waiting");
    drop(permit);
    eventually("all ten had it", || semaphore.try_acquire_many(1).is_ok() && waiting(&named(&ground)) == 0);
}
