//! Streams between tasks: every byte in order on both runtimes, every way to end, and nothing runs while nothing comes.

use std::future::Future;
use std::io::{ErrorKind as Io, IoSlice, Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use wigwag::tokio::{Stream, StreamListener};
use wigwag::{Error, ErrorKind, Wait};
use wigwag_testing::{Ground, LIMIT, Process, RawServer, role, wire, word};

/// Runs the same on both runtimes, and fails where one never ends.
fn on_both<F: Future<Output = ()>>(test: impl Fn() -> F) {
    let runtimes = [Builder::new_current_thread(), Builder::new_multi_thread()];
    for mut runtime in runtimes {
        run(&runtime.enable_all().build().unwrap(), test());
    }
}

fn run(runtime: &Runtime, test: impl Future<Output = ()>) {
    runtime.block_on(async { timeout(LIMIT, test).await.expect("it never ended") });
}

async fn pair_with(ring: usize) -> (Stream, Stream) {
    let ground = Ground::new();
    let listener = StreamListener::builder().ring_bytes(ring).bind_async(ground.socket()).unwrap();
    let connecting = Stream::connect(ground.socket()).await.unwrap();
    (connecting, listener.accept().await.unwrap())
}

async fn pair() -> (Stream, Stream) {
    pair_with(4096).await
}

fn byte(seed: u64, at: usize) -> u8 {
    word(seed, at as u64 / 8).to_le_bytes()[at % 8]
}

fn size(seed: u64, step: usize, most: usize) -> usize {
    1 + word(!seed, step as u64) as usize % most
}

async fn write_pattern(stream: &mut (impl AsyncWrite + Unpin), seed: u64, total: usize, most: usize) {
    let (mut done, mut step) = (0, 0);
    while done < total {
        let len = size(seed, step, most).min(total - done);
        let piece: Vec<u8> = (done..done + len).map(|at| byte(seed, at)).collect();
        stream.write_all(&piece).await.unwrap();
        done += len;
        step += 1;
    }
}

async fn read_pattern(stream: &mut (impl AsyncRead + Unpin), seed: u64, most: usize) -> usize {
    let (mut done, mut piece, mut step) = (0, vec![0; most], 0);
    loop {
        let len = size(seed ^ 77, step, most);
        match stream.read(&mut piece[..len]).await.unwrap() {
            0 => return done,
            count => {
                for (index, &found) in piece[..count].iter().enumerate() {
                    assert_eq!(found, byte(seed, done + index), "at byte {}", done + index);
                }
                done += count;
            }
        }
        step += 1;
    }
}

fn inside(error: &std::io::Error) -> ErrorKind {
    error.get_ref().and_then(|error| error.downcast_ref::<Error>()).expect("an error of ours is inside").kind()
}

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

#[test]
fn every_byte_arrives_in_order_at_all_sizes() {
    on_both(|| async {
        for (ring, most, total) in [(4096, 17, 50_000), (4096, 9000, 2_000_000), (1 << 16, 100_000, 10_000_000)] {
            let (mut connecting, mut accepted) = pair_with(ring).await;
            let writer = tokio::spawn(async move {
                write_pattern(&mut accepted, 5, total, most).await;
                accepted.shutdown().await.unwrap();
                accepted
            });
            assert_eq!(read_pattern(&mut connecting, 5, most).await, total);
            writer.await.unwrap();
        }
    });
}

#[test]
fn both_directions_run_at_a_time_through_both_kinds_of_halves() {
    on_both(|| async {
        let total = 1_000_000;
        let (connecting, accepted) = pair().await;
        let (mut reading, mut writing) = connecting.into_split();
        let (mut other_reading, mut other_writing) = tokio::io::split(accepted);
        let there = tokio::spawn(async move {
            write_pattern(&mut writing, 1, total, 5000).await; // and drops it
        });
        let back = tokio::spawn(async move {
            write_pattern(&mut other_writing, 2, total, 5000).await;
            other_writing.shutdown().await.unwrap();
        });
        let read_back = tokio::spawn(async move { read_pattern(&mut reading, 2, 3000).await });
        assert_eq!(read_pattern(&mut other_reading, 1, 3000).await, total);
        assert_eq!(read_back.await.unwrap(), total);
        there.await.unwrap();
        back.await.unwrap();
    });
}

#[test]
fn one_task_reads_and_writes_at_a_time_while_both_rings_are_full() {
    on_both(|| async {
        let total = 1_000_000;
        let (connecting, accepted) = pair().await;
        let both = |stream: Stream, out: u64, back: u64| async move {
            let (mut reading, mut writing) = tokio::io::split(stream);
            let (_, got) = tokio::join!(
                async {
                    write_pattern(&mut writing, out, total, 9000).await;
                    writing.shutdown().await.unwrap();
                },
                read_pattern(&mut reading, back, 9000)
            );
            assert_eq!(got, total);
        };
        let other = tokio::spawn(both(accepted, 3, 4));
        both(connecting, 4, 3).await;
        other.await.unwrap();
    });
}

#[test]
fn buffers_are_written_together_and_lines_are_read_where_they_lie() {
    on_both(|| async {
        let (mut connecting, accepted) = pair().await;
        assert!(connecting.is_write_vectored());
        let parts = [IoSlice::new(b"one\n"), IoSlice::new(b""), IoSlice::new(b"two"), IoSlice::new(b"\nthr")];
        assert_eq!(connecting.write_vectored(&parts).await.unwrap(), 11);
        assert_eq!(connecting.write_vectored(&[]).await.unwrap(), 0);
        connecting.write_all(b"ee\n").await.unwrap();
        drop(connecting);
        let mut lines = accepted.lines();
        for line in ["one", "two", "three"] {
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(line));
        }
        assert_eq!(lines.next_line().await.unwrap(), None);
    });
}

#[test]
fn buffers_beyond_the_ring_are_written_in_part_and_then_wait() {
    on_both(|| async {
        let (mut connecting, mut accepted) = pair().await;
        let (first, second) = ([1; 3000], [2; 3000]);
        let parts = [IoSlice::new(&first), IoSlice::new(&second)];
        assert_eq!(connecting.write_vectored(&parts).await.unwrap(), 4096);
        let more = tokio::spawn(async move {
            let second = [2; 3000];
            connecting.write_all(&second[1096..]).await.unwrap();
        });
        let mut all = Vec::new();
        accepted.read_to_end(&mut all).await.unwrap();
        assert!(all == [first, second].concat(), "{} bytes, or others", all.len());
        more.await.unwrap();
    });
}

#[test]
fn room_that_is_lent_is_written_without_a_copy_and_waited_for() {
    on_both(|| async {
        let (mut connecting, mut accepted) = pair().await;
        let writer = tokio::spawn(async move {
            let mut done = 0;
            while done < 100_000 {
                let room = connecting.write_buf().await.unwrap();
                let count = room.len().min(1000).min(100_000 - done);
                for (index, byte_of) in room[..count].iter_mut().enumerate() {
                    *byte_of = byte(8, done + index);
                }
                connecting.commit(count);
                done += count;
            }
        });
        assert_eq!(read_pattern(&mut accepted, 8, 700).await, 100_000);
        writer.await.unwrap();
    });
}

#[test]
fn a_buffer_without_room_reads_nothing_and_is_no_end() {
    on_both(|| async {
        let (mut connecting, mut accepted) = pair().await;
        assert_eq!(accepted.read(&mut []).await.unwrap(), 0);
        connecting.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read(&mut []).await.unwrap(), 0);
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    });
}

#[test]
fn a_blocking_program_and_a_task_understand_each_other() {
    on_both(|| async {
        let ground = Ground::new();
        let listener = StreamListener::bind(ground.socket()).unwrap();
        let path = ground.socket();
        let thread = std::thread::spawn(move || {
            let mut stream = wigwag::Stream::connect(path).unwrap();
            for round in 0..1000u32 {
                stream.write_all(&round.to_le_bytes()).unwrap();
                let mut back = [0; 4];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(u32::from_le_bytes(back), round + 1);
            }
        });
        let mut stream = listener.accept().await.unwrap();
        while let Ok(number) = stream.read_u32_le().await {
            stream.write_u32_le(number + 1).await.unwrap();
        }
        thread.join().unwrap();
    });
}

// ---- waiting --------------------------------------------------------------------------------------------------------

#[test]
fn a_read_that_is_given_up_loses_nothing() {
    on_both(|| async {
        let (mut connecting, mut accepted) = pair().await;
        let writer = tokio::spawn(async move {
            for at in 0..500 {
                connecting.write_all(&[byte(6, at)]).await.unwrap();
                if at % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
        let (mut done, mut given_up) = (0, 0);
        while done < 500 {
            let mut one = [0];
            match timeout(Duration::from_micros(50), accepted.read(&mut one)).await {
                Ok(count) => {
                    assert_eq!((count.unwrap(), one[0]), (1, byte(6, done)));
                    done += 1;
                }
                Err(_) => given_up += 1,
            }
        }
        assert!(given_up > 0, "no read was given up");
        writer.await.unwrap();
    });
}

#[test]
fn nothing_is_lost_that_comes_while_a_task_goes_to_sleep() {
    on_both(|| async {
        let ground = Ground::new();
        let listener = StreamListener::bind(ground.socket()).unwrap();
        let (path, read) = (ground.socket(), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&read);
        let rounds = 30_000;
        let thread = std::thread::spawn(move || {
            let mut stream = wigwag::Stream::connect(path).unwrap();
            for round in 0..rounds {
                // At any moment of the reader's way from the last byte to its sleep. Nothing else follows that would
                // wake it.
                for _ in 0..word(3, round as u64) % 300 {
                    std::hint::spin_loop();
                }
                stream.write_all(&[round as u8]).unwrap();
                let begin = std::time::Instant::now();
                while seen.load(Ordering::SeqCst) == round {
                    std::hint::spin_loop();
                    assert!(begin.elapsed() < LIMIT / 2, "byte {round} woke nobody");
                }
            }
        });
        let mut stream = listener.accept().await.unwrap();
        for round in 0..rounds {
            assert_eq!(stream.read_u8().await.unwrap(), round as u8);
            read.store(round + 1, Ordering::SeqCst);
        }
        thread.join().unwrap();
    });
}

#[test]
fn who_parks_is_woken_once_and_nothing_wakes_it_before() {
    on_both(|| async {
        let ground = Ground::new();
        let listener = StreamListener::builder().wait(Wait::Park).bind_async(ground.socket()).unwrap();
        let (accepted, connecting) = tokio::join!(listener.accept(), Stream::connect(ground.socket()));
        let (mut accepted, mut connecting) = (accepted.unwrap(), connecting.unwrap());
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let mut memory = [0; 8];
        let mut bytes = ReadBuf::new(&mut memory);
        assert!(Pin::new(&mut accepted).poll_read(&mut context, &mut bytes).is_pending());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0, "woken though nothing came");
        connecting.write_all(b"now").await.unwrap();
        while wakes.0.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(Pin::new(&mut accepted).poll_read(&mut context, &mut bytes).is_ready());
        assert_eq!(bytes.filled(), b"now");
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    });
}

/// A task that waits is polled again while its runtime has nothing else to do, and then no more.
#[test]
fn who_waits_looks_again_for_a_moment_and_then_sleeps() {
    on_both(|| async {
        let (mut connecting, mut accepted) = pair().await;
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        let reader = tokio::spawn(async move {
            let mut memory = [0; 8];
            let mut bytes = ReadBuf::new(&mut memory);
            std::future::poll_fn(|context| {
                counted.fetch_add(1, Ordering::SeqCst);
                Pin::new(&mut accepted).poll_read(context, &mut bytes)
            })
            .await
            .unwrap();
            bytes.filled().to_vec()
        });
        // Once the number stays, it sleeps.
        let mut before = usize::MAX;
        while polls.load(Ordering::SeqCst) != before {
            before = polls.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(before > 1, "it did not look again");
        connecting.write_all(b"now").await.unwrap();
        assert_eq!(reader.await.unwrap(), b"now");
        assert_eq!(polls.load(Ordering::SeqCst), before + 1, "who sleeps is woken once");
    });
}

#[test]
fn a_stream_that_always_has_something_lets_other_tasks_run() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    run(&runtime, async {
        let (mut connecting, mut accepted) = pair_with(1 << 16).await;
        let other = tokio::spawn(async {}); // has its turn only if the loop below gives way
        connecting.write_all(&[7; 60_000]).await.unwrap();
        let mut read = 0;
        while !other.is_finished() && read < 60_000 {
            read += accepted.read(&mut [0; 8]).await.unwrap();
        }
        assert!(other.is_finished(), "{read} bytes were read and the other task had no turn");
    });
}

// ---- ends -----------------------------------------------------------------------------------------------------------

#[test]
fn a_shut_direction_ends_the_others_reading_and_leaves_the_way_back() {
    on_both(|| async {
        let (mut connecting, mut accepted) = pair().await;
        connecting.write_all(b"question").await.unwrap();
        connecting.shutdown().await.unwrap();
        let mut text = String::new();
        accepted.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        accepted.write_all(b"answer").await.unwrap();
        drop(accepted);
        let mut text = String::new();
        connecting.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "answer");
        let error = connecting.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), Io::BrokenPipe);
    });
}

#[test]
fn who_waits_for_room_hears_that_nobody_will_read() {
    on_both(|| async {
        let (mut connecting, accepted) = pair().await;
        let writer = tokio::spawn(async move { connecting.write_all(&[0; 10_000]).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(accepted);
        assert_eq!(writer.await.unwrap().unwrap_err().kind(), Io::BrokenPipe);
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn peer() {
    role("peer", |parent, arguments| {
        let [path, task] = arguments else { panic!("{arguments:?}") };
        let mut stream = wigwag::Stream::connect(Path::new(path)).unwrap();
        match *task {
            "write" => stream.write_all(b"written").unwrap(),
            "silent" => {}
            other => panic!("{other}"),
        }
        parent.tell("ready");
        parent.hear();
    });
}

fn start_peer(ground: &Ground, task: &str) -> Process {
    Process::start("peer", [ground.socket().as_os_str(), task.as_ref()])
}

#[test]
fn what_a_killed_process_wrote_is_read_and_then_comes_an_error_and_no_end() {
    on_both(|| async {
        let ground = Ground::new();
        let listener = StreamListener::bind(ground.socket()).unwrap();
        let mut process = start_peer(&ground, "write");
        let mut stream = listener.accept().await.unwrap();
        process.expect("ready");
        process.kill();
        let mut bytes = Vec::new();
        let error = stream.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(bytes, b"written");
        assert_eq!((error.kind(), inside(&error)), (Io::ConnectionReset, ErrorKind::PeerDied { maybe_executed: true }));
    });
}

#[test]
fn who_sleeps_hears_of_a_kill_reading_and_writing() {
    on_both(|| async {
        let ground = Ground::new();
        let listener = StreamListener::builder().ring_bytes(4096).bind_async(ground.socket()).unwrap();
        let mut process = start_peer(&ground, "silent");
        let (mut reading, mut writing) = listener.accept().await.unwrap().into_split();
        process.expect("ready");
        let reader = tokio::spawn(async move { reading.read_u8().await });
        let writer = tokio::spawn(async move { writing.write_all(&[0; 10_000]).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!reader.is_finished() && !writer.is_finished());
        process.kill();
        assert_eq!(reader.await.unwrap().unwrap_err().kind(), Io::ConnectionReset);
        assert_eq!(writer.await.unwrap().unwrap_err().kind(), Io::BrokenPipe);
    });
}

// ---- listening ------------------------------------------------------------------------------------------------------

#[test]
fn many_streams_are_accepted_by_several_tasks_and_served_at_a_time() {
    on_both(|| async {
        let ground = Ground::new();
        let listener = Arc::new(StreamListener::bind(ground.socket()).unwrap());
        let stop = listener.shutdown_handle();
        let accepting: Vec<_> = (0..3)
            .map(|_| {
                let listener = Arc::clone(&listener);
                tokio::spawn(async move {
                    let mut streams = 0;
                    loop {
                        match listener.accept().await {
                            Ok(stream) => {
                                streams += 1;
                                let (mut reading, mut writing) = stream.into_split();
                                tokio::spawn(async move { tokio::io::copy_buf(&mut reading, &mut writing).await });
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), Io::NotConnected);
                                return streams;
                            }
                        }
                    }
                })
            })
            .collect();
        let clients: Vec<_> = (0..60)
            .map(|number: u64| {
                let path = ground.socket();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(Stream::connect(path).await.unwrap());
                    for round in 0..20 {
                        stream.write_u64(number * 1000 + round).await.unwrap();
                        assert_eq!(stream.read_u64().await.unwrap(), number * 1000 + round);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        stop.shutdown();
        let mut accepted = 0;
        for task in accepting {
            accepted += task.await.unwrap();
        }
        assert_eq!(accepted, 60);
    });
}

#[test]
fn a_full_backlog_and_a_missing_listener_are_errors_that_say_so() {
    on_both(|| async {
        let ground = Ground::new();
        assert_eq!(Stream::connect(ground.socket()).await.unwrap_err().kind(), ErrorKind::NotRunning);
        let listener = StreamListener::builder().backlog(1).bind_async(ground.socket()).unwrap();
        let _first = Stream::connect(ground.socket()).await.unwrap();
        let hurried = Stream::builder().timeout(Duration::from_millis(50)).connect_async(ground.socket());
        assert_eq!(hurried.await.unwrap_err().kind(), ErrorKind::Busy);
        listener.accept().await.unwrap();
        Stream::connect(ground.socket()).await.unwrap();
    });
}

#[test]
fn outside_of_a_runtime_there_is_an_error_and_the_name_is_not_taken() {
    let ground = Ground::new();
    let error = StreamListener::bind(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    let listener = wigwag::StreamListener::bind(ground.socket()).unwrap();
    let stream = wigwag::Stream::connect(ground.socket()).unwrap();
    assert_eq!(Stream::from_blocking(stream).unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    drop(listener);
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn idle() {
    role("idle", |parent, _| {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        run(&runtime, async {
            let mut tasks = Vec::new();
            for _ in 0..20 {
                let (mut connecting, mut accepted) = pair().await;
                tasks.push(tokio::spawn(async move { connecting.read_u8().await }));
                tasks.push(tokio::spawn(async move { accepted.read_u8().await }));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            let before = spent();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let after = spent();
            parent.tell((after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec);
            tasks.iter().for_each(|task| assert!(!task.is_finished()));
        });
    });
}

#[test]
fn idle_streams_cost_no_processor_time() {
    let mut process = Process::start("idle", [] as [&str; 0]);
    let spent_ns: i64 = process.hear().parse().unwrap();
    assert!(spent_ns < 5_000_000, "{spent_ns} ns of processor time in an idle second");
    process.join();
}

/// Rings, and the other end's death, all of it while the reactor does not look.
#[test]
fn a_death_behind_a_flood_of_rings_is_heard() {
    let ground = Ground::new();
    let server = RawServer::bind(&ground.socket());
    let serving = std::thread::spawn(move || server.serve_in_form(2, 4096, 2));
    run(&Builder::new_current_thread().enable_all().build().unwrap(), async {
        let connecting = Stream::builder().ring_bytes(4096).connect_async(ground.socket());
        let mut stream = connecting.await.unwrap();
        let raw = serving.join().unwrap();
        let mut byte = [0];
        let mut reading = std::pin::pin!(stream.read(&mut byte));
        let first = std::future::poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_pending())).await;
        assert!(first, "nothing was written");
        (0..150).for_each(|_| wire::send(&raw.socket, &[6], &[]).unwrap());
        drop(raw);
        assert_eq!(reading.await.unwrap_err().kind(), Io::ConnectionReset);
    });
}

// ---- without waiting, and halves that come together again -----------------------------------------------------------

#[test]
fn who_waits_until_it_is_readable_reads_without_waiting_also_the_end() {
    on_both(|| async {
        let (mut one, mut other) = pair().await;
        assert_eq!(one.try_read(&mut [0; 8]).unwrap_err().kind(), Io::WouldBlock);
        assert_eq!(one.try_read(&mut []).unwrap(), 0, "no room");
        for _ in 0..100 {
            // A future that is dropped takes nothing, neither before the bytes are there nor when they are.
            assert!(Box::pin(one.readable()).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let (readable, written) = tokio::join!(one.readable(), other.write_all(b"ping"));
            readable.and(written).unwrap();
            one.readable().await.unwrap();
            let mut bytes = [0; 8];
            assert_eq!((one.try_read(&mut bytes).unwrap(), &bytes[..4]), (4, &b"ping"[..]));
            assert_eq!(one.try_read(&mut bytes).unwrap_err().kind(), Io::WouldBlock);
        }
        drop(other);
        one.readable().await.unwrap();
        assert_eq!(one.try_read(&mut [0; 8]).unwrap(), 0);
    });
}

#[test]
fn who_waits_until_it_is_writable_writes_without_waiting() {
    on_both(|| async {
        let (mut one, mut other) = pair().await;
        let mut count = 0;
        let error = loop {
            match one.try_write(&[7; 1000]) {
                Ok(written) => count += written,
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), count), (Io::WouldBlock, 4096));
        assert_eq!(one.try_write_vectored(&[IoSlice::new(b"x")]).unwrap_err().kind(), Io::WouldBlock);
        assert!(Box::pin(one.writable()).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let (writable, read) = tokio::join!(one.writable(), async {
            other.readable().await?;
            other.try_read(&mut [0; 4096])
        });
        writable.unwrap();
        assert!(read.unwrap() > 0 && one.try_write(&[7; 10]).unwrap() == 10);
        while one.try_write(&[7; 1000]).is_ok() {}
        let (writable, ()) = tokio::join!(one.writable(), async { drop(other) });
        assert_eq!(writable.unwrap_err().kind(), Io::BrokenPipe);
        assert_eq!(one.try_write(b"x").unwrap_err().kind(), Io::BrokenPipe);
    });
}

#[test]
fn halves_of_one_stream_become_one_again_and_those_of_two_come_back() {
    on_both(|| async {
        let (one, mut other) = pair().await;
        let (reading, mut writing) = one.into_split();
        writing.write_all(b"half").await.unwrap();
        let (stranger, mut writing_of_stranger) = pair().await.0.into_split();
        let error = reading.reunite(writing_of_stranger).unwrap_err();
        assert!(error.to_string().contains("different streams"), "{error}");
        let wigwag::tokio::ReuniteError(reading, kept) = error;
        writing_of_stranger = kept;
        let error = writing.reunite(stranger).unwrap_err();
        drop((error.0, writing_of_stranger));
        let mut one = reading.reunite(error.1).unwrap();
        one.write_all(b" whole").await.unwrap();
        let mut bytes = [0; 10];
        other.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"half whole");
        other.write_all(b"back").await.unwrap();
        one.readable().await.unwrap();
        assert_eq!(one.try_read(&mut bytes).unwrap(), 4);
        drop(one); // both directions end
        assert_eq!(other.read(&mut bytes).await.unwrap(), 0);
    });
}
