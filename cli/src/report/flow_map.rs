//! Who talks to whom: a loom. Who opens stands left, who answers right; a thread is a flow, and a denied one is cut where the
//! policy cut it, at the end of whoever's policy that was.

use super::{
    Flow, Report, Side, Verdict,
    markup::{count, escape},
    namespace, short,
};
use std::collections::{BTreeMap, BTreeSet};

/// The picture's measures, in its own units; it is as wide as the page.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 230.0;
const RIGHT: f64 = WIDTH - 270.0;
const TOP: f64 = 34.0;
/// Between two threads of one end, and between two ends.
const THREAD: f64 = 13.0;
const GAP: f64 = 18.0;
/// Threads that can still be told apart.
const MOST: usize = 120;
/// Where a denied thread is cut, as a part of its way.
const CUT: f64 = 0.17;

/// An end on its side: where its threads begin.
struct End {
    top: f64,
    threads: usize,
    used: usize,
}

impl End {
    fn middle(&self) -> f64 {
        self.top + THREAD * (self.threads.max(1) - 1) as f64 / 2.0
    }

    fn next(&mut self) -> f64 {
        let y = self.top + THREAD * self.used as f64;
        self.used += 1;
        y
    }
}

/// The ends of a side, in order, with room for each thread.
fn ends<'a>(keys: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<(&'a str, &'a str), End> {
    let mut threads: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    keys.for_each(|key| *threads.entry(key).or_default() += 1);
    let (mut y, mut before) = (TOP, None);
    threads
        .into_iter()
        .map(|(key, threads)| {
            // Ports of one pod stand closer than pods.
            y += match before {
                None => 0.0,
                Some(name) if name == key.0 => GAP * 0.45,
                Some(_) => GAP,
            };
            before = Some(key.0);
            let end = End { top: y, threads, used: 0 };
            y += THREAD * threads as f64;
            (key, end)
        })
        .collect()
}

pub(super) fn section(report: &Report) -> String {
    if report.flows.is_empty() {
        return String::new();
    }
    let total: u64 = report.flows.iter().map(|flow| flow.count).sum();
    format!(
        r#"<section id="flows" aria-labelledby="flows-h"><h2 id="flows-h">Who talks to whom</h2>
<p>{}, as the programs in the kernel told them. A thread runs from who opened to who answered; a denied one is cut at the end whose policy cut it.</p>
<fieldset class="switches"><legend class="hidden">What is drawn</legend><label><input type="checkbox" id="show-allowed" checked> allowed</label><label><input type="checkbox" id="show-denied" checked> denied</label></fieldset>
<figure class="scroll" tabindex="0" aria-label="Flow map">{}</figure>
<p class="tell" aria-live="polite" data-idle="Point at a thread for the rule behind it, or at a name for all its threads.">Point at a thread for the rule behind it, or at a name for all its threads.</p>
<details><summary>{} as a table</summary><div class="scroll" tabindex="0" role="region" aria-label="Flows">{}</div></details></section>
"#,
        count(total, "flow"),
        picture(&drawn(&report.flows)),
        match report.flows.len().saturating_sub(MOST) {
            0 => "The same".to_owned(),
            more => format!("The same, and {more} more,"),
        },
        table(&report.flows)
    )
}

/// What is drawn where there is too much: what was allowed before what was not, the most frequent first.
fn drawn(flows: &[Flow]) -> Vec<Flow> {
    let mut drawn = flows.to_vec();
    drawn.sort_by_key(|flow| (flow.verdict, std::cmp::Reverse(flow.count)));
    drawn.truncate(MOST);
    drawn
}

/// The loom.
pub(super) fn picture(flows: &[Flow]) -> String {
    let mut flows: Vec<&Flow> = flows.iter().collect();
    flows.sort_by_key(|flow| (&flow.to, &flow.port, &flow.from, flow.verdict));
    let mut left = ends(flows.iter().map(|flow| (flow.from.as_str(), "")));
    let mut right = ends(flows.iter().map(|flow| (flow.to.as_str(), flow.port.as_str())));
    let bottom = |side: &BTreeMap<(&str, &str), End>| {
        side.values().map(|end| end.top + THREAD * end.threads as f64).fold(TOP, f64::max)
    };
    let height = bottom(&left).max(bottom(&right)) + 16.0;
    let shift = (height - 16.0 - bottom(&left)) / 2.0;
    left.values_mut().for_each(|end| end.top += shift.max(0.0));
    let shift = (height - 16.0 - bottom(&right)) / 2.0;
    right.values_mut().for_each(|end| end.top += shift.max(0.0));
    let names = labels(&left, &right);
    let mut denied = String::new();
    let mut allowed = String::new();
    for flow in flows {
        let (Some(from), Some(to)) = (
            left.get_mut(&(flow.from.as_str(), "")),
            right.get_mut(&(flow.to.as_str(), flow.port.as_str())),
        ) else {
            continue;
        };
        let (y0, y1) = (from.next(), to.next());
        let into = if flow.verdict == Verdict::Allowed { &mut allowed } else { &mut denied };
        into.push_str(&thread(flow, y0, y1));
    }
    format!(
        "<svg class=\"loom\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"Flow map: the table below says the same\">\
         <text class=\"side\" x=\"{:.0}\" y=\"14\" text-anchor=\"end\">opens</text><text class=\"side\" x=\"{:.0}\" y=\"14\">answers</text>\n\
         <g class=\"denied\">{denied}</g>\n<g class=\"allowed\">{allowed}</g>\n{names}</svg>",
        LEFT - 12.0,
        RIGHT + 12.0
    )
}

/// Names on both sides, ports of one pod under its name.
fn labels(left: &BTreeMap<(&str, &str), End>, right: &BTreeMap<(&str, &str), End>) -> String {
    let mut text = String::new();
    for ((name, _), end) in left {
        let (x, y) = (LEFT - 12.0, end.middle());
        text.push_str(&label(name, x, y, "end"));
        text.push_str(&post(LEFT - 4.0, end));
    }
    let mut named = BTreeSet::new();
    for ((name, port), end) in right {
        let y = end.middle();
        text.push_str(&post(RIGHT + 4.0, end));
        let port = escape(port);
        text.push_str(&format!(
            "<text class=\"port\" x=\"{:.0}\" y=\"{:.1}\">{port}</text>\n",
            RIGHT + 12.0,
            y + 4.0
        ));
        if named.insert(*name) {
            let of_pod = right.iter().filter(|((other, _), _)| other == name);
            let (top, low) = of_pod.fold((f64::MAX, 0.0_f64), |(top, low), (_, end)| {
                (top.min(end.middle()), low.max(end.middle()))
            });
            text.push_str(&label(name, RIGHT + 82.0, (top + low) / 2.0, "start"));
        }
    }
    text
}

fn label(name: &str, x: f64, y: f64, anchor: &str) -> String {
    let (space, own, whole) = (escape(namespace(name)), escape(short(name)), escape(name));
    format!(
        "<text class=\"name\" data-name=\"{whole}\" x=\"{x:.0}\" y=\"{:.1}\" text-anchor=\"{anchor}\"><title>{whole}</title><tspan class=\"own\">{own}</tspan><tspan class=\"space\" dx=\"6\">{space}</tspan></text>\n",
        y + 4.0
    )
}

/// What threads are tied to.
fn post(x: f64, end: &End) -> String {
    let (top, low) = (end.top - 5.0, end.top + THREAD * (end.threads as f64 - 1.0) + 5.0);
    format!("<line class=\"post\" x1=\"{x:.0}\" y1=\"{top:.1}\" x2=\"{x:.0}\" y2=\"{low:.1}\"/>")
}

fn thread(flow: &Flow, y0: f64, y1: f64) -> String {
    let middle = (LEFT + RIGHT) / 2.0;
    let way =
        format!("M{LEFT:.0} {y0:.1}C{middle:.0} {y0:.1} {middle:.0} {y1:.1} {RIGHT:.0} {y1:.1}");
    let (mark, dash) = match (flow.verdict, flow.side) {
        (Verdict::Allowed, _) => (String::new(), String::new()),
        (Verdict::Denied, side) => {
            let at = if side == Some(Side::Egress) { CUT } else { 1.0 - CUT };
            let (x, y) = on_curve(at, y0, y1);
            let cross =
                format!("<path class=\"cut\" d=\"M{:.1} {:.1}l7 7m0 -7l-7 7\"/>", x - 3.5, y - 3.5);
            // The way is 100 long to itself: up to the cut it is drawn, after it hinted at.
            let drawn = at * 100.0;
            (
                cross,
                format!(
                    " pathLength=\"100\" stroke-dasharray=\"{drawn:.0} 2 1 2 1 2 1 2 1 2 1 200\""
                ),
            )
        }
    };
    let width = 1.4 + (flow.count.max(1) as f64).log10() * 0.9;
    let tell = escape(&told(flow));
    let (from, to) = (escape(&flow.from), escape(&flow.to));
    format!(
        "<g class=\"thread\" data-from=\"{from}\" data-to=\"{to}\" data-tell=\"{tell}\"><title>{tell}</title><path class=\"hit\" d=\"{way}\"/><path class=\"way\" d=\"{way}\" stroke-width=\"{width:.1}\"{dash}/>{mark}</g>\n"
    )
}

/// A place on a thread's curve.
fn on_curve(t: f64, y0: f64, y1: f64) -> (f64, f64) {
    let middle = (LEFT + RIGHT) / 2.0;
    let bezier = |a: f64, b: f64, c: f64, d: f64| {
        let u = 1.0 - t;
        u * u * u * a + 3.0 * u * u * t * b + 3.0 * u * t * t * c + t * t * t * d
    };
    (bezier(LEFT, middle, middle, RIGHT), bezier(y0, y0, y1, y1))
}

/// A flow on a line.
fn told(flow: &Flow) -> String {
    let word = match flow.verdict {
        Verdict::Allowed => "allowed",
        Verdict::Denied => "denied",
    };
    let times = if flow.count == 1 { String::new() } else { format!(", {} times", flow.count) };
    let why = if flow.why.is_empty() { String::new() } else { format!(": {}", flow.why) };
    format!("{} → {} {} {word}{times}{why}", flow.from, flow.to, flow.port)
}

fn table(flows: &[Flow]) -> String {
    let row = |flow: &Flow| {
        let (class, word) = match flow.verdict {
            Verdict::Allowed => ("all", "allowed"),
            Verdict::Denied => ("none", "denied"),
        };
        let [from, to, port, why] =
            [&flow.from, &flow.to, &flow.port, &flow.why].map(|it| escape(it));
        format!(
            "<tr><td>{from}</td><td>{to}</td><td>{port}</td><td class=\"{class}\">{word}</td><td class=\"number\">{}</td><td>{why}</td></tr>\n",
            flow.count
        )
    };
    let rows: String = flows.iter().map(row).collect();
    format!(
        "<table class=\"list\"><thead><tr><th scope=\"col\">from</th><th scope=\"col\">to</th><th scope=\"col\">port</th><th scope=\"col\">verdict</th><th scope=\"col\">flows</th><th scope=\"col\">by</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}
