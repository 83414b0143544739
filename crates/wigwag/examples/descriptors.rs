//! Hands over an open file and a piece of memory with a call, and gets a file back with the reply; then hands work over
//! with a message: `cargo run --example descriptors -p wigwag`.
//!
//! The memory holds bytes and no descriptors: those travel beside it. Both sides have to ask for that.

use std::fs::File;
use std::io::{Read, Seek, Write};

use rustix::fs::{MemfdFlags, memfd_create};
use wigwag::{Client, Receiver, Request, Sender, Server};

/// Counts the lines of the file that came first, and writes them, numbered, into the memory that came second. What it
/// writes besides, it sends back: a file that the caller could not have opened by itself.
fn number_the_lines(request: &mut Request) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let came = request.take_descriptors();
    // What came is whatever the caller chose: a server checks it, here by its number only.
    let Ok([file, memory]) = <[_; 2]>::try_from(came) else { return Err("a file and a memory are needed".into()) };
    let text = std::io::read_to_string(File::from(file)).map_err(|error| told(&error))?;
    let mut memory = File::from(memory);
    for (number, line) in text.lines().enumerate() {
        writeln!(memory, "{:3} {line}", number + 1).map_err(|error| told(&error))?;
    }
    let mut report = File::from(memfd_create("report", MemfdFlags::CLOEXEC).map_err(|error| told(&error))?);
    write!(report, "{} lines", text.lines().count()).map_err(|error| told(&error))?;
    report.rewind().map_err(|error| told(&error))?;
    request.attach(&report).map_err(|error| told(&error))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let name = directory.path().join("number");
    let mut server = Server::builder().descriptors(true).bind(&name)?;
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || server.serve(number_the_lines)); // another process, in earnest

    let file = File::open(file!()).or_else(|_| File::open("/proc/self/status"))?;
    let mut memory = File::from(memfd_create("numbered", MemfdFlags::CLOEXEC)?);

    let client = Client::builder().descriptors(true).connect(&name)?;
    let mut loan = client.loan(0)?;
    loan.attach(&file)?; // the file stays open here
    loan.attach(&memory)?;
    let mut reply = loan.call()?;

    let mut report = String::new();
    for descriptor in reply.take_descriptors() {
        File::from(descriptor).read_to_string(&mut report)?;
    }
    drop(reply);
    // The memory is one and the same for both: what the server wrote is here.
    memory.rewind()?;
    let numbered = std::io::read_to_string(memory)?;
    println!("{report}, of which the first are");
    numbered.lines().take(3).for_each(|line| println!("{line}"));
    assert_eq!(report, format!("{} lines", numbered.lines().count()));

    stop.shutdown();
    serving.join().expect("the server does not panic")?;
    hand_work_over(&directory.path().join("work"))
}

/// A message brings the file that the work is about, and brings it again if the first worker does not get done.
fn hand_work_over(name: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let receiver = Receiver::builder().descriptors(true).bind(name)?;
    let mut sender = Sender::builder().descriptors(true).connect(name)?;
    let mut draft = sender.loan(5)?;
    draft.copy_from_slice(b"count");
    draft.attach(File::open("/proc/self/status")?)?;
    draft.commit()?;

    let mut first = receiver.recv()?;
    drop(first.take_descriptors()?);
    first.nack(); // as a panic or the death of this process would

    let mut second = receiver.recv()?;
    assert!(second.is_redelivered());
    for file in second.take_descriptors()? {
        println!("a file of {} lines came with a message", std::io::read_to_string(File::from(file))?.lines().count());
    }
    second.ack();
    sender.close()?; // the sender has kept a duplicate until now
    Ok(())
}
