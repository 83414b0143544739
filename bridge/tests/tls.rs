//! The example with TLS and an access list does what it says.

mod support;

use std::process::Command;
use std::time::Duration;

use support::{Ground, Process, bridge, endpoint, linked, status};
use wigwag::{Client, Server};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tls");

/// A file of the example, with this test's addresses and certificates.
fn configuration(ground: &Ground, name: &str, machine: &str, address: &str) -> String {
    let text = std::fs::read_to_string(format!("{EXAMPLE}/{name}.json5")).unwrap();
    let mut text = text.replace("10.0.0.2", address);
    let own = |ending: &str| (format!("{name}.{ending}"), format!("{machine}.{ending}"));
    for (file, of_machine) in [("ca.pem".to_owned(), "ca.pem".to_owned()), own("key"), own("pem")] {
        let path = ground.file("certificates").join(of_machine);
        text = text.replace(&format!("{file:?}"), &format!("{:?}", path.to_str().unwrap()));
    }
    let path = ground.file(&format!("{machine}.json5"));
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn importing(ground: &Ground, machine: &str, configuration: &str) -> Process {
    let name = ground.name(machine, "echo");
    bridge(ground, machine, None, &["--import", "echo", "--as", &name, "--zenoh-config", configuration])
}

#[test]
fn who_is_on_the_list_gets_a_link_and_nobody_else_does() {
    if Command::new("openssl").arg("version").output().is_err() {
        return println!("skipped: openssl is not installed");
    }
    let ground = Ground::new();
    let address = endpoint().replace("tcp/", "").replace(":7447", "");
    let certificates = ground.file("certificates");
    let made = Command::new(format!("{EXAMPLE}/make-certificates.sh"))
        .arg(&certificates)
        .args([format!("b={address}"), "a=a".to_owned(), "c=c".to_owned()])
        .status();
    assert!(made.unwrap().success());
    let far = ground.name("b", "echo");
    let mut server = Server::bind(&far).unwrap();
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || server.serve(|request| request.reverse()));
    let config = configuration(&ground, "b", "b", &address);
    let _far = bridge(&ground, "b", None, &["--export", &far, "--zenoh-config", &config]);
    let _near = importing(&ground, "a", &configuration(&ground, "a", "a", &address));
    // One of the same authority that is not on the list.
    let _other = importing(&ground, "c", &configuration(&ground, "a", "c", &address));
    linked(&ground, "a");
    let client = Client::connect(ground.name("a", "echo")).unwrap();
    assert_eq!(client.call(b"abc").unwrap()[..], *b"cba");
    std::thread::sleep(Duration::from_secs(1));
    let import = &status(&ground, "c").imports[0];
    assert!(import.link.is_none() && import.standby.is_empty(), "c sees nothing: {import:?}");
    assert_eq!(status(&ground, "b").exports[0].links.len(), 1);
    stop.shutdown();
    serving.join().unwrap().unwrap();
}
