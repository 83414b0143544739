//! Calls with any serde type, for tasks.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::server::Server;
use crate::encoded::{decode, encode};
use crate::error::Result;
use crate::request::Request;

impl Client {
    /// Calls with a value of any serde type, and has a value back: as the blocking [`call_with`](crate::Client::call_with).
    ///
    /// # Errors
    /// As the blocking one.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let mut server = wigwag::tokio::Server::bind(name)?;
    /// tokio::spawn(async move {
    ///     server.serve_with(async |words: Vec<String>| Ok::<_, String>(words.join(" "))).await
    /// });
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let sentence: String = client.call_with(&vec!["shared", "memory"]).await?;
    /// assert_eq!(sentence, "shared memory");
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn call_with<Q: Serialize, R: DeserializeOwned>(&self, request: &Q) -> Result<R> {
        let request = encode(request, "request")?;
        decode(&self.call(&request).await?, "reply")
    }
}

impl Server {
    /// Serves calls made with [`call_with`](Client::call_with) until it is shut down: as [`serve`](Server::serve), with values.
    ///
    /// # Errors
    /// As [`serve`](Server::serve). A request that is not a `Q`, a reply that cannot be encoded or is larger than the capacity, and
    /// the handler's error are the client's answer.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut server = wigwag::tokio::Server::bind(name)?;
    /// # server.shutdown_handle().shutdown();
    /// server.serve_with(async |(a, b): (u64, u64)| a.checked_div(b).ok_or("nothing divides by 0")).await
    /// # })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn serve_with<Q, R, E, H>(&mut self, handler: H) -> Result<()>
    where
        Q: DeserializeOwned,
        R: Serialize,
        E: fmt::Display,
        H: AsyncFn(Q) -> std::result::Result<R, E>,
    {
        self.serve(async move |request: &mut Request| {
            let question = decode(request, "request").map_err(|error| error.to_string())?;
            let reply = handler(question).await.map_err(|error| error.to_string())?;
            let bytes = encode(&reply, "reply").map_err(|error| error.to_string())?;
            request.set_reply(&bytes).map_err(|error| error.to_string())
        })
        .await
    }
}
