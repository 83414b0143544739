//! Calls with any serde type, for those that are not plain memory: encoded with postcard on both sides.
//!
//! Plain memory needs no encoding: see [`TypedClient`](crate::TypedClient). What is sent here is self-delimiting and compact, and
//! says nothing of its type: client and server agree on it by a [`Contract`](crate::Contract).

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::request::Request;
use crate::server::Server;

/// A value as bytes.
pub(crate) fn encode(value: &impl Serialize, what: &str) -> Result<Vec<u8>> {
    postcard::to_allocvec(value)
        .map_err(|error| Error::new(ErrorKind::Encoding, format!("the {what} could not be encoded: {error}")))
}

/// Bytes as a value, all of them.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    let failed = |why: String| {
        let sentence = format!(
            "the {what} of {} bytes is not a {}: {why}; do both sides have the same types?",
            bytes.len(),
            std::any::type_name::<T>()
        );
        Error::new(ErrorKind::Encoding, sentence)
    };
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(failed(format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Decodes the request, and encodes what `answer` makes of it in its place.
fn answer<Q: DeserializeOwned, R: Serialize, E: fmt::Display>(
    request: &mut Request,
    answer: impl FnOnce(Q) -> std::result::Result<R, E>,
) -> std::result::Result<(), String> {
    let question = decode(request, "request").map_err(|error| error.to_string())?;
    let reply = answer(question).map_err(|error| error.to_string())?;
    let bytes = encode(&reply, "reply").map_err(|error| error.to_string())?;
    request.set_reply(&bytes).map_err(|error| error.to_string())
}

impl Client {
    /// Calls with a value of any serde type, and has a value back.
    ///
    /// # Errors
    /// As [`call`](Client::call); [`Encoding`](ErrorKind::Encoding) when the request cannot be encoded or the reply is not a `R`,
    /// [`HandlerFailed`](ErrorKind::HandlerFailed) when the server could not decode the request.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// let mut server = wigwag::Server::bind(name)?;
    /// # let stop = server.shutdown_handle();
    /// let thread = std::thread::spawn(move || {
    ///     server.serve_with(|words: Vec<String>| {
    ///         let mut counts = BTreeMap::<String, u32>::new();
    ///         words.into_iter().for_each(|word| *counts.entry(word).or_insert(0) += 1);
    ///         Ok::<_, String>(counts)
    ///     })
    /// });
    /// let client = wigwag::Client::connect(name)?;
    /// let counts: BTreeMap<String, u32> = client.call_with(&["a", "b", "a"].map(String::from).to_vec())?;
    /// assert_eq!(counts["a"], 2);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_with<Q: Serialize, R: DeserializeOwned>(&self, request: &Q) -> Result<R> {
        decode(&self.call(&encode(request, "request")?)?, "reply")
    }
}

impl Server {
    /// Serves calls made with [`Client::call_with`] until it is shut down: as [`serve`](Server::serve), with values.
    ///
    /// # Errors
    /// As [`serve`](Server::serve). A request that is not a `Q`, a reply that cannot be encoded or is larger than the capacity, and
    /// the handler's error are the client's answer.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// let mut server = wigwag::Server::bind(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || {
    /// server.serve_with(|(dividend, divisor): (u64, u64)| dividend.checked_div(divisor).ok_or("nothing divides by 0"))
    /// # });
    /// # let client = wigwag::Client::connect(name)?;
    /// # assert_eq!(client.call_with::<_, u64>(&(7u64, 2u64))?, 3);
    /// # assert_eq!(client.call_with::<_, u64>(&(7u64, 0u64)).unwrap_err().to_string(), "nothing divides by 0");
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve_with<Q, R, E, F>(&mut self, mut handler: F) -> Result<()>
    where
        Q: DeserializeOwned,
        R: Serialize,
        E: fmt::Display,
        F: FnMut(Q) -> std::result::Result<R, E>,
    {
        self.serve(|request| answer(request, &mut handler))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else_is() {
        let value = (7u32, Some("text".to_owned()), vec![1i64, -1]);
        let bytes = encode(&value, "request").unwrap();
        assert_eq!(decode::<(u32, Option<String>, Vec<i64>)>(&bytes, "request").unwrap(), value);
        for bad in [&bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat(), &[]] {
            let error = decode::<(u32, Option<String>, Vec<i64>)>(bad, "request").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encoding);
            assert!(error.to_string().contains(&format!("{} bytes", bad.len())), "{error}");
        }
    }
}
