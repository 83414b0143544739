//! Streams between threads and processes: every byte in order at every size, every way to end, every way to wait.

use std::io::{BufRead, ErrorKind as Io, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use wigwag::{Client, Error, ErrorKind, Server, Stream, StreamListener, Wait};
use wigwag_testing::{Ground, LIMIT, Over, Process, Raw, Snapshot, eventually, role, word};

const WAITS: [Wait; 3] = [Wait::Adaptive, Wait::Park, Wait::Spin];

/// The byte at a place of the pattern that a seed stands for.
fn byte(seed: u64, at: usize) -> u8 {
    word(seed, at as u64 / 8).to_le_bytes()[at % 8]
}

fn fill(bytes: &mut [u8], seed: u64, from: usize) {
    for (index, byte_of) in bytes.iter_mut().enumerate() {
        *byte_of = byte(seed, from + index);
    }
}

#[track_caller]
fn check(bytes: &[u8], seed: u64, from: usize) {
    for (index, &found) in bytes.iter().enumerate() {
        assert_eq!(found, byte(seed, from + index), "at byte {}", from + index);
    }
}

/// Sizes that look random and are the same each time.
fn size(seed: u64, step: usize, most: usize) -> usize {
    1 + word(!seed, step as u64) as usize % most
}

fn pair_with(ring: usize, wait: Wait) -> (Stream, Stream) {
    let ground = Ground::new();
    let listener = StreamListener::builder().ring_bytes(ring).wait(wait).bind(ground.socket()).unwrap();
    let connecting = Stream::builder().wait(wait).connect(ground.socket()).unwrap();
    (connecting, listener.accept().unwrap())
}

fn pair() -> (Stream, Stream) {
    pair_with(4096, Wait::Adaptive)
}

/// Writes a pattern in pieces of many sizes.
fn write_pattern(mut stream: impl Write, seed: u64, total: usize, most: usize) {
    let (mut done, mut piece, mut step) = (0, vec![0; most], 0);
    while done < total {
        let len = size(seed, step, most).min(total - done);
        fill(&mut piece[..len], seed, done);
        stream.write_all(&piece[..len]).unwrap();
        done += len;
        step += 1;
    }
}

/// Reads to the end and checks a pattern, in pieces of other sizes.
#[track_caller]
fn read_pattern(mut stream: impl Read, seed: u64, most: usize) -> usize {
    let (mut done, mut piece, mut step) = (0, vec![0; most], 0);
    loop {
        let len = size(seed ^ 77, step, most);
        match stream.read(&mut piece[..len]).unwrap() {
            0 => return done,
            count => {
                check(&piece[..count], seed, done);
                done += count;
            }
        }
        step += 1;
    }
}

#[track_caller]
fn inside(error: &std::io::Error) -> ErrorKind {
    error.get_ref().and_then(|error| error.downcast_ref::<Error>()).expect("an error of ours is inside").kind()
}

fn wait_readable(fd: impl AsFd) {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)),
        Ok(1),
        "the descriptor never became readable"
    );
}

fn is_readable(fd: impl AsFd) -> bool {
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1)
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

#[test]
fn every_byte_arrives_in_order_at_all_sizes_however_both_ends_wait() {
    for wait in WAITS {
        for (ring, most, total) in [(4096, 17, 100_000), (4096, 9000, 2_000_000), (1 << 16, 100_000, 20_000_000)] {
            let (mut connecting, accepted) = pair_with(ring, wait);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut there = &accepted;
                    write_pattern(&mut there, 5, total, most);
                    accepted.shutdown(Shutdown::Write).unwrap();
                });
                assert_eq!(read_pattern(&mut connecting, 5, most), total);
            });
        }
    }
}

#[test]
fn both_directions_run_at_a_time_through_halves_and_through_shared_streams() {
    let total = 3_000_000;
    let (connecting, accepted) = pair();
    let (mut reading, mut writing) = connecting.into_split().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            write_pattern(&mut writing, 1, total, 5000);
            drop(writing);
        });
        scope.spawn(|| {
            write_pattern(&accepted, 2, total, 5000);
            accepted.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| assert_eq!(read_pattern(&accepted, 1, 7000), total));
        assert_eq!(read_pattern(&mut reading, 2, 7000), total);
    });
}

#[test]
fn calls_and_answers_go_to_and_fro() {
    for wait in WAITS {
        let (mut connecting, mut accepted) = pair_with(4096, wait);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut request = [0; 64];
                while accepted.read_exact(&mut request).is_ok() {
                    request.iter_mut().for_each(|byte| *byte = !*byte);
                    accepted.write_all(&request).unwrap();
                }
            });
            for call in 0..3_000 {
                let (mut request, mut reply) = ([0; 64], [0; 64]);
                fill(&mut request, call, 0);
                connecting.write_all(&request).unwrap();
                connecting.read_exact(&mut reply).unwrap();
                reply.iter_mut().for_each(|byte| *byte = !*byte);
                assert_eq!(reply, request);
                if call % 500 == 0 {
                    std::thread::sleep(Duration::from_millis(2)); // the other end falls asleep
                }
            }
            drop(connecting);
        });
    }
}

#[test]
fn bytes_are_lent_where_they_lie_also_across_the_end_of_the_ring() {
    let (mut connecting, mut accepted) = pair();
    let mut done = 0;
    for step in 0..200 {
        let room = connecting.write_buf().unwrap();
        assert_eq!(room.len(), 4096, "all of the ring is one slice, wherever it begins");
        let len = size(3, step, 4096);
        fill(&mut room[..len], 9, done);
        connecting.commit(len);
        let there = accepted.fill_buf().unwrap();
        assert_eq!(there.len(), len);
        check(there, 9, done);
        assert_eq!(accepted.fill_buf().unwrap().len(), len, "nothing was consumed");
        accepted.consume(len / 2);
        accepted.consume(len - len / 2);
        accepted.consume(1_000_000); // no more than there is
        done += len;
    }
    connecting.write_all(b"a line\nand another").unwrap();
    drop(connecting);
    assert_eq!(accepted.lines().collect::<Result<Vec<_>, _>>().unwrap(), ["a line", "and another"]);
}

#[test]
#[should_panic(expected = "a commit of 4097 bytes, where 4096 were lent")]
fn a_commit_of_more_than_was_lent_panics() {
    let (mut connecting, _accepted) = pair();
    connecting.write_buf().unwrap();
    connecting.commit(4097);
}

#[test]
#[should_panic(expected = "where 0 were lent")]
fn what_was_lent_before_a_write_cannot_be_committed() {
    let (mut connecting, _accepted) = pair();
    connecting.write_buf().unwrap();
    connecting.write_all(b"x").unwrap();
    connecting.commit(1);
}

#[test]
fn several_buffers_are_written_and_read_at_once_and_empty_ones_do_not_count() {
    let (mut connecting, mut accepted) = pair();
    let there = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b" and two")];
    assert_eq!(connecting.write_vectored(&there).unwrap(), 11);
    let (mut first, mut second) = ([0; 5], [0; 100]);
    let mut into = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(accepted.read_vectored(&mut into).unwrap(), 11);
    assert_eq!((&first[..], &second[..6]), (&b"one a"[..], &b"nd two"[..]));
    assert_eq!(connecting.write(&[]).unwrap(), 0);
    assert_eq!(accepted.read(&mut []).unwrap(), 0, "and it does not wait");
    let full = vec![7; 3000];
    assert_eq!(connecting.write_vectored(&[IoSlice::new(&full), IoSlice::new(&full)]).unwrap(), 4096);
}

// ---- the end --------------------------------------------------------------------------------------------------------

#[test]
fn a_closed_direction_ends_after_its_last_byte_and_the_other_goes_on() {
    let (mut connecting, mut accepted) = pair();
    connecting.write_all(b"last words").unwrap();
    connecting.shutdown(Shutdown::Write).unwrap();
    connecting.shutdown(Shutdown::Write).unwrap();
    assert_eq!(connecting.write(b"more").unwrap_err().kind(), Io::BrokenPipe);
    let mut text = String::new();
    accepted.read_to_string(&mut text).unwrap();
    assert_eq!(text, "last words");
    assert_eq!(accepted.read(&mut [0; 9]).unwrap(), 0, "the end is the end");
    accepted.write_all(b"answer").unwrap();
    drop(accepted);
    text.clear();
    connecting.read_to_string(&mut text).unwrap();
    assert_eq!(text, "answer");
}

#[test]
fn who_reads_no_more_breaks_the_others_pipe_at_its_next_write() {
    for how in [Some(Shutdown::Read), Some(Shutdown::Both), None] {
        let (mut connecting, mut accepted) = pair();
        connecting.write_all(b"unread").unwrap();
        let kept = match how {
            Some(how) => {
                accepted.shutdown(how).unwrap();
                assert_eq!(accepted.read(&mut [0; 9]).unwrap(), 0, "what this end has shut is at its end");
                Some(accepted)
            }
            None => {
                drop(accepted);
                None
            }
        };
        let error = connecting.write(b"x").unwrap_err();
        assert_eq!((error.kind(), inside(&error)), (Io::BrokenPipe, ErrorKind::ServerClosed { maybe_executed: true }));
        assert_eq!(connecting.write_buf().unwrap_err().kind(), Io::BrokenPipe);
        drop(kept);
    }
}

#[test]
fn threads_that_wait_return_when_their_own_end_is_shut_or_the_other_is_dropped() {
    for wait in WAITS {
        for own in [true, false] {
            let (connecting, accepted) = pair_with(4096, wait);
            (&connecting).write_all(&[0; 4096]).unwrap();
            std::thread::scope(|scope| {
                let reading = scope.spawn(|| (&connecting).read(&mut [0; 8]));
                let writing = scope.spawn(|| (&connecting).write(&[0; 8]));
                // most often they sleep by now; they must return in any case
                std::thread::sleep(Duration::from_millis(5));
                if own {
                    connecting.shutdown(Shutdown::Both).unwrap();
                } else {
                    drop(accepted);
                }
                assert_eq!(reading.join().unwrap().unwrap(), 0);
                assert_eq!(writing.join().unwrap().unwrap_err().kind(), Io::BrokenPipe);
            });
        }
    }
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn peer() {
    role("peer", |parent, arguments| {
        let [path, task, wait] = arguments else { panic!("{arguments:?}") };
        let wait = WAITS.into_iter().find(|kind| format!("{kind:?}") == *wait).unwrap();
        let mut stream = Stream::builder().wait(wait).connect(Path::new(path)).unwrap();
        match *task {
            "write" => write_pattern(&mut stream, 4, 10_000, 100),
            "flood" => {
                parent.tell("ready");
                write_pattern(&mut stream, 4, usize::MAX, 900);
            }
            "exit" => {
                stream.write_all(b"unfinished").unwrap();
                std::process::exit(0); // drops nothing
            }
            "close" => {
                stream.write_all(b"finished").unwrap();
                return;
            }
            other => panic!("{other}"),
        }
        parent.tell("ready");
        parent.hear();
    });
}

fn start_peer(ground: &Ground, task: &str, wait: Wait) -> Process {
    Process::start("peer", [ground.socket().as_os_str(), task.as_ref(), format!("{wait:?}").as_ref()])
}

#[test]
fn what_a_killed_process_wrote_is_read_and_then_comes_an_error_and_no_end() {
    for wait in WAITS {
        let ground = Ground::new();
        let listener = StreamListener::builder().wait(wait).bind(ground.socket()).unwrap();
        let mut process = start_peer(&ground, "write", wait);
        let mut stream = listener.accept().unwrap();
        process.expect("ready");
        process.kill();
        let mut bytes = Vec::new();
        let error = stream.read_to_end(&mut bytes).unwrap_err();
        check(&bytes, 4, 0);
        assert_eq!(bytes.len(), 10_000);
        assert_eq!((error.kind(), inside(&error)), (Io::ConnectionReset, ErrorKind::PeerDied { maybe_executed: true }));
        let error = stream.write(b"x").unwrap_err();
        assert_eq!((error.kind(), inside(&error)), (Io::BrokenPipe, ErrorKind::PeerDied { maybe_executed: true }));
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), Io::ConnectionReset, "and it stays one");
    }
}

#[test]
fn a_process_that_exits_without_closing_is_no_good_end_and_one_that_drops_is() {
    for (task, expected) in [("exit", Err(Io::ConnectionReset)), ("close", Ok(8))] {
        let ground = Ground::new();
        let listener = StreamListener::bind(ground.socket()).unwrap();
        let _process = start_peer(&ground, task, Wait::Adaptive);
        let mut stream = listener.accept().unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind()), expected, "{task}");
    }
}

#[test]
fn a_process_killed_while_it_floods_leaves_a_prefix_and_its_death_is_noticed() {
    for round in 0..20 {
        let ground = Ground::new();
        let listener = StreamListener::builder().ring_bytes(4096).bind(ground.socket()).unwrap();
        let mut process = start_peer(&ground, "flood", Wait::Adaptive);
        let mut stream = listener.accept().unwrap();
        process.expect("ready");
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(150 * round));
            process.kill();
            Instant::now()
        });
        let (mut done, mut piece) = (0, [0; 1000]);
        let error = loop {
            match stream.read(&mut piece) {
                Ok(0) => panic!("a killed process ends nothing in good order"),
                Ok(count) => {
                    check(&piece[..count], 4, done);
                    done += count;
                }
                Err(error) => break error,
            }
        };
        let noticed = killer.join().unwrap().elapsed();
        assert_eq!(error.kind(), Io::ConnectionReset);
        println!("{done} bytes came, the death was noticed {noticed:?} after the kill");
    }
}

#[test]
fn writers_notice_a_death_while_they_wait_and_while_there_is_room() {
    let ground = Ground::new();
    let listener = StreamListener::bind(ground.socket()).unwrap();
    for len in [1, 100_000] {
        let mut process = start_peer(&ground, "write", Wait::Adaptive);
        let mut stream = listener.accept().unwrap();
        process.expect("ready");
        let writing = std::thread::spawn(move || {
            loop {
                if let Err(error) = stream.write(&vec![1; len]) {
                    return error;
                }
                std::thread::sleep(Duration::from_micros(10));
            }
        });
        std::thread::sleep(Duration::from_millis(5));
        process.kill();
        assert_eq!(writing.join().unwrap().kind(), Io::BrokenPipe, "{len}");
    }
}

#[test]
fn a_stopped_process_is_waited_for_within_the_timeout_and_goes_on_later() {
    let ground = Ground::new();
    let listener = StreamListener::builder().ring_bytes(4096).bind(ground.socket()).unwrap();
    let mut process = start_peer(&ground, "flood", Wait::Adaptive);
    let mut stream = listener.accept().unwrap();
    process.expect("ready");
    process.signal(Signal::STOP);
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (mut done, mut piece) = (0, [0; 1000]);
    let mut read_until_error = |stream: &mut Stream, least: usize| loop {
        match stream.read(&mut piece) {
            Ok(count) => {
                check(&piece[..count], 4, done);
                done += count;
                if least > 0 && done > least {
                    return None;
                }
            }
            Err(error) => return Some(error),
        }
    };
    let error = read_until_error(&mut stream, 0).unwrap();
    assert_eq!((error.kind(), inside(&error)), (Io::TimedOut, ErrorKind::TimedOut { maybe_executed: false }));
    process.signal(Signal::CONT);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(read_until_error(&mut stream, 100_000).is_none());
}

// ---- time and readiness ---------------------------------------------------------------------------------------------

#[test]
fn timeouts_are_kept_in_both_directions_and_lose_nothing() {
    for wait in WAITS {
        let (mut connecting, mut accepted) = pair_with(4096, wait);
        let timeout = Duration::from_millis(3);
        accepted.set_read_timeout(Some(timeout)).unwrap();
        connecting.set_write_timeout(Some(timeout)).unwrap();
        assert_eq!((accepted.read_timeout(), connecting.write_timeout()), (Some(timeout), Some(timeout)));
        let begin = Instant::now();
        assert_eq!(accepted.read(&mut [0; 9]).unwrap_err().kind(), Io::TimedOut);
        assert!(begin.elapsed() >= timeout);
        connecting.write_all(&[6; 4096]).unwrap();
        let begin = Instant::now();
        assert_eq!(connecting.write(&[6]).unwrap_err().kind(), Io::TimedOut);
        assert!(begin.elapsed() >= timeout);
        accepted.read_exact(&mut [0; 4096]).unwrap();
        connecting.write_all(&[6]).unwrap();
        assert_eq!(accepted.read(&mut [0; 9]).unwrap(), 1);
        assert_eq!(accepted.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), Io::InvalidInput);
        accepted.set_read_timeout(Some(Duration::MAX)).unwrap();
        connecting.set_write_timeout(None).unwrap();
        assert_eq!(connecting.write_timeout(), None);
    }
}

#[test]
fn one_thread_serves_both_directions_of_both_ends_by_polling_their_descriptors() {
    let total = 300_000;
    let (connecting, accepted) = pair();
    let mut ends = [(connecting, 0, 0), (accepted, 0, 0)];
    ends.iter().for_each(|(stream, ..)| stream.set_nonblocking(true).unwrap());
    let mut piece = [0; 3000];
    let mut is_shut = [false; 2];
    let mut is_ended = [false; 2];
    while is_ended != [true; 2] {
        for (index, (stream, written, read)) in ends.iter_mut().enumerate() {
            loop {
                let len = size(1, *written, 3000).min(total - *written);
                fill(&mut piece[..len], index as u64, *written);
                match stream.write(&piece[..len]) {
                    Ok(0) => break,
                    Ok(count) => *written += count,
                    Err(error) => {
                        assert_eq!(error.kind(), Io::WouldBlock);
                        break;
                    }
                }
            }
            if *written == total && !is_shut[index] {
                stream.shutdown(Shutdown::Write).unwrap();
                is_shut[index] = true;
            }
            while !is_ended[index] {
                match stream.read(&mut piece) {
                    Ok(0) => is_ended[index] = true,
                    Ok(count) => {
                        check(&piece[..count], 1 - index as u64, *read);
                        *read += count;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), Io::WouldBlock);
                        break;
                    }
                }
            }
        }
        let mut fds = [&ends[0].0, &ends[1].0].map(|stream| PollFd::new(stream, PollFlags::IN));
        let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
        if is_ended != [true; 2] {
            assert_ne!(poll(&mut fds, Some(&limit)), Ok(0), "a wake-up was lost");
        }
    }
    assert_eq!((ends[0].2, ends[1].2), (total, total));
}

#[test]
fn a_look_in_one_direction_does_not_take_the_others_wake_up() {
    let (connecting, accepted) = pair();
    let (mut there, mut back) = (&connecting, &accepted);
    there.write_all(&[1; 4096]).unwrap();
    connecting.set_nonblocking(true).unwrap();
    assert_eq!(there.read(&mut [0; 8]).unwrap_err().kind(), Io::WouldBlock);
    assert_eq!(there.write(&[0; 8]).unwrap_err().kind(), Io::WouldBlock);
    assert!(!is_readable(&connecting));
    // Room for the writer; and the reader, who looks first, finds nothing for itself.
    back.read_exact(&mut [0; 4096]).unwrap();
    wait_readable(&connecting);
    assert_eq!(there.read(&mut [0; 8]).unwrap_err().kind(), Io::WouldBlock);
    wait_readable(&connecting);
    assert_eq!(there.write(&[0; 8]).unwrap(), 8);
    // And it does not go on for ever for somebody who only reads.
    assert_eq!(there.read(&mut [0; 8]).unwrap_err().kind(), Io::WouldBlock);
    assert_eq!(there.read(&mut [0; 8]).unwrap_err().kind(), Io::WouldBlock);
    assert!(!is_readable(&connecting));
    drop(accepted);
    wait_readable(&connecting);
    assert_eq!(there.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn each_half_has_a_descriptor_of_its_own() {
    let (connecting, accepted) = pair();
    let (mut reading, mut writing) = connecting.into_split().unwrap();
    let total = 200_000;
    std::thread::scope(|scope| {
        let accepted = &accepted;
        scope.spawn(move || {
            write_pattern(accepted, 1, total, 6000);
            accepted.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(move || assert_eq!(read_pattern(accepted, 2, 6000), total));
        scope.spawn(move || {
            let (mut done, mut piece) = (0, [0; 1000]);
            while done < total {
                let len = 1000.min(total - done);
                fill(&mut piece[..len], 2, done);
                match writing.try_write(&piece[..len]).unwrap() {
                    Some(count) => done += count,
                    None if writing.arm_write().unwrap() => wait_readable(&writing),
                    None => {}
                }
            }
        });
        let (mut done, mut piece) = (0, [0; 1000]);
        loop {
            match reading.try_read(&mut piece).unwrap() {
                Some(0) => break,
                Some(count) => {
                    check(&piece[..count], 1, done);
                    done += count;
                }
                None if reading.arm_read().unwrap() => wait_readable(&reading),
                None => {}
            }
        }
        assert_eq!(done, total);
    });
}

// ---- listeners ------------------------------------------------------------------------------------------------------

#[test]
fn a_full_backlog_refuses_with_its_number_and_takes_again_when_somebody_was_accepted() {
    let ground = Ground::new();
    let listener = StreamListener::builder().backlog(2).bind(ground.socket()).unwrap();
    let _waiting = [Stream::connect(ground.socket()).unwrap(), Stream::connect(ground.socket()).unwrap()];
    let error = Stream::builder().timeout(Duration::from_millis(50)).connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("2 streams wait to be accepted"), "{error}");
    let _accepted = listener.accept().unwrap();
    let _third = Stream::connect(ground.socket()).unwrap();
}

#[test]
fn streams_that_were_accepted_outlive_the_listener_and_those_that_were_not_are_told() {
    let ground = Ground::new();
    let listener = StreamListener::bind(ground.socket()).unwrap();
    let mut connecting = Stream::connect(ground.socket()).unwrap();
    let mut accepted = listener.accept().unwrap();
    let mut waiting = Stream::connect(ground.socket()).unwrap();
    drop(listener);
    let error = waiting.read(&mut [0; 8]).unwrap_err();
    assert_eq!((error.kind(), inside(&error)), (Io::ConnectionReset, ErrorKind::ServerClosed { maybe_executed: true }));
    assert_eq!(waiting.write(&[0; 8]).unwrap_err().kind(), Io::BrokenPipe);
    assert_eq!(Stream::connect(ground.socket()).unwrap_err().kind(), ErrorKind::NotRunning);
    connecting.write_all(b"still here").unwrap();
    let mut bytes = [0; 10];
    accepted.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"still here");
}

#[test]
fn a_stream_is_used_and_closed_before_it_is_accepted() {
    let ground = Ground::new();
    let listener = StreamListener::bind(ground.socket()).unwrap();
    let mut connecting = Stream::connect(ground.socket()).unwrap();
    connecting.write_all(b"early").unwrap();
    drop(connecting);
    let mut text = String::new();
    listener.accept().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "early");
}

#[test]
fn a_listener_can_be_polled_and_shut_down() {
    let ground = Ground::new();
    let listener = StreamListener::bind(ground.socket()).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), Io::WouldBlock);
    assert!(!is_readable(&listener));
    let _connecting = [Stream::connect(ground.socket()).unwrap(), Stream::connect(ground.socket()).unwrap()];
    eventually("both are there", || listener.accept().is_ok());
    wait_readable(&listener);
    listener.accept().unwrap();
    assert!(!is_readable(&listener));
    listener.set_nonblocking(false).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| listener.incoming().count());
        listener.shutdown_handle().shutdown();
        assert_eq!(waiting.join().unwrap(), 0);
    });
    assert_eq!(listener.accept().unwrap_err().kind(), Io::NotConnected);
}

#[test]
fn who_speaks_another_form_is_refused_with_both_named() {
    let ground = Ground::new();
    let _listener = StreamListener::bind(ground.socket()).unwrap();
    let error = Client::connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch);
    let said = error.to_string();
    assert!(said.contains("serves bytes version 0 as a stream, but the client speaks bytes version 0"), "{said}");
    let _server = Server::bind(ground.path("server2")).unwrap();
    let error = Stream::connect(ground.path("server2")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch);
    let other = Stream::builder().contract(wigwag::Contract::named("http", 1)).connect(ground.socket()).unwrap_err();
    assert!(other.to_string().contains("http version 1 as a stream"), "{other}");
}

#[test]
fn rings_are_powers_of_two_and_refused_above_what_the_listener_allows() {
    let ground = Ground::new();
    for bytes in [0, 1, 2048, 5000, 3 << 12, 1 << 31, usize::MAX] {
        let error = StreamListener::builder().ring_bytes(bytes).bind(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{bytes}");
        let error = Stream::builder().ring_bytes(bytes).connect(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{bytes}");
    }
    let error = StreamListener::builder().backlog(0).bind(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    let listener = StreamListener::builder().ring_bytes(8192).bind(ground.socket()).unwrap();
    let error = Stream::builder().ring_bytes(16384).connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let said = error.to_string();
    assert!(
        said.contains("wants 16384 bytes for a ring, the server allows 8192 (StreamListenerBuilder::ring_bytes)"),
        "{said}"
    );
    let stream = Stream::builder().ring_bytes(4096).connect(ground.socket()).unwrap();
    assert_eq!((stream.ring_bytes(), listener.accept().unwrap().ring_bytes()), (4096, 4096));
}

#[test]
fn nothing_is_left_of_streams_that_are_over() {
    let ground = Ground::new();
    // Other tests of this file run beside it, so a process of its own is looked at.
    let mut process = Process::start("accepting", [ground.socket()]);
    process.expect("ready");
    let before = Snapshot::when_settled(process.id(), 0);
    for round in 0..20 {
        let mut streams: Vec<Stream> = (0..5).map(|_| Stream::connect(ground.socket()).unwrap()).collect();
        for stream in &mut streams {
            stream.write_all(&[round; 100_000]).unwrap();
            stream.read_exact(&mut [0; 100_000]).unwrap();
        }
    }
    before.is_back(process.id());
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn accepting() {
    role("accepting", |parent, arguments| {
        let listener = StreamListener::bind(Path::new(arguments[0])).unwrap();
        parent.tell("ready");
        for stream in listener.incoming() {
            let (mut reading, mut writing) = stream.unwrap().into_split().unwrap();
            std::thread::spawn(move || std::io::copy(&mut reading, &mut writing));
        }
    });
}

/// Plays an end that sleeps again at once, however often it is rung for: how often that was while `operation` ran, and
/// what had been done each time, as the ring word says.
fn rings_during(raw: &Raw, waits: usize, done: usize, operation: impl FnOnce()) -> Vec<u64> {
    let (waits, done) = (raw.half(waits), raw.word(done));
    let (is_there, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    waits.store(1, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let all = (0..rustix::thread::CpuSet::MAX_CPU).fold(rustix::thread::CpuSet::new(), |mut all, processor| {
                all.set(processor);
                all
            });
            rustix::thread::sched_setaffinity(None, &all).unwrap(); // the operation's thread may have but one
            let mut rings = Vec::new();
            is_there.store(true, Ordering::SeqCst);
            loop {
                let was_last = is_over.load(Ordering::SeqCst);
                if waits.load(Ordering::SeqCst) == 0 {
                    rings.push(done.load(Ordering::SeqCst) >> 1);
                    waits.store(1, Ordering::SeqCst);
                }
                if was_last {
                    return rings;
                }
            }
        });
        while !is_there.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        {
            let _over = Over(&is_over);
            operation();
        }
        sleeper.join().unwrap()
    })
}

#[test]
fn who_sleeps_is_rung_for_once_it_is_worth_it() {
    const WAITS_FOR_DATA: usize = 1024;
    const WAITS_FOR_ROOM: usize = 1028;
    const PROCESSOR: usize = 1040;
    let [produced_there, consumed_there, produced_back, consumed_back] = [4096, 4224, 4352, 4480];
    let ground = Ground::new();
    let listener = StreamListener::builder().ring_bytes(1 << 20).bind(ground.socket()).unwrap();
    let raw = Raw::connect_stream(&ground.socket());
    let mut stream = listener.accept().unwrap();
    let (head, body) = ([1; 63], vec![2; 100_000]);
    let whole = (head.len() + body.len()) as u64;
    // A head and a body are one message, and so is a body that takes several steps to copy.
    let rings = rings_during(&raw, WAITS_FOR_DATA, produced_back, || {
        let count = stream.write_vectored(&[IoSlice::new(&head), IoSlice::new(&body)]).unwrap();
        assert_eq!(count as u64, whole);
    });
    assert_eq!(rings, [whole]);
    raw.word(consumed_back).store(whole << 1, Ordering::SeqCst);
    raw.word(produced_there).store(300_000 << 1, Ordering::SeqCst);
    let rings = rings_during(&raw, WAITS_FOR_ROOM, consumed_there, || {
        assert_eq!(stream.read(&mut [0; 100_000]).unwrap(), 100_000);
    });
    assert_eq!(rings, [100_000]);
    // What takes long to copy may be told of before it is done, but not on the one processor that both are on.
    let thread = std::thread::spawn(move || {
        let here = rustix::thread::sched_getcpu();
        let mut only = rustix::thread::CpuSet::new();
        only.set(here);
        rustix::thread::sched_setaffinity(None, &only).unwrap();
        let large = vec![3; 900_000];
        let mut consumed = whole;
        for shares_processor in [false, true] {
            raw.half(PROCESSOR).store(if shares_processor { here as u32 + 1 } else { 0 }, Ordering::SeqCst);
            let rings = rings_during(&raw, WAITS_FOR_DATA, produced_back, || stream.write_all(&large).unwrap());
            consumed += 900_000;
            assert_eq!(rings.last(), Some(&consumed));
            assert!(rings.len() == 1 || !shares_processor, "{rings:?}");
            raw.word(consumed_back).store(consumed << 1, Ordering::SeqCst);
        }
    });
    thread.join().unwrap();
}

// ---- lies and forks -------------------------------------------------------------------------------------------------

#[test]
fn impossible_counts_end_the_stream_with_a_reason_on_both_ends() {
    // Offsets of docs/layout.md: what the connecting side has produced, and consumed.
    for (offset, value, is_reading) in
        [(4096, u64::MAX - 1, true), (4096, (4097 << 1) | 1, true), (4480, 4097 << 1, false), (4480, u64::MAX, false)]
    {
        let ground = Ground::new();
        let listener = StreamListener::builder().ring_bytes(4096).bind(ground.socket()).unwrap();
        let raw = Raw::connect_stream(&ground.socket());
        let mut stream = listener.accept().unwrap();
        raw.word(offset).store(value, Ordering::SeqCst);
        let error = match is_reading {
            true => stream.read(&mut [0; 8]).unwrap_err(),
            false => stream.write(&[0; 8192]).and_then(|_| stream.write(&[0; 8192])).unwrap_err(),
        };
        assert_eq!((error.kind(), inside(&error)), (Io::InvalidData, ErrorKind::Violation), "{offset} {value}");
        let (reason, said) = raw.end();
        assert_eq!(reason, wigwag_testing::wire::VIOLATION);
        assert!(said.contains("a ring's counter is"), "{said}");
        assert!(stream.write(&[0; 8]).is_err() && stream.read(&mut [0; 8]).is_err());
        let _next = Stream::connect(ground.socket()).unwrap();
    }
}

#[test]
fn a_forked_child_is_told_so_by_everything_and_closes_nothing() {
    let (mut connecting, mut accepted) = pair();
    accepted.write_all(b"for the parent").unwrap();
    // SAFETY: the child touches the stream only, whose operations here take no lock that another thread may hold, and
    // ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let forked = |error: std::io::Error| inside(&error) == ErrorKind::Forked;
        let is_told = connecting.read(&mut [0; 8]).is_err_and(forked)
            && connecting.write(&[0; 8]).is_err_and(forked)
            && connecting.fill_buf().is_err_and(forked)
            && connecting.write_buf().is_err_and(forked)
            && connecting.shutdown(Shutdown::Both).is_err_and(forked);
        drop(connecting);
        // SAFETY: no memory is involved.
        unsafe { libc::_exit(if is_told { 7 } else { 1 }) };
    }
    let pid = rustix::process::Pid::from_raw(child);
    let (_, status) = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(7));
    let mut bytes = [0; 14];
    connecting.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"for the parent");
    connecting.write_all(b"still open").unwrap();
    accepted.read_exact(&mut [0; 10]).unwrap();
}
