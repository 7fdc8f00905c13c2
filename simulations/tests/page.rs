//! The page of a run shows what happened in it, and needs nothing from anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use weft_sim::{Sabotage, Scenario, run};

#[test]
fn a_page_shows_who_led_what_went_wrong_and_how_it_runs_again() {
    let report = run(&Scenario::find("store-outage").unwrap(), 5, Sabotage::None);
    assert!(report.holds(), "{report}");
    let page = report.to_html();
    for part in
        ["operator 1", "operator 3", "the store answers nobody", "is killed", "term 2", "--seed 5"]
    {
        assert!(page.contains(part), "{part}");
    }
    // A line a fault in the table.
    assert_eq!(page.matches("<tr><td>").count() as u64, report.counts.faults);
    for foreign in ["http:", "https:", "src=", "url(", "@import", "NaN", "inf\""] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(!page.contains("class=\"alarm\""));
}

#[test]
fn a_page_names_what_did_not_hold() {
    let report = run(&Scenario::find("leader-pause").unwrap(), 1, Sabotage::FenceNotCompared);
    assert!(!report.violations.is_empty());
    let page = report.to_html();
    assert!(page.contains("class=\"alarm\"") && page.contains("NoStaleWrite"));
    assert_eq!(page.matches("class=\"broken\"").count(), report.violations.len());
}

#[test]
fn a_page_shuts_in_what_a_file_says() {
    let text = "{ name: '<b>x', about: '<script>\"', agents: 1, clients: 1, seconds: 2, faults: [],
        minimum: { faults: 0, answers: 1 } }";
    let page = run(&Scenario::parse("x", text).unwrap(), 1, Sabotage::None).to_html();
    assert!(page.contains("&lt;b&gt;x") && page.contains("&lt;script&gt;&quot;"));
    assert!(!page.contains("<b>x") && !page.contains("<script>\""));
}
