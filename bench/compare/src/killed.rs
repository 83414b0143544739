//! After SIGKILL: how long the client takes to notice, what is left behind, and what the next client gets.

use std::time::Duration;

use wigwag_bench::case::{Case, Load, WaitMode};
use wigwag_bench::clock;
use wigwag_bench::meter::Extent;
use wigwag_bench::page::{Crash, LeftOut};
use wigwag_bench::phase::Stage;
use wigwag_bench::placement::Pin;

use crate::contender::Entry;
use crate::leftovers;

const SIZE: usize = 4096;
/// For how long the two talk before one is killed.
const TALK: Duration = Duration::from_millis(30);
/// How long a client may take to connect and get its first reply.
const FIRST_REPLY: Duration = Duration::from_secs(3);

/// Kills both sides of one contender in turn.
pub fn kill(stage: &Stage, entry: &Entry, wait: WaitMode, patience: Duration) -> Result<Crash, LeftOut> {
    let left_out = |why| LeftOut { contender: entry.about.name.to_owned(), what: "SIGKILL".to_owned(), why };
    let case = entry.case(wait, SIZE.min(entry.about.size_max)).pinned(Pin::None).loaded(Load::UntilDeath);
    if let Some(why) = entry.obstacle(&case) {
        return Err(left_out(why));
    }
    let crash = || -> anyhow::Result<Crash> {
        let (client_knows_after_ms, (left_behind, left_bytes)) = kill_server(stage, &case, patience)?;
        Ok(Crash {
            contender: entry.about.name.to_owned(),
            wait: wait.to_string(),
            client_knows_after_ms,
            patience_ms: patience.as_secs_f64() * 1e3,
            left_behind,
            left_bytes,
            next_client: next_client(stage, entry, &case, patience),
        })
    };
    crash().map_err(|error| left_out(format!("{error:#}")))
}

/// Kills the server in the middle of calls: when the client knows, and what is left when it is gone as well.
fn kill_server(stage: &Stage, case: &Case, patience: Duration) -> anyhow::Result<(Option<f64>, (usize, u64))> {
    let before = leftovers::list(std::path::Path::new("/dev/shm/none"));
    let mut scene = stage.set(case, Extent::seconds(0.0))?;
    let mut client = stage.client(&scene, *case)?;
    client.await_ready(FIRST_REPLY)?;
    std::thread::sleep(TALK);
    let killed_at = clock::now();
    scene.server.kill()?;
    // A client that ends without a report was ended by the death: that is notice, too.
    let known = client.report(patience);
    let knows = match known {
        Ok(report) => Some(report.elapsed.saturating_sub(killed_at) as f64 / 1e6),
        Err(_) if client.has_ended() => Some((clock::now() - killed_at) as f64 / 1e6),
        Err(_) => None,
    };
    client.kill()?;
    let left = leftovers::new_since(&before, &leftovers::list(scene.directory()));
    Ok((knows, left))
}

/// Kills a client in the middle of its calls, and says what the next one gets from the same server.
fn next_client(stage: &Stage, entry: &Entry, case: &Case, patience: Duration) -> String {
    let several = case.sessions(2, 2);
    let case = if entry.obstacle(&several).is_none() { several } else { *case };
    let tried = || -> anyhow::Result<()> {
        let scene = stage.set(&case, Extent::seconds(0.0))?;
        let mut client = stage.client(&scene, case)?;
        client.await_ready(FIRST_REPLY)?;
        std::thread::sleep(TALK);
        client.kill()?;
        let mut next = stage.client(&scene, case.loaded(Load::Start))?;
        next.report(patience).map(|_| ())
    };
    match tried() {
        Ok(()) => "its own reply".to_owned(),
        Err(error) => {
            let why = format!("{error:#}");
            if why.contains("did not finish in time") {
                "nothing: it hangs".to_owned()
            } else if why.contains("is not what was asked for") {
                "a wrong reply".to_owned()
            } else {
                "an error".to_owned()
            }
        }
    }
}
