//! `weft lab report`: a page that tells what the lab's own commands find, and that a real browser shows whole at every width.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use serde_json::Value;
use std::{fs, path::Path, process::Command};
use weft_tests::lab::{Lab, example, is_root, weft};

/// Names that a browser without a window has.
const BROWSERS: [&str; 4] =
    ["chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"];

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
            eprintln!(
                "SKIPPED: no browser on this machine ({}) looks at the page",
                BROWSERS.join(", ")
            );
            return;
        };
        assert_eq!(seen["spill"], 0, "{width}: the page is wider than the window: {seen}");
        assert_eq!(seen["sections"], serde_json::json!(["reach", "flows", "kill", "way"]));
        assert_eq!(seen["figures"][0], "40", "{seen}");
        assert_eq!((&seen["told"], &seen["shut"]), (&Value::Bool(true), &"none".into()), "{seen}");
        assert!(seen["lit"].as_u64().unwrap() >= 1, "{seen}");
        let dark = seen["paper"] == "rgb(18, 22, 28)";
        assert_eq!(seen["dark"], dark, "it follows what the reader prefers: {seen}");
    }
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

    looks_right(&page);
    assert_eq!(lab.does(&["probe", "-o", "json"]), before, "the policy is gone");
    lab.does(&["status"]);
}
