//! What is said again of a step that failed: a reader of the end of a log finds there why.

/// How a line begins that says what is wrong.
const BEGINNINGS: [&str; 6] = ["error", "FAILED ", "E   ", "failures:", "Diff in ", "thread '"];
/// How a line ends that does.
const ENDINGS: [&str; 2] = ["... FAILED", "stdout ----"];
/// What is shown before and after such a line.
const LINES_BEFORE: usize = 1;
const LINES_AFTER: usize = 15;
/// What is shown of an output in which there is no such line.
const LINES_AT_THE_END: usize = 40;
/// What is shown at most; of more, the beginning and the end.
const LINES_MAX: usize = 200;

/// The lines of a failed step's output that say why.
pub fn of(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let mut is_shown = vec![false; lines.len()];
    for at in (0..lines.len()).filter(|&at| is_telling(lines[at])) {
        is_shown[at.saturating_sub(LINES_BEFORE)..(at + LINES_AFTER).min(lines.len())].fill(true);
    }
    if !is_shown.contains(&true) {
        is_shown[lines.len().saturating_sub(LINES_AT_THE_END)..].fill(true);
    }
    let mut shown: Vec<&str> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if is_shown[at] {
            shown.push(line);
        } else if at > 0 && is_shown[at - 1] {
            shown.push("...");
        }
    }
    if let Some(more) = shown.len().checked_sub(LINES_MAX) {
        shown.splice(LINES_MAX / 2..LINES_MAX / 2 + more, ["..."]);
    }
    shown.join("\n")
}

fn is_telling(line: &str) -> bool {
    // Behind colours, where somebody looks at it.
    let mut line = line;
    while let Some((_, rest)) = line.strip_prefix("\u{1b}[").and_then(|colour| colour.split_once('m')) {
        line = rest;
    }
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
        || ENDINGS.iter().any(|ending| line.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_why_is_shown_with_its_surroundings() {
        let passing = "test a ... ok\n".repeat(100);
        let said = format!("{passing}test b ... FAILED\n{passing}---- b stdout ----\nleft: 1\n{passing}");
        let excerpt = of(&said);
        assert!(excerpt.contains("b ... FAILED") && excerpt.contains("left: 1"), "{excerpt}");
        assert!(excerpt.lines().count() < 50, "{excerpt}");
        assert_eq!(excerpt.matches("\n...").count(), 2, "{excerpt}");
    }

    #[test]
    fn what_says_why_is_found_behind_its_colours() {
        let passing = "fine\n".repeat(100);
        for coloured in ["\u{1b}[1m\u{1b}[38;5;9merror\u{1b}[0m: no", "\u{1b}[0m\u{1b}[1m\u{1b}[91merror[E0308]"] {
            let excerpt = of(&format!("{passing}{coloured}\n{passing}"));
            assert!(excerpt.contains(coloured), "{excerpt}");
        }
        assert!(!is_telling("\u{1b}[no colour") && !is_telling("merror"));
    }

    #[test]
    fn an_output_that_does_not_say_why_is_shown_from_its_end() {
        let said: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert!(of(&said).starts_with("line 60\n") && of(&said).ends_with("line 99"), "{}", of(&said));
        assert_eq!(of(""), "");
    }

    #[test]
    fn nothing_is_longer_than_can_be_read() {
        let said = "error: one of many\n".repeat(1000);
        assert_eq!(of(&said).lines().count(), LINES_MAX + 1);
    }
}
