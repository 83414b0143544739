//! A server that writes the number of each request into a file before anything else, in one piece. So a kill takes
//! nothing of that back, and what is in the file was seen by a handler.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use wigwag::Server;
use wigwag_testing::Link;

/// The role: it hears nothing, and ends by being killed. `arguments`: its socket, and the file.
pub fn play(parent: &Link, arguments: &[&str]) {
    let [socket, ledger] = arguments[..] else { panic!("{arguments:?}") };
    let mut server = Server::builder().slots(16).capacity(8192).bind(Path::new(socket)).expect("a server");
    let mut ledger = OpenOptions::new().append(true).create(true).open(ledger).expect("a file");
    parent.tell("ready");
    server
        .serve(|request| {
            ledger.write_all(&request[..8]).expect("room in the file");
            // Long enough that kills fall into it, and that others wait behind it.
            std::thread::sleep(std::time::Duration::from_micros(20));
            request.iter_mut().for_each(|byte| *byte = !*byte);
        })
        .expect("it serves until it is killed");
}
