//! The library's forms in odd surroundings: a server and a client, each in a process of its own.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wigwag::{Client, Error, ErrorKind, Receiver, Semaphore, Sender, Server, ShutdownHandle, Stream, StreamListener};
use wigwag_testing::{Link, fill};

use super::cell::Job;
use super::surrounding::{self, Surrounding};

/// How long a step of a job may take before that is an error of its own.
const STEP: Duration = Duration::from_secs(5);
/// The lengths of requests.
const LENGTHS: [usize; 5] = [0, 1, 48, 5_000, 60_000];
/// Messages of one job.
const MESSAGES: u64 = 20;
/// Bytes of one piece of a stream, and pieces of one job.
const PIECE: usize = 4_000;
const PIECES: u64 = 8;
/// How often a job has the permit.
const HELD: u64 = 10;

/// A failure, as it was told.
struct Told {
    kind: String,
    text: String,
}

impl From<Error> for Told {
    fn from(error: Error) -> Told {
        Told { kind: format!("{:?}", error.kind()), text: error.to_string() }
    }
}

impl From<std::io::Error> for Told {
    fn from(error: std::io::Error) -> Told {
        Told { kind: format!("{:?}", error.kind()), text: error.to_string() }
    }
}

fn wrong(text: impl Into<String>) -> Told {
    Told { kind: "Wrong".into(), text: text.into() }
}

type Done<T = ()> = Result<T, Told>;

/// What a role is given.
struct Given {
    job: Job,
    name: String,
    odd: Vec<Surrounding>,
    inside: PathBuf,
    patience: Duration,
}

fn given(arguments: &[&str]) -> Given {
    let [job, name, odd, inside, patience] = arguments else { panic!("{arguments:?}") };
    Given {
        job: serde_json::from_str(job).expect("a job"),
        name: (*name).to_owned(),
        odd: serde_json::from_str(odd).expect("surroundings"),
        inside: PathBuf::from(inside),
        patience: Duration::from_millis(patience.parse().expect("a number")),
    }
}

fn report(link: &Link, done: Done<u64>) {
    match done {
        Ok(number) => link.tell(format_args!("done {number}")),
        Err(Told { kind, text }) => {
            let kind = kind.split([' ', '{']).next().unwrap_or_default();
            link.tell(format_args!("error {kind} {}", text.replace('\n', " / ")));
        }
    }
}

fn runtime() -> Done<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Told { kind: "Runtime".into(), text: error.to_string() })
}

// ---- server
// -------------------------------------------------------------------------------------------------------------

/// The role.
pub fn play_server(link: &Link, arguments: &[&str]) {
    let given = given(arguments);
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        std::process::exit(101);
    }));
    if given.odd.contains(&Surrounding::NoStreams) {
        // SAFETY: the lines to the conductor have other descriptors, and nothing else here uses these three.
        (0..3).for_each(|stream| _ = unsafe { libc::close(stream) });
    }
    let served = match given.job {
        Job::Exchange => exchange(link, &given),
        Job::ExchangeTokio => exchange_tokio(link, &given),
        Job::Queue => queue(link, &given),
        Job::QueueTokio => queue_tokio(link, &given),
        Job::Stream => stream(link, &given),
        Job::StreamTokio => stream_tokio(link, &given),
        _ => semaphore(link, &given),
    };
    report(link, served);
    std::process::exit(0); // not by the end of `main`: threads may still wait for the conductor
}

/// The name is taken: what is done before it serves. Then whoever waits for the conductor's word ends it.
fn is_ready(link: &Link, given: &Given, stop: impl FnOnce() + Send + 'static) -> Done {
    let is_forked = prepare(given)?;
    link.tell("ready");
    if !is_forked {
        // A thread of its own waits for what the conductor says.
        let orders = Orders::of(link);
        std::thread::Builder::new().spawn(move || {
            orders.until_stop();
            stop();
        })?;
    }
    Ok(())
}

/// What this process does to itself once it has the name. Whether it is a copy of the one that took it.
fn prepare(given: &Given) -> Done<bool> {
    if given.odd.contains(&Surrounding::PrivilegesDropped) {
        surrounding::become_other_user()?;
    }
    let is_forked = given.odd.contains(&Surrounding::DaemonTooLate);
    if is_forked {
        surrounding::leave_parent()?;
        rustix::process::setsid().map_err(std::io::Error::from)?;
    }
    Ok(is_forked)
}

/// Threads that wait for the conductor's word. A role plays until it ends its process, so the lines live as long.
struct Orders(&'static Link);

impl Orders {
    fn of(link: &Link) -> Orders {
        // SAFETY: `play_server` ends the process and never returns, nor does it unwind: what it was lent is there to
        // the end.
        Orders(unsafe { &*std::ptr::from_ref(link) })
    }

    fn until_stop(&self) {
        while let Some(line) = self.0.hear_at_last() {
            if line == "stop" {
                return;
            }
        }
        std::process::exit(0); // the conductor is gone
    }
}

fn invert(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

fn exchange(link: &Link, given: &Given) -> Done<u64> {
    let mut server = Server::bind(&given.name)?;
    let stop = server.shutdown_handle();
    is_ready(link, given, move || stop.shutdown())?;
    server.serve(|request| invert(request))?;
    Ok(0)
}

fn exchange_tokio(link: &Link, given: &Given) -> Done<u64> {
    runtime()?.block_on(async {
        let mut server = wigwag::tokio::Server::bind(&given.name)?;
        let stop: ShutdownHandle = server.shutdown_handle();
        is_ready(link, given, move || stop.shutdown())?;
        server.serve(async |request| invert(request)).await?;
        Ok(0)
    })
}

/// What was received, and whether it is what was sent.
#[derive(Default)]
struct Received {
    count: u64,
    fault: Option<String>,
}

impl Received {
    fn take(&mut self, message: &[u8]) {
        self.count += 1;
        let number = message.first_chunk().map_or(u64::MAX, |head| u64::from_le_bytes(*head));
        if message != self::message(number) {
            self.fault = Some(format!("message {number} of {} bytes is not what was sent", message.len()));
        }
    }

    fn told(self, ended: Error) -> Done<u64> {
        match (self.fault, ended.kind()) {
            (Some(fault), _) => Err(wrong(fault)),
            (None, ErrorKind::ServerClosed { .. }) => Ok(self.count),
            (None, _) => Err(ended.into()),
        }
    }
}

fn message(number: u64) -> Vec<u8> {
    let mut message = vec![0; 8 + (number % 300) as usize];
    fill(&mut message[8..], number);
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

fn queue(link: &Link, given: &Given) -> Done<u64> {
    let receiver = Receiver::bind(&given.name)?;
    let stop = receiver.shutdown_handle();
    is_ready(link, given, move || stop.shutdown())?;
    let mut received = Received::default();
    loop {
        match receiver.recv() {
            Ok(delivery) => received.take(&delivery),
            Err(ended) => return received.told(ended),
        }
    }
}

fn queue_tokio(link: &Link, given: &Given) -> Done<u64> {
    runtime()?.block_on(async {
        let mut receiver = wigwag::tokio::Receiver::bind(&given.name)?;
        let stop = receiver.shutdown_handle();
        is_ready(link, given, move || stop.shutdown())?;
        let mut received = Received::default();
        loop {
            match receiver.recv().await {
                Ok(delivery) => received.take(&delivery),
                Err(ended) => return received.told(ended),
            }
        }
    })
}

fn stream(link: &Link, given: &Given) -> Done<u64> {
    let listener = StreamListener::bind(&given.name)?;
    let stop = listener.shutdown_handle();
    is_ready(link, given, move || stop.shutdown())?;
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(mut stream) => {
                count += 1;
                std::thread::Builder::new().spawn(move || {
                    let mut bytes = vec![0; PIECE];
                    while let Ok(len) = stream.read(&mut bytes) {
                        if len == 0 || stream.write_all(&bytes[..len]).is_err() {
                            break;
                        }
                    }
                })?;
            }
            Err(ended) => return is_over(ended, count),
        }
    }
}

/// Whether a listener has ended because it was told to.
fn is_over(ended: std::io::Error, count: u64) -> Done<u64> {
    let is_closed = |error: &Error| matches!(error.kind(), ErrorKind::ServerClosed { .. });
    match ended.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) if is_closed(error) => Ok(count),
        _ => Err(ended.into()),
    }
}

fn stream_tokio(link: &Link, given: &Given) -> Done<u64> {
    runtime()?.block_on(async {
        let listener = wigwag::tokio::StreamListener::bind(&given.name)?;
        let stop = listener.shutdown_handle();
        is_ready(link, given, move || stop.shutdown())?;
        let mut count = 0;
        loop {
            match listener.accept().await {
                Ok(mut stream) => {
                    count += 1;
                    tokio::spawn(async move {
                        let mut bytes = vec![0; PIECE];
                        while let Ok(len) = stream.read(&mut bytes).await {
                            if len == 0 || stream.write_all(&bytes[..len]).await.is_err() {
                                break;
                            }
                        }
                    });
                }
                Err(ended) => return is_over(ended, count),
            }
        }
    })
}

fn semaphore(link: &Link, given: &Given) -> Done<u64> {
    let semaphore = Semaphore::open(&given.name, 1)?;
    prepare(given)?;
    link.tell("ready");
    let mut count = 0;
    loop {
        hold(&semaphore, &given.inside)?;
        count += 1;
        // Others have their turns meanwhile.
        if link.has_said_something(Some(Duration::from_millis(1)))? {
            return Ok(count);
        }
    }
}

/// Has the permit once, and looks whether anybody else has it.
fn hold(semaphore: &Semaphore, inside: &Path) -> Done {
    let _permit = semaphore.acquire_timeout(STEP)?;
    let mark = inside.join("held");
    let marked = std::fs::File::options().write(true).create_new(true).open(&mark);
    marked.map_err(|error| wrong(format!("two have the one permit of a semaphore ({error})")))?;
    std::fs::remove_file(&mark).map_err(|error| wrong(format!("two had the one permit of a semaphore ({error})")))
}

// ---- client
// -------------------------------------------------------------------------------------------------------------

/// The role: connects, and does a job for each line `job`.
pub fn play_client(link: &Link, arguments: &[&str]) {
    let given = given(arguments);
    let connected = match given.job {
        Job::Exchange => call(link, &given),
        Job::ExchangeTokio => runtime().and_then(|runtime| runtime.block_on(call_tokio(link, &given))),
        Job::Queue => send(link, &given),
        Job::QueueTokio => runtime().and_then(|runtime| runtime.block_on(send_tokio(link, &given))),
        Job::Stream => talk(link, &given),
        Job::StreamTokio => runtime().and_then(|runtime| runtime.block_on(talk_tokio(link, &given))),
        _ => hold_again(link, &given),
    };
    if let Err(told) = connected {
        report(link, Err(told));
    }
}

/// Tries until there is a server: it may be about to take its name again.
fn patiently<T>(given: &Given, mut connect: impl FnMut() -> Done<T>) -> Done<T> {
    let begin = Instant::now();
    loop {
        match connect() {
            Err(told) if told.kind == "NotRunning" && begin.elapsed() < given.patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// Does a job for each line, until there is none.
fn for_each_job(link: &Link, mut job: impl FnMut() -> Done<u64>) -> Done {
    link.tell("connected");
    while link.hear_at_last().is_some_and(|line| line == "job") {
        report(link, job());
    }
    Ok(())
}

fn request(len: usize) -> Vec<u8> {
    let mut request = vec![0; len];
    fill(&mut request, len as u64);
    request
}

fn check_reply(request: &[u8], reply: &[u8]) -> Done {
    let is_right = request.len() == reply.len() && request.iter().zip(reply).all(|(sent, got)| *got == !sent);
    if is_right { Ok(()) } else { Err(wrong(format!("the reply to {} bytes is wrong", request.len()))) }
}

fn call(link: &Link, given: &Given) -> Done {
    let client = patiently(given, || Ok(Client::connect(&given.name)?))?;
    for_each_job(link, || {
        for request in LENGTHS.map(request) {
            check_reply(&request, &client.call_timeout(&request, STEP)?)?;
        }
        Ok(LENGTHS.len() as u64)
    })
}

async fn call_tokio(link: &Link, given: &Given) -> Done {
    let mut connected = wigwag::tokio::Client::connect(&given.name).await;
    let begin = Instant::now();
    while connected.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotRunning)
        && begin.elapsed() < given.patience
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
        connected = wigwag::tokio::Client::connect(&given.name).await;
    }
    let client = connected?;
    link.tell("connected");
    while link.hear_at_last().is_some_and(|line| line == "job") {
        let mut done = Ok(LENGTHS.len() as u64);
        for request in LENGTHS.map(request) {
            let called = client.call_timeout(&request, STEP).await.map_err(Told::from);
            if let Err(told) = called.and_then(|reply| check_reply(&request, &reply)) {
                done = Err(told);
                break;
            }
        }
        report(link, done);
    }
    Ok(())
}

fn send(link: &Link, given: &Given) -> Done {
    let mut sender = patiently(given, || Ok(Sender::connect(&given.name)?))?;
    for_each_job(link, || {
        for number in 0..MESSAGES {
            sender.send_timeout(&message(number), STEP)?;
        }
        sender.flush(STEP)?;
        Ok(MESSAGES)
    })
}

async fn send_tokio(link: &Link, given: &Given) -> Done {
    // What finds the name is the same in both faces; what follows is not.
    let sender = patiently(given, || Ok(Sender::connect(&given.name)?))?;
    let mut sender = wigwag::tokio::Sender::from_blocking(sender)?;
    link.tell("connected");
    while link.hear_at_last().is_some_and(|line| line == "job") {
        let mut done = Ok(MESSAGES);
        for number in 0..MESSAGES {
            if let Err(error) = sender.send(&message(number)).await {
                done = Err(Told::from(error));
                break;
            }
        }
        match tokio::time::timeout(STEP, sender.flush()).await {
            Ok(flushed) => done = done.and(flushed.map(|()| MESSAGES).map_err(Told::from)),
            Err(_) => done = Err(Told { kind: "TimedOut".into(), text: "flush() does not return".into() }),
        }
        report(link, done);
    }
    Ok(())
}

fn piece(number: u64) -> Vec<u8> {
    let mut piece = vec![0; PIECE];
    fill(&mut piece, number);
    piece
}

fn talk(link: &Link, given: &Given) -> Done {
    let mut stream = patiently(given, || Ok(Stream::connect(&given.name)?))?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    for_each_job(link, || {
        for piece in (0..PIECES).map(piece) {
            stream.write_all(&piece)?;
            let mut back = vec![0; PIECE];
            stream.read_exact(&mut back)?;
            if back != piece {
                return Err(wrong("a stream gave back other bytes than it was given"));
            }
        }
        Ok(PIECES)
    })
}

async fn talk_tokio(link: &Link, given: &Given) -> Done {
    let stream = patiently(given, || Ok(Stream::connect(&given.name)?))?;
    let mut stream = wigwag::tokio::Stream::from_blocking(stream)?;
    link.tell("connected");
    while link.hear_at_last().is_some_and(|line| line == "job") {
        let talked = tokio::time::timeout(STEP, async {
            for piece in (0..PIECES).map(piece) {
                stream.write_all(&piece).await?;
                let mut back = vec![0; PIECE];
                stream.read_exact(&mut back).await?;
                if back != piece {
                    return Err(wrong("a stream gave back other bytes than it was given"));
                }
            }
            Ok(PIECES)
        });
        let late = |_| Err(Told { kind: "TimedOut".into(), text: "the stream stands still".into() });
        report(link, talked.await.unwrap_or_else(late));
    }
    Ok(())
}

fn hold_again(link: &Link, given: &Given) -> Done {
    let semaphore = Semaphore::open(&given.name, 1)?;
    for_each_job(link, || {
        for _ in 0..HELD {
            hold(&semaphore, &given.inside)?;
        }
        Ok(HELD)
    })
}
