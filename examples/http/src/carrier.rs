//! What carries the bytes: a Unix socket or a Wigwag stream.

use std::io;

use clap::ValueEnum;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Carrier {
    /// A Wigwag stream
    Wigwag,
    /// A Unix stream socket
    Unix,
}

impl Carrier {
    /// Both.
    pub const BOTH: [Carrier; 2] = [Carrier::Wigwag, Carrier::Unix];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Carrier::Wigwag => "wigwag",
            Carrier::Unix => "unix",
        }
    }
}

/// Something that connections come to.
pub trait Listener {
    /// One of them.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl Listener for wigwag::tokio::StreamListener {
    type Stream = wigwag::tokio::Stream;

    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<Self::Stream> {
        Ok(self.accept().await?.0)
    }
}
