//! The exchange as tower knows it, so that its layers apply: timeouts, limits, retries, traces.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use crate::error::{Error, Result};
use crate::exchange::request::Request;
use crate::exchange::tokio::client::Client;
use crate::exchange::tokio::loan::{Loan, Reply};
use crate::exchange::tokio::server::Server;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A client as a [`tower_service::Service`] from bytes to a reply. It is ready when it has a slot, which it keeps for
/// the next call: so a layer that sheds load sees that all slots are out.
///
/// ```
/// use tower_service::Service;
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| r.reverse()));
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let mut service = wigwag::tokio::Client::connect(name).await?.into_service();
/// std::future::poll_fn(|context| service.poll_ready(context)).await?;
/// assert_eq!(&service.call(b"abc".to_vec()).await?[..], b"cba");
/// # wigwag::Result::Ok(()) })?;
/// # stop.shutdown(); thread.join().unwrap()?;
/// # wigwag::Result::Ok(())
/// ```
pub struct ClientService {
    client: Client,
    waiting: Option<Boxed<Result<Loan>>>,
    reserved: Option<Loan>,
}

impl Client {
    /// This client as a tower service. Its clones share the session, and each reserves slots for itself.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let service = wigwag::tokio::Client::connect(name).await?.into_service();
    /// let again = service.clone();
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn into_service(self) -> ClientService {
        ClientService { client: self, waiting: None, reserved: None }
    }
}

impl Service<Vec<u8>> for ClientService {
    type Response = Reply;
    type Error = Error;
    type Future = Boxed<Result<Reply>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.reserved.is_none() {
            let client = &self.client;
            let waiting = self.waiting.get_or_insert_with(|| {
                let client = client.clone();
                Box::pin(async move { client.loan(0).await })
            });
            let outcome = ready!(waiting.as_mut().poll(context));
            self.waiting = None;
            self.reserved = Some(outcome?);
        }
        Poll::Ready(Ok(()))
    }

    /// # Panics
    /// Without a `poll_ready` that was ready before, as tower allows.
    fn call(&mut self, request: Vec<u8>) -> Boxed<Result<Reply>> {
        let loan = self.reserved.take().expect("poll_ready comes first");
        let pending = loan.resize(request.len()).and_then(|mut loan| {
            loan.copy_from_slice(&request);
            loan.send()
        });
        Box::pin(async move { pending?.await })
    }
}

impl Clone for ClientService {
    fn clone(&self) -> ClientService {
        self.client.clone().into_service()
    }
}

impl fmt::Debug for ClientService {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_slot = self.reserved.is_some();
        out.debug_struct("ClientService").field("client", &self.client).field("has_slot", &has_slot).finish()
    }
}

impl Server {
    /// Serves with a tower service from bytes to bytes until it is shut down: as [`serve`](Server::serve). Each request
    /// has a clone of the service.
    ///
    /// The service has a copy of the request, so that its error can still be the answer when the service itself, or a
    /// layer that drops it, is done with it. To work on the bytes in place, use [`serve`](Server::serve).
    ///
    /// # Errors
    /// As [`serve`](Server::serve). The service's error, and a reply larger than the capacity, are the client's answer.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let reverse = tower::service_fn(|mut bytes: Vec<u8>| async move {
    ///     bytes.reverse();
    ///     Ok::<_, String>(bytes)
    /// });
    /// let service = tower::ServiceBuilder::new().timeout(std::time::Duration::from_secs(1)).service(reverse);
    /// let mut server = wigwag::tokio::Server::bind(name)?;
    /// tokio::spawn(async move { server.serve_tower(service).await });
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// assert_eq!(&client.call(b"abc").await?[..], b"cba");
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn serve_tower<S>(&mut self, service: S) -> Result<()>
    where
        S: Service<Vec<u8>> + Clone,
        S::Response: AsRef<[u8]>,
        S::Error: fmt::Display,
    {
        self.serve(async move |request: &mut Request| {
            let mut service = service.clone();
            let ready = std::future::poll_fn(|context| service.poll_ready(context)).await;
            ready.map_err(|error| error.to_string())?;
            let reply = service.call(request.to_vec()).await.map_err(|error| error.to_string())?;
            request.set_reply(reply.as_ref()).map_err(|error| error.to_string())
        })
        .await
    }
}
