//! The proof, as a test runs it: one goal, at the smallest scale.

use std::process::Command;

/// What came of a goal.
pub struct Proof {
    /// Whether nothing was found.
    pub holds: bool,
    /// The table, the findings and the JSON.
    pub said: String,
}

/// Tries a goal with the program behind `cargo xtask prove`, on a library with that fault injected.
fn prove(program: &str, goal: &str, scale: &str, injected: Option<&str>) -> Proof {
    prove_with(program, goal, scale, injected, &[])
}

fn prove_with(program: &str, goal: &str, scale: &str, injected: Option<&str>, more: &[&str]) -> Proof {
    let mut command = Command::new(program);
    command.args(["prove", "--only", goal, "--scale", scale, "--seed", "1", "--json", "-"]).args(more);
    command.env_remove("WIGWAG_PLANTED").envs(injected.map(|fault| ("WIGWAG_PLANTED", fault)));
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{goal}: {}: {said}", output.status);
    Proof { holds: output.status.success(), said }
}

/// A goal is reached, or could not be tried on this machine for a reason that is printed.
#[track_caller]
pub fn holds(program: &str, goal: &str) {
    let proof = prove(program, goal, "test", None);
    assert!(proof.holds, "{}", proof.said);
    println!("{}", proof.said);
}

/// How often a goal is tried that has not found the injected fault: many are found by chance, and a machine that does
/// something else gives chance less time.
const TRIES: usize = 6;

/// What the goal's harness says of an injected fault when it has found it, for one of the reasons in `ways`.
#[track_caller]
fn found(program: &str, goal: &str, scale: &str, fault: &str, more: &[&str], ways: &[&str]) {
    let said = (0..TRIES).find_map(|_| {
        let proof = prove_with(program, goal, scale, Some(fault), more);
        (!proof.holds).then_some(proof.said)
    });
    let Some(said) = said else { panic!("{goal} does not find the injected fault `{fault}` in {TRIES} tries") };
    let is_one = ways.iter().any(|what| said.contains(what));
    assert!(is_one, "{goal} fails on `{fault}`, but not for one of {ways:?}: {said}");
}

/// The goal's harness finds an injected fault, and says `what`.
#[track_caller]
pub fn finds(program: &str, goal: &str, fault: &str, what: &str) {
    found(program, goal, "test", fault, &[], &[what]);
}

/// As [`finds`], for a fault that shows in one of several ways, by which comes first.
#[track_caller]
pub fn finds_one_of(program: &str, goal: &str, fault: &str, ways: &[&str]) {
    found(program, goal, "test", fault, &[], ways);
}

/// As [`finds`], at a larger scale: where the smallest does not go as far as the fault.
#[track_caller]
pub fn finds_at(program: &str, goal: &str, fault: &str, what: &str, scale: &str) {
    found(program, goal, scale, fault, &[], &[what]);
}

/// The goal's harness finds an injected fault in the history with that seed, which has what it takes.
#[track_caller]
pub fn finds_in_history(program: &str, goal: &str, fault: &str, history: u64, what: &str) {
    finds_in_history_one_of(program, goal, fault, history, &[what]);
}

/// As [`finds_in_history`], for a fault that shows in one of several ways.
#[track_caller]
pub fn finds_in_history_one_of(program: &str, goal: &str, fault: &str, history: u64, ways: &[&str]) {
    found(program, goal, "test", fault, &["--history", &history.to_string()], ways);
}
