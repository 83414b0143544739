//! The processes of a walk: victims that do one operation between two marks, and the honest server.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use wigwag::{Client, ErrorKind, Request, Server, ServerBuilder, Wait};
use wigwag_testing::{Link, check_inverted, fill};

use super::tracer::{SLOTS, mark, survive_marks};
use crate::processors;

/// The longest payload of the sessions.
pub const CAPACITY: usize = 5000;
/// How a request begins that the server keeps until it is told to answer.
pub const HOLD: &[u8] = b"hold";

fn invert(request: &mut Request) {
    request.iter_mut().for_each(|byte| *byte = !*byte);
}

/// A handshake may take long here: one side of it is walked step by step.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The servers of the walks.
pub fn builder() -> ServerBuilder {
    Server::builder().slots(SLOTS).capacity(CAPACITY).wait(Wait::Park).handshake_timeout(TIME_LIMIT)
}

/// The honest server: inverts every byte; keeps what asks for it until the line `release`.
pub fn serve(parent: &Link, arguments: &[&str]) {
    let [socket] = arguments else { panic!("a server needs a path") };
    processors::use_all();
    let mut server = builder().bind(Path::new(socket)).unwrap();
    let stop = server.shutdown_handle();
    let (hold, held) = mpsc::channel::<Request>();
    parent.tell("ready");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Some(line) = parent.hear_at_last() {
                match line.as_str() {
                    "release" => held.try_iter().for_each(|mut request| {
                        invert(&mut request);
                        request.reply();
                    }),
                    _ => break,
                }
            }
            drop(held);
            stop.shutdown();
        });
        while let Ok(mut request) = server.recv() {
            if request.starts_with(HOLD) {
                let _ = hold.send(request); // dropped unanswered when nobody releases any more
            } else {
                invert(&mut request);
                request.reply();
            }
        }
    });
    drop(server);
    parent.tell("stopped");
}

/// The operations of a victim client.
pub const CLIENT_OPERATIONS: &[&str] = &[
    "connect",
    "refused",
    "loan",
    "call",
    "call-body",
    "call-timeout",
    "send",
    "try-wait",
    "wait",
    "reply",
    "abandon",
    "abandoned-slot",
    "clone",
    "disconnect",
];

/// Whether the operation waits for a request that the server keeps.
pub fn waits_for_release(operation: &str) -> bool {
    matches!(operation, "wait" | "abandoned-slot")
}

fn connect(socket: &Path) -> wigwag::Result<Client> {
    Client::builder().wait(Wait::Park).timeout(Duration::from_secs(60)).connect(socket)
}

/// Between two marks.
pub fn marked<T>(operation: impl FnOnce() -> T) -> T {
    mark();
    let result = operation();
    // A breakpoint where the thread blocks signals makes the kernel forget who handles them.
    survive_marks();
    mark();
    result
}

/// A call that checks its reply.
fn check(client: &Client, len: usize) -> wigwag::Result<()> {
    let mut loan = client.loan(len)?;
    fill(&mut loan, len as u64);
    check_inverted(&loan.call_timeout(Duration::from_secs(10))?, len, len as u64);
    Ok(())
}

/// The victim client: does one operation, and says how it went.
pub fn client(parent: &Link, arguments: &[&str]) {
    let [socket, operation] = arguments else { panic!("a victim needs a path and an operation") };
    survive_marks();
    let socket = Path::new(socket);
    let mut client = match *operation {
        "connect" | "refused" => None,
        _ => Some(connect(socket).expect("the victim connects")),
    };
    let went = one_operation(parent, socket, operation, &mut client);
    // Afterwards it is a client like any other.
    let went = went.and_then(|()| match &client {
        Some(client) => check(client, 1000),
        None => Ok(()),
    });
    match went {
        Ok(()) => parent.tell("done ok"),
        Err(error) => parent.tell(format_args!("done {:?} {error}", error.kind()).to_string().replace('\n', " ")),
    }
    while parent.hear_at_last().is_some_and(|line| line != "end") {}
}

fn one_operation(parent: &Link, socket: &Path, operation: &str, place: &mut Option<Client>) -> wigwag::Result<()> {
    let ready = || {
        parent.tell(format_args!("ready {}", rustix::thread::gettid().as_raw_nonzero()));
        parent.hear();
    };
    let Some(client) = place.as_ref() else {
        ready();
        if operation == "refused" {
            let refused = marked(|| {
                Client::builder().capacity(CAPACITY + 1).wait(Wait::Park).timeout(TIME_LIMIT).connect(socket)
            });
            match refused {
                Err(error) if error.kind() == ErrorKind::Refused => {}
                Err(error) => return Err(error),
                Ok(_) => panic!("a session beyond the limits"),
            }
        } else {
            *place = Some(marked(|| connect(socket))?);
        }
        return Ok(());
    };
    match operation {
        "loan" => {
            ready();
            marked(|| client.loan(1000).map(|mut loan| loan.fill(7)))
        }
        "call" => {
            ready();
            marked(|| check(client, 48))
        }
        "call-body" => {
            ready();
            marked(|| check(client, 49))
        }
        "call-timeout" => {
            ready();
            let late = marked(|| client.call_timeout(HOLD, Duration::from_millis(20)).map(drop));
            match late {
                // The server was told to answer in time, or was not.
                Err(error) if !matches!(error.kind(), ErrorKind::TimedOut { .. }) => Err(error),
                _ => Ok(()),
            }
        }
        "send" => {
            let loan = client.loan(49)?;
            ready();
            let pending = marked(|| loan.send())?;
            pending.wait().map(drop)
        }
        "try-wait" | "reply" => {
            check(client, 48)?;
            let mut loan = client.loan(48)?;
            fill(&mut loan, 1);
            let pending = loan.send()?;
            std::thread::sleep(Duration::from_millis(2)); // it is answered by now, or the wait sleeps
            ready();
            marked(|| pending.wait().map(|reply| check_inverted(&reply, 48, 1)))
        }
        "wait" => {
            let pending = held(client)?;
            ready();
            let reply = marked(|| pending.wait())?;
            assert_eq!(reply[0], !HOLD[0]);
            Ok(())
        }
        "abandon" => {
            let pending = held(client)?;
            ready();
            marked(|| drop(pending));
            Ok(())
        }
        "abandoned-slot" => {
            (0..SLOTS).try_for_each(|_| held(client).map(drop))?;
            ready();
            marked(|| client.loan_timeout(10, Duration::from_secs(10)).map(drop))
        }
        "clone" => {
            ready();
            marked(|| client.try_clone()).map(drop)
        }
        "disconnect" => {
            let client = place.take();
            ready();
            marked(|| drop(client));
            Ok(())
        }
        _ => panic!("there is no operation `{operation}`"),
    }
}

fn held(client: &Client) -> wigwag::Result<wigwag::Pending<'_>> {
    let mut loan = client.loan(HOLD.len())?;
    loan.copy_from_slice(HOLD);
    loan.send()
}

/// The operations of a victim server.
pub const SERVER_OPERATIONS: &[&str] = &[
    "bind",
    "receive",
    "receive-asleep",
    "reply",
    "reply-body",
    "fail",
    "unanswered",
    "shutdown",
    "accept",
    "refuse",
    "end",
    "condemn",
];

/// Whether the operation is one of the control thread's, which begins with what a client does and has no marks.
pub fn is_of_control_thread(operation: &str) -> bool {
    matches!(operation, "accept" | "refuse" | "end" | "condemn")
}

/// The victim server: does one operation, and then serves like any other until it is told to stop.
pub fn victim_server(parent: &Link, arguments: &[&str]) {
    let [socket, operation] = arguments else { panic!("a victim needs a path and an operation") };
    survive_marks();
    let bind = || builder().bind(Path::new(socket));
    let ready = |thread: u32| {
        parent.tell(format_args!("ready {thread}"));
        parent.hear();
    };
    let own = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let server = if *operation == "bind" {
        ready(own);
        marked(bind)
    } else {
        bind()
    };
    let mut server = match server {
        Ok(server) => server,
        Err(error) => {
            parent.tell(format_args!("done {:?}", error.kind()));
            return;
        }
    };
    let stop = server.shutdown_handle();
    match *operation {
        "bind" => {}
        "shutdown" => {
            parent.tell("bound");
            ready(own);
            marked(|| drop(server));
            return parent.tell("done ok");
        }
        _ if is_of_control_thread(operation) => {
            parent.tell("bound");
            ready(control_thread_thread());
        }
        _ => {
            parent.tell("bound");
            if let Err(error) = one_service(operation, &mut server, || ready(own)) {
                return parent.tell(format_args!("done {:?}", error.kind()));
            }
        }
    }
    parent.tell("done ok");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while parent.hear_at_last().is_some_and(|line| line != "stop") {}
            stop.shutdown();
        });
        let _ = server.serve(invert);
    });
    drop(server);
    parent.tell("stopped");
}

fn one_service(operation: &str, server: &mut Server, ready: impl Fn()) -> wigwag::Result<()> {
    if operation.starts_with("receive") {
        ready();
        let mut request = marked(|| server.recv())?;
        invert(&mut request);
        request.reply();
        return Ok(());
    }
    let mut request = server.recv()?;
    match operation {
        "reply" => {
            invert(&mut request);
            ready();
            marked(|| request.reply());
        }
        "reply-body" => {
            ready();
            marked(|| request.set_reply(&[9; 3000]).map(|()| request.reply()))?;
        }
        "fail" => {
            ready();
            marked(|| request.fail("as ordered"));
        }
        "unanswered" => {
            ready();
            marked(|| drop(request));
        }
        _ => panic!("there is no operation `{operation}`"),
    }
    Ok(())
}

/// The number of the control thread's thread in this process. It gives itself its name, a moment after it was started.
fn control_thread_thread() -> u32 {
    loop {
        let threads = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
        let control_thread = threads.flatten().find(|thread| {
            std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == "wigwag-control")
        });
        match control_thread.and_then(|thread| thread.file_name().to_string_lossy().parse().ok()) {
            Some(thread) => return thread,
            None => std::thread::yield_now(),
        }
    }
}
