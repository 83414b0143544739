//! The page: one family of metrics for each thing that is counted, one line in it for each service.

use std::ffi::{OsStr, OsString};

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use wigwag::observe::{PermitSnapshot, PermitState, ProcessState, Snapshot, ThreadState};
use wigwag::runtime::{Kind, escaped};

use crate::bridges;
use crate::service_view;
use crate::services::{Look, Services};

/// Name, help, and where the number is.
type Row<Of = Snapshot> = (&'static str, &'static str, fn(&Of) -> f64);

const COUNTERS: &[Row] = &[
    ("wigwag_published_messages_total", "Messages that a publisher has published.", |s| s.published as f64),
    ("wigwag_cut_off_subscribers_total", "Subscribers that were cut off for keeping their publisher waiting.", |s| {
        s.cut_off as f64
    }),
    (
        "wigwag_calls_total",
        "Requests answered; of a stream, reads and writes at the accepting end; of a queue, messages acknowledged.",
        |s| s.counts.calls as f64,
    ),
    ("wigwag_failed_calls_total", "Calls whose handler failed or panicked, or that were not answered.", |s| {
        s.counts.failed as f64
    }),
    ("wigwag_request_bytes_total", "Bytes of requests.", |s| s.counts.bytes_in as f64),
    ("wigwag_reply_bytes_total", "Bytes of replies.", |s| s.counts.bytes_out as f64),
    ("wigwag_busy_seconds_total", "Time spent in handlers, an estimate from the calls that were timed.", |s| {
        s.counts.busy.as_secs_f64()
    }),
    ("wigwag_doorbells_rung_total", "Replies for which the client had to be woken.", |s| {
        s.counts.doorbells_rung as f64
    }),
    ("wigwag_doorbells_heard_total", "Requests for which the server had to be woken.", |s| {
        s.counts.doorbells_heard as f64
    }),
    ("wigwag_heated_total", "Times a session became hot, so that the server polls it.", |s| s.counts.heated as f64),
    ("wigwag_cooled_total", "Times polling a session did not pay, so that the server gave it up.", |s| {
        s.counts.cooled as f64
    }),
    ("wigwag_thread_sleeps_total", "Times a serving thread slept.", |s| {
        s.threads.iter().map(|thread| thread.sleeps as f64).sum()
    }),
    ("wigwag_returned_messages_total", "Messages of a queue given back unacknowledged, to be delivered again.", |s| {
        s.counts.returned as f64
    }),
    ("wigwag_sessions_accepted_total", "Sessions granted.", |s| s.sessions_accepted as f64),
    ("wigwag_sessions_refused_total", "Handshakes refused or failed.", |s| s.sessions_refused as f64),
    ("wigwag_violations_total", "Sessions ended because the client broke the protocol.", |s| s.violations as f64),
];

const GAUGES: &[Row] = &[
    ("wigwag_running", "1 if the process runs, 0 if it is stopped or frozen.", |s| {
        f64::from(u8::from(s.state == ProcessState::Running))
    }),
    ("wigwag_sessions", "Sessions that live.", |s| s.sessions.len() as f64),
    ("wigwag_sessions_max", "The most sessions there were at a time.", |s| s.sessions_max as f64),
    ("wigwag_handshakes", "Handshakes under way.", |s| s.handshakes as f64),
    ("wigwag_hot_sessions", "Sessions that the server polls.", |s| {
        s.sessions.iter().filter(|session| session.polling == wigwag::observe::Polling::Hot).count() as f64
    }),
    (
        "wigwag_kept_calls",
        "Requests taken to be answered later; of a queue, messages received and not acknowledged.",
        |s| s.counts.kept as f64,
    ),
    (
        "wigwag_waiting",
        "Calls that were passed and not begun; of a queue, messages that were committed and not received.",
        |s| s.waiting() as f64,
    ),
    (
        "wigwag_oldest_waiting_seconds",
        "How long the oldest of those that wait has waited, a call at least; 0 if none waits or none tells.",
        |s| s.oldest_waiting().map_or(0.0, |age| age.as_secs_f64()),
    ),
    (
        "wigwag_in_flight",
        "Calls that were begun and not answered; of a queue, messages received and not acknowledged.",
        |s| s.in_flight() as f64,
    ),
    (
        "wigwag_oldest_in_flight_seconds",
        "How long ago the oldest of those in flight came; of a queue, was committed; 0 if there is none.",
        |s| s.oldest_in_flight().map_or(0.0, |age| age.as_secs_f64()),
    ),
    (
        "wigwag_blocked_sessions",
        "Sessions whose client waits for the server: for a reply, or for room in a full queue or stream.",
        |s| s.blocked() as f64,
    ),
    ("wigwag_unread_bytes", "Bytes that were written to streams and not read, either way.", |s| {
        service_view::unread_bytes(s) as f64
    }),
    ("wigwag_subscriber_lag", "Messages that the subscriber is behind which is farthest behind.", |s| {
        service_view::most_lag(s) as f64
    }),
    ("wigwag_subscribers_lost", "Messages that the subscribers of now have lost.", |s| service_view::lost(s) as f64),
    ("wigwag_subscribers_held", "Messages that subscribers hold in place.", |s| service_view::held(s) as f64),
    ("wigwag_publisher_memory_bytes", "Memory of a publisher for the messages that it keeps.", |s| {
        s.board.as_ref().map_or(0.0, |board| board.bytes as f64)
    }),
    (
        "wigwag_hidden_sessions",
        "Sessions whose memory cannot be looked at, so that what waits there is not counted.",
        |s| s.hidden() as f64,
    ),
    ("wigwag_threads", "Serving threads.", |s| s.threads.len() as f64),
    ("wigwag_busy_threads", "Serving threads that are in a handler.", |s| {
        s.threads.iter().filter(|thread| matches!(thread.state, ThreadState::Serving { .. })).count() as f64
    }),
    ("wigwag_running_call_seconds", "How long the longest call that runs now has run, at most; 0 if none runs.", |s| {
        s.longest_now().map_or(0.0, |(_, at_most)| at_most.as_secs_f64())
    }),
    ("wigwag_longest_call_seconds", "The longest call that was timed.", |s| s.counts.longest.as_secs_f64()),
];

/// The same of a semaphore.
const PERMITS: &[Row<PermitSnapshot>] = &[
    ("wigwag_permits", "Permits that a semaphore has.", |s| s.permits.len() as f64),
    ("wigwag_permits_free", "Permits that nobody holds.", |s| s.free() as f64),
    ("wigwag_permits_recovered", "Of the free ones, those whose last holder died with them.", |s| {
        s.permits.iter().filter(|permit| matches!(permit, PermitState::Recovered)).count() as f64
    }),
    ("wigwag_permit_waiters", "Who waits for permits.", |s| {
        s.waiting.iter().filter(|waiting| waiting.is_alive).count() as f64
    }),
];

/// The ranges that are told, as powers of two nanoseconds: 64 ns to a second. What is longer is below +Inf.
const BUCKETS: std::ops::RangeInclusive<usize> = 6..=30;

/// The page, as of now.
pub fn of(services: &mut Services) -> anyhow::Result<String> {
    let looks = services.look()?;
    let mut families = Vec::new();
    let mut add = |name: &str, help: &str, kind, metrics: Vec<Metric>| {
        // A family without a service would have no line, which the format does not allow.
        if !metrics.is_empty() {
            families.push(family(name, help, kind, metrics));
        }
    };
    add("wigwag_service_info", "What a service is.", MetricType::GAUGE, looks.iter().map(information).collect());
    let ages = looks.iter().map(|look| gauge(vec![label("name", look.name)], look.service.age().as_secs_f64()));
    add("wigwag_age_seconds", "How long ago the service took its name.", MetricType::GAUGE, ages.collect());
    for (name, help, value) in GAUGES {
        let metrics = looks.iter().map(|look| gauge(vec![label("name", look.name)], value(&look.snapshot)));
        add(name, help, MetricType::GAUGE, metrics.collect());
    }
    for (name, help, value) in COUNTERS {
        let metrics = looks.iter().map(|look| counter(vec![label("name", look.name)], value(&look.snapshot)));
        add(name, help, MetricType::COUNTER, metrics.collect());
    }
    let help = "How long calls took from their arrival to the answer, an estimate from the calls that were timed.";
    add("wigwag_call_duration_seconds", help, MetricType::HISTOGRAM, looks.iter().map(durations).collect());
    drop(looks);
    let semaphores = &services.semaphores;
    for (name, help, value) in PERMITS {
        let metrics = semaphores.iter().map(|(name, seen)| gauge(vec![label("name", name)], value(seen)));
        add(name, help, MetricType::GAUGE, metrics.collect());
    }
    let help = "Permits that a process holds; one that died gives them back as soon as somebody waits for them.";
    add("wigwag_permits_held", help, MetricType::GAUGE, semaphores.iter().flat_map(held).collect());
    let visible = services.hidden.keys().map(|name| gauge(vec![label("name", name)], 1.0)).collect();
    add("wigwag_hidden", "A service that lives and whose statistics cannot be read.", MetricType::GAUGE, visible);
    add(
        "wigwag_names",
        "Names in the runtime directory, by what became of who made them.",
        MetricType::GAUGE,
        names(services),
    );
    let mut page = TextEncoder::new().encode_to_string(&families)?;
    page.push_str(&bridges::metrics());
    Ok(page)
}

fn information(look: &Look<'_>) -> Metric {
    let service = look.service;
    let labels = vec![
        label("name", look.name),
        label("form", service.form.to_string().as_ref()),
        label("program", service.program.as_deref().unwrap_or_default().as_ref()),
        label("pid", service.pid.to_string().as_ref()),
    ];
    gauge(labels, 1.0)
}

fn durations(look: &Look<'_>) -> Metric {
    let counts = &look.snapshot.counts;
    let mut below = 0u64;
    let mut buckets = Vec::new();
    for (range, (bound, count)) in counts.durations.ranges().enumerate() {
        below = below.saturating_add(count);
        if BUCKETS.contains(&range) {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(below);
            buckets.push(bucket);
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(counts.durations.total());
    histogram.set_sample_sum(counts.busy.as_secs_f64());
    let mut metric = Metric::from_label(vec![label("name", look.name)]);
    metric.set_histogram(histogram);
    metric
}

/// A semaphore's holders.
fn held((name, seen): (&OsString, &PermitSnapshot)) -> Vec<Metric> {
    let metric = |holder: service_view::PermitHolder| {
        let labels = vec![
            label("name", name),
            label("program", holder.program.unwrap_or_default().as_ref()),
            label("pid", holder.pid.map_or_else(String::new, |pid| pid.to_string()).as_ref()),
            label("alive", holder.is_alive.to_string().as_ref()),
        ];
        gauge(labels, holder.permits as f64)
    };
    service_view::holders(seen).into_iter().map(metric).collect()
}

const STATES: [&str; 6] = ["alive", "unreachable", "unguarded", "dead", "owed", "foreign"];

fn names(services: &Services) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for (kind, kind_word) in [(Kind::Service, "service"), (Kind::Semaphore, "semaphore"), (Kind::Keeper, "keeper")] {
        for word in STATES {
            let labels = vec![label("kind", kind_word.as_ref()), label("state", word.as_ref())];
            metrics.push(gauge(labels, services.count(kind, |state| service_view::state_word(state) == word) as f64));
        }
    }
    metrics
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

fn counter(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    let mut counter = Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

/// The encoder escapes it once more, as the format asks for.
fn label(name: &str, value: &OsStr) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(escaped(value));
    label
}
