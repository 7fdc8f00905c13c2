//! Who reaches whom, as a table: a row a source, a column a destination, a cell a pair.

use super::{
    Probe, Report, Verdict,
    markup::{count, escape},
    namespace, short,
};
use std::collections::BTreeMap;

/// What was found of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    All,
    Some,
    None,
    /// Nothing was tried.
    Empty,
}

impl Cell {
    fn of(probes: &[&Probe]) -> Self {
        let allowed = probes.iter().filter(|probe| probe.found == Verdict::Allowed).count();
        match (allowed, probes.len()) {
            (_, 0) => Self::Empty,
            (0, _) => Self::None,
            (allowed, all) if allowed == all => Self::All,
            _ => Self::Some,
        }
    }

    /// Class, sign and word: colour alone tells nothing to some.
    fn look(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::All => ("all", "✓", "reaches"),
            Self::Some => ("some", "◐", "reaches on some ports"),
            Self::None => ("none", "✕", "does not reach"),
            Self::Empty => ("empty", "", "was not tried"),
        }
    }
}

pub(super) fn section(report: &Report) -> String {
    let mut pairs: BTreeMap<(&str, &str), Vec<&Probe>> = BTreeMap::new();
    for probe in &report.probes {
        pairs.entry((&probe.from, &probe.to)).or_default().push(probe);
    }
    let names: Vec<&str> = report.pods.iter().map(|pod| pod.name.as_str()).collect();
    let heads: String = names.iter().map(|name| head(name)).collect();
    let rows: String = names.iter().map(|from| row(from, &names, &pairs)).collect();
    format!(
        r#"<section id="reach" aria-labelledby="reach-h"><h2 id="reach-h">Who reaches whom</h2>
<p>{}. Each was tried with a real connection between real network namespaces, and beside it stands what the policies say.</p>
<div class="beside"><div class="scroll" tabindex="0" role="region" aria-label="Connectivity grid"><table class="grid"><caption class="hidden">Rows open connections, columns answer them</caption>
<thead><tr><td class="corner"><span>from</span><span>to</span></td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>
<div><p class="legend"><span><i class="all">✓</i> every port</span><span><i class="some">◐</i> some ports</span><span><i class="none">✕</i> none</span></p>
<p class="tell" aria-live="polite" data-idle="Point at a cell, or tab to it, for the ports and the rules.">Point at a cell, or tab to it, for the ports and the rules.</p></div></div>{}</section>
"#,
        summary(report),
        odd(report)
    )
}

fn summary(report: &Report) -> String {
    let allowed = report.probes.iter().filter(|probe| probe.found == Verdict::Allowed).count();
    let all = report.probes.len();
    format!("{}: {allowed} answered, {} did not", count(all, "connection"), all - allowed)
}

/// What was found and is not what the policies say.
fn odd(report: &Report) -> String {
    let odd = report.probes.iter().filter(|probe| probe.found != probe.computed);
    let lines: String = odd.map(|probe| format!("<li>{}</li>", escape(&told(probe)))).collect();
    if lines.is_empty() {
        lines
    } else {
        format!("<div class=\"alarm\"><p>Not as the policies say:</p><ul>{lines}</ul></div>")
    }
}

fn head(name: &str) -> String {
    let (space, name) = (escape(namespace(name)), escape(short(name)));
    format!("<th scope=\"col\"><span><b>{name}</b> <small>{space}</small></span></th>")
}

fn row(from: &str, names: &[&str], pairs: &BTreeMap<(&str, &str), Vec<&Probe>>) -> String {
    let cells: String = names
        .iter()
        .map(|to| match pairs.get(&(from, *to)) {
            _ if *to == from => "<td class=\"self\"></td>".to_owned(),
            probes => cell(from, to, probes.map_or(&[][..], Vec::as_slice)),
        })
        .collect();
    let (space, name) = (escape(namespace(from)), escape(short(from)));
    format!("<tr><th scope=\"row\"><b>{name}</b> <small>{space}</small></th>{cells}</tr>\n")
}

fn cell(from: &str, to: &str, probes: &[&Probe]) -> String {
    let found = Cell::of(probes);
    let (class, sign, word) = found.look();
    let odd = if probes.iter().any(|probe| probe.found != probe.computed) { " odd" } else { "" };
    let ports: Vec<String> = probes.iter().map(|probe| told(probe)).collect();
    let tell = escape(&format!("{} {word} {}\n{}", short(from), short(to), ports.join("\n")));
    format!(
        "<td class=\"{class}{odd}\" tabindex=\"0\" data-tell=\"{tell}\" title=\"{tell}\"><span aria-hidden=\"true\">{sign}</span><span class=\"hidden\">{tell}</span></td>"
    )
}

/// A probe on a line.
fn told(probe: &Probe) -> String {
    let word = |verdict| match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Denied => "denied",
    };
    let found = word(probe.found);
    let odd = match probe.found == probe.computed {
        true => String::new(),
        false => format!(", though {} is what the policies say", word(probe.computed)),
    };
    format!("{} {found}{odd}: {}", probe.port, probe.why)
}
