//! Calls with any serde type, for tasks.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::encoded::{decode, encode};
use crate::error::Result;
use crate::exchange::request::Request;
use crate::exchange::tokio::client::Client;
use crate::exchange::tokio::server::Server;

impl Client {
    /// Calls with a value of any serde type, and has a value back: as the blocking
    /// [`call_with`](crate::Client::call_with).
    ///
    /// # Errors
    /// Behaves as the blocking one.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
        let encoding = self.encoding()?;
        let request = encode(encoding, request, "request")?;
        decode(encoding, &self.call(&request).await?, "reply")
    }

    /// As [`call_with`](Client::call_with), for at most so long.
    ///
    /// # Errors
    /// As [`call_with`](Client::call_with), and [`TimedOut`](crate::ErrorKind::TimedOut).
    ///
    /// # Panics
    /// tokio panics if the runtime's time is not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let limit = std::time::Duration::from_millis(5);
    /// let error = client.call_with_timeout::<_, u32>(&7, limit).await.unwrap_err();   // nobody serves
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn call_with_timeout<Q: Serialize, R: DeserializeOwned>(
        &self,
        request: &Q,
        timeout: Duration,
    ) -> Result<R> {
        let encoding = self.encoding()?;
        let request = encode(encoding, request, "request")?;
        decode(encoding, &self.call_timeout(&request, timeout).await?, "reply")
    }
}

impl Server {
    /// Serves calls made with [`call_with`](Client::call_with) until it is shut down: as [`serve`](Server::serve), with
    /// values.
    ///
    /// # Errors
    /// As [`serve`](Server::serve). A request that is not a `Q`, a reply that cannot be encoded or is larger than the
    /// capacity, and the handler's error are the client's answer.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
        self.serve_with_request(async move |question, _: &Request| handler(question).await).await
    }

    /// As [`serve_with`](Server::serve_with), for a handler that asks who sent the value, by when the reply is wanted,
    /// or awaits that nobody waits for it any more.
    ///
    /// # Errors
    /// As [`serve_with`](Server::serve_with).
    ///
    /// ```no_run
    /// # async fn example() -> wigwag::Result<()> {
    /// let mut server = wigwag::tokio::Server::bind("slow")?;
    /// server
    ///     .serve_with_request(async |seconds: u64, request: &wigwag::Request| {
    ///         tokio::select! {
    ///             _ = request.abandoned() => Err("nobody waits for this any more"),
    ///             _ = tokio::time::sleep(std::time::Duration::from_secs(seconds)) => Ok(seconds),
    ///         }
    ///     })
    ///     .await
    /// # }
    /// ```
    pub async fn serve_with_request<Q, R, E, H>(&mut self, handler: H) -> Result<()>
    where
        Q: DeserializeOwned,
        R: Serialize,
        E: fmt::Display,
        H: AsyncFn(Q, &Request) -> std::result::Result<R, E>,
    {
        self.serve(async move |request: &mut Request| {
            let question = request.decode().map_err(|error| error.to_string())?;
            let reply = handler(question, request).await.map_err(|error| error.to_string())?;
            request.set_reply_with(&reply).map_err(|error| error.to_string())
        })
        .await
    }
}
