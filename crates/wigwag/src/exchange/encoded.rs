//! Calls with any serde type, for those that are not plain memory.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::encoded::{decode, encode};
use crate::error::Result;
use crate::exchange::client::Client;
use crate::exchange::request::Request;
use crate::exchange::server::Server;

/// What a handler makes of a request, as the answer to it.
fn answer<Q: DeserializeOwned, R: Serialize, E: fmt::Display>(
    request: &mut Request,
    answer: impl FnOnce(Q, &Request) -> std::result::Result<R, E>,
) -> std::result::Result<(), String> {
    let question = request.decode().map_err(|error| error.to_string())?;
    let reply = answer(question, request).map_err(|error| error.to_string())?;
    request.set_reply_with(&reply).map_err(|error| error.to_string())
}

impl Client {
    /// Calls with a value of a serde type, and has a value back. The bytes are MessagePack with the names of fields and
    /// variants, unless the [contract](crate::ClientBuilder::contract) says another [`Encoding`](crate::Encoding).
    ///
    /// # Errors
    /// As [`call`](Client::call); [`Encoding`](crate::ErrorKind::Encoding) when one of the two cannot be encoded, or is
    /// not of the type that is expected here: the server has executed the request if it is the reply.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("e").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve_with(|words: Vec<String>| Ok::<_,
    /// #     String>(words.join(" "))));
    /// let client = wigwag::Client::connect(name)?;
    /// let sentence: String = client.call_with(&vec!["shared", "memory"])?;
    /// assert_eq!(sentence, "shared memory");
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_with<Q: Serialize, R: DeserializeOwned>(&self, request: &Q) -> Result<R> {
        decode(self.encoding(), &self.call(&encode(self.encoding(), request, "request")?)?, "reply")
    }

    /// As [`call_with`](Client::call_with), but gives up after `timeout`.
    ///
    /// # Errors
    /// As [`call_with`](Client::call_with) and [`call_timeout`](Client::call_timeout).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("e").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// // nobody serves
    /// let error = client.call_with_timeout::<_, u32>(&7, std::time::Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_with_timeout<Q: Serialize, R: DeserializeOwned>(&self, request: &Q, timeout: Duration) -> Result<R> {
        let request = encode(self.encoding(), request, "request")?;
        decode(self.encoding(), &self.call_timeout(&request, timeout)?, "reply")
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
    /// # let name = &wigwag_testing::temporary_name("e").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve_with(|(a, b): (u32, u32)| a.checked_div(b).ok_or("by zero"))
    /// # );
    /// # let client = wigwag::Client::connect(name)?;
    /// # assert_eq!(client.call_with::<_, u32>(&(6, 3))?, 2);
    /// # assert_eq!(client.call_with::<_, u32>(&(6, 0)).unwrap_err().to_string(), "by zero"); stop.shutdown();
    /// # thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve_with<Q, R, E, F>(&mut self, mut handler: F) -> Result<()>
    where
        Q: DeserializeOwned,
        R: Serialize,
        E: fmt::Display,
        F: FnMut(Q) -> std::result::Result<R, E>,
    {
        self.serve(|request| answer(request, |question, _| handler(question)))
    }

    /// As [`serve_with`](Server::serve_with), on `threads` threads; see [`serve_on`](Server::serve_on).
    ///
    /// # Errors
    /// As [`serve_with`](Server::serve_with) and [`serve_on`](Server::serve_on).
    ///
    /// ```no_run
    /// wigwag::Server::bind("sums")?.serve_with_on(4, |numbers: Vec<u64>| Ok::<u64, String>(numbers.iter().sum()))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve_with_on<Q, R, E, F>(&mut self, threads: usize, handler: F) -> Result<()>
    where
        Q: DeserializeOwned,
        R: Serialize,
        E: fmt::Display,
        F: Fn(Q) -> std::result::Result<R, E> + Sync,
    {
        self.serve_on(threads, |request| answer(request, |question, _| handler(question)))
    }

    /// As [`serve_with`](Server::serve_with), for a handler that asks who sent the value, by when the reply is wanted,
    /// or whether anybody waits for it still.
    ///
    /// # Errors
    /// As [`serve_with`](Server::serve_with).
    ///
    /// ```no_run
    /// wigwag::Server::bind("who")?.serve_with_request(|name: String, request| {
    ///     Ok::<_, String>(format!("{name} is user {}", request.peer().uid))
    /// })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve_with_request<Q, R, E, F>(&mut self, mut handler: F) -> Result<()>
    where
        Q: DeserializeOwned,
        R: Serialize,
        E: fmt::Display,
        F: FnMut(Q, &Request) -> std::result::Result<R, E>,
    {
        self.serve(|request| answer(request, &mut handler))
    }
}

impl Request {
    /// The value that [`call_with`](Client::call_with) sent.
    ///
    /// # Errors
    /// [`Encoding`](crate::ErrorKind::Encoding) if it is no `T`.
    ///
    /// ```no_run
    /// let mut server = wigwag::Server::bind("words")?;
    /// let mut request = server.recv()?;
    /// let words: Vec<String> = request.decode()?;
    /// request.set_reply_with(&words.join(" "))?;
    /// request.reply();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.check_fork()?;
        decode(self.session().encoding, self, "request")
    }

    /// Makes a value the reply.
    ///
    /// # Errors
    /// As [`set_reply`](Request::set_reply); [`Encoding`](crate::ErrorKind::Encoding).
    ///
    /// ```no_run
    /// # let mut request = wigwag::Server::bind("words")?.recv()?;
    /// request.set_reply_with(&("any", "value"))?;
    /// request.reply();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn set_reply_with<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let bytes = encode(self.session().encoding, value, "reply")?;
        self.set_reply(&bytes)
    }
}
