//! One transport's turn: what the server's and the client's process are told about it, and the server's part.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::filter;
use super::picture::{PIXEL, Picture};
use crate::peer;
use crate::transport::{AnyResponder, Kind, Rendezvous, Responder as _};

/// The file in the rendezvous that holds the picture's pixels.
const PICTURE: &str = "picture.raw";

/// What both processes need to know. Passed on the command line of the hidden subcommands.
#[derive(Clone, Debug, clap::Args)]
pub struct Job {
    /// The service to go through; none at all where it is missing.
    #[arg(long)]
    pub transport: Option<Kind>,
    /// The rendezvous.
    #[arg(long)]
    pub directory: PathBuf,
    /// Pixels in a row.
    #[arg(long)]
    pub width: usize,
    /// Rows.
    #[arg(long)]
    pub height: usize,
}

impl Job {
    /// Lays the picture into a rendezvous and describes the job.
    pub fn prepare(transport: Option<Kind>, directory: &Path, picture: &Picture) -> anyhow::Result<Job> {
        std::fs::write(directory.join(PICTURE), &picture.pixels)
            .context("the picture cannot be handed to the client")?;
        Ok(Job { transport, directory: directory.to_owned(), width: picture.width, height: picture.height })
    }

    /// The command line that hands the job to another process in `role`.
    pub fn arguments(&self, role: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![role.into()];
        if let Some(transport) = self.transport {
            arguments.extend(["--transport".into(), transport.name().into()]);
        }
        arguments.extend(["--directory".into(), self.directory.clone().into()]);
        arguments.extend(["--width".into(), self.width.to_string().into()]);
        arguments.extend(["--height".into(), self.height.to_string().into()]);
        arguments
    }

    /// The picture that [`Job::prepare`] left for the client.
    pub fn picture(&self) -> anyhow::Result<Picture> {
        let pixels = std::fs::read(self.directory.join(PICTURE)).context("the picture is not in the rendezvous")?;
        ensure!(pixels.len() == self.length(), "the picture in the rendezvous has another size");
        Ok(Picture { width: self.width, height: self.height, pixels })
    }

    /// Where the two processes meet.
    pub fn place(&self) -> Rendezvous {
        Rendezvous::new(&self.directory, self.length())
    }

    /// Bytes of a row.
    pub fn stride(&self) -> usize {
        self.width * PIXEL
    }

    /// Bytes of a frame.
    pub fn length(&self) -> usize {
        self.stride() * self.height
    }
}

/// The server's process: filters every frame where it lies, until the client hangs up.
pub fn serve(job: &Job) -> anyhow::Result<()> {
    peer::never_outlive_parent()?;
    let transport = job.transport.context("a server needs a transport")?;
    let stride = job.stride();
    match AnyResponder::bind(transport, &job.place()) {
        Ok(responder) => {
            peer::say_ready()?;
            responder.serve(|pixels| filter::apply(pixels, stride))
        }
        Err(error) => peer::say_failed(&error),
    }
}
