//! Links between documents lead somewhere.

use crate::source::{self, report};

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    for file in source::files().into_iter().filter(|file| file.ends_with(".md")) {
        let text = source::read(&file).unwrap_or_default();
        let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let line = 1 + text[..at].matches('\n').count();
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let other = if path.is_empty() { file.clone() } else { join(directory, path) };
            if !source::root().join(&other).exists() {
                found.push(format!("{file}:{line}: `{target}` leads nowhere: there is no {other}"));
            } else if !anchor.is_empty() && !anchors(&other).iter().any(|known| known == anchor) {
                found.push(format!("{file}:{line}: `{target}` leads nowhere: {other} has no such heading"));
            }
        }
    }
    report("Links between documents lead somewhere.", found);
}

fn join(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors of a document's headings, as the usual renderers make them.
fn anchors(file: &str) -> Vec<String> {
    let text = source::read(file).unwrap_or_default();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|&c| source::is_of_a_name(c) || c == '-' || c == ' ');
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}
