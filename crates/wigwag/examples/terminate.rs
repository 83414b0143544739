//! A server that ends in order at SIGTERM: `cargo run --example terminate -p wigwag`.
//!
//! What clients had passed before the signal is answered, the name is given back, and clients are told. The program
//! sends itself the signal that `kill`, systemd and container engines send.

use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wigwag::{Client, ErrorKind, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()?;
    let name = directory.path().join("photo");
    let mut server = Server::bind(&name)?;

    let stop = server.shutdown_handle();
    let mut signals = Signals::new([SIGTERM, SIGINT])?; // from here on the signal waits for its thread
    thread::spawn(move || {
        signals.forever().next();
        stop.shutdown(); // `serve` answers what it has, and returns
    });

    let client = Client::connect(&name)?;
    let serving = thread::spawn(move || {
        server.serve(|request| {
            thread::sleep(Duration::from_millis(100)); // long work
            request.reverse();
        })
    });
    let mut loan = client.loan(3)?;
    loan.copy_from_slice(&[1, 2, 3]);
    let pending = loan.send()?; // passed before the signal
    signal_hook::low_level::raise(SIGTERM)?;
    assert_eq!(pending.wait()?[..], [3, 2, 1]);
    serving.join().expect("no handler panics, and serve returns")?;

    let after = Client::connect(&name).expect_err("the name is given back");
    assert_eq!(after.kind(), ErrorKind::NotRunning);
    println!("the call under way was answered, and the name is given back");
    Ok(())
}
