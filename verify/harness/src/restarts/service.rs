//! A server that writes the number of each request into a file before anything else, in one piece. So a kill takes
//! nothing of that back, and what is in the file was seen by a handler.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use wigwag::Server;
use wigwag_testing::{Link, Process};

use crate::role;

/// The argument of one that takes the name over.
const HEIR: &str = "heir";
/// So long an heir tries.
pub const TIME: Duration = Duration::from_secs(20);

/// Starts one, and waits until it has the name.
pub fn start(socket: &Path, ledger: &Path) -> Process {
    let mut service = role::start("restarts_service", [socket, ledger].map(Path::as_os_str));
    service.expect("ready");
    service
}

/// Starts one that takes the name over. It says `begins` just before it does, and `ready` when it has the name.
pub fn start_heir(socket: &Path, ledger: &Path) -> Process {
    role::start("restarts_service", [socket.as_os_str(), ledger.as_os_str(), OsStr::new(HEIR)])
}

/// The role. `arguments`: its socket, the file, and whether it is an heir. It ends by being killed, by being replaced,
/// or when it is told to end. An heir that does not get the name says why.
pub fn play(parent: &Link, arguments: &[&str]) {
    let (socket, ledger, is_heir) = match arguments {
        [socket, ledger] => (socket, ledger, false),
        [socket, ledger, word] if *word == HEIR => (socket, ledger, true),
        _ => panic!("{arguments:?}"),
    };
    let mut builder = Server::builder().slots(16).capacity(8192);
    if is_heir {
        parent.tell("begins");
        builder = builder.replace(TIME);
    }
    let mut server = match builder.bind(Path::new(socket)) {
        Ok(server) => server,
        Err(error) => return parent.tell(format_args!("! {error}").to_string().replace('\n', " ")),
    };
    let mut ledger = OpenOptions::new().append(true).create(true).open(ledger).expect("a file");
    let stop = server.shutdown_handle();
    parent.tell("ready");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while parent.hear_at_last().is_some_and(|line| line != "end") {}
            stop.shutdown();
        });
        let served = server.serve(|request| {
            ledger.write_all(&request[..8]).expect("room in the file");
            // Long enough that kills fall into it, and that others wait behind it.
            std::thread::sleep(Duration::from_micros(20));
            request.iter_mut().for_each(|byte| *byte = !*byte);
        });
        served.expect("it serves until it is told to end");
        drop(server);
        std::process::exit(0); // the thread that listens would not end
    });
}
