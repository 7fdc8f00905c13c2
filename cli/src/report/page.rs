//! The page: what stands above, between and below the sections.

use super::{
    Report, Verdict, flow_map, grid, kill,
    markup::{count, escape, grouped, milliseconds},
    timeline,
};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The whole page.
pub(crate) fn render(report: &Report) -> String {
    let lab = escape(&report.lab);
    let sections = [
        grid::section(report),
        flow_map::section(report),
        report.kill.as_ref().map(kill::section).unwrap_or_default(),
        report.change.as_ref().map(timeline::section).unwrap_or_default(),
    ];
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Lab {lab} · Weft</title><style>
{STYLE}</style></head><body>
<header>{WEAVE}<p class="brand">Weft</p><h1>Lab {lab}</h1><p class="sub">{}</p>{}</header>
<main>
{}</main>
<footer><p>Made {} by <code>weft lab report</code>, {}.</p>{}</footer>
<script>
{SCRIPT}</script></body></html>
"#,
        made_of(report),
        tiles(report),
        sections.concat(),
        escape(&report.made),
        escape(&report.version),
        pods(report)
    )
}

/// Threads that cross: the mark of the page.
const WEAVE: &str = r#"<svg class="weave" viewBox="0 0 64 64" aria-hidden="true"><g class="warp"><path d="M14 4v56M32 4v56M50 4v56"/></g><g class="weft"><path d="M4 14h4M20 14h24M56 14h4M4 32h22M38 32h22M4 50h4M20 50h24M56 50h4"/></g></svg>"#;

fn made_of(report: &Report) -> String {
    [
        count(report.nodes.len(), "node"),
        count(report.pods.len(), "pod"),
        match report.policies {
            1 => "1 policy".to_owned(),
            policies => format!("{policies} policies"),
        },
    ]
    .join(" · ")
}

/// What the page comes to, at a glance.
fn tiles(report: &Report) -> String {
    let all = report.probes.len();
    let right = report.probes.iter().filter(|probe| probe.found == probe.computed).count();
    let class = if right == all { "good" } else { "bad" };
    let figure = if right == all { grouped(&all.to_string()) } else { format!("{right}/{all}") };
    let mut tiles = vec![tile(
        &figure,
        class,
        "connections tried, and what came of them is what the policies say",
    )];
    let denied = report.probes.iter().filter(|probe| probe.found == Verdict::Denied).count();
    tiles.push(tile(
        &grouped(&denied.to_string()),
        "",
        "of them denied, each by policies that have a name",
    ));
    if let Some(kill) = &report.kill {
        let class = if kill.lost == 0 { "good" } else { "bad" };
        let away = milliseconds(kill.back - kill.killed);
        tiles.push(tile(
            &grouped(&kill.lost.to_string()),
            class,
            &format!("bytes lost of an open stream while a node had no agent for {away}"),
        ));
    }
    if let Some(at) = report.change.as_ref().and_then(timeline::packet) {
        tiles.push(tile(
            &milliseconds(at),
            "",
            "from a policy's YAML to the first packet judged by it",
        ));
    }
    format!("<ul class=\"tiles\">{}</ul>", tiles.concat())
}

fn tile(figure: &str, class: &str, words: &str) -> String {
    format!("<li><b class=\"{class}\">{}</b><span>{}</span></li>", escape(figure), escape(words))
}

fn pods(report: &Report) -> String {
    let row = |pod: &super::Pod| {
        let [name, node, address] = [&pod.name, &pod.node, &pod.address].map(|it| escape(it));
        format!("<tr><td>{name}</td><td>{node}</td><td>{address}</td></tr>\n")
    };
    let rows: String = report.pods.iter().map(row).collect();
    format!(
        "<details><summary>{}</summary><table class=\"list\"><thead><tr><th scope=\"col\">pod</th><th scope=\"col\">node</th><th scope=\"col\">address</th></tr></thead><tbody>{rows}</tbody></table></details>",
        count(report.pods.len(), "pod")
    )
}
