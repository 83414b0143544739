//! Ten thousand tasks call at a time over one session, and handlers that wait hold up nobody.
//!
//! `cargo run --example tasks -p wigwag`. Needs the feature `tokio`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const CALLS: u64 = 10_000;

#[tokio::main]
async fn main() -> wigwag::Result<()> {
    let private = Permissions::from_mode(0o700);
    let directory = tempfile::Builder::new().permissions(private).tempdir().expect("a temporary directory");
    let path = directory.path().join("tasks");

    let mut server = wigwag::tokio::Server::builder().slots(256).bind_async(&path)?;
    let stop = server.shutdown_handle();
    let serving = tokio::spawn(async move {
        server
            .serve(async |request| {
                // As if the answer had to be fetched from somewhere, and one of them from far away.
                let fetching_ms = if request[..] == *b"far away" { 500 } else { 1 };
                tokio::time::sleep(Duration::from_millis(fetching_ms)).await;
                request.reverse();
            })
            .await
    });

    let client = wigwag::tokio::Client::connect(&path).await?;
    let begin = Instant::now();
    let tasks: Vec<_> = (0..CALLS)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let reply = client.call(&number.to_be_bytes()).await?;
                assert_eq!(reply[..], number.to_le_bytes()); // big-endian, reversed
                wigwag::Result::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics")?;
    }
    let took = begin.elapsed();
    println!("{CALLS} calls of {CALLS} tasks over one session with {} slots: {took:.0?}", client.slots());
    println!("one after the other each would have waited a millisecond: {:?}", Duration::from_millis(CALLS));

    // A task that loses its patience gives the call up; the slot comes back when the server is done with it.
    let impatient = client.call_timeout(b"far away", Duration::from_millis(1)).await;
    println!("with less time than it takes: {}", impatient.unwrap_err());

    stop.shutdown();
    serving.await.expect("the server does not panic")
}
