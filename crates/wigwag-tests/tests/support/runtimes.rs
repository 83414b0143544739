//! Both kinds of runtime that tokio has.

use std::future::Future;

use tokio::runtime::Builder;
use wigwag_testing::LIMIT;

/// The same on a runtime of one thread and on one of several. One that hangs ends as a failure.
pub fn on_both<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(LIMIT, test()).await.expect("it never ended") });
    }
}
