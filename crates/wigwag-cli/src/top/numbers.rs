//! Numbers in few columns.

use std::time::Duration;

/// A number with three digits that mean something, such as `1.23M`.
pub fn short(value: f64) -> String {
    let value = value.max(0.0); // a sum of nothing is -0
    let units = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What rounds up to the next unit is told in that unit.
    let Some((size, unit)) = units.into_iter().find(|(size, _)| value >= size * 0.9995) else {
        let decimals = if value == 0.0 || value >= 99.95 || value.fract() == 0.0 { 0 } else { 1 };
        return format!("{value:.decimals$}");
    };
    let value = value / size;
    let decimals = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}{unit}")
}

/// A duration with two or three digits that mean something, such as `512ns` or `4.2us`.
pub fn brief(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos() as f64;
    let (value, unit) = match nanoseconds {
        _ if nanoseconds < 999.5 => return format!("{nanoseconds:.0}ns"),
        _ if nanoseconds < 999.5e3 => (nanoseconds / 1e3, "us"),
        _ if nanoseconds < 999.5e6 => (nanoseconds / 1e6, "ms"),
        _ => return ago(duration),
    };
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$}{unit}")
}

/// An age: seconds, minutes, hours, days.
pub fn ago(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        _ if seconds < 9.95 => format!("{seconds:.1}s"),
        _ if seconds < 119.5 => format!("{seconds:.0}s"),
        _ if seconds < 2.0 * 3600.0 => format!("{}m", duration.as_secs() / 60),
        _ if seconds < 48.0 * 3600.0 => format!("{}h", duration.as_secs() / 3600),
        _ => format!("{}d", duration.as_secs() / 86_400),
    }
}

/// An age in three places, as narrow columns have room for; above 99 days it says that.
pub fn ago_in_three(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let units = [(1.0, 's'), (60.0, 'm'), (3600.0, 'h'), (86_400.0, 'd')];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds < size * 99.5).unwrap_or(units[3]);
    format!("{:.0}{unit}", (seconds / size).min(99.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_few_digits() {
        let texts =
            [0.0, 0.25, 7.0, 12.34, 99.96, 999.0, 999.6, 1234.0, 56_789.0, 999_700.0, 1.234e6, 9.9e9, 1e20].map(short);
        let expected =
            ["0", "0.2", "7", "12.3", "100", "999", "1.00k", "1.23k", "56.8k", "1.00M", "1.23M", "9.90G", "100E"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn ages_in_three_places_have_their_unit() {
        let seconds = [1, 8, 15, 99, 100, 5_940, 6_000, 300_000, 400_000, 40_000_000];
        let texts = seconds.map(|seconds| ago_in_three(Duration::from_secs(seconds)));
        assert_eq!(texts, ["1s", "8s", "15s", "99s", "2m", "99m", "2h", "83h", "5d", "99d"]);
    }

    #[test]
    fn durations_have_few_digits() {
        let texts =
            [0, 512, 1_024, 65_536, 999_600, 33_554_432, 1_073_741_824].map(|ns| brief(Duration::from_nanos(ns)));
        assert_eq!(texts, ["0ns", "512ns", "1.0us", "66us", "1.0ms", "34ms", "1.1s"]);
        let texts = [0, 12, 119, 120, 7_199, 7_200, 400_000].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(texts, ["0.0s", "12s", "119s", "2m", "119m", "2h", "4d"]);
    }
}
