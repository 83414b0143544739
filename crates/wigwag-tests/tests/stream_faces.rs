//! The faces of a stream against a plain model: whichever way bytes are read and written, and whoever the other end is,
//! they come in order; in a forked child each of them is an error; and a wait that could not be set up can be tried
//! again.

use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::time::timeout;
use wigwag::{Error, ErrorKind, Stream, StreamListener};
use wigwag_testing::{Ground, LIMIT, Process, eventually, role, word};

/// The users that the writing process is of: this one, and if this one is root, another.
fn users() -> Vec<u32> {
    let own = rustix::process::geteuid().as_raw();
    if own != 0 {
        println!("skipped, because only root can play another user: peers of other users");
    }
    if own == 0 { vec![0, 60_002] } else { vec![own] }
}

fn byte(seed: u64, at: usize) -> u8 {
    word(seed, at as u64 / 8).to_le_bytes()[at % 8]
}

fn pattern(seed: u64, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| byte(seed, at)).collect()
}

/// Numbers that look random and are the same each time.
struct Dice(u64, u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.1 += 1;
        (word(self.0, self.1) % most as u64) as usize
    }
}

/// Writes a pattern by all faces in turn, as another user if it is told to, and ends well.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn writer() {
    role("writer", |link, arguments| {
        let [user, seed, total] = [1, 2, 3].map(|at| arguments[at].parse::<u64>().unwrap());
        let server = rustix::process::geteuid().as_raw();
        if user as u32 != server {
            // SAFETY: no memory is involved but an empty list.
            unsafe {
                let user = user as libc::uid_t;
                assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
                assert_eq!(libc::setresgid(user, user, user), 0);
                assert_eq!(libc::setresuid(user, user, user), 0);
            }
        }
        let stream = Stream::builder().server_user(server).connect(arguments[0]).unwrap();
        let (_reading, mut writing) = stream.into_split().unwrap();
        let (mut done, mut dice, total) = (0, Dice(seed, 0), total as usize);
        while done < total {
            let wish = (1 + dice.below(6_000)).min(total - done);
            let bytes = pattern(seed, done, wish);
            let (one, two) = bytes.split_at(dice.below(wish + 1));
            done += match dice.below(4) {
                0 => writing.write(&bytes).unwrap(),
                1 => writing.write_vectored(&[IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(two)]).unwrap(),
                2 => writing.try_write(&bytes).unwrap().unwrap_or(0),
                _ => {
                    let room = writing.write_buf().unwrap();
                    let count = wish.min(room.len());
                    room[..count].copy_from_slice(&bytes[..count]);
                    writing.commit(count);
                    count
                }
            };
        }
        drop(writing); // a good end
        link.hear();
    });
}

/// A listener that all can reach, and a writer of that user.
fn written_by(user: u32, seed: u64, total: usize) -> (Ground, StreamListener, Process) {
    let ground = Ground::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(ground.path("."), open).unwrap();
    // Smaller than what is copied at a time of another user's, and larger.
    let ring = if seed % 4 < 2 { 4096 } else { 64 << 10 };
    let listener = StreamListener::builder().ring_bytes(ring).allow_everyone().bind(ground.socket()).unwrap();
    let place = ground.socket();
    let numbers = [user.to_string(), seed.to_string(), total.to_string()];
    let arguments: Vec<_> = [place.into_os_string()].into_iter().chain(numbers.map(Into::into)).collect();
    let writer = Process::start("writer", arguments);
    (ground, listener, writer)
}

#[track_caller]
fn check(found: &[u8], seed: u64, done: &mut usize, face: &str) {
    assert!(found == pattern(seed, *done, found.len()), "{face} at byte {done}");
    *done += found.len();
}

/// Reads some of the bytes that are to come, `total` in all, by whichever face the dice show.
fn read_somehow(stream: &mut impl BufRead, dice: &mut Dice, seed: u64, done: &mut usize, total: usize) {
    let wish = (1 + dice.below(3_000)).min(total - *done);
    let mut piece = vec![0; wish];
    match dice.below(6) {
        0 => {
            let count = stream.read(&mut piece).unwrap();
            check(&piece[..count], seed, done, "read");
        }
        1 => {
            let [first, second] = [dice.below(wish + 1), dice.below(wish + 1)];
            let (one, rest) = piece.split_at_mut(first.min(second));
            let (two, three) = rest.split_at_mut(first.max(second) - first.min(second));
            let mut three_of_them = [one, two, three].map(IoSliceMut::new);
            let count = stream.read_vectored(&mut three_of_them).unwrap();
            check(&piece[..count], seed, done, "read_vectored");
        }
        2 => {
            let bytes = stream.fill_buf().unwrap();
            let count = dice.below(bytes.len() + 1); // often fewer than there are
            check(&bytes[..count], seed, done, "fill_buf");
            stream.consume(count);
        }
        3 => {
            stream.read_exact(&mut piece).unwrap();
            check(&piece, seed, done, "read_exact");
        }
        4 => {
            let mut bytes = Vec::new();
            assert_eq!(stream.by_ref().take(wish as u64).read_to_end(&mut bytes).unwrap(), wish);
            check(&bytes, seed, done, "read_to_end of some");
        }
        _ => {
            let mut line = Vec::new();
            stream.by_ref().take(wish as u64).read_until(7, &mut line).unwrap();
            check(&line, seed, done, "read_until");
        }
    }
}

#[test]
fn d4_every_way_to_read_gives_the_bytes_in_order_whoever_wrote_them() {
    const TOTAL: usize = 200_000;
    for user in users() {
        for seed in 0..6 {
            let (_ground, listener, _writer) = written_by(user, seed, TOTAL);
            let mut stream = listener.accept().unwrap();
            assert_eq!(stream.peer().uid, user);
            let (mut done, mut dice) = (0, Dice(!seed, 0));
            if seed % 2 == 0 {
                while done < TOTAL {
                    read_somehow(&mut stream, &mut dice, seed, &mut done, TOTAL);
                }
                assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
            } else {
                let (mut reading, _writing) = stream.into_split().unwrap();
                while done < TOTAL {
                    if dice.below(2) == 0 {
                        read_somehow(&mut reading, &mut dice, seed, &mut done, TOTAL);
                    } else {
                        let mut piece = vec![0; 1 + dice.below(3_000)];
                        let count = reading.try_read(&mut piece).unwrap().unwrap_or(0);
                        check(&piece[..count], seed, &mut done, "try_read");
                    }
                }
                assert_eq!(reading.try_read(&mut [0; 8]).unwrap().unwrap_or(0), 0);
                assert_eq!(reading.read(&mut [0; 8]).unwrap(), 0);
            }
        }
    }
}

#[test]
fn d4_several_buffers_after_a_look_begin_where_the_look_ended_whoever_wrote_them() {
    for user in users() {
        let (_ground, listener, _writer) = written_by(user, 3, 20_000);
        let mut stream = listener.accept().unwrap();
        eventually("a look at more than is taken", || stream.fill_buf().unwrap().len() > 12);
        stream.consume(4);
        let (mut two, mut three) = ([0; 4], [0; 4]);
        let mut both = [IoSliceMut::new(&mut two), IoSliceMut::new(&mut three)];
        assert_eq!(stream.read_vectored(&mut both).unwrap(), 8);
        assert_eq!([two, three].concat(), pattern(3, 4, 8), "of user {user}");
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).unwrap(), 20_000 - 12);
        assert!(rest == pattern(3, 12, 20_000 - 12), "of user {user}");
    }
}

#[test]
fn d4_once_this_end_has_shut_its_reading_nothing_is_read_whoever_wrote_it() {
    for user in users() {
        let (_ground, listener, _writer) = written_by(user, 4, 4_000);
        let mut stream = listener.accept().unwrap();
        eventually("something to look at", || stream.fill_buf().unwrap().len() > 8);
        stream.shutdown(Shutdown::Read).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "of user {user}");
        assert_eq!(stream.fill_buf().unwrap(), b"", "of user {user}");
    }
}

#[test]
fn d4_every_way_to_read_in_a_task_gives_the_bytes_in_order_whoever_wrote_them() {
    const TOTAL: usize = 200_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for user in users() {
        for seed in 10..14 {
            let (_ground, listener, _writer) = written_by(user, seed, TOTAL);
            let accepted = listener.accept().unwrap();
            let read = async {
                let mut stream = wigwag::tokio::Stream::from_blocking(accepted).unwrap();
                let (mut done, mut dice) = (0, Dice(!seed, 0));
                while done < TOTAL {
                    let wish = (1 + dice.below(3_000)).min(TOTAL - done);
                    let mut piece = vec![0; wish];
                    match dice.below(5) {
                        0 => {
                            let count = stream.read(&mut piece).await.unwrap();
                            check(&piece[..count], seed, &mut done, "read");
                        }
                        1 => {
                            let bytes = stream.fill_buf().await.unwrap();
                            let count = dice.below(bytes.len() + 1);
                            check(&bytes[..count], seed, &mut done, "fill_buf");
                            stream.consume(count);
                        }
                        2 => {
                            stream.read_exact(&mut piece).await.unwrap();
                            check(&piece, seed, &mut done, "read_exact");
                        }
                        3 => {
                            let mut bytes = Vec::with_capacity(wish);
                            stream.read_buf(&mut bytes).await.unwrap();
                            check(&bytes, seed, &mut done, "read_buf");
                        }
                        _ => {
                            let mut line = Vec::new();
                            (&mut stream).take(wish as u64).read_until(7, &mut line).await.unwrap();
                            check(&line, seed, &mut done, "read_until");
                        }
                    }
                }
                assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
            };
            runtime.block_on(async { timeout(LIMIT, read).await.expect("it never ended") });
        }
    }
}

// ---- in a forked child
// ------------------------------------------------------------------------------------------------

fn pair() -> (Ground, StreamListener, Stream, Stream) {
    let ground = Ground::new();
    let listener = StreamListener::builder().ring_bytes(4096).bind(ground.socket()).unwrap();
    let connecting = Stream::connect(ground.socket()).unwrap();
    let accepted = listener.accept().unwrap();
    (ground, listener, connecting, accepted)
}

fn is_forked<T>(result: std::io::Result<T>) -> bool {
    let kind = |error: std::io::Error| error.get_ref()?.downcast_ref::<Error>().map(Error::kind);
    result.err().and_then(kind) == Some(ErrorKind::Forked)
}

/// Forks, and ends the child with the number of the first answer that is not the right one.
#[track_caller]
fn in_a_child(answers: impl FnOnce() -> Vec<bool>) {
    // SAFETY: the child calls only what needs no other thread, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let wrong = answers().iter().position(|is_right| !is_right);
        // SAFETY: no memory is involved.
        unsafe { libc::_exit(wrong.map_or(0, |index| index as i32 + 1)) };
    }
    let mut status = 0;
    // SAFETY: the pointer is good for the call.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "the child was killed by signal {}", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "the number of the first answer that is wrong");
}

/// All of it in a process of its own, which has no other threads while it forks.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn parent() {
    role("parent", |link, _| {
        let (_ground, listener, connecting, mut accepted) = pair();
        let (_ground_2, _listener_2, whole, mut whole_accepted) = pair();
        accepted.write_all(b"hello").unwrap();
        let (reading, mut writing) = connecting.into_split().unwrap();
        writing.write_buf().unwrap();
        let mut handles = Some((reading, writing, whole, listener));
        in_a_child(|| {
            let (mut reading, mut writing, whole, listener) = handles.take().unwrap();
            let mut piece = [0; 4];
            let mut answers = vec![
                is_forked(reading.arm_read()),
                is_forked(writing.arm_write()),
                is_forked(reading.try_read(&mut piece)),
                is_forked(reading.try_read(&mut [])),
                is_forked(reading.read(&mut piece)),
                is_forked(reading.read(&mut [])),
                is_forked(reading.read_vectored(&mut [])),
                is_forked(reading.read_vectored(&mut [IoSliceMut::new(&mut piece)])),
                is_forked(reading.fill_buf().map(|_| ())),
                is_forked(writing.write(b"x")),
                is_forked(writing.write(b"")),
                is_forked(writing.try_write(b"x")),
                is_forked(writing.try_write(b"")),
                is_forked(writing.write_vectored(&[])),
                is_forked(writing.write_vectored(&[IoSlice::new(b"x")])),
                is_forked(writing.shutdown()),
                is_forked(writing.abort("in a child")),
                is_forked(reading.abort("in a child")),
                is_forked(whole.shutdown(Shutdown::Both)),
                is_forked(whole.abort("in a child")),
                is_forked(listener.accept()),
                is_forked(writing.write_buf().map(|_| ())),
            ];
            writing.commit(4000); // what the parent was lent: nothing happens, and nobody panics
            reading.consume(3);
            reading.set_read_timeout(Some(LIMIT)).unwrap();
            writing.set_write_timeout(Some(LIMIT)).unwrap();
            writing.set_abort_on_drop(true);
            answers.push(format!("{reading:?} {writing:?} {whole:?} {listener:?}").contains("peer"));
            answers.push(reading.peer() == writing.peer());
            answers.push(is_forked(whole.into_split().map(|_| ()).map_err(std::io::Error::from)));
            drop((reading, writing, listener));
            answers
        });
        // The parent's are as they were, also what sleeps and is woken by an epoll that both have.
        let (mut reading, mut writing, whole, listener) = handles.unwrap();
        let (mut other_reading, mut other_writing) = whole.into_split().unwrap();
        while other_writing.try_write(&[7; 512]).unwrap().is_some() {}
        let thread = std::thread::spawn(move || other_writing.write(&[7; 512]).map(|count| (count, other_writing)));
        let mut taken = vec![0; 4096];
        whole_accepted.read_exact(&mut taken).unwrap();
        assert_eq!(thread.join().unwrap().unwrap().0, 512);
        whole_accepted.write_all(b"x").unwrap();
        assert_eq!(other_reading.read(&mut taken).unwrap(), 1);
        assert_eq!(reading.read(&mut taken).unwrap(), 5);
        writing.commit(3);
        assert_eq!(accepted.read(&mut taken).unwrap(), 3);
        let connecting = Stream::connect(listener.path()).unwrap();
        assert_eq!(listener.accept().unwrap().peer(), connecting.peer());
        link.tell("as they were");
    });
}

#[test]
fn w12_every_call_of_a_stream_in_a_forked_child_is_an_error_and_the_parents_goes_on() {
    Process::start("parent", [""]).expect("as they were");
}

/// With tasks: what a child drops stays in its parent's reactor.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn parent_of_tasks() {
    role("parent_of_tasks", |link, _| {
        let ground = Ground::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = wigwag::tokio::StreamListener::bind(ground.socket()).unwrap();
            let (connecting, accepted) =
                tokio::join!(wigwag::tokio::Stream::connect(ground.socket()), listener.accept());
            let (mut connecting, mut accepted) = (connecting.unwrap(), accepted.unwrap());
            let waits = timeout(Duration::from_millis(1), connecting.read_u8()).await;
            assert!(waits.is_err(), "nothing was written yet");
            let mut handles = Some((connecting, listener));
            in_a_child(|| {
                let (connecting, listener) = handles.take().unwrap();
                let is_told = is_forked(connecting.abort("in a child"));
                drop((connecting, listener));
                vec![is_told]
            });
            let (mut connecting, listener) = handles.unwrap();
            // The tasks that wait are others than the one that makes what they wait for: only the reactor wakes them.
            let task = tokio::spawn(async move { connecting.read_u8().await.unwrap() });
            tokio::task::yield_now().await;
            tokio::io::AsyncWriteExt::write_u8(&mut accepted, 5).await.unwrap();
            assert_eq!(timeout(LIMIT, task).await.expect("it is woken").unwrap(), 5);
            let task = tokio::spawn(async move { listener.accept().await.unwrap().peer() });
            tokio::task::yield_now().await;
            let connected = wigwag::tokio::Stream::connect(ground.socket()).await.unwrap();
            assert_eq!(timeout(LIMIT, task).await.expect("it is woken").unwrap(), connected.peer());
        });
        link.tell("as they were");
    });
}

#[test]
fn w12_a_stream_of_tasks_that_a_forked_child_drops_stays_its_parents() {
    Process::start("parent_of_tasks", [""]).expect("as they were");
}

// ---- a wait that cannot be set up
// -------------------------------------------------------------------------------------

/// From now on this thread cannot add that descriptor to any epoll: there is no memory for it (seccomp(2)).
fn forbid_watching(descriptor: RawFd) {
    // struct seccomp_data: number at 0, arguments from 16 on, eight bytes each.
    let load = |offset: u32| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let unless = |k: u32, jf: u8| libc::sock_filter { code: 0x15, jt: 0, jf, k };
    let verdict = |k: u32| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let mut filter = [
        load(0),
        unless(libc::SYS_epoll_ctl as u32, 5),
        load(16 + 8),
        unless(libc::EPOLL_CTL_ADD as u32, 3),
        load(16 + 16),
        unless(descriptor as u32, 1),
        verdict(libc::SECCOMP_RET_ERRNO | libc::ENOMEM as u32),
        verdict(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program lives for the calls and has its own length.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// What this process has open, by what kind of descriptor it is.
fn descriptors(kind: &str) -> Vec<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let number = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok();
    let is_it = |number: &RawFd| {
        std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok_and(|to| to.to_string_lossy().contains(kind))
    };
    entries.filter_map(number).filter(is_it).collect()
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn writer_without_memory() {
    role("writer_without_memory", |link, arguments| {
        // As in a process at its limit of watches: the registration of this one descriptor fails.
        let before = descriptors(arguments[1]);
        let mut stream = Stream::connect(Path::new(arguments[0])).unwrap();
        let is_fresh = |new: &RawFd| !before.contains(new);
        let Some(descriptor) =
            descriptors(arguments[1]).into_iter().filter(is_fresh).nth(arguments[2].parse().unwrap())
        else {
            return link.tell("there is none");
        };
        stream.write_all(&[7; 4096]).unwrap(); // the ring is full
        stream.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        let failed = std::thread::scope(|scope| {
            let mut stream = &stream;
            let thread = scope.spawn(move || {
                forbid_watching(descriptor);
                stream.write(b"x").unwrap_err()
            });
            thread.join().unwrap()
        });
        link.tell(format_args!("{:?}", failed.kind()));
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"late").unwrap();
        link.tell("written");
        link.hear();
    });
}

#[test]
fn w8_a_writer_whose_wait_could_not_be_set_up_can_sleep_the_next_time() {
    for kind in ["socket:", "pidfd", "eventfd"] {
        let mut failures = 0;
        for index in 0.. {
            let ground = Ground::new();
            let listener = StreamListener::builder().ring_bytes(4096).bind(ground.socket()).unwrap();
            let place = ground.socket().into_os_string();
            let mut writer = Process::start("writer_without_memory", [place, kind.into(), index.to_string().into()]);
            let mut stream = listener.accept().unwrap();
            match writer.hear().as_str() {
                "there is none" => break,
                failed => failures += usize::from(failed != "TimedOut"),
            }
            let mut bytes = vec![0; 4100];
            stream.read_exact(&mut bytes).unwrap();
            assert!(bytes.ends_with(b"late"));
            writer.expect("written");
        }
        assert!(failures > 0, "no registration of a {kind} failed");
    }
}

#[test]
fn what_a_line_reader_above_it_makes_of_it_is_the_same_whoever_wrote_it() {
    for user in users() {
        let (_ground, listener, _writer) = written_by(user, 21, 30_000);
        let mut bytes = Vec::new();
        BufReader::new(listener.accept().unwrap()).read_to_end(&mut bytes).unwrap();
        assert!(bytes == pattern(21, 0, 30_000), "of user {user}");
    }
}
