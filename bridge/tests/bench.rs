//! The measurement runs to its end; what it measures is nobody's claim here.

use std::process::Command;

#[test]
fn goal_z1_is_measured_over_the_loopback_network() {
    let arguments = ["bench", "--goal", "Z1", "--rounds", "1", "--loopback"];
    let output = Command::new(env!("CARGO_BIN_EXE_wigwag-bridge")).args(arguments).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{text}");
    for part in ["bridged call", "a put answered by a put", "a query", "bridged queue", "puts, the last", "Z1: "] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
