//! The page in a real browser: every series of every chart is drawn, pointing at a chart shows values, nothing is
//! logged, and nothing is wider than the window, on a desk and on a phone, in both themes.
//!
//! Needs Debian's `chromium` and `chromium-driver`. Where they are missing the test says so and is over; with
//! `WIGWAG_BROWSER=required` it fails instead. `WIGWAG_SCREENSHOTS=DIR` keeps pictures, `WIGWAG_PAGE=FILE` looks at
//! a page that is already there.

mod browser;
mod example;

use std::path::PathBuf;
use std::time::Duration;

use browser::{Browser, Missing};
use serde_json::Value;

/// Shows one series alone after the other and counts the pixels that it adds to the empty chart. Then all are shown
/// again. Repeated for each choice that a section offers.
const EACH_SERIES_DRAWN: &str = r#"
const done = arguments[arguments.length - 1];
const settled = () => new Promise((resolve) => setTimeout(resolve, 0));
const pixels = (plot) => plot.ctx.getImageData(0, 0, plot.ctx.canvas.width, plot.ctx.canvas.height).data;
(async () => {
  const found = [];
  const look = async (entry, choice) => {
    const plot = entry.plot, count = plot.series.length;
    // The axes stay as they are, or they would be the difference.
    const { min, max } = plot.scales.y;
    const drawnAlone = async () => {
      await settled(); plot.setScale("y", { min, max }); await settled(); return pixels(plot);
    };
    for (let at = 1; at < count; at += 1) plot.setSeries(at, { show: false });
    const empty = await drawnAlone();
    for (let at = 1; at < count; at += 1) {
      plot.setSeries(at, { show: true });
      const drawn = await drawnAlone();
      let different = 0;
      const differs = (at) => drawn[at] !== empty[at];
      for (let byte = 3; byte < drawn.length; byte += 4)
        if (differs(byte) || differs(byte - 1) || differs(byte - 2)) different += 1;
      found.push({ chart: entry.title, choice, series: plot.series[at].label, different });
      plot.setSeries(at, { show: false });
    }
    for (let at = 1; at < count; at += 1) plot.setSeries(at, { show: true });
    await settled();
  };
  for (const section of document.querySelectorAll("section")) {
    const within = () => wigwag.charts.filter((entry) => section.contains(entry.box));
    for (const entry of within()) await look(entry, "as it opens");
    for (const button of section.querySelectorAll(".choice button")) {
      button.click();
      await settled();
      for (const entry of within()) await look(entry, button.textContent);
    }
    const first = section.querySelector(".choice button");
    if (first) first.click();
  }
  done(found);
})().catch((error) => done(String(error)));
"#;

/// What sticks out of the window: nothing may, but what scrolls by itself.
const TOO_WIDE: &str = r#"
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll("body *")]
  .filter((element) => !element.closest(".scroll") && !element.closest(".u-wrap"))
  .filter((element) => element.getBoundingClientRect().right > width + 1)
  .map((element) => element.tagName + "." + element.className).slice(0, 5);
"#;

const HOVERED: &str = r#"
const entry = wigwag.charts[arguments[0]];
const tip = entry.box.querySelector(".tip");
const values = [...entry.box.querySelectorAll(".legend .value")].map((value) => value.textContent);
return { visible: getComputedStyle(tip).visibility, tip: tip.textContent, values: values.filter((value) => value) };
"#;

#[test]
fn a_browser_draws_every_series_and_shows_values() {
    let browser = match Browser::start() {
        Ok(browser) => browser,
        Err(Missing(why)) if std::env::var_os("WIGWAG_BROWSER").is_none() => {
            eprintln!("skipped: {why}");
            return;
        }
        Err(Missing(why)) => panic!("{why}"),
    };
    let directory = tempfile::tempdir().unwrap();
    let path = std::env::var_os("WIGWAG_PAGE").map_or_else(|| directory.path().join("page.html"), PathBuf::from);
    if !path.exists() {
        std::fs::write(&path, example::page().html().unwrap()).unwrap();
    }
    for (width, height) in [(1280, 900), (390, 844)] {
        browser.resize(width, height);
        browser.open(&format!("file://{}", path.canonicalize().unwrap().display()));
        every_series_is_drawn(&browser, width);
        pointing_shows_values(&browser, width);
        assert_eq!(browser.run(TOO_WIDE, &[]), serde_json::json!([]), "wider than a window of {width}");
        for theme in ["light", "dark"] {
            browser.run("wigwag.setTheme(arguments[0]); window.scrollTo(0, 0);", &[theme.into()]);
            keep_picture(&format!("{width}-{theme}"), || browser.picture());
        }
        assert_eq!(browser.log(), Vec::<String>::new(), "the browser's log at {width}");
    }
}

fn every_series_is_drawn(browser: &Browser, width: u32) {
    let found = browser.run_slowly(EACH_SERIES_DRAWN);
    let found = found.as_array().unwrap_or_else(|| panic!("{found}"));
    let text = |series: &Value, field: &str| series[field].as_str().unwrap().to_owned();
    let mut charts: Vec<String> = found.iter().map(|series| text(series, "chart")).collect();
    charts.sort();
    charts.dedup();
    if std::env::var_os("WIGWAG_PAGE").is_none() {
        assert!(charts.len() >= 8, "{charts:?}");
    }
    for series in found {
        assert!(series["different"].as_u64().unwrap() > 8, "not drawn at {width}: {series}");
    }
}

fn pointing_shows_values(browser: &Browser, width: u32) {
    let charts = browser.run("return wigwag.charts.length;", &[]).as_u64().unwrap();
    assert!(charts > 0);
    for chart in 0..charts {
        let place = "const box = wigwag.charts[arguments[0]].plot.over; box.scrollIntoView({ block: 'center', \
            behavior: 'instant' });
            const rect = box.getBoundingClientRect();
            return [rect.left + rect.width / 2, rect.top + rect.height / 2];";
        let place = browser.run(place, &[chart.into()]);
        let [x, y] = [0, 1].map(|at| place[at].as_f64().unwrap() as i64);
        browser.point_at(x, y);
        let seen = browser.run(HOVERED, &[chart.into()]);
        assert_eq!(seen["visible"], "visible", "chart {chart} at {width}: {seen}");
        assert!(seen["tip"].as_str().unwrap().contains(|letter: char| letter.is_ascii_digit()), "{seen}");
        assert!(!seen["values"].as_array().unwrap().is_empty(), "{seen}");
        if chart == 0 {
            keep_picture(&format!("{width}-pointed"), || browser.view());
        }
    }
}

fn keep_picture(name: &str, picture: impl FnOnce() -> Vec<u8>) {
    let Some(directory) = std::env::var_os("WIGWAG_SCREENSHOTS") else { return };
    // A moment for the fonts; a picture is looked at, not tested.
    std::thread::sleep(Duration::from_millis(300));
    let path = PathBuf::from(directory).join(format!("{name}.png"));
    std::fs::write(path, picture()).unwrap();
}
