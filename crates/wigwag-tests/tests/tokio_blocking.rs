//! A blocking call that puts a thread of a runtime to sleep is said; everywhere else nothing is.
//!
//! One test in a process of its own: the warnings are counted for the whole process.

use std::fmt;
use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use wigwag::{Client, Semaphore, Server, Stream, StreamListener, Wait};
use wigwag_testing::Ground;

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps the texts of warnings.
struct Listener;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        SAID.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn said() -> Vec<String> {
    std::mem::take(&mut SAID.lock().unwrap())
}

/// A call whose reply comes after this thread has slept.
fn sleeping_call(client: &Client) {
    assert_eq!(client.call(b"slow").unwrap()[..], *b"slow");
}

/// Blocks again and again, a task that gives way in between, until that is said.
async fn until_said(what: &str, mut block: impl FnMut()) {
    for _ in 0..10_000 {
        block();
        tokio::task::yield_now().await;
        let said = said();
        if let Some(text) = said.first() {
            assert!(text.contains(what), "{said:?}");
            return;
        }
    }
    panic!("it blocked, and nothing was said of a {what}");
}

#[test]
fn who_blocks_a_runtimes_thread_is_told_and_nobody_else() {
    tracing::subscriber::set_global_default(Listener).unwrap();
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || server.serve(|_| std::thread::sleep(Duration::from_millis(20))));
    let connect = || Client::builder().wait(Wait::Park).connect(ground.socket()).unwrap();

    // On a thread of one's own, and where a runtime allows it.
    sleeping_call(&connect());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = connect();
    runtime.block_on(async { tokio::task::spawn_blocking(move || sleeping_call(&client)).await.unwrap() });
    {
        let _entered = runtime.enter();
        sleeping_call(&connect());
    }
    assert_eq!(said(), [""; 0]);

    // In a task, in the future that a runtime was given, and on the other runtime.
    let client = connect();
    let client = runtime.block_on(async move {
        tokio::spawn(async move {
            sleeping_call(&client);
            tokio::task::yield_now().await;
            client
        })
        .await
        .unwrap()
    });
    let first = said();
    assert!(first.len() == 1 && first[0].contains("waiting for a reply"), "{first:?}");
    runtime.block_on(async { sleeping_call(&client) });
    assert_eq!(said().len(), 1);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async { sleeping_call(&client) });
    assert_eq!(said().len(), 0, "the third time is not said");
    other.block_on(async { sleeping_call(&client) });
    assert_eq!(said().len(), 1, "the fourth is");

    // The other forms. What is said becomes rare, so each is done until it is.
    let listener = StreamListener::bind(ground.path("stream")).unwrap();
    let mut connecting = Stream::connect(ground.path("stream")).unwrap();
    let accepted = listener.accept().unwrap();
    connecting.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let semaphore = Semaphore::open(ground.path("permits"), 1).unwrap();
    let permit = semaphore.acquire().unwrap();
    other.block_on(async {
        until_said("stream", || drop(connecting.read(&mut [0; 8]).unwrap_err())).await;
        until_said("permit", || assert!(semaphore.acquire_timeout(Duration::from_millis(1)).is_err())).await;
    });

    drop((permit, accepted));
    stop.shutdown();
    serving.join().unwrap().unwrap();
}
