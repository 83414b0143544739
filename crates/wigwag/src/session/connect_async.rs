//! How a task waits for the answer to a connect.

use std::task::{Poll, ready};

use crate::error::{Error, ErrorKind, Result};
use crate::session::connect::{ClientHandshake, Established};
use crate::sys::async_fd::{check_runtime, watch};
use crate::wait::readiness::poll_ring;

/// Connects, woken by the reactor: no thread is blocked or needed, and a dropped future leaves nothing behind.
pub async fn shake_hands(mut handshake: ClientHandshake) -> Result<Established> {
    check_runtime()?;
    let watched = watch(handshake.descriptor()?)?;
    std::future::poll_fn(|context| {
        loop {
            if let Some(established) = handshake.step_of_task()? {
                return Poll::Ready(Ok(established));
            }
            if let Err(error) = ready!(poll_ring(&watched, context)) {
                return Poll::Ready(Err(match error.raw_os_error() {
                    Some(_) => Error::io("wait for the server's answer", error),
                    None => Error::new(
                        ErrorKind::ServerClosed { maybe_executed: false },
                        "the tokio runtime is shutting down",
                    ),
                }));
            }
        }
    })
    .await
}
