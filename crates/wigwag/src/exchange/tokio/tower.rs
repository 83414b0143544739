//! The exchange as tower knows it, so that its layers apply: timeouts, limits, retries, traces.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::request::Request;
use crate::exchange::tokio::client::Client;
use crate::exchange::tokio::loan::{Loan, Pending, Reply};
use crate::exchange::tokio::server::Server;
use crate::sync;

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
///
/// It is `Send` and `Sync`, so that it can be the state of a router (axum's `State<ClientService>`): a handler takes a
/// clone, and calls that.
pub struct ClientService {
    client: Client,
    /// Never locked but to be shown: it makes a service `Sync` whose future is not.
    reservation: Mutex<Reservation>,
}

/// The slot for the next call.
#[derive(Default)]
struct Reservation {
    waiting: Option<Boxed<Result<Loan>>>,
    reserved: Option<Loan>,
}

/// The reply of a [`ClientService`] under way. Dropping it gives the call up, as dropping a [`Pending`] does.
///
/// ```
/// use tower_service::Service;
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| r.reverse()));
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let mut service = wigwag::tokio::Client::connect(name).await?.into_service();
/// std::future::poll_fn(|context| service.poll_ready(context)).await?;
/// let future: wigwag::tokio::ResponseFuture = service.call(b"abc".to_vec());
/// assert_eq!(&future.await?[..], b"cba");
/// # wigwag::Result::Ok(()) })?;
/// # stop.shutdown(); thread.join().unwrap()?;
/// # wigwag::Result::Ok(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it abandons the call"]
pub struct ResponseFuture(Sent);

#[derive(Debug)]
enum Sent {
    Pending(Pending),
    /// It could not be sent. `None` once that was said.
    Refused(Option<Error>),
}

impl Future for ResponseFuture {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Reply>> {
        match &mut self.0 {
            Sent::Pending(pending) => Pin::new(pending).poll(context),
            Sent::Refused(error) => Poll::Ready(Err(error
                .take()
                .unwrap_or_else(|| Error::new(ErrorKind::Unanswered, "the error of this call has been taken before")))),
        }
    }
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
        ClientService { client: self, reservation: Mutex::default() }
    }
}

impl Service<Vec<u8>> for ClientService {
    type Response = Reply;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Reservation { waiting, reserved } = sync::get_mut(&mut self.reservation);
        if reserved.is_none() {
            let client = &self.client;
            let future = waiting.get_or_insert_with(|| {
                let client = client.clone();
                Box::pin(async move { client.loan(0).await })
            });
            let outcome = ready!(future.as_mut().poll(context));
            *waiting = None;
            *reserved = Some(outcome?);
        }
        Poll::Ready(Ok(()))
    }

    /// # Panics
    /// Without a `poll_ready` that was ready before, as tower allows.
    fn call(&mut self, request: Vec<u8>) -> ResponseFuture {
        let reservation = sync::get_mut(&mut self.reservation);
        let loan = reservation.reserved.take().expect("poll_ready comes first");
        let pending = loan.resize(request.len()).and_then(|mut loan| {
            loan.copy_from_slice(&request);
            loan.send()
        });
        ResponseFuture(match pending {
            Ok(pending) => Sent::Pending(pending),
            Err(error) => Sent::Refused(Some(error)),
        })
    }
}

impl Clone for ClientService {
    fn clone(&self) -> ClientService {
        self.client.clone().into_service()
    }
}

impl fmt::Debug for ClientService {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_slot = sync::lock(&self.reservation).reserved.is_some();
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
