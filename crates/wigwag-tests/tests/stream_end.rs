//! Which end of a stream is a good one: a panic, an abort and a dropped stream that must not be dropped are none; a
//! shutdown and a plain drop are.

use std::io::{self, ErrorKind as Io, Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use wigwag::{Error, ErrorKind, Stream, StreamListener, Wait};
use wigwag_testing::{Ground, LIMIT, Process, role};

fn pair_that_waits(wait: Wait) -> (Stream, Stream) {
    let ground = Ground::new();
    let listener = StreamListener::builder().ring_bytes(4096).wait(wait).bind(ground.socket()).unwrap();
    let connecting = Stream::builder().wait(wait).connect(ground.socket()).unwrap();
    (connecting, listener.accept().unwrap())
}

fn pair() -> (Stream, Stream) {
    pair_that_waits(Wait::Adaptive)
}

fn kind_inside(error: &io::Error) -> Option<ErrorKind> {
    error.get_ref()?.downcast_ref::<Error>().map(Error::kind)
}

/// Reads to the end: the bytes, and the error in place of the end.
fn read_all(mut stream: impl Read) -> (Vec<u8>, Option<io::Error>) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    (bytes, end.err())
}

#[track_caller]
fn is_aborted(reading: impl Read, written: &[u8], reason: &str) {
    let (bytes, error) = read_all(reading);
    assert_eq!(bytes, written, "what was written before the end");
    let error = error.expect("no good end");
    assert_eq!((error.kind(), kind_inside(&error)), (Io::ConnectionReset, Some(ErrorKind::Aborted)), "{error}");
    assert!(error.to_string().contains(reason), "{error} does not say {reason:?}");
}

#[track_caller]
fn ends_well(reading: impl Read, written: &[u8]) {
    let (bytes, error) = read_all(reading);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(bytes, written);
}

/// Runs it on a thread, which panics.
#[track_caller]
fn panics(run: impl FnOnce() + Send + 'static) {
    std::thread::spawn(run).join().unwrap_err();
}

#[test]
fn d7_who_panics_while_it_writes_leaves_no_good_end() {
    for wait in [Wait::Adaptive, Wait::Park, Wait::Spin] {
        let (mut writer, mut reader) = pair_that_waits(wait);
        panics(move || {
            writer.write_all(b"half of").unwrap();
            panic!("in the middle");
        });
        is_aborted(&reader, b"half of", "panicked");
        let error = reader.write(b"an answer").unwrap_err();
        assert_eq!((error.kind(), kind_inside(&error)), (Io::BrokenPipe, Some(ErrorKind::Aborted)));
    }
    // The halves, with the reading one elsewhere.
    let (writer, reader) = pair();
    let (mut reading, mut writing) = writer.into_split().unwrap();
    panics(move || {
        writing.write_all(b"half of").unwrap();
        panic!("in the middle");
    });
    is_aborted(&reader, b"half of", "panicked");
    assert_eq!(reading.read(&mut [0; 8]).unwrap_err().kind(), Io::ConnectionAborted);
    // One that was lent room and had not handed it over.
    let (mut writer, reader) = pair();
    panics(move || {
        writer.write_all(b"whole").unwrap();
        writer.write_buf().unwrap()[..4].copy_from_slice(b"part");
        panic!("before the commit");
    });
    is_aborted(&reader, b"whole", "panicked");
}

#[test]
fn d7_a_reader_that_panics_breaks_the_pipe_and_spoils_no_end_of_the_writing_half() {
    let (one, mut other) = pair();
    let (reading, mut writing) = one.into_split().unwrap();
    panics(move || {
        let _reading = reading;
        panic!("while reading");
    });
    let error = loop {
        if let Err(error) = other.write(&[7; 512]) {
            break error;
        }
    };
    assert_eq!(error.kind(), Io::BrokenPipe);
    writing.write_all(b"all of it").unwrap();
    drop(writing);
    ends_well(&other, b"all of it");
}

#[test]
fn d7_what_was_shut_down_before_the_panic_keeps_its_good_end() {
    let (mut writer, reader) = pair();
    panics(move || {
        writer.write_all(b"all of it").unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        panic!("afterwards");
    });
    ends_well(&reader, b"all of it");
}

#[test]
fn d7_a_stream_that_begins_while_its_thread_unwinds_can_end_well() {
    struct LastWords(Option<Stream>, mpsc::Sender<Stream>);
    impl Drop for LastWords {
        fn drop(&mut self) {
            let (mut writer, reader) = pair();
            writer.write_all(b"it crashed").unwrap();
            drop(writer);
            self.1.send(reader).unwrap();
            drop(self.0.take());
        }
    }
    let (teller, hearer) = mpsc::channel();
    let (writer, reader) = pair();
    panics(move || {
        let _words = LastWords(Some(writer), teller);
        panic!("and so it is told");
    });
    ends_well(&hearer.recv().unwrap(), b"it crashed");
    is_aborted(&reader, b"", "panicked");
}

#[test]
fn d7_an_abort_carries_its_reason_after_what_was_written_and_wakes_who_waits() {
    type Way = fn(Stream) -> io::Result<()>;
    let ways: [Way; 3] = [
        |stream| stream.abort("the disk is full"),
        |stream| stream.into_split().unwrap().1.abort("the disk is full"),
        |stream| stream.into_split().unwrap().0.abort("the disk is full"),
    ];
    for (index, way) in ways.into_iter().enumerate() {
        for wait in [Wait::Adaptive, Wait::Park, Wait::Spin] {
            let (mut writer, reader) = pair_that_waits(wait);
            let thread = std::thread::spawn(move || is_aborted(reader, b"half of", "the disk is full"));
            writer.write_all(b"half of").unwrap();
            way(writer).unwrap();
            thread.join().unwrap_or_else(|_| panic!("way {index}, {wait:?}"));
        }
    }
}

#[test]
fn d7_an_abort_wakes_the_other_threads_of_its_own_end_and_twice_is_once() {
    let (one, mut other) = pair();
    let (mut reading, writing) = one.into_split().unwrap();
    other.write_all(b"before").unwrap();
    let thread = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let error = reading.read_to_end(&mut bytes).unwrap_err();
        (bytes, error)
    });
    writing.abort("first").unwrap();
    writing.abort("second").unwrap();
    let (bytes, error) = thread.join().unwrap();
    assert!(bytes.is_empty() || bytes == b"before");
    assert_eq!((error.kind(), kind_inside(&error)), (Io::ConnectionAborted, Some(ErrorKind::Aborted)), "{error}");
    assert!(error.to_string().contains("this end aborted the stream: first"), "{error}");
    writing.shutdown().unwrap(); // changes nothing
    drop(writing);
    is_aborted(&other, b"", "first");
}

#[test]
fn d7_only_a_shutdown_is_a_good_end_where_a_drop_means_an_abort() {
    let (mut writer, reader) = pair();
    writer.set_abort_on_drop(true);
    writer.write_all(b"half of").unwrap();
    drop(writer);
    is_aborted(&reader, b"half of", "dropped before");

    let (writer, reader) = pair();
    let (_reading, mut writing) = writer.into_split().unwrap();
    writing.set_abort_on_drop(true);
    writing.write_all(b"half of").unwrap();
    drop(writing);
    is_aborted(&reader, b"half of", "dropped before");

    let (mut writer, reader) = pair();
    writer.set_abort_on_drop(true);
    writer.write_all(b"all of it").unwrap();
    writer.shutdown(Shutdown::Write).unwrap();
    drop(writer);
    ends_well(&reader, b"all of it");

    let (mut writer, reader) = pair();
    writer.set_abort_on_drop(true);
    writer.set_abort_on_drop(false);
    writer.write_all(b"all of it").unwrap();
    drop(writer); // as everything that runs over sockets expects
    ends_well(&reader, b"all of it");
}

#[test]
fn d7_an_early_return_is_a_good_end_unless_it_was_said_that_it_is_none() {
    fn send(mut stream: Stream, is_strict: bool) -> io::Result<()> {
        stream.set_abort_on_drop(is_strict);
        stream.write_all(b"half of")?;
        Err(io::Error::other("there is no more"))?;
        stream.shutdown(Shutdown::Write)
    }
    let (writer, reader) = pair();
    send(writer, false).unwrap_err();
    ends_well(&reader, b"half of");
    let (writer, reader) = pair();
    send(writer, true).unwrap_err();
    is_aborted(&reader, b"half of", "dropped before");
}

/// Writes, and ends as it is told.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn writer() {
    role("writer", |link, arguments| {
        let own = rustix::process::geteuid().as_raw();
        let user: u32 = arguments[2].parse().unwrap();
        if user != own {
            // SAFETY: no memory is involved but an empty list.
            unsafe {
                assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
                assert_eq!(libc::setresgid(user, user, user), 0);
                assert_eq!(libc::setresuid(user, user, user), 0);
            }
        }
        let mut stream = Stream::builder().server_user(own).connect(arguments[0]).unwrap();
        stream.write_all(b"half of").unwrap();
        match arguments[1] {
            "exits" => std::process::exit(0),
            "panics" => {
                let thread = std::thread::spawn(move || {
                    let _stream = stream;
                    panic!("in the middle");
                });
                thread.join().unwrap_err();
            }
            "aborts" => stream.abort("the disk is full").unwrap(),
            "stays" => drop(link.hear()),
            _ => drop(stream),
        }
        link.hear();
    });
}

#[test]
fn d7_every_end_of_another_process_and_of_another_user_is_told_from_a_good_one() {
    let own = rustix::process::geteuid().as_raw();
    let users = if own == 0 { vec![0, 60_003] } else { vec![own] };
    for user in users {
        for (way, inside, says) in [
            ("exits", Some(ErrorKind::PeerDied { maybe_executed: true }), "gone"),
            ("panics", Some(ErrorKind::Aborted), "panicked"),
            ("aborts", Some(ErrorKind::Aborted), "the disk is full"),
            ("drops", None, ""),
        ] {
            let ground = Ground::new();
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            std::fs::set_permissions(ground.path("."), open).unwrap();
            let listener = StreamListener::builder().allow_everyone().bind(ground.socket()).unwrap();
            let place = ground.socket().into_os_string();
            let _writer = Process::start("writer", [place, way.into(), user.to_string().into()]);
            let (bytes, error) = read_all(listener.accept().unwrap());
            assert_eq!(bytes, b"half of", "{way} of user {user}");
            assert_eq!(error.as_ref().and_then(kind_inside), inside, "{way} of user {user}: {error:?}");
            assert!(error.is_none_or(|error| error.to_string().contains(says)), "{way} of user {user}");
        }
    }
}

#[test]
fn d7_a_task_that_panics_or_is_cancelled_ends_as_it_was_said() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let pair = || async {
        let ground = Ground::new();
        let listener = wigwag::tokio::StreamListener::bind(ground.socket()).unwrap();
        let (one, other) = tokio::join!(wigwag::tokio::Stream::connect(ground.socket()), listener.accept());
        (one.unwrap(), other.unwrap())
    };
    async fn read(mut stream: wigwag::tokio::Stream) -> (Vec<u8>, Option<ErrorKind>) {
        let mut bytes = Vec::new();
        let end = timeout(LIMIT, stream.read_to_end(&mut bytes)).await.expect("it never ended");
        (bytes, end.err().as_ref().and_then(kind_inside))
    }
    runtime.block_on(async {
        // It panics, with the stream in the future's own frame, and with it in what the future was made of.
        for is_captured in [false, true] {
            let (mut writer, reader) = pair().await;
            let task = tokio::spawn(async move {
                writer.write_all(b"half of").await.unwrap();
                let moved = if is_captured { None } else { Some(&mut writer) };
                assert!(moved.is_none() && !is_captured, "in the middle");
            });
            assert!(task.await.unwrap_err().is_panic());
            assert_eq!(read(reader).await, (b"half of".to_vec(), Some(ErrorKind::Aborted)), "{is_captured}");
        }
        // It is cancelled in the middle.
        for (is_strict, end) in [(false, None), (true, Some(ErrorKind::Aborted))] {
            let (mut writer, reader) = pair().await;
            let (teller, hearer) = tokio::sync::oneshot::channel();
            let task = tokio::spawn(async move {
                writer.set_abort_on_drop(is_strict);
                writer.write_all(b"half of").await.unwrap();
                teller.send(()).unwrap();
                std::future::pending::<()>().await;
                writer.shutdown().await.unwrap();
            });
            hearer.await.unwrap();
            task.abort();
            assert_eq!(read(reader).await, (b"half of".to_vec(), end), "{is_strict}");
        }
        // It is complete: also a half, also where a drop means an abort.
        let (writer, reader) = pair().await;
        let (_reading, mut writing) = writer.into_split();
        writing.set_abort_on_drop(true);
        writing.write_all(b"all of it").await.unwrap();
        writing.shutdown().await.unwrap();
        drop(writing);
        assert_eq!(read(reader).await, (b"all of it".to_vec(), None));
        // A half that gives up wakes the other one, and the other end's both.
        let (writer, reader) = pair().await;
        let (mut reading, writing) = writer.into_split();
        let task = tokio::spawn(async move { reading.read_u8().await.unwrap_err() });
        tokio::task::yield_now().await;
        writing.abort("the source is gone").unwrap();
        let error = timeout(LIMIT, task).await.expect("it is woken").unwrap();
        assert_eq!(error.kind(), Io::ConnectionAborted);
        assert_eq!(read(reader).await, (Vec::new(), Some(ErrorKind::Aborted)));
    });
}

#[test]
fn who_only_tries_learns_of_a_killed_end_whether_the_ring_is_full_or_empty() {
    let ground = Ground::new();
    let listener = StreamListener::builder().ring_bytes(4096).bind(ground.socket()).unwrap();
    for _ in 0..3 {
        let place = ground.socket().into_os_string();
        let own = rustix::process::geteuid().as_raw().to_string();
        let mut process = Process::start("writer", [place, "stays".into(), own.into()]);
        let (mut reading, mut writing) = listener.accept().unwrap().into_split().unwrap();
        let mut bytes = [0; 7];
        reading.read_exact(&mut bytes).unwrap();
        while writing.try_write(&[7; 4096]).unwrap().is_some() {}
        assert_eq!((reading.try_read(&mut bytes).unwrap(), writing.try_write(b"x").unwrap()), (None, None));
        process.kill();
        let begin = std::time::Instant::now();
        let until_told = |mut attempt: Box<dyn FnMut() -> io::Result<Option<usize>> + '_>| loop {
            match attempt() {
                Ok(None) => assert!(begin.elapsed() < LIMIT, "it is told of nothing"),
                Ok(count) => panic!("{count:?} bytes beside a dead end"),
                Err(error) => break error,
            }
        };
        let error = until_told(Box::new(|| writing.try_write(b"x")));
        assert_eq!(error.kind(), Io::BrokenPipe, "{error}");
        assert_eq!(kind_inside(&error), Some(ErrorKind::PeerDied { maybe_executed: true }));
        let error = until_told(Box::new(|| reading.try_read(&mut bytes)));
        assert_eq!(error.kind(), Io::ConnectionReset, "{error}");
        assert_eq!(kind_inside(&error), Some(ErrorKind::PeerDied { maybe_executed: true }));
    }
}

#[test]
fn d7_a_half_that_gives_up_is_never_taken_for_the_other_ends_death_by_its_own_other_half() {
    for round in 0..300 {
        let (one, _other) = pair_that_waits([Wait::Adaptive, Wait::Spin, Wait::Park][round % 3]);
        let (mut reading, writing) = one.into_split().unwrap();
        let reader = std::thread::spawn(move || reading.read(&mut [0; 8]).unwrap_err());
        (0..round * 200).for_each(|_| std::hint::spin_loop());
        writing.abort("the source is gone").unwrap();
        let error = reader.join().unwrap();
        assert_eq!((error.kind(), kind_inside(&error)), (Io::ConnectionAborted, Some(ErrorKind::Aborted)), "{error}");
    }
}

#[test]
fn a_full_ring_and_a_reader_that_does_not_read_hold_up_neither_a_shutdown_nor_an_abort_nor_a_timeout() {
    let (mut writer, reader) = pair();
    writer.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
    writer.write_all(&[7; 4096]).unwrap();
    assert_eq!(writer.write(b"x").unwrap_err().kind(), Io::TimedOut);
    writer.shutdown(Shutdown::Write).unwrap();
    drop(writer);
    ends_well(&reader, &[7; 4096]);

    let (mut writer, reader) = pair();
    writer.write_all(&[7; 4096]).unwrap();
    writer.abort("nobody reads").unwrap();
    is_aborted(&reader, &[7; 4096], "nobody reads");
}
