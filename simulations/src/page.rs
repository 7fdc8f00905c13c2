//! A run as a page that one would rather look at than read: whole in itself, no network, no font.

mod chart;
mod lanes;

use crate::{
    Report,
    story::{Hit, Struck},
    time::Micros,
};
use std::fmt::Write;

/// What `weft lab report` looks like, so that pages of one program are alike.
const STYLE: &str = include_str!("../../cli/src/report/style.css");
const OWN_STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("../../cli/src/report/script.js");

/// The picture's measures, in its own units.
const LEFT: f64 = 116.0;
const LANE: f64 = 44.0;
/// Between the picture's parts.
const GAP: f64 = 30.0;
/// Units a second where a run is long.
const SECOND: u64 = 8;

/// Where moments are in the picture.
struct Scale {
    end: Micros,
    /// Its width without its names.
    units: u64,
    /// Where it ends.
    right: f64,
}

impl Scale {
    fn of(report: &Report) -> Self {
        let end = report.end;
        let units = (end.0 / 1_000_000 * SECOND).clamp(834, 16_000);
        Self { end, units, right: LEFT + units as f64 }
    }

    fn x(&self, at: Micros) -> f64 {
        LEFT + (self.right - LEFT) * (seconds(at) / seconds(self.end).max(1.0)).clamp(0.0, 1.0)
    }
}

fn seconds(time: Micros) -> f64 {
    time.0 as f64 / 1e6
}

/// The whole page.
pub(crate) fn render(report: &Report, version: &str) -> String {
    let name = escape(&report.scenario);
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{name} · Weft</title><style>
{STYLE}{OWN_STYLE}</style></head><body>
<header>{WEAVE}<p class="brand">Weft simulation</p><h1>{name}</h1><p class="sub">{}<br>{} operators · {} agents · {} simulated seconds · seed {}</p>{}</header>
<main>
{}{}</main>
<footer><p>Again: <code>{}</code> · trace {:016x} · {}</p></footer>
<script>
{SCRIPT}</script></body></html>
"#,
        escape(&report.about),
        report.operators,
        report.agents,
        report.seconds,
        report.seed,
        tiles(report),
        alarm(report),
        picture(report),
        escape(&report.replay()),
        report.trace,
        escape(version),
    )
}

/// Threads that cross: the mark of the page.
const WEAVE: &str = r#"<svg class="weave" viewBox="0 0 64 64" aria-hidden="true"><g class="warp"><path d="M14 4v56M32 4v56M50 4v56"/></g><g class="weft"><path d="M4 14h4M20 14h24M56 14h4M4 32h22M38 32h22M4 50h4M20 50h24M56 50h4"/></g></svg>"#;

fn tiles(report: &Report) -> String {
    let counts = &report.counts;
    let (word, class) = match (report.violations.len(), &report.void) {
        (0, None) => ("held".to_owned(), "good"),
        (0, Some(_)) => ("void".to_owned(), "bad"),
        (violations, _) => (violations.to_string(), "bad"),
    };
    let what = match report.violations.is_empty() {
        true => "every invariant, after every step",
        false => "times an invariant did not hold",
    };
    let gap = format!("{}\u{202f}s", tenths(counts.longest_gap_ms as f64 / 1000.0));
    let tile = |figure: &str, class: &str, words: &str| {
        format!("<li><b class=\"{class}\">{}</b><span>{words}</span></li>", escape(figure))
    };
    [
        "<ul class=\"tiles\">",
        &tile(&word, class, what),
        &tile(&grouped(counts.faults), "", "faults hit"),
        &tile(&grouped(counts.answers), "", "changes were answered, and stayed so"),
        &tile(&gap, "", "the longest time without an answer"),
        "</ul>",
    ]
    .concat()
}

fn alarm(report: &Report) -> String {
    if report.holds() {
        return String::new();
    }
    let mut lines: Vec<String> = report
        .violations
        .iter()
        .map(|v| format!("{} {:?}: {}", v.at, v.invariant, v.seen))
        .collect();
    lines.extend(report.void.iter().map(|void| format!("void: {void}")));
    let lines: String = lines.iter().map(|line| format!("<p>{}</p>", escape(line))).collect();
    format!("<div class=\"alarm\">{lines}</div>\n")
}

/// All that has a time, one under the other, over one axis.
fn picture(report: &Report) -> String {
    let scale = Scale::of(report);
    let (lanes, bottom) = lanes::draw(report, &scale);
    let (lag, bottom) = chart::lag(report, &scale, bottom + GAP);
    let (answers, bottom) = chart::answers(report, &scale, bottom + GAP);
    let (axis, height) = axis(report, &scale, bottom);
    let width = scale.right + 16.0;
    format!(
        r#"<section id="time" aria-labelledby="time-h"><h2 id="time-h">What happened</h2>
<p>The thread is who led; where it breaks nobody did. Below, how far agents were behind what operators knew, and how many changes were answered.</p>
<figure class="scroll" tabindex="0" aria-label="Roles, faults and lag over time"><svg class="chart" style="min-width:{width:.0}px" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="Roles, faults and lag over time">{axis}{lanes}{lag}{answers}</svg></figure>
<p class="tell" data-idle="Point at a fault or a thread.">Point at a fault or a thread.</p>
{}
<details><summary>{} faults</summary><table class="list"><thead><tr><th scope="col">from</th><th scope="col">until</th><th scope="col">what</th></tr></thead><tbody>{}</tbody></table></details></section>
"#,
        LEGEND,
        report.story.struck.len(),
        report.story.struck.iter().map(row).collect::<String>()
    )
}

const LEGEND: &str = r#"<p class="legend"><span><i class="key leads"></i>leads</span><span><i class="key follows"></i>follows</span><span><i class="key stands"></i>asks for votes</span><span><i class="key down"></i>is down</span><span><i class="key trouble"></i>another fault</span></p>"#;

/// Moments, how faults end, and where something did not hold; all of it behind the rest.
fn axis(report: &Report, scale: &Scale, bottom: f64) -> (String, f64) {
    let mut text = String::new();
    let quiet = scale.x(Micros::seconds(report.seconds));
    let _ = write!(
        text,
        "<rect class=\"calm\" x=\"{quiet:.1}\" y=\"22\" width=\"{:.1}\" height=\"{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"16\">all is made good</text>",
        scale.right - quiet,
        bottom - 22.0,
        quiet + 6.0
    );
    let whole = report.end.0 / 1_000_000;
    let step = [1, 2, 5, 10, 30, 60, 120, 300]
        .into_iter()
        .find(|step| (scale.right - LEFT) / (whole as f64 / *step as f64).max(1.0) > 46.0);
    for second in (0..=whole).step_by(step.unwrap_or(600)) {
        let x = scale.x(Micros::seconds(second));
        let _ = write!(
            text,
            "<line class=\"rule\" x1=\"{x:.1}\" y1=\"22\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second} s</text>",
            bottom + 18.0
        );
    }
    for violation in &report.violations {
        let x = scale.x(violation.when);
        let told =
            escape(&format!("{} {:?}: {}", violation.at, violation.invariant, violation.seen));
        let _ = write!(
            text,
            "<g class=\"broken\" data-tell=\"{told}\"><line x1=\"{x:.1}\" y1=\"22\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/></g>"
        );
    }
    (text, bottom + 28.0)
}

fn row(struck: &Struck) -> String {
    let (from, until) = (tenths(seconds(struck.from)), tenths(seconds(struck.until)));
    format!("<tr><td>{from} s</td><td>{until} s</td><td>{}</td></tr>", escape(&tell(struck)))
}

/// A fault in words.
fn tell(struck: &Struck) -> String {
    let kind = struck.kind.words();
    match struck.on {
        Hit::Member(member) => format!("operator {member} {kind}"),
        Hit::Store => format!("the store {kind}"),
        Hit::Agents(1) => format!("an agent {kind}"),
        Hit::Agents(count) => format!("{} agents {kind}", grouped(count as u64)),
    }
}

fn tenths(number: f64) -> String {
    format!("{number:.1}")
}

/// Digits by threes, with spaces that neither break nor stretch.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A text that is safe between tags and in attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
