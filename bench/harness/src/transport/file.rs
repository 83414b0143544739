//! Two files, polled: the oldest way. The client writes one, the server writes the other.
//!
//! Each file starts with a sequence number and a length; the payload follows. The payload is written first and
//! the number last, so that whoever sees a new number finds the whole payload. There is nobody to wake anybody,
//! so both sides look again and again: quickly at first, giving the processor away between looks later on.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::frame::check_length;
use super::{Caller, Rendezvous, Responder};

const REQUEST: &str = "request.file";
const REPLY: &str = "reply.file";

/// Where the payload starts: the two header words have a cache line of their own.
const PAYLOAD: u64 = 64;

/// The sequence number with which a client says goodbye.
const GOODBYE: u64 = u64::MAX;

/// Looks without giving the processor away. About the time that waking a sleeper would take.
const EAGER_LOOKS: u32 = 64;

/// Looks between two glances at the clock.
const LOOKS_PER_GLANCE: u32 = 4096;

/// A client that has had no reply for so long takes the server for dead: a file does not tell.
const REPLY_PATIENCE: Duration = Duration::from_secs(10);

/// The client's end.
pub struct FileCaller {
    request: File,
    reply: File,
    sequence: u64,
    buffer: Vec<u8>,
}

impl FileCaller {
    /// Opens the two files that the server has made.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<FileCaller> {
        let open = |name| OpenOptions::new().read(true).write(true).open(place.path(name));
        Ok(FileCaller {
            request: open(REQUEST).context("the file for requests is not there")?,
            reply: open(REPLY).context("the file for replies is not there")?,
            sequence: 0,
            buffer: vec![0; place.capacity],
        })
    }
}

impl Caller for FileCaller {
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        check_length(len, self.buffer.len())?;
        fill(&mut self.buffer[..len]);
        self.sequence += 1;
        publish(&self.request, self.sequence, &self.buffer[..len])?;
        let awaited = await_change(&self.reply, self.sequence - 1, Some(REPLY_PATIENCE))?;
        read(collect(&self.reply, awaited, &mut self.buffer)?);
        Ok(())
    }
}

impl Drop for FileCaller {
    fn drop(&mut self) {
        // Nobody is left to tell when this fails: the server's process ends with its parent in any case.
        let _ = publish(&self.request, GOODBYE, &[]);
    }
}

/// The server's end.
pub struct FileResponder {
    request: File,
    reply: File,
    buffer: Vec<u8>,
}

impl FileResponder {
    /// Makes the two files, with the number that no message has.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<FileResponder> {
        let make = |name| -> anyhow::Result<File> {
            let path = place.path(name);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            let file = options.open(path).context("a file for the exchange cannot be made")?;
            publish(&file, 0, &[])?;
            Ok(file)
        };
        Ok(FileResponder { request: make(REQUEST)?, reply: make(REPLY)?, buffer: vec![0; place.capacity] })
    }
}

impl Responder for FileResponder {
    fn serve<H>(mut self, mut handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        let mut sequence = 0;
        loop {
            let arrived = await_change(&self.request, sequence, None)?;
            if arrived.sequence == GOODBYE {
                return Ok(());
            }
            sequence = arrived.sequence;
            let len = collect(&self.request, arrived, &mut self.buffer)?.len();
            handler(&mut self.buffer[..len]);
            publish(&self.reply, sequence, &self.buffer[..len])?;
        }
    }
}

/// The two words at the start of a file.
#[derive(Clone, Copy)]
struct Header {
    sequence: u64,
    len: u64,
}

/// Writes the payload, then the header that announces it.
fn publish(file: &File, sequence: u64, payload: &[u8]) -> anyhow::Result<()> {
    if !payload.is_empty() {
        file.write_all_at(payload, PAYLOAD).context("the payload cannot be written")?;
    }
    let mut header = [0; 16];
    header[..8].copy_from_slice(&sequence.to_le_bytes());
    header[8..].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    file.write_all_at(&header, 0).context("the header cannot be written")
}

/// Looks at a file's header until its number is another than `known`.
fn await_change(file: &File, known: u64, patience: Option<Duration>) -> anyhow::Result<Header> {
    let mut give_up = None;
    let mut looks: u32 = 0;
    loop {
        let mut bytes = [0; 16];
        file.read_exact_at(&mut bytes, 0).context("the header cannot be read")?;
        let (sequence, len) = bytes.split_at(8);
        let sequence = u64::from_le_bytes(sequence.try_into().expect("eight bytes"));
        if sequence != known {
            return Ok(Header { sequence, len: u64::from_le_bytes(len.try_into().expect("eight bytes")) });
        }
        looks = looks.wrapping_add(1);
        if looks > EAGER_LOOKS {
            std::thread::yield_now();
        }
        if let Some(patience) = patience
            && looks.is_multiple_of(LOOKS_PER_GLANCE)
            && Instant::now() >= *give_up.get_or_insert_with(|| Instant::now() + patience)
        {
            bail!("no reply came within {} seconds", patience.as_secs());
        }
    }
}

/// Reads the payload that a header announces.
fn collect<'b>(file: &File, header: Header, buffer: &'b mut [u8]) -> anyhow::Result<&'b [u8]> {
    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
    check_length(len, buffer.len())?;
    let payload = &mut buffer[..len];
    file.read_exact_at(payload, PAYLOAD).context("the payload cannot be read")?;
    Ok(payload)
}
