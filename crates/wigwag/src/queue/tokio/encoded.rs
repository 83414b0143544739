//! Messages of any serde type, sent by tasks.

use serde::Serialize;

use crate::encoded::encode;
use crate::error::Result;
use crate::queue::tokio::sender::Sender;

impl Sender {
    /// Sends a value of a serde type: as [`send`](Sender::send), encoded. The receiver
    /// [decodes](crate::Delivery::decode) it.
    ///
    /// # Errors
    /// As [`send`](Sender::send); [`Encoding`](crate::ErrorKind::Encoding).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut sender = wigwag::tokio::Sender::connect(name).await?;
    /// sender.send_with(&("resize", 640, 480)).await?;
    /// assert_eq!(receiver.recv()?.decode::<(String, u32, u32)>()?.1, 640);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn send_with<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let bytes = encode(self.encoding(), value, "message")?;
        self.send(&bytes).await
    }
}
