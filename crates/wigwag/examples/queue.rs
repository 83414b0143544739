//! Work that survives its worker: `cargo run --release --example queue -p wigwag`.
//!
//! Two processes send orders into a queue, a third one carries them out, and is killed in the middle. What it had not
//! acknowledged comes to its successor: nothing is lost, and what may have been done twice is marked. The program plays
//! all the parts, by starting itself again.

use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use wigwag::{ErrorKind, Receiver, Sender};

const ORDERS: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_] => direct(),
        [_, "send", name] => send(Path::new(name)),
        [_, "work", name, done] => work(Path::new(name), Path::new(done)),
        _ => Err("this example takes no arguments".into()),
    }
}

fn direct() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()?;
    let (name, done) = (directory.path().join("orders"), directory.path().join("done"));
    let (name, done) = (name.to_str().ok_or("a path in UTF-8")?, done.to_str().ok_or("a path in UTF-8")?);

    let mut senders = [start(&["send", name])?, start(&["send", name])?];
    let mut worker = start(&["work", name, done])?;
    std::thread::sleep(Duration::from_millis(30));
    worker.kill()?; // at whatever instruction it stands
    worker.wait()?;
    println!("the first worker is killed");

    let mut successor = start(&["work", name, done])?;
    for sender in &mut senders {
        assert!(sender.wait()?.success(), "a sender ends once all of its orders are acknowledged");
    }
    successor.kill()?; // everything is acknowledged by now
    successor.wait()?;
    let orders = std::fs::metadata(done)?.len() / 8;
    println!("{} orders were sent, {orders} carried out, some of them perhaps twice", 2 * ORDERS);
    assert!(orders >= 2 * ORDERS);
    Ok(())
}

fn start(arguments: &[&str]) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).args(arguments).spawn()
}

/// Sends orders. Whether there is a worker at the moment is no concern of its: it waits for one for up to ten seconds.
fn send(name: &Path) -> Result<(), Box<dyn Error>> {
    let mut sender = Sender::builder().server_timeout(Duration::from_secs(10)).connect(name)?;
    for number in 0..ORDERS {
        let mut draft = sender.loan(8)?; // the queue's own memory
        draft.copy_from_slice(&number.to_le_bytes());
        draft.commit()?;
    }
    let stats = sender.stats();
    sender.close()?; // returns once everything is acknowledged
    println!("{} orders sent to {} workers", stats.sent, 1 + stats.reconnects);
    Ok(())
}

/// Carries orders out: writes each into a file, and only then acknowledges it.
fn work(name: &Path, done: &Path) -> Result<(), Box<dyn Error>> {
    use std::io::Write;
    let receiver = loop {
        match Receiver::bind(name) {
            Err(error) if error.kind() == ErrorKind::NameTaken => std::thread::sleep(Duration::from_millis(1)),
            outcome => break outcome?,
        }
    };
    let mut done = std::fs::File::options().create(true).append(true).open(done)?;
    for order in &receiver {
        let order = order?;
        if order.is_redelivered() {
            println!("order {} may have been carried out before", u64::from_le_bytes(order[..].try_into()?));
        }
        done.write_all(&order)?;
        order.ack();
    }
    Ok(())
}
