//! A program in a real pseudo-terminal, whose screen is read back.

#![allow(dead_code)] // each of the tests uses its own part

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// How long a screen is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// A program and its terminal. Dropping it kills the program.
pub struct Screen {
    child: Child,
    master: Option<File>,
    /// The thread that reads what is shown, and whether it shall end.
    reading: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    /// Ours, so that its settings can be looked at after the program's end.
    terminal: OwnedFd,
    shown: Arc<Mutex<vt100::Parser>>,
}

impl Screen {
    /// Starts a program in a terminal of that size.
    pub fn start(mut command: Command, rows: u16, columns: u16) -> Screen {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
        set_size(&terminal, rows, columns);
        for (name, value) in [("TERM", "xterm-256color"), ("NO_COLOR", "")] {
            command.env(name, value);
        }
        let copy = || terminal.try_clone().unwrap();
        command.stdin(copy()).stdout(copy()).stderr(copy());
        // SAFETY: between fork and exec only two system calls are made.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
            });
        }
        let child = command.spawn().unwrap();
        let (master, size) = (File::from(master), (rows, columns));
        let parser = vt100::Parser::new(size.0.try_into().unwrap(), size.1.try_into().unwrap(), 0);
        let shown = Arc::new(Mutex::new(parser));
        let (mut reader, parser) = (master.try_clone().unwrap(), Arc::clone(&shown));
        let is_over = Arc::new(AtomicBool::new(false));
        let must_end = Arc::clone(&is_over);
        // Ends when all of the terminal's other ends are closed, or when it is told to.
        let reading = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            let patience = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            while !must_end.load(Ordering::Relaxed) {
                if !matches!(poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&patience)), Ok(1..)) {
                    continue;
                }
                match reader.read(&mut piece) {
                    Ok(count @ 1..) => parser.lock().unwrap().process(&piece[..count]),
                    _ => return,
                }
            }
        });
        Screen { child, master: Some(master), reading: Some(reading), is_over, terminal, shown }
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.master.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the terminal larger or smaller; the program gets SIGWINCH.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.shown.lock().unwrap().screen_mut().set_size(rows.try_into().unwrap(), columns.try_into().unwrap());
        set_size(&self.terminal, rows, columns);
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.shown.lock().unwrap().screen().contents()
    }

    /// One line of it.
    pub fn line(&self, row: usize) -> String {
        self.text().lines().nth(row).unwrap_or_default().to_owned()
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let text = self.text();
            if is_so(&text) {
                return text;
            }
            assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}; the screen is\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn process(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id() as i32)
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < LIMIT, "it does not end; the screen is\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes the terminal away, as a window that is closed does; waits for the program's end.
    pub fn hang_up(mut self) -> ExitStatus {
        self.is_over.store(true, Ordering::Relaxed);
        self.reading.take().unwrap().join().unwrap();
        self.master = None; // the last one: the kernel hangs up
        self.wait()
    }

    /// Whether it was given back as it was taken: lines are edited and shown, the cursor is there, and so is what was
    /// on the screen before.
    #[track_caller]
    pub fn is_given_back(&self) {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "still raw: {modes:?}");
        self.until("the screen is given back", |_| {
            let shown = self.shown.lock().unwrap();
            !shown.screen().alternate_screen() && !shown.screen().hide_cursor()
        });
    }

    /// Whether it is taken.
    pub fn is_taken(&self) -> bool {
        self.shown.lock().unwrap().screen().alternate_screen()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}
