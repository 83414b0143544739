//! Typed calls: orders go to a small order book and come back filled: `cargo run --example order_book -p wigwag`.
//!
//! `Order` is plain memory. The client fills it in the shared memory, the server gets `&mut Order` to the very same
//! bytes, and writes into it what was filled and at which price. Name, version, size and alignment of the type are
//! compared when the client connects; a difference is an error that shows both.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use wigwag::{Client, Contract, ErrorKind, TypedClient, TypedServer};

const BUY: u32 = 0;
const SELL: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Order {
    /// In: [`BUY`] or [`SELL`]. Every bit pattern must be valid, so it is a number and no `enum`.
    side: u32,
    /// In: how many.
    quantity: u32,
    /// In: the worst price that is still good, in cents.
    limit: u64,
    /// Out: how many were filled at once; the rest waits in the book.
    filled: u64,
    /// Out: what the filled ones cost together.
    cost: u64,
}

impl wigwag::Payload for Order {
    const NAME: &'static str = "Order";
    const VERSION: u32 = 1;
}

/// What waits: quantities by price.
#[derive(Default)]
struct Book {
    bids: BTreeMap<u64, u64>,
    asks: BTreeMap<u64, u64>,
}

impl Book {
    fn place(&mut self, order: &mut Order) -> Result<(), String> {
        (order.filled, order.cost) = (0, 0);
        let mut open = u64::from(order.quantity);
        while open > 0 {
            let best = match order.side {
                BUY => self.asks.first_entry().filter(|best| *best.key() <= order.limit),
                SELL => self.bids.last_entry().filter(|best| *best.key() >= order.limit),
                other => return Err(format!("side {other} is neither {BUY} (buy) nor {SELL} (sell)")),
            };
            let Some(mut best) = best else { break };
            let taken = open.min(*best.get());
            open -= taken;
            order.filled += taken;
            order.cost += taken * best.key();
            *best.get_mut() -= taken;
            if *best.get() == 0 {
                best.remove();
            }
        }
        if open > 0 {
            let own_side = if order.side == BUY { &mut self.bids } else { &mut self.asks };
            *own_side.entry(order.limit).or_default() += open;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = private_directory()?;
    let name = directory.path().join("orders");
    let mut server = TypedServer::<Order>::bind(&name)?;
    let stop = server.shutdown_handle();
    // The book is the handler's own; one thread serves, so it needs no lock.
    let mut book = Book::default();
    let thread = std::thread::spawn(move || server.serve(|order: &mut Order| book.place(order)));

    let client = TypedClient::<Order>::connect(&name)?;
    let place = |side: u32, quantity: u32, limit: u64| -> wigwag::Result<(u64, u64)> {
        let mut order = client.loan()?; // an `Order` in the shared memory
        (order.side, order.quantity, order.limit) = (side, quantity, limit);
        let order = order.call()?;
        println!("{side} {quantity:>3} at {limit:>5}: {} filled for {}", order.filled, order.cost);
        Ok((order.filled, order.cost))
    };
    println!("0 buys, 1 sells");
    assert_eq!(place(SELL, 100, 10_05)?, (0, 0));
    assert_eq!(place(SELL, 50, 10_02)?, (0, 0));
    assert_eq!(place(BUY, 80, 10_05)?, (80, 50 * 10_02 + 30 * 10_05));
    assert_eq!(place(BUY, 10, 9_90)?, (0, 0));
    assert_eq!(place(SELL, 20, 9_90)?, (10, 10 * 9_90));

    // A handler's error is an error at the caller, with its text; the server goes on.
    let error = place(7, 1, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandlerFailed);
    println!("an order that makes no sense: {error}");

    // A program with another version of the type does not get in.
    let other = Contract::named("Order", 2);
    let error = Client::builder().contract(other).connect(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch);
    println!("a client of another version: {error}");

    stop.shutdown();
    thread.join().expect("the server's thread does not panic")?;
    Ok(())
}

/// Wigwag takes no directory that others may write to, whatever the umask is.
fn private_directory() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()
}
