//! One bridge: zenoh's session, its exports and imports, and its end.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zenoh::pubsub::Subscriber;

use crate::engine::Engine;
use crate::export::Export;
use crate::import::{Import, Inbox};
use crate::log;
use crate::settings::Settings;
use crate::status::{Status, short};

/// A bridge that runs. Dropped, it ends at once; [`end`](Bridge::end) ends it in order.
pub struct Bridge {
    engine: Arc<Engine>,
    exports: Vec<Arc<Export>>,
    imports: Vec<Arc<Import>>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<Option<Instant>>,
    _inbox: Subscriber<()>,
    telling: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Starts what the settings say. Services and far bridges need not be there yet.
    ///
    /// # Errors
    /// Settings that cannot be; zenoh's errors.
    pub async fn start(settings: Settings) -> anyhow::Result<Bridge> {
        settings.check()?;
        let engine = Arc::new(Engine::open(settings).await?);
        let (inbox, subscriber) = Inbox::open(&engine).await?;
        let (stop, stopped) = watch::channel(None);
        let (mut exports, mut imports, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        for export in &engine.settings.exports {
            exports.push(Export::start(Arc::clone(&engine), export.clone()).await?);
        }
        for import in &engine.settings.imports {
            let (engine, inbox) = (Arc::clone(&engine), Arc::clone(&inbox));
            let (import, task) = Import::start(engine, import.clone(), inbox, stopped.clone()).await?;
            imports.push(import);
            tasks.push(task);
        }
        Ok(Bridge { engine, exports, imports, tasks, stop, _inbox: subscriber, telling: None })
    }

    /// What is told of it.
    pub fn status(&self) -> Status {
        status(&self.engine, &self.exports, &self.imports, self.stop.borrow().is_some())
    }

    /// Serves the status under its name, or under one with the process's number where another bridge has that.
    ///
    /// # Errors
    /// The library's, of a name that cannot be served.
    pub fn tell(&mut self) -> anyhow::Result<()> {
        let name = self.engine.settings.status_name.clone();
        let bind =
            |name: &str| wigwag::Server::builder().contract(status_contract()).capacity(1 << 20).bind_async(name);
        let mut server = match bind(&name) {
            Err(error) if error.kind() == wigwag::ErrorKind::NameTaken => {
                let name = format!("{name}.{}", std::process::id());
                log::say(format_args!(
                    "another bridge tells of itself under {}: this one does under {name}",
                    self.engine.settings.status_name
                ));
                bind(&name)
            }
            outcome => outcome,
        }
        .with_context(|| format!("the status cannot be served as {name}; name another one with --status-name"))?;
        let (engine, exports, imports) = (Arc::clone(&self.engine), self.exports.clone(), self.imports.clone());
        let stopped = self.stop.subscribe();
        self.telling = Some(tokio::spawn(async move {
            let told = server
                .serve(async move |request: &mut wigwag::Request| {
                    let status = status(&engine, &exports, &imports, stopped.borrow().is_some());
                    let answer = status.answer(request)?;
                    request.set_reply(&answer).map_err(|error| error.to_string())
                })
                .await;
            if let Err(error) = told {
                log::say(format_args!("the status is told no more: {error}"));
            }
        }));
        Ok(())
    }

    /// Ends it in order: no new calls, those under way are answered, for as long as the settings allow.
    pub async fn end(mut self) {
        let until = Instant::now() + self.engine.settings.drain_timeout;
        self.stop.send_replace(Some(until));
        let exports = self.exports.iter().map(|export| {
            let export = Arc::clone(export);
            tokio::spawn(async move { export.drain(until).await })
        });
        let exports: Vec<_> = exports.collect();
        for task in exports.into_iter().chain(self.tasks.drain(..)) {
            let _ = task.await;
        }
        if let Err(error) = self.engine.session.close().await {
            log::say(format_args!("zenoh did not end in order: {error}"));
        }
        log::say(format_args!("bridge {} has ended", short(self.engine.bridge)));
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.tasks.iter().chain(&self.telling).for_each(JoinHandle::abort);
    }
}

/// What the status is served as.
pub fn status_contract() -> wigwag::Contract {
    wigwag::Contract::named("wigwag-bridge status", 1)
}

fn status(engine: &Engine, exports: &[Arc<Export>], imports: &[Arc<Import>], is_draining: bool) -> Status {
    Status {
        host: engine.host.clone(),
        bridge: short(engine.bridge),
        pid: std::process::id(),
        is_draining,
        exports: exports.iter().map(|export| export.status()).collect(),
        imports: imports.iter().map(|import| import.status()).collect(),
    }
}
