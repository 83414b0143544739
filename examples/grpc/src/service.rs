//! The service: it knows nothing of what carries it.

use std::pin::Pin;
use std::time::Duration;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::messages::{Bytes, Number, Span};
use crate::work_server::Work;

/// The service of this example.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worker;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Work for Worker {
    async fn invert(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let mut bytes = request.into_inner();
        if bytes.data == b"slow" {
            tokio::time::sleep(Duration::from_secs(60)).await; // for who sets a deadline
        }
        if bytes.data.is_empty() {
            return Err(Status::invalid_argument("there is nothing to invert"));
        }
        bytes.data.iter_mut().for_each(|byte| *byte = !*byte);
        Ok(Response::new(bytes))
    }

    type CountStream = Answers<Number>;

    async fn count(&self, request: Request<Span>) -> Result<Response<Self::CountStream>, Status> {
        let Span { from, to } = request.into_inner();
        Ok(Response::new(Box::pin(tokio_stream::iter(from..to).map(|value| Ok(Number { value })))))
    }

    async fn sum(&self, request: Request<Streaming<Number>>) -> Result<Response<Number>, Status> {
        let (mut numbers, mut sum) = (request.into_inner(), 0u64);
        while let Some(number) = numbers.message().await? {
            sum = sum
                .checked_add(number.value)
                .ok_or_else(|| Status::out_of_range("the sum does not fit into 64 bits"))?;
        }
        Ok(Response::new(Number { value: sum }))
    }

    type EchoStream = Answers<Bytes>;

    async fn echo(&self, request: Request<Streaming<Bytes>>) -> Result<Response<Self::EchoStream>, Status> {
        Ok(Response::new(Box::pin(request.into_inner())))
    }
}
