//! Broadcasts in tasks.

use std::time::Duration;

use wigwag::tokio::{Publisher, Subscriber};
use wigwag::{ErrorKind, Overrun};
use wigwag_testing::{Ground, LIMIT};

#[path = "support/runtimes.rs"]
mod runtimes;

use futures_util_stream::next;

/// The next item of a stream, without a dependency for it.
mod futures_util_stream {
    use std::future::poll_fn;
    use std::pin::Pin;

    use futures_core::Stream;

    pub async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
        poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("within the limit")
}

#[test]
fn tasks_get_every_message_and_the_end() {
    runtimes::on_both(|| async {
        let ground = Ground::new();
        let mut publisher =
            wigwag::Publisher::builder().history(4).overrun(Overrun::Wait(LIMIT)).bind_async(ground.socket()).unwrap();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let path = ground.socket();
                tokio::spawn(async move {
                    let mut subscriber = Subscriber::connect(path).await.unwrap();
                    let (mut came, mut lost) = (0, 0);
                    while let Some(message) = next(&mut subscriber).await {
                        let message = message.unwrap();
                        assert_eq!(message[..], message.sequence().to_le_bytes().repeat(20));
                        (came, lost) = (came + 1, lost + message.lost_before());
                    }
                    (came, lost)
                })
            })
            .collect();
        within(publisher.wait_for_subscribers(3)).await.unwrap();
        for number in 1..=2000_u64 {
            within(publisher.send(&number.to_le_bytes().repeat(20))).await.unwrap();
        }
        drop(publisher);
        for reader in readers {
            assert_eq!(within(reader).await.unwrap(), (2000, 0));
        }
    });
}

#[test]
fn a_task_follows_from_one_publisher_to_the_next() {
    runtimes::on_both(|| async {
        let ground = Ground::new();
        let mut publisher = Publisher::bind(ground.socket()).unwrap();
        let builder = wigwag::Subscriber::builder().reconnect(LIMIT);
        let mut subscriber = builder.connect_async(ground.socket()).await.unwrap();
        publisher.try_send(b"old").unwrap();
        assert_eq!(&within(subscriber.recv()).await.unwrap()[..], b"old");
        drop(publisher);
        let reader = tokio::spawn(async move {
            let message = subscriber.recv().await.unwrap();
            assert!(message.is_of_new_publisher());
            assert!(subscriber.try_recv().unwrap().is_none());
            message[..].to_vec()
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut publisher = Publisher::bind(ground.socket()).unwrap();
        publisher.send(b"new").await.unwrap();
        assert_eq!(within(reader).await.unwrap(), b"new");
    });
}

#[test]
fn a_dropped_wait_loses_nothing_and_a_patient_publisher_waits_in_its_task() {
    runtimes::on_both(|| async {
        let ground = Ground::new();
        let builder = wigwag::Publisher::builder().history(1).overrun(Overrun::Wait(LIMIT));
        let mut publisher = builder.bind_async(ground.socket()).unwrap();
        let mut subscriber = Subscriber::connect(ground.socket()).await.unwrap();
        within(publisher.wait_for_subscribers(1)).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(2), subscriber.recv()).await.is_err());
        publisher.send(b"1").await.unwrap();
        publisher.send(b"2").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(2), publisher.send(b"3")).await.is_err());
        let sending = tokio::spawn(async move { publisher.send(b"3").await.map(|_| publisher) });
        for expected in [b"1", b"2", b"3"] {
            assert_eq!(&within(subscriber.recv()).await.unwrap()[..], expected);
        }
        drop(within(sending).await.unwrap().unwrap());
        assert_eq!(within(subscriber.recv()).await.unwrap_err().kind(), ErrorKind::Ended);
    });
}

#[test]
fn outside_of_a_runtime_it_is_said() {
    let ground = Ground::new();
    let error = Publisher::bind(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
    wigwag::Publisher::bind(ground.socket()).unwrap();
}
