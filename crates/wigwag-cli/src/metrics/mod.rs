//! `wigwag metrics`: the statistics of all services as a page for Prometheus, on standard output or over HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};

use crate::services::Services;
use crate::{output, service_manager, signals};

mod http;
mod page;

const EXAMPLES: &str = "\
Examples:
  wigwag metrics                         # the page, once
  wigwag metrics --listen 9464           # http://127.0.0.1:9464/metrics
  wigwag metrics --listen 0.0.0.0:9464   # for other machines, too
  wigwag metrics > wigwag.prom           # for a collector of text files

The services are those of this user: of the names in its runtime directory. Looking asks nothing of them, so that they \
are seen while their handlers hang and while they are stopped. Bridges to other machines are asked for metrics of \
    their \
links, and left out if they do not answer. Whoever may connect to the address may read the page, \
every user of this machine at least; it has names, programs and counts, and no payload.";

const CODES: &str = "\
Exit codes:
  0  done; with --listen, told to end by SIGTERM, SIGINT or SIGHUP
  1  the address cannot be listened on
  2  the command line is wrong, or the runtime directory";

/// What such pages are called (the text-based format of Prometheus).
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Print or serve the statistics of all services for Prometheus
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub struct Args {
    /// Serve the page over HTTP on this port of 127.0.0.1 (localhost), or on an address with port
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
}

/// Prints the page, or serves it for ever.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let inherited = service_manager::tcp_listener()?; // while there is one thread
    let mut services = Services::of_this_user();
    match (args.listen, inherited) {
        (None, None) => output::bytes(page::of(&mut services)?.as_bytes())?,
        (None, Some(listener)) => serve(&listener, services)?,
        (Some(_), Some(_)) => {
            bail!("a socket was left for this program (LISTEN_FDS), and --listen says another: take one of them away")
        }
        (Some(address), None) => {
            let listener = TcpListener::bind(address).with_context(|| format!("could not listen on {address}"))?;
            serve(&listener, services)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A port alone is one of this machine only, as one of `localhost` is: for others, the user gives the address. No other
/// name is looked up, because what it leads to may be another address tomorrow.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = match text.rsplit_once(':') {
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => port,
        _ => text,
    };
    if let Ok(port) = port.parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| {
        "a port such as 9464 is needed, or an address with a port such as localhost:9464, 0.0.0.0:9464 or [::1]:9464"
            .to_owned()
    })
}

fn serve(listener: &TcpListener, services: Services) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the socket does not say where it listens")?;
    // Nothing has to be given back: a client that reads a page at that moment asks again.
    signals::end_in_order(signals::receive(&signals::ENDING)?, |_| {
        service_manager::stopping();
        std::process::exit(0);
    })?;
    output::announce(&format!("listening on http://{address}/metrics"))?;
    service_manager::ready();
    let services = Mutex::new(services);
    http::serve(listener, move |path| match path {
        "/metrics" => match page::of(&mut services.lock().unwrap_or_else(PoisonError::into_inner)) {
            Ok(page) => (200, page),
            Err(error) => (500, format!("{error:#}\n")),
        },
        "/" => (200, "The page is /metrics.\n".into()),
        _ => (404, "there is no such page; the one there is: /metrics\n".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_this_machine_only() {
        assert_eq!(address("9464").unwrap().to_string(), "127.0.0.1:9464");
        assert_eq!(address("localhost:9464").unwrap().to_string(), "127.0.0.1:9464");
        assert_eq!(address("LocalHost:1").unwrap().to_string(), "127.0.0.1:1");
        assert_eq!(address("0.0.0.0:1").unwrap().to_string(), "0.0.0.0:1");
        assert_eq!(address("[::1]:1").unwrap().to_string(), "[::1]:1");
        for wrong in ["", ":9464", "localhost", "localhost:", "localhost:70000", "local:1", "0.0.0.0", "70000", "*:1"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
