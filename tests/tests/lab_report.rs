//! `weft lab report`: a page that tells what the lab's own commands find, and that a real browser shows whole at every width.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use serde_json::Value;
use std::{fs, io::Write, path::Path, process::Command};
use weft_tests::lab::{Lab, example, is_root, weft};

/// Names that a browser without a window has.
const BROWSERS: [&str; 4] =
    ["chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"];

/// The kernel stamps the packet itself; that its maps hold the policy is heard from an agent, so many milliseconds late at most.
const HEARD: f64 = 100.0;

/// What is measured of the page in a frame of that width.
const MEASURE: &str = r##"
const page = document.getElementById("frame").contentDocument;
const root = page.documentElement, out = {};
out.spill = root.scrollWidth - root.clientWidth;
out.sections = [...page.querySelectorAll("section")].map((it) => it.id);
out.figures = [...page.querySelectorAll(".tiles b")].map((it) => it.textContent);
const cell = page.querySelector("td[data-tell]");
cell.focus(); cell.dispatchEvent(new Event("focus"));
out.told = page.querySelector("#reach .tell").textContent === cell.dataset.tell;
const thread = page.querySelector(".thread");
thread.dispatchEvent(new Event("pointerenter"));
out.lit = page.querySelectorAll("#flows .lit").length;
const line = page.querySelector("#flows .tell"), threads = [...page.querySelectorAll("#flows .thread")];
out.threads = threads.map((it) => { it.dispatchEvent(new Event("pointerenter")); return line.textContent; });
out.theirs = threads.map((it) => it.dataset.tell);
page.querySelector("#show-denied").click();
out.shut = page.defaultView.getComputedStyle(page.querySelector(".loom .denied")).display;
const dark = page.defaultView.matchMedia("(prefers-color-scheme: dark)").matches;
out.dark = dark; out.paper = page.defaultView.getComputedStyle(page.body).backgroundColor;
document.body.textContent = "MEASURED" + JSON.stringify(out) + "END";
"##;

/// The page as a browser shows it in that width; none where there is no browser.
fn shown(page: &str, width: u32, scheme: &[&str]) -> Option<Value> {
    let browser = BROWSERS.iter().find(|name| {
        let is_there = Command::new(name).arg("--version").output();
        is_there.is_ok_and(|output| output.status.success())
    })?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frame.html");
    let text = page.replace('&', "&amp;").replace('"', "&quot;");
    let frame = format!(
        "<!doctype html><meta charset=utf-8><body><iframe id=frame width={width} height=900 srcdoc=\"{text}\"></iframe>\
         <script>document.getElementById('frame').onload = () => {{ {MEASURE} }}</script></body>"
    );
    fs::write(&file, frame).unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=20000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .args(scheme)
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, measured) = text.split_once("MEASURED").unwrap_or_else(|| panic!("{text}\n{output:?}"));
    let (measured, _) = measured.split_once("END").unwrap();
    Some(serde_json::from_str(measured).unwrap_or_else(|error| panic!("{error}: {measured}")))
}

fn looks_right(page: &str) {
    for (width, scheme) in
        [(1180, &[][..]), (390, &[]), (390, &["--blink-settings=preferredColorScheme=0"])]
    {
        let Some(seen) = shown(page, width, scheme) else {
            let why = format!("there is no browser on this machine ({})", BROWSERS.join(", "));
            // `make test-long` installs one.
            let required = std::env::var_os("WEFT_BROWSER").is_some_and(|word| word == "required");
            assert!(!required, "WEFT_BROWSER=required, and {why}");
            // `print!` alone is captured by libtest.
            let _ = writeln!(std::io::stderr(), "skipped: {why}: none looks at the page");
            return;
        };
        assert_eq!(seen["spill"], 0, "{width}: the page is wider than the window: {seen}");
        assert_eq!(seen["sections"], serde_json::json!(["reach", "flows", "kill", "way"]));
        assert_eq!(seen["figures"][0], "40", "{seen}");
        assert_eq!((&seen["told"], &seen["shut"]), (&Value::Bool(true), &"none".into()), "{seen}");
        assert!(seen["lit"].as_u64().unwrap() >= 1, "{seen}");
        threads_tell_their_rule(&seen);
        let dark = seen["paper"] == "rgb(18, 22, 28)";
        assert_eq!(seen["dark"], dark, "it follows what the reader prefers: {seen}");
    }
}

/// Who points at a thread is told what came of it, and by which policy and rule.
fn threads_tell_their_rule(seen: &Value) {
    assert_eq!(seen["threads"], seen["theirs"], "a thread tells another's: {seen}");
    let told = seen["threads"].as_array().unwrap();
    let rules =
        [(" allowed", "shop/cart-from-frontend ingress[0]"), (" denied", "shop/default-deny")];
    for (verdict, by) in rules {
        let tells = |told: &Value| {
            told.as_str().is_some_and(|told| told.contains(verdict) && told.contains(by))
        };
        assert!(told.iter().any(tells), "no thread tells{verdict}: {by}: {seen}");
    }
}

/// The steps of the policy's way as the page lists them: what was done, and when, in milliseconds.
fn steps(page: &str) -> Vec<(&str, f64)> {
    let (_, list) = page.split_once("<ol class=\"steps\">").unwrap();
    let (list, _) = list.split_once("</ol>").unwrap();
    let steps = list.lines().map(|line| {
        let (_, what) = line.split_once("<span class=\"what\">").unwrap();
        let (what, when) = what.split_once("</span>").unwrap();
        let (_, when) = when.split_once("<span class=\"when\">").unwrap();
        let (when, _) = when.split_once("</span>").unwrap();
        let (number, unit) = when.split_once('\u{a0}').unwrap();
        let number: f64 = number.parse().unwrap();
        match unit {
            "ms" => (what, number),
            "s" => (what, number * 1000.0),
            other => panic!("{other:?} is no unit: {line}"),
        }
    });
    steps.collect()
}

/// YAML, log entry, maps, packet: each is there, and none before what it comes of.
fn leads_from_yaml_to_a_packet(page: &str) {
    let steps = steps(page);
    let sorted = steps.is_sorted_by(|a, b| a.1 <= b.1);
    assert!(sorted, "the times do not ascend: {steps:?}");
    let when = |words: &str| {
        let step = steps.iter().find(|(what, _)| what.contains(words));
        step.unwrap_or_else(|| panic!("no step says {words:?}: {steps:?}")).1
    };
    let maps = "its kernel&#39;s maps hold the policy, from epoch ";
    let way = [
        when("the YAML is read and checked"),
        when("the entry is in the log, durable and committed"),
        when(maps),
    ];
    assert!(way.is_sorted(), "YAML, entry, maps come at {way:?}: {steps:?}");
    let told = steps.iter().filter(|(what, _)| what.contains(maps));
    assert_eq!(told.count(), 2, "each node's maps: {steps:?}");
    let packet = when(" is judged and dropped: ");
    assert!(packet + HEARD >= way[2], "the packet at {packet}, maps at {}: {steps:?}", way[2]);
    assert!(packet > way[0], "the packet at {packet}, the YAML at {}: {steps:?}", way[0]);
}

fn written(lab: &Lab, file: &Path, words: &[&str]) -> String {
    let output = weft(
        &[&["lab", "report", "--name", &lab.name, "-o", file.to_str().unwrap()], words].concat(),
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(file).unwrap()
}

#[test]
fn root_a_lab_is_reported_and_left_as_it_was() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("report", &[&example("shop.yaml")]);
    let before = lab.does(&["probe", "-o", "json"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");

    let page = written(&lab, &file, &["--look-only"]);
    assert!(!page.contains("id=\"kill\"") && !page.contains("id=\"way\""), "it only looked");
    let page = written(&lab, &file, &[]);
    for told in [
        "frontend-0 reaches on some ports cart-1\nTCP/8080 allowed: shop/cart-from-frontend ingress[0]",
        "isolated by shop/default-deny",
        "<b class=\"good\">0 bytes</b> were lost",
        "each came to what the policies say",
        "its kernel&#39;s maps hold the policy",
        "is judged and dropped: ",
        "/weft-report",
    ] {
        assert!(page.contains(told), "{told:?} is not in the page");
    }
    assert!(!page.contains("Not as the policies say"), "{page}");
    // A flow that the destination's node refused is no allowed one, though its own node let it out.
    assert!(!page.contains("shop/db-0 → shop/frontend-1 TCP/8080 allowed"), "{page}");

    leads_from_yaml_to_a_packet(&page);
    looks_right(&page);
    assert_eq!(lab.does(&["probe", "-o", "json"]), before, "the policy is gone");
    lab.does(&["status"]);
}
