//! The processes that are walked. Each does one thing for each line that it hears, between two marks.

use std::time::Duration;

use wigwag::{Client, ErrorKind, Server, Wait};
use wigwag_testing::Link;

use super::tracer::mark;

/// The text of an error that does not fit into a line.
const LONG_TEXT: &str = "a text that is longer than the forty-eight bytes that fit into the line of a slot";

fn wait(name: &str) -> Wait {
    match name {
        "park" => Wait::Park,
        "spin" => Wait::Spin,
        _ => Wait::Adaptive,
    }
}

/// A server whose first thread serves by hand: arguments are the socket, how it waits, and a user it lets in.
pub fn by_hand(parent: &Link, arguments: &[&str]) {
    let [socket, how, user] = arguments[..] else { panic!("{arguments:?}") };
    let builder = Server::builder().slots(super::SLOTS).capacity(super::CAPACITY).wait(wait(how));
    let mut server = builder.allow_user(user.parse().unwrap()).bind(socket).unwrap();
    parent.tell("ready");
    while let Some(order) = parent.hear() {
        if order == "greet" {
            // A session is adopted, and its first request served, unobserved.
            server.recv_timeout(Duration::from_secs(30)).unwrap().expect("a greeting").reply();
            continue;
        }
        // Where nothing comes, the trial is about that: there it is no use to wait for long.
        let patience = if order == "nothing" { Duration::from_millis(50) } else { Duration::from_secs(30) };
        mark();
        let request = server.recv_timeout(patience).unwrap();
        if let Some(mut request) = request {
            match order.as_str() {
                "reply" => request.reply(),
                "deadline" => {
                    assert!(std::hint::black_box(request.deadline()).is_some());
                    request.reply();
                }
                "is abandoned" => {
                    assert!(std::hint::black_box(request.is_abandoned()));
                    request.reply();
                }
                "grow" => {
                    request.resize(super::CAPACITY).unwrap();
                    request.reply();
                }
                "fail" => request.fail("no"),
                "fail at length" => request.fail(LONG_TEXT),
                "drop" => drop(request),
                "hold" => {
                    mark();
                    parent.tell("held");
                    parent.hear();
                    mark();
                    request.reply();
                }
                _ => panic!("`{order}` came"),
            }
        }
        mark();
        parent.tell("done");
    }
}

/// A server that serves by a handler, which says a mark for each request: from one to the next is one request's time.
pub fn by_handler(parent: &Link, arguments: &[&str]) {
    let [socket, how, user] = arguments[..] else { panic!("{arguments:?}") };
    let builder = Server::builder().slots(super::SLOTS).capacity(super::CAPACITY).wait(wait(how));
    let mut server = builder.allow_user(user.parse().unwrap()).bind(socket).unwrap();
    let stop = server.shutdown_handle();
    parent.tell("ready");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            parent.hear();
            stop.shutdown();
        });
        server
            .serve(|request| {
                if request.first() == Some(&b'm') {
                    mark();
                }
            })
            .unwrap();
    });
}

/// A client: arguments are the socket and how it waits.
pub fn client(parent: &Link, arguments: &[&str]) {
    let [socket, how] = arguments[..] else { panic!("{arguments:?}") };
    parent.tell("ready");
    assert_eq!(parent.hear().as_deref(), Some("connect"));
    mark();
    let client = Client::builder().wait(wait(how)).connect(socket).unwrap();
    mark();
    parent.tell("done");
    while let Some(order) = parent.hear() {
        let (order, len) = order.split_once(' ').unwrap();
        let request = vec![order.as_bytes()[0]; len.parse().unwrap()];
        match order {
            "greet" => {
                // Twice, so that what is done only once is done unobserved.
                drop(client.call(&request).unwrap());
                drop(client.call_timeout(&request, Duration::from_secs(30)).unwrap());
                continue;
            }
            "call" => {
                mark();
                let reply = client.call(&request);
                mark();
                assert_eq!(reply.unwrap().len(), request.len());
            }
            "fail" => {
                mark();
                let error = client.call(&request).map(drop);
                mark();
                assert_eq!(error.unwrap_err().kind(), ErrorKind::HandlerFailed);
            }
            "pend" | "violate" => {
                let mut loan = client.loan(request.len()).unwrap();
                loan.fill(request[0]);
                mark();
                let pending = loan.send().unwrap();
                mark();
                parent.tell("sent");
                parent.hear();
                mark();
                let outcome = pending.wait().map(drop);
                mark();
                assert_eq!(outcome.is_err(), order == "violate");
            }
            "give-up" => {
                mark();
                let error = client.call_timeout(&request, Duration::from_millis(1)).map(drop);
                mark();
                assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut { maybe_executed: true });
                parent.tell("gave up");
                parent.hear();
                mark();
                let loan = client.loan(1); // which takes the slot back
                mark();
                drop(loan.unwrap());
            }
            _ => panic!("`{order}` came"),
        }
        parent.tell("done");
    }
}

/// What the server of a walked client does: the request's first byte is the first one of the client's order.
pub fn answer(request: &wigwag::Request) -> Result<(), &'static str> {
    match (request.first(), request.len()) {
        (Some(b'g'), _) => {
            // So long that the client sleeps.
            std::thread::sleep(Duration::from_millis(10));
            Ok(())
        }
        (Some(b'f'), 0..=48) => Err("no"),
        (Some(b'f'), _) => Err(LONG_TEXT),
        _ => Ok(()),
    }
}
