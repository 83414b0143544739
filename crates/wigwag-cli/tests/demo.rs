//! `wigwag demo` on small pictures: the figures add up, every pixel is right, and the pictures are what they should be.

mod harness;

use std::path::Path;

use harness::Runtime;
use image::{Rgb, RgbImage};

const SERVICES: [&str; 6] = ["wigwag", "file", "pipe", "mqueue", "unix", "tcp"];

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 5) as u8, (y * 7) as u8, (x + y) as u8]))
}

/// What the filter does, a third time: upside down, and eight tones for each channel.
fn expected(before: &RgbImage) -> RgbImage {
    let tones = [0, 36, 73, 109, 146, 182, 219, 255];
    RgbImage::from_fn(before.width(), before.height(), |x, y| {
        Rgb(before.get_pixel(x, before.height() - 1 - y).0.map(|byte| tones[usize::from(byte) / 32]))
    })
}

fn open(path: &Path) -> RgbImage {
    image::open(path).unwrap().into_rgb8()
}

#[test]
fn a_png_goes_through_every_service() {
    let runtime = Runtime::new();
    picture(64, 33).save(runtime.path().join("in.png")).unwrap();
    let ended = runtime.run(&["demo", "--input", "in.png", "--frames", "4", "--out", "pictures", "--json"]).succeeded();
    let report = ended.json();
    assert_eq!((&report["width"], &report["height"], &report["bytes"]), (&64.into(), &33.into(), &6336.into()));
    let services = report["services"].as_array().unwrap();
    assert_eq!(services.iter().map(|row| row["service"].as_str().unwrap()).collect::<Vec<_>>(), SERVICES);
    for row in services.iter().chain([&report["alone"]]) {
        if row["unavailable"].is_string() {
            assert_eq!(row["service"], "mqueue", "only message queues may be missing: {row}");
            continue;
        }
        assert_eq!(row["wrong_pixels"], 0, "{row}");
        assert!(row["frames"].as_u64().unwrap() > 4, "warm-up and timed frames are both checked: {row}");
        assert!(row["p50_ns"].as_u64().unwrap() <= row["p99_ns"].as_u64().unwrap(), "{row}");
        assert!(row["context_switches_per_exchange"].is_number(), "{row}");
        let counted = row["system_calls_per_exchange"].is_number() || row["not_counted"].is_string();
        assert!(counted || row["service"] == "alone", "{row}");
    }
    assert_eq!(report["viewers"]["viewers"].as_array().unwrap().len(), 4);
    let before = open(&runtime.path().join(report["before"].as_str().unwrap()));
    let after = open(&runtime.path().join(report["after"].as_str().unwrap()));
    assert_ne!(before, after);
    assert_eq!(after, expected(&before));
}

#[test]
fn a_jpeg_gives_a_table_for_people() {
    let runtime = Runtime::new();
    picture(321, 20).save(runtime.path().join("in.jpg")).unwrap();
    let text = runtime.run(&["demo", "--input", "in.jpg", "--frames", "1"]).succeeded().text();
    for part in ["321 x 20", "Wigwag", "pipe", "Unix socket", "TCP loopback", "the work alone", "p50", "p99"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    for part in
        ["frames/s", "system calls", "context switches", "every pixel", "demo-out/before.png", "demo-out/after.png"]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let after = open(&runtime.path().join("demo-out/after.png"));
    assert_eq!(after, expected(&open(&runtime.path().join("demo-out/before.png"))));
}

#[test]
fn four_viewers_see_one_publisher_and_nobody_slows_it() {
    let runtime = Runtime::new();
    picture(64, 33).save(runtime.path().join("in.png")).unwrap();
    let report = runtime.run(&["demo", "--viewers", "--input", "in.png", "--json"]).succeeded().json();
    let viewers = report["viewers"].as_array().unwrap();
    let names: Vec<_> = viewers.iter().map(|viewer| viewer["viewer"].as_str().unwrap()).collect();
    assert_eq!(names, ["ordinary", "slow", "stopped", "killed"]);
    for viewer in viewers {
        let number = |key: &str| viewer[key].as_u64().unwrap();
        assert_eq!((number("seen") + number("lost"), number("wrong_pixels")), (96, 0), "{viewer}");
        assert!(number("seen") > 0, "{viewer}");
        assert!(number("lost") > 0 || viewer["viewer"] == "ordinary", "{viewer}");
    }
    assert!(!runtime.path().join("demo-out").exists(), "it writes no pictures");
}

#[test]
fn the_four_viewers_fit_a_terminal() {
    let runtime = Runtime::new();
    let text = runtime.run(&["demo", "--viewers"]).succeeded().text();
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    for part in ["keeps up", "slow, 150 ms", "stopped a while", "killed, restarted", "Every frame is accounted"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_picture_of_one_pixel_is_a_picture() {
    let runtime = Runtime::new();
    picture(1, 1).save(runtime.path().join("in.png")).unwrap();
    let report = runtime.run(&["demo", "--input", "in.png", "--frames", "2", "--json"]).succeeded().json();
    assert_eq!(report["services"][0]["wrong_pixels"], 0);
}

#[test]
fn without_a_subcommand_the_demo_runs() {
    let runtime = Runtime::new();
    // A file where the pictures should go: it ends before it has begun.
    std::fs::write(runtime.path().join("demo-out"), "").unwrap();
    let complaint = runtime.run(&[]).failed(1);
    assert!(complaint.contains("demo-out"), "{complaint}");
}

#[test]
fn what_is_no_picture_is_named() {
    let runtime = Runtime::new();
    std::fs::write(runtime.path().join("text.png"), "not a picture").unwrap();
    for name in ["no-such-file.png", "text.png"] {
        let complaint = runtime.run(&["demo", "--input", name]).failed(1);
        assert!(complaint.contains(name), "{complaint}");
    }
}

#[test]
fn nothing_is_left_behind() {
    let runtime = Runtime::new();
    picture(8, 8).save(runtime.path().join("in.png")).unwrap();
    runtime.run(&["demo", "--input", "in.png", "--frames", "1", "--out", "pictures"]).succeeded();
    let mut left: Vec<_> = std::fs::read_dir(runtime.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["in.png", "pictures"]);
}
