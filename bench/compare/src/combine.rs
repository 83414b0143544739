//! Several runs as one page: a run of all parts takes half an hour, which not every machine has in one piece.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use wigwag_bench::page::{Broadcast, Page};

/// The figures of earlier runs, read from the JSON that they wrote.
pub fn combined(files: &[PathBuf]) -> anyhow::Result<Page> {
    let mut pages = files.iter().map(|file| read(file));
    let mut whole = pages.next().context("there is nothing to combine")??;
    for (page, file) in pages.zip(&files[1..]) {
        add(&mut whole, page?).with_context(|| format!("{} cannot be added", file.display()))?;
    }
    Ok(whole)
}

fn read(file: &Path) -> anyhow::Result<Page> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no figures of the comparison", file.display()))
}

/// Adds what another run has measured. Every row has its ratio from its own run, so nothing is compared across runs.
fn add(whole: &mut Page, page: Page) -> anyhow::Result<()> {
    let machine = |page: &Page| (page.machine.cpu.clone(), page.machine.processors, page.machine.kernel.clone());
    let (one, other) = (machine(whole), machine(&page));
    ensure!(one == other, "it was made on another machine: {} with {} processors, {}", other.0, other.1, other.2);
    ensure!(whole.percentiles == page.percentiles, "its curves have other percentiles");
    let twice = page.rows.iter().find(|new| whole.rows.iter().any(|old| old.row.case == new.row.case));
    ensure!(twice.is_none(), "both have measured {}", twice.map_or(String::new(), |point| point.row.case.to_string()));
    let new = |new: &&Broadcast| whole.broadcasts.iter().any(|old| old.is_same_case(new));
    let twice = page.broadcasts.iter().find(new).map(|new| format!("{} B to {} readers", new.size, new.readers));
    ensure!(twice.is_none(), "both have measured {}", twice.unwrap_or_default());
    for contender in page.contenders {
        match whole.contenders.iter_mut().find(|known| known.name == contender.name) {
            // Built after the first run, for example.
            Some(known) if known.missing.is_some() => *known = contender,
            Some(_) => {}
            None => whole.contenders.push(contender),
        }
    }
    whole.commands.extend(page.commands);
    whole.rows.extend(page.rows);
    whole.idle.extend(page.idle);
    whole.crashes.extend(page.crashes);
    whole.broadcasts.extend(page.broadcasts);
    whole.left_out.extend(page.left_out);
    Ok(())
}
