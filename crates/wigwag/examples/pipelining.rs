//! Several calls under way at a time: `cargo run --release --example pipelining -p wigwag`.
//!
//! One call at a time costs a journey of the slot's cache line there and back. With many in flight the journeys
//! overlap: the client fills the next slot while the server changes the one before. `Loan::send` gives a `Pending` to
//! wait for, in any order; dropping one gives the call up.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use wigwag::{Client, ErrorKind, Pending, Server};

const CALLS: u64 = 20_000;
const IN_FLIGHT: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = private_directory()?;
    let name = directory.path().join("square");
    let mut server = Server::builder().slots(IN_FLIGHT).bind(&name)?;
    let stop = server.shutdown_handle();
    let thread = std::thread::spawn(move || {
        server.serve(|request| {
            let number = u64::from_le_bytes(request[..].try_into().map_err(|_| "a request has eight bytes")?);
            request.copy_from_slice(&number.wrapping_mul(number).to_le_bytes());
            Ok::<(), &str>(())
        })
    });
    let client = Client::connect(&name)?;

    let begin = Instant::now();
    for number in 0..CALLS {
        check(number, &client.call(&number.to_le_bytes())?);
    }
    println!("{CALLS} calls one after the other:  {:?}", begin.elapsed());

    let begin = Instant::now();
    let mut under_way: VecDeque<(u64, Pending)> = VecDeque::with_capacity(IN_FLIGHT);
    for number in 0..CALLS {
        if under_way.len() == IN_FLIGHT {
            take_oldest(&mut under_way)?; // all slots are out: one must come back first
        }
        under_way.push_back((number, send(&client, number)?));
    }
    while !under_way.is_empty() {
        take_oldest(&mut under_way)?;
    }
    println!("{CALLS} calls, {IN_FLIGHT} at a time:       {:?}", begin.elapsed());

    any_order(&client)?;
    stop.shutdown();
    thread.join().expect("the server's thread does not panic")?;
    Ok(())
}

fn send(client: &Client, number: u64) -> wigwag::Result<Pending<'_>> {
    let mut loan = client.loan(8)?;
    loan.copy_from_slice(&number.to_le_bytes());
    loan.send()
}

fn take_oldest(under_way: &mut VecDeque<(u64, Pending)>) -> wigwag::Result<()> {
    if let Some((number, pending)) = under_way.pop_front() {
        check(number, &pending.wait()?);
    }
    Ok(())
}

fn check(number: u64, reply: &[u8]) {
    assert_eq!(reply, number.wrapping_mul(number).to_le_bytes());
}

/// What else can be done with calls under way.
fn any_order(client: &Client) -> Result<(), Box<dyn Error>> {
    // Replies are taken in whatever order suits.
    let (first, mut second, third) = (send(client, 1)?, send(client, 2)?, send(client, 3)?);
    check(3, &third.wait()?);
    let reply = second.wait_timeout(Duration::from_secs(1)).expect("the server is quick")?;
    check(2, &reply);
    drop(reply); // the slot is free again
    drop(first); // given up: its slot comes back when the server is done with it

    // More calls than slots: `loan` would wait, `try_loan` says that there is none.
    let held: Vec<_> = std::iter::from_fn(|| client.try_loan(8).ok()).collect();
    let error = client.try_loan(8).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    println!("with {} loans held: {error}", held.len());
    Ok(())
}

/// Wigwag takes no directory that others may write to, whatever the umask is.
fn private_directory() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()
}
