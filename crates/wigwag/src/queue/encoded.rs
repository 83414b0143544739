//! Messages of any serde type, for those that are not plain memory.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::encoded::{decode, encode};
use crate::error::{Error, Result};
use crate::queue::delivery::Delivery;
use crate::queue::sender::Sender;

impl Sender {
    /// Sends a value of a serde type: as [`send`](Sender::send), encoded.
    ///
    /// # Errors
    /// As [`send`](Sender::send); [`Encoding`](crate::ErrorKind::Encoding).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("e").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send_with(&("resize", 640, 480))?;
    /// let (what, width, height): (String, u32, u32) = receiver.recv()?.decode()?;
    /// assert_eq!((what.as_str(), width, height), ("resize", 640, 480));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_with<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let bytes = encode(self.encoding(), value, "message")?;
        self.send(&bytes)
    }

    /// As [`send_with`](Sender::send_with), but never waits for room.
    ///
    /// # Errors
    /// As [`try_send`](Sender::try_send); [`Encoding`](crate::ErrorKind::Encoding).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("e").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.try_send_with("a text")?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_send_with<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let bytes = encode(self.encoding(), value, "message")?;
        self.try_send(&bytes)
    }

    /// As [`send_with`](Sender::send_with), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As [`send_timeout`](Sender::send_timeout); [`Encoding`](crate::ErrorKind::Encoding).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("e").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send_with_timeout(&[1.5, 2.5], std::time::Duration::from_secs(1))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_with_timeout<T: Serialize + ?Sized>(&mut self, value: &T, timeout: Duration) -> Result<()> {
        let bytes = encode(self.encoding(), value, "message")?;
        self.send_timeout(&bytes, timeout)
    }
}

impl Delivery {
    /// The value that [`send_with`](Sender::send_with) sent.
    ///
    /// # Errors
    /// [`Encoding`](crate::ErrorKind::Encoding) if it is no `T`. [`nack`](Delivery::nack) gives it back then, for a
    /// receiver that knows it; [`Forked`](crate::ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("e").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// wigwag::Sender::connect(name)?.send_with("a text")?;
    /// let message = receiver.recv()?;
    /// assert_eq!(message.decode::<u32>().unwrap_err().kind(), wigwag::ErrorKind::Encoding);
    /// assert_eq!(message.decode::<String>()?, "a text");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        if self.session().segment.is_forked() {
            return Err(Error::forked());
        }
        decode(self.session().encoding, self, "message")
    }
}
