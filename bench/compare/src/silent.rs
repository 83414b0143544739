//! Connected clients that are silent after one call: processor time, wake-ups and memory of both sides.

use std::time::Duration;

use wigwag_bench::case::WaitMode;
use wigwag_bench::machine::kibibytes;
use wigwag_bench::meter::Extent;
use wigwag_bench::page::{Idle, LeftOut};
use wigwag_bench::phase::{Scene, Stage};
use wigwag_bench::placement::Pin;
use wigwag_bench::usage::Usage;

use crate::contender::Entry;

/// Clients that are connected.
pub const CLIENTS: usize = 100;
const SIZE: usize = 48;
/// In this time both sides come to rest.
const SETTLING: Duration = Duration::from_millis(300);

/// Watches the silent clients of one contender.
pub fn watch(stage: &Stage, entry: &Entry, wait: WaitMode, rest: Duration) -> Result<Idle, LeftOut> {
    let what = format!("{CLIENTS} silent clients");
    let left_out = |why: String| LeftOut { contender: entry.about.name.to_owned(), what: what.clone(), why };
    let case = entry.case(wait, SIZE).pinned(Pin::None);
    let many = case.sessions(CLIENTS, 0);
    if let Some(why) = entry.obstacle(&many) {
        return Err(left_out(why));
    }
    let watched = || -> anyhow::Result<Idle> {
        let one = stage.set(&case.sessions(1, 0), Extent::seconds(0.0))?;
        std::thread::sleep(SETTLING);
        let alone = memory(&one);
        drop(one);
        let scene = stage.set(&many, Extent::seconds(0.0))?;
        std::thread::sleep(SETTLING);
        let before = used(&scene)?;
        std::thread::sleep(rest);
        let after = used(&scene)?;
        let together = memory(&scene);
        let per_client = |(one, all): (u64, u64)| all.saturating_sub(one) as f64 / (CLIENTS - 1) as f64;
        Ok(Idle {
            contender: entry.about.name.to_owned(),
            wait: wait.to_string(),
            clients: CLIENTS,
            seconds: rest.as_secs_f64(),
            cpu_us_per_second: (after.cpu - before.cpu) as f64 / 1e3 / rest.as_secs_f64(),
            switches_per_second: (after.switches - before.switches) as f64 / rest.as_secs_f64(),
            bytes_per_client: alone.zip(together).map(per_client),
        })
    };
    watched().map_err(|error| left_out(format!("{error:#}")))
}

fn processes(scene: &Scene) -> impl Iterator<Item = i32> + '_ {
    [Some(&scene.server), scene.idler.as_ref()].into_iter().flatten().map(|actor| actor.process())
}

fn used(scene: &Scene) -> anyhow::Result<Usage> {
    let mut whole = Usage::default();
    for process in processes(scene) {
        let usage = Usage::of(process)?;
        whole = Usage { cpu: whole.cpu + usage.cpu, switches: whole.switches + usage.switches };
    }
    Ok(whole)
}

/// Memory of both processes, shared pages once: the proportional set size. What the kernel holds for them, such as
/// the buffers of a socket, is not in it.
fn memory(scene: &Scene) -> Option<u64> {
    let of = |process| kibibytes(&std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?, "Pss");
    processes(scene).map(of).sum()
}
