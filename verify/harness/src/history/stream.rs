//! The parties of a stream: a listener and a connector, whose ends do the same things, blocking and in tasks.

use std::io::{self, BufRead as _, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use wigwag::{ReadHalf, Stream, StreamListener, WriteHalf};
use wigwag_testing::word;

use super::act::{Actor, TIME_LIMIT, forked, patience, runtime};
use super::plan::{Face, Fork, Home, Step, Way};
use super::stage::Word;

/// How long one write or read may wait, so that two ends that both write do not wait for each other.
const WAIT: Duration = Duration::from_millis(4);

/// The bytes that a party writes, from an offset on.
fn chunk(party: usize, from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|at| word(party as u64, at / 8).to_le_bytes()[at as usize % 8]).collect()
}

/// One end: what it has written and read.
struct End<'a> {
    actor: &'a Actor,
    peer: usize,
    written: u64,
    read: u64,
    /// Writing has ended, by us or by the other side.
    is_written: bool,
    /// The end of the other side's bytes was seen, or an error.
    is_read: bool,
    /// The end was a good one.
    is_end: bool,
}

impl<'a> End<'a> {
    fn new(actor: &'a Actor) -> End<'a> {
        let others = (0..actor.history.parties.len()).filter(|&party| party != actor.me);
        let is_end = |&party: &usize| actor.history.parties[party].role != super::plan::Role::Director;
        let peer = others.into_iter().find(is_end).unwrap_or(actor.me);
        End { actor, peer, written: 0, read: 0, is_written: false, is_read: false, is_end: false }
    }

    fn next(&self, len: usize) -> Vec<u8> {
        self.actor.stage.set(self.actor.me, Word::MayHaveWritten, self.written + len as u64);
        chunk(self.actor.me, self.written, len)
    }

    /// So much was written, or an error came.
    fn wrote(&mut self, outcome: io::Result<usize>) {
        let stage = &self.actor.stage;
        match outcome {
            Ok(count) => {
                self.written += count as u64;
                stage.set(self.actor.me, Word::Written, self.written);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => {
                self.is_written = true;
                if stage.read(self.peer, Word::LeftAt) == 0 {
                    self.actor.complain(format!("the other end is there, and writing failed: {error:?}"));
                }
            }
        }
    }

    /// These bytes came; none are the end.
    fn came(&mut self, bytes: &[u8]) {
        let stage = &self.actor.stage;
        if bytes.is_empty() {
            self.is_read = true;
            self.is_end = true;
            let written = stage.read(self.peer, Word::Written);
            if stage.read(self.peer, Word::EndedWell) == 0 {
                let read = self.read;
                self.actor.complain(format!("what the other end was cut off in looks whole, after {read} bytes"));
            } else if written != self.read {
                let read = self.read;
                self.actor.complain(format!("the end came after {read} bytes, and {written} were written"));
            }
            return;
        }
        if self.is_end {
            self.actor.complain(format!("{} bytes came after the end", bytes.len()));
        }
        let expected = chunk(self.peer, self.read, bytes.len());
        if let Some(at) = (0..bytes.len()).find(|&at| bytes[at] != expected[at]) {
            self.actor.complain(format!(
                "byte {} of the stream is wrong: {} of {} bytes that came, the first of which is byte {}",
                self.read + at as u64,
                at,
                bytes.len(),
                self.read
            ));
        }
        self.read += bytes.len() as u64;
        if self.read > stage.read(self.peer, Word::MayHaveWritten) {
            self.actor.complain(format!("{} bytes came, which is more than were written", self.read));
        }
    }

    /// Reading failed.
    fn failed(&mut self, error: &io::Error) {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            return;
        }
        self.is_read = true;
        let stage = &self.actor.stage;
        if stage.read(self.peer, Word::LeftAt) == 0 || stage.read(self.peer, Word::EndedWell) != 0 {
            self.actor.complain(format!("reading failed, and the other end has not been cut off: {error:?}"));
        }
    }

    /// Writing ends in good order now.
    fn ends(&mut self) {
        self.is_written = true;
        self.actor.stage.set(self.actor.me, Word::EndedWell, 1);
    }

    /// The whole of it is dropped now.
    fn leaves(&mut self) {
        self.ends();
        self.actor.stage.set(self.actor.me, Word::LeftAt, self.actor.stage.now());
    }
}

/// A connector.
pub fn guest(actor: &Actor) {
    let party = actor.party();
    let builder = Stream::builder().timeout(TIME_LIMIT).server_timeout(patience(party));
    let mut builder = builder.ring_bytes(party.capacity);
    if party.home == Home::OtherUser {
        builder = builder.server_user(0);
    }
    let Some(stream) = actor.connect(|| builder.clone().connect(actor.stage.name())) else { return };
    play(actor, stream);
}

/// A listener, which accepts one stream.
pub fn host(actor: &Actor) {
    let party = actor.party();
    let mut builder = StreamListener::builder().ring_bytes(party.capacity);
    if actor.history.parties.iter().any(|party| party.home == Home::OtherUser) {
        builder = builder.allow_everyone();
    }
    if party.face == Face::TasksOnThreads {
        // The other way to a stream for tasks.
        return runtime(party.face).block_on(async {
            match builder.bind_async(actor.stage.name()) {
                Ok(listener) => {
                    actor.stage.register(actor.me, listener.shutdown_handle());
                    match listener.accept().await {
                        Ok(stream) => tasks(actor, stream, 0).await,
                        Err(error) => not_accepted(actor, &error),
                    }
                    actor.stage.unregister(actor.me);
                }
                Err(error) => actor.complain(format!("bind: {error:?}")),
            }
        });
    }
    let listener = match builder.bind(actor.stage.name()) {
        Ok(listener) => listener,
        Err(error) => return actor.complain(format!("bind: {error:?}")),
    };
    actor.stage.register(actor.me, listener.shutdown_handle());
    let accepted = match party.steps.first() {
        Some(Step::AcceptWith(descriptors)) => accept_with(actor, &listener, *descriptors),
        _ => listener.accept(),
    };
    match accepted {
        Ok(stream) => play(actor, stream),
        Err(error) => not_accepted(actor, &error),
    }
    actor.stage.unregister(actor.me);
}

fn not_accepted(actor: &Actor, error: &io::Error) {
    if actor.stage.read(actor.me, Word::ShutDownAt) == 0 {
        actor.complain(format!("accepting: {error:?}"));
    }
}

/// Accepts when there are so many descriptors left; and then with as many as there are.
fn accept_with(actor: &Actor, listener: &StreamListener, descriptors: u64) -> io::Result<Stream> {
    let peer = End::new(actor).peer;
    // The other one comes first, as shaking hands takes descriptors, too.
    actor.stage.wait_until(|| {
        actor.stage.read(peer, Word::Begun) != 0
            || actor.stage.read(peer, Word::Progress) > 0
            || actor.stage.read(peer, Word::Over) != 0
            || actor.stage.read(actor.me, Word::ShutDownAt) != 0
    });
    let before = getrlimit(Resource::Nofile);
    let entries = std::fs::read_dir("/proc/self/fd")?.flatten();
    let highest = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u64>().ok()).max();
    let mut fewer = before;
    fewer.current = Some(highest.unwrap_or(3) + descriptors);
    setrlimit(Resource::Nofile, fewer)?;
    let outcome = listener.accept();
    setrlimit(Resource::Nofile, before)?;
    match outcome {
        Err(error) if error.kind() != ErrorKind::NotConnected => {
            let number = error.raw_os_error();
            if number != Some(libc::EMFILE) {
                actor.complain(format!("accepting with {descriptors} descriptors: {error:?}, number {number:?}"));
            }
            listener.accept()
        }
        other => other,
    }
}

fn play(actor: &Actor, stream: Stream) {
    match actor.party().face {
        Face::Blocking => {
            if let Some((stream, next)) = blocking(actor, stream) {
                runtime(Face::Tasks).block_on(become_tasks(actor, stream, next));
            }
        }
        face => runtime(face).block_on(become_tasks(actor, stream, 0)),
    }
}

async fn become_tasks(actor: &Actor, stream: Stream, from: usize) {
    match wigwag::tokio::Stream::from_blocking(stream) {
        Ok(stream) => tasks(actor, stream, from).await,
        Err(error) => actor.complain(format!("from_blocking: {error:?}")),
    }
}

fn thirds(len: usize) -> (usize, usize) {
    (len / 3, len / 3 + len / 2 - len / 3)
}

/// How an end that reads until the end goes on after so many bytes: in all ways, in no order.
fn next_read(read: u64) -> (usize, Way) {
    let way = [Way::Plain, Way::Vectored, Way::InPlace][word(read, 5) as usize % 3];
    (1 + word(read, 6) as usize % 3000, way)
}

fn write(stream: &mut impl io::Write, bytes: &[u8], way: Way) -> io::Result<usize> {
    match way {
        Way::Vectored => {
            let (first, second) = thirds(bytes.len());
            let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            stream.write_vectored(&parts.map(IoSlice::new))
        }
        _ => stream.write(bytes),
    }
}

fn read(stream: &mut impl io::BufRead, len: usize, way: Way, end: &mut End<'_>) -> io::Result<()> {
    match way {
        Way::InPlace => {
            let bytes = stream.fill_buf()?;
            let count = bytes.len().min(len);
            end.came(&bytes[..count]);
            stream.consume(count);
        }
        Way::Vectored => {
            let (mut bytes, (first, second)) = (vec![0; len], thirds(len));
            let (one, rest) = bytes.split_at_mut(first);
            let (two, three) = rest.split_at_mut(second - first);
            let count = stream.read_vectored(&mut [one, two, three].map(IoSliceMut::new))?;
            end.came(&bytes[..count]);
        }
        Way::Plain | Way::Whole | Way::WhenReady => {
            let mut bytes = vec![0; len];
            let count = stream.read(&mut bytes)?;
            end.came(&bytes[..count]);
        }
    }
    Ok(())
}

/// The stream, and from which step on it is one for tasks.
fn blocking(actor: &Actor, mut stream: Stream) -> Option<(Stream, usize)> {
    let mut end = End::new(actor);
    let timeouts = stream.set_read_timeout(Some(WAIT)).and_then(|()| stream.set_write_timeout(Some(WAIT)));
    if let Err(error) = timeouts {
        actor.complain(format!("timeouts: {error:?}"));
    }
    for index in 0..actor.party().steps.len() {
        let Some(step) = actor.begin(index) else { continue };
        match step {
            Step::BecomeTask if end.written == 0 && end.read == 0 && !end.is_written && !end.is_read => {
                return Some((stream, index + 1));
            }
            Step::Write(len, way) if !end.is_written => {
                let bytes = end.next(len);
                let outcome = match way {
                    Way::InPlace => stream.write_buf().map(|room| {
                        let count = room.len().min(bytes.len());
                        room[..count].copy_from_slice(&bytes[..count]);
                        count
                    }),
                    way => write(&mut stream, &bytes, way),
                };
                if let (Way::InPlace, Ok(count)) = (way, &outcome) {
                    stream.commit(*count);
                }
                end.wrote(outcome);
            }
            Step::Read(len, way) if !end.is_read || end.is_end => {
                if let Err(error) = read(&mut stream, len.max(1), way, &mut end) {
                    end.failed(&error);
                }
            }
            Step::EndWriting => end_writing(&mut end, &stream),
            Step::ReadToEnd => {
                end_writing(&mut end, &stream);
                let _ = stream.set_read_timeout(None);
                while !end.is_read {
                    actor.progress();
                    let (len, way) = next_read(end.read);
                    if let Err(error) = read(&mut stream, len, way, &mut end) {
                        end.failed(&error);
                    }
                }
            }
            Step::Both(len) => {
                both(end, stream, len);
                return None;
            }
            Step::Fork(fork) => forked_end(actor, fork, &stream),
            _ => {}
        }
    }
    end.leaves();
    None
}

fn end_writing(end: &mut End<'_>, stream: &Stream) {
    if end.is_written {
        return;
    }
    end.ends();
    if let Err(error) = stream.shutdown(Shutdown::Write)
        && end.actor.stage.read(end.peer, Word::LeftAt) == 0
    {
        end.actor.complain(format!("shutdown: {error:?}"));
    }
}

fn forked_end(actor: &Actor, fork: Fork, stream: &Stream) {
    forked(actor, fork, stream, |mut stream| {
        let read = stream.read(&mut [0]);
        let write = stream.write(&[0]);
        let lent = stream.write_buf().map(|room| room.len());
        let filled = stream.fill_buf().map(|bytes| bytes.len());
        match (&read, &write, &lent, &filled) {
            (Err(_), Err(_), Err(_), Err(_)) => Ok(()),
            _ => Err(format!("in a forked child: {read:?}, {write:?}, {lent:?}, {filled:?}")),
        }
    });
}

fn forked_halves(actor: &Actor, fork: Fork, reader: &ReadHalf, writer: &WriteHalf) {
    forked(actor, fork, reader, |mut reader| match reader.arm_read() {
        Err(_) => Ok(()),
        other => Err(format!("arm_read in a forked child: {other:?}")),
    });
    forked(actor, fork, writer, |mut writer| match writer.arm_write() {
        Err(_) => Ok(()),
        other => Err(format!("arm_write in a forked child: {other:?}")),
    });
}

/// Writes and reads in two threads, until all is written and the end has come.
fn both(mut end: End<'_>, stream: Stream, len: usize) {
    let actor = end.actor;
    let is_written = end.is_written;
    let mut writing = End { actor, ..End::new(actor) };
    writing.written = end.written;
    let (mut reader, mut writer) = match stream.into_split() {
        Ok(halves) => halves,
        Err(error) => return actor.complain(format!("split: {error:?}")),
    };
    let fork = actor.party().steps.iter().find_map(|step| if let Step::Fork(fork) = step { Some(*fork) } else { None });
    if let Some(fork) = fork {
        forked_halves(actor, fork, &reader, &writer);
    }
    let _ = reader.set_read_timeout(None);
    let _ = writer.set_write_timeout(None);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = if is_written { 0 } else { len };
            while left > 0 && !writing.is_written {
                let bytes = writing.next(left.min(1 + word(left as u64, 1) as usize % 5000));
                let outcome = match left % 3 {
                    0 => writer.try_write(&bytes).map(|count| count.unwrap_or(0)),
                    _ => write(&mut writer, &bytes, [Way::Plain, Way::Vectored][left % 2]),
                };
                let count = *outcome.as_ref().unwrap_or(&0);
                left -= count;
                if count > 0 {
                    actor.progress(); // who tries in vain for ever hangs, however busy it is
                }
                writing.wrote(outcome);
            }
            writing.ends();
            drop(writer);
        });
        while !end.is_read {
            actor.progress();
            let (len, way) = next_read(end.read);
            if let Err(error) = read(&mut reader, len, way, &mut end) {
                end.failed(&error);
            }
        }
    });
    end.leaves();
    drop(reader);
}

async fn tasks(actor: &Actor, mut stream: wigwag::tokio::Stream, from: usize) {
    let mut end = End::new(actor);
    for index in from..actor.party().steps.len() {
        let Some(step) = actor.begin(index) else { continue };
        match step {
            Step::Write(len, way) if !end.is_written => {
                let bytes = end.next(len);
                let outcome = match way {
                    Way::InPlace => match tokio::time::timeout(WAIT, stream.write_buf()).await {
                        Ok(Ok(room)) => {
                            let count = room.len().min(bytes.len());
                            room[..count].copy_from_slice(&bytes[..count]);
                            stream.commit(count);
                            Ok(count)
                        }
                        Ok(Err(error)) => Err(error),
                        Err(_) => Ok(0),
                    },
                    Way::Vectored => {
                        let (first, second) = thirds(bytes.len());
                        let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]].map(IoSlice::new);
                        tokio::time::timeout(WAIT, stream.write_vectored(&parts)).await.unwrap_or(Ok(0))
                    }
                    Way::WhenReady => write_when_ready(actor, &mut stream, &bytes).await,
                    _ => tokio::time::timeout(WAIT, stream.write(&bytes)).await.unwrap_or(Ok(0)),
                };
                end.wrote(outcome);
            }
            Step::Read(len, Way::WhenReady) if !end.is_read || end.is_end => {
                read_when_ready(&mut stream, len.max(1), &mut end).await;
            }
            Step::Reunite(len) => stream = reunite(&mut end, stream, len).await,
            Step::Read(len, way) if !end.is_read || end.is_end => {
                if let Ok(Err(error)) =
                    tokio::time::timeout(WAIT, read_task(&mut stream, len.max(1), way, &mut end)).await
                {
                    end.failed(&error);
                }
            }
            Step::EndWriting => end_writing_task(&mut end, &mut stream).await,
            Step::ReadToEnd => {
                end_writing_task(&mut end, &mut stream).await;
                read_to_end(&mut end, &mut stream).await;
            }
            Step::Both(len) => {
                let (mut reader, mut writer) = stream.into_split();
                let mut writing = End::new(actor);
                (writing.written, writing.is_written) = (end.written, end.is_written);
                let write_all = async {
                    let mut left = if writing.is_written { 0 } else { len };
                    while left > 0 && !writing.is_written {
                        actor.progress();
                        let bytes = writing.next(left.min(1 + word(left as u64, 1) as usize % 5000));
                        let outcome = writer.write(&bytes).await;
                        left -= *outcome.as_ref().unwrap_or(&0);
                        writing.wrote(outcome);
                    }
                    writing.ends();
                    drop(writer);
                };
                tokio::join!(write_all, read_to_end(&mut end, &mut reader));
                end.leaves();
                return;
            }
            Step::Fork(fork) => {
                forked(actor, if fork == Fork::Call { Fork::Drop } else { fork }, &stream, |_| Ok(()));
            }
            _ => {}
        }
    }
    end.leaves();
}

/// Waits for room and tries: what is ready takes something.
async fn write_when_ready(actor: &Actor, stream: &mut wigwag::tokio::Stream, bytes: &[u8]) -> io::Result<usize> {
    match tokio::time::timeout(WAIT, stream.writable()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error),
        // It gave up waiting, which must have changed nothing.
        Err(_) => return stream.try_write(bytes),
    }
    let (first, second) = thirds(bytes.len());
    let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]].map(IoSlice::new);
    let outcome =
        if bytes.len().is_multiple_of(2) { stream.try_write(bytes) } else { stream.try_write_vectored(&parts) };
    match &outcome {
        Ok(0) if !bytes.is_empty() => actor.complain("a stream that was ready took none of what was written"),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            actor.complain("a stream was ready to be written to, and would block");
        }
        _ => {}
    }
    outcome
}

/// Waits for bytes and tries: what is ready has some, or the end.
async fn read_when_ready(stream: &mut wigwag::tokio::Stream, len: usize, end: &mut End<'_>) {
    let is_ready = match tokio::time::timeout(WAIT, stream.readable()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => return end.failed(&error),
        Err(_) => false,
    };
    let mut bytes = vec![0; len];
    match stream.try_read(&mut bytes) {
        Ok(count) => end.came(&bytes[..count]),
        Err(error) if is_ready && error.kind() == ErrorKind::WouldBlock => {
            end.actor.complain("a stream was ready to be read, and would block");
        }
        Err(error) => end.failed(&error),
    }
}

/// Writes and reads in halves for a moment, and puts them together: no byte may be lost in between.
async fn reunite(end: &mut End<'_>, stream: wigwag::tokio::Stream, len: usize) -> wigwag::tokio::Stream {
    let (mut reader, mut writer) = stream.into_split();
    let bytes = end.next(if end.is_written { 0 } else { len });
    let writing = async {
        match bytes.is_empty() {
            true => Ok(0),
            false => tokio::time::timeout(WAIT, writer.write(&bytes)).await.unwrap_or(Ok(0)),
        }
    };
    let mut came = vec![0; len.max(1)];
    let may_read = !end.is_read;
    let reading = async {
        match may_read {
            true => tokio::time::timeout(WAIT, reader.read(&mut came)).await.ok(),
            false => None,
        }
    };
    let (written, read) = tokio::join!(writing, reading);
    if !end.is_written {
        end.wrote(written);
    }
    match read {
        Some(Ok(count)) => end.came(&came[..count]),
        Some(Err(error)) => end.failed(&error),
        None => {}
    }
    let reunited = if len.is_multiple_of(2) { reader.reunite(writer) } else { writer.reunite(reader) };
    reunited.unwrap_or_else(|error| panic!("the halves of one stream: {error}"))
}

async fn read_task(
    stream: &mut (impl tokio::io::AsyncBufRead + Unpin),
    len: usize,
    way: Way,
    end: &mut End<'_>,
) -> io::Result<()> {
    match way {
        Way::InPlace => {
            let bytes = stream.fill_buf().await?;
            let count = bytes.len().min(len);
            end.came(&bytes[..count]);
            stream.consume(count);
        }
        _ => {
            let mut bytes = vec![0; len];
            let count = stream.read(&mut bytes).await?;
            end.came(&bytes[..count]);
        }
    }
    Ok(())
}

async fn read_to_end(end: &mut End<'_>, stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) {
    while !end.is_read {
        end.actor.progress();
        let (len, way) = next_read(end.read);
        if let Err(error) = read_task(stream, len, way, end).await {
            end.failed(&error);
        }
    }
}

async fn end_writing_task(end: &mut End<'_>, stream: &mut wigwag::tokio::Stream) {
    if end.is_written {
        return;
    }
    end.ends();
    if let Err(error) = stream.shutdown().await
        && end.actor.stage.read(end.peer, Word::LeftAt) == 0
    {
        end.actor.complain(format!("shutdown: {error:?}"));
    }
}
