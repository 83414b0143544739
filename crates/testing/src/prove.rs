//! The proof, as a test runs it: one goal, at the smallest scale.

use std::process::Command;

/// What came of a goal.
pub struct Proof {
    /// Whether nothing was found.
    pub holds: bool,
    /// The table, the findings and the JSON.
    pub said: String,
}

/// Tries a goal with a program that is `cargo xtask`, on a library with that fault planted.
fn prove(program: &str, goal: &str, scale: &str, planted: Option<&str>) -> Proof {
    let mut command = Command::new(program);
    command.args(["prove", "--only", goal, "--scale", scale, "--seed", "1", "--json", "-"]);
    command.env_remove("WIGWAG_PLANTED").envs(planted.map(|fault| ("WIGWAG_PLANTED", fault)));
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

/// The goal's harness finds a planted fault, and says `what`.
#[track_caller]
pub fn finds(program: &str, goal: &str, fault: &str, what: &str) {
    finds_at(program, goal, fault, what, "test");
}

/// As [`finds`], at a larger scale: where the smallest does not go as far as the fault.
#[track_caller]
pub fn finds_at(program: &str, goal: &str, fault: &str, what: &str, scale: &str) {
    let proof = prove(program, goal, scale, Some(fault));
    assert!(!proof.holds, "{goal} does not find the planted fault `{fault}`: {}", proof.said);
    assert!(proof.said.contains(what), "{goal} fails on `{fault}`, but not for \"{what}\": {}", proof.said);
}
