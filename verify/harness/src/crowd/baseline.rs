//! Whether a process is back to what it held before.

use std::time::{Duration, Instant};

use wigwag_testing::Snapshot;

/// Longest that a server may need to give back what sessions had. Only a leak is longer, on the busiest machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(3);

/// Waits until a process holds what it held then; else says what the difference is.
pub fn comes_back(before: &Snapshot, proc_id: u32, after: &str) -> Option<String> {
    let begin = Instant::now();
    loop {
        let now = Snapshot::of(proc_id);
        if now == *before {
            return None;
        }
        if begin.elapsed() > TIME_LIMIT {
            return Some(format!(
                "leak: {after}, process {proc_id} does not come back to\n{before:?}\nit holds\n{now:?}"
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The value below which `hundredths` of a hundred of all lie; 0 of none.
pub fn percentile(times_us: &mut [u32], hundredths: usize) -> u32 {
    times_us.sort_unstable();
    match times_us.len() {
        0 => 0,
        len => times_us[(len * hundredths / 100).min(len - 1)],
    }
}
