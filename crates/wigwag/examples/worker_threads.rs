//! Two ways to serve on several threads: `cargo run --example worker_threads -p wigwag`.
//!
//! `serve_on` gives each session to one of several serving threads: for many clients with short work. `recv` hands out
//! requests that may move to any thread and be answered later, in any order: for few clients with long work. Both are
//! shown, and both count which threads did the work.

use std::collections::HashSet;
use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use wigwag::{Client, Request, Server};

const THREADS: usize = 3;
const CLIENTS: u8 = 6;
const CALLS: u8 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = private_directory()?;
    serve_on_threads(&directory.path().join("short"))?;
    hand_out(&directory.path().join("long"))?;
    Ok(())
}

/// Each of the sessions belongs to one of the serving threads.
fn serve_on_threads(name: &Path) -> Result<(), Box<dyn Error>> {
    let mut server = Server::bind(name)?;
    let stop = server.shutdown_handle();
    let workers = Mutex::new(HashSet::new());
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let serving = scope.spawn(|| {
            server.serve_on(THREADS, |request| {
                workers.lock().expect("no handler panics").insert(thread::current().id());
                request.reverse();
            })
        });
        let client = Client::connect(name)?;
        let calling: Vec<_> = (0..CLIENTS)
            .map(|number| {
                // A client belongs to one thread at a time; each gets a session of its own.
                let client = client.try_clone()?;
                Ok(scope.spawn(move || -> wigwag::Result<()> {
                    for call in 0..CALLS {
                        assert_eq!(client.call(&[1, number, call])?[..], [call, number, 1]);
                    }
                    Ok(())
                }))
            })
            .collect::<wigwag::Result<_>>()?;
        for thread in calling {
            thread.join().expect("no client panics")?;
        }
        stop.shutdown();
        serving.join().expect("the server does not panic")?;
        Ok(())
    })?;
    let used = workers.lock().expect("no handler panics").len();
    println!(
        "serve_on: {CLIENTS} clients made {} calls, answered by {used} threads",
        u32::from(CLIENTS) * u32::from(CALLS)
    );
    Ok(())
}

/// One thread receives, a pool answers: the calls of even one client are worked on side by side.
fn hand_out(name: &Path) -> Result<(), Box<dyn Error>> {
    let mut server = Server::bind(name)?;
    let client = Client::connect(name)?;
    let (sender, receiver) = mpsc::channel::<Request>();
    let receiver = Mutex::new(receiver);
    let order = Mutex::new(Vec::new());
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    // The lock is held while waiting for a request, not while working on it.
                    let next = receiver.lock().expect("no worker panics").recv();
                    let Ok(mut request) = next else { return };
                    if request.is_abandoned() {
                        continue; // dropped: answered with "unanswered", and nobody waits for it
                    }
                    // The first byte says how long the work takes.
                    thread::sleep(Duration::from_millis(u64::from(request[0])));
                    order.lock().expect("no worker panics").push(request[0]);
                    request.make_ascii_uppercase();
                    request.reply();
                }
            });
        }
        let stop = server.shutdown_handle();
        let receiving = scope.spawn(move || {
            // Ends when the server is shut down; the pool ends when the sender is gone.
            while let Ok(request) = server.recv() {
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        let send = |work: &[u8]| -> wigwag::Result<_> {
            let mut loan = client.loan(work.len())?;
            loan.copy_from_slice(work);
            loan.send()
        };
        let (slow, quick) = (send(b"\x64slow")?, send(b"\x01quick")?);
        assert_eq!(&quick.wait()?[1..], b"QUICK");
        assert_eq!(&slow.wait()?[1..], b"SLOW");
        stop.shutdown();
        receiving.join().expect("the receiving thread does not panic");
        Ok(())
    })?;
    let order = order.lock().expect("no worker panics");
    assert_eq!(*order, [1, 100], "the short work overtook the long one");
    println!("recv: two calls of one client, the one of {} ms answered before the one of {} ms", order[0], order[1]);
    Ok(())
}

/// Wigwag takes no directory that others may write to, whatever the umask is.
fn private_directory() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()
}
