//! An image that another process changes where it lies: `cargo run --example image_filter -p wigwag`.
//!
//! The program starts itself a second time as the server. The client draws each frame straight into memory that the
//! server has mapped too, the server turns it to grey in place, and the client checks every pixel of what came back. No
//! byte of a frame goes through the kernel.

use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use wigwag::{Client, ErrorKind, Server};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const FRAME_BYTES: usize = WIDTH * HEIGHT * 3;
const FRAMES: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        Some(socket) => serve(Path::new(&socket)),
        None => demonstrate(),
    }
}

/// The server process: grey, in place. An empty request ends it.
fn serve(socket: &Path) -> Result<(), Box<dyn Error>> {
    // The capacity is a limit, not a reservation: memory is used for what is written.
    let mut server = Server::builder().slots(2).capacity(FRAME_BYTES).bind(socket)?;
    let stop = server.shutdown_handle();
    server.serve(|frame| {
        if frame.is_empty() {
            stop.shutdown();
        }
        for pixel in frame.as_chunks_mut::<3>().0 {
            *pixel = [grey(*pixel); 3];
        }
    })?;
    Ok(())
}

/// The client process, which starts the server.
fn demonstrate() -> Result<(), Box<dyn Error>> {
    let directory = private_directory()?;
    let socket = directory.path().join("grey");
    let mut server = ServerProcess(Command::new(std::env::current_exe()?).arg(&socket).spawn()?);
    let client = connect(&socket)?;
    println!("connected: {} slots of {} bytes", client.slots(), client.capacity());

    let begin = Instant::now();
    for number in 0..FRAMES {
        let mut frame = client.loan(FRAME_BYTES)?; // memory that the server already has
        for (index, pixel) in frame.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = drawn(number, index);
        }
        let changed = frame.call()?; // the same memory, changed
        for (index, pixel) in changed.as_chunks::<3>().0.iter().enumerate() {
            assert_eq!(*pixel, [grey(drawn(number, index)); 3], "frame {number}, pixel {index}");
        }
    }
    let pixels = FRAMES * WIDTH * HEIGHT;
    println!(
        "{FRAMES} frames drawn, turned to grey and checked in {:?}: all {pixels} pixels are right",
        begin.elapsed()
    );

    drop(client.call(&[])?); // an empty request is a request like any other
    drop(client);
    println!("the server ended with {}", server.0.wait()?);
    Ok(())
}

/// Does not outlive the client, however that one ends.
struct ServerProcess(Child);

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill(); // an error if it has ended already, as it should
        let _ = self.0.wait();
    }
}

/// The server needs a moment to start.
fn connect(socket: &Path) -> wigwag::Result<Client> {
    let give_up = Instant::now() + Duration::from_secs(5);
    loop {
        match Client::connect(socket) {
            Err(error) if error.kind() == ErrorKind::NotRunning && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(2));
            }
            outcome => return outcome,
        }
    }
}

/// What the client draws: colours that move from frame to frame.
fn drawn(frame: usize, index: usize) -> [u8; 3] {
    let (x, y) = (index % WIDTH, index / WIDTH);
    [(x + frame) as u8, (y + 2 * frame) as u8, (x ^ y) as u8]
}

/// The luminance of a colour, in whole numbers so that both sides agree to the bit.
fn grey([red, green, blue]: [u8; 3]) -> u8 {
    ((77 * u32::from(red) + 150 * u32::from(green) + 29 * u32::from(blue)) >> 8) as u8
}

/// Wigwag takes no directory that others may write to, whatever the umask is.
fn private_directory() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()
}
