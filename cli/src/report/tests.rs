//! The page of a report that is made up, and of one that means ill.

use super::*;

fn probe(from: &str, to: &str, port: &str, found: Verdict, computed: Verdict) -> Probe {
    let (from, to, port) = (from.to_owned(), to.to_owned(), port.to_owned());
    Probe { from, to, port, found, computed, why: "shop/db-from-web ingress[0]".to_owned() }
}

fn flow(from: &str, to: &str, verdict: Verdict, side: Option<Side>) -> Flow {
    let why = "isolated by shop/default-deny".to_owned();
    Flow {
        from: from.to_owned(),
        to: to.to_owned(),
        port: "TCP/80".to_owned(),
        verdict,
        side,
        count: 3,
        why,
    }
}

fn kill() -> Kill {
    let attempt =
        |at, found| Attempt { at, to: "shop/db".to_owned(), expected: Verdict::Allowed, found };
    Kill {
        from: "shop/web".to_owned(),
        to: "shop/db".to_owned(),
        port: "TCP/80".to_owned(),
        node: "node1".to_owned(),
        killed: 1000.0,
        back: 2500.0,
        end: 4000.0,
        samples: vec![(0.0, 0), (2000.0, 512_000), (4000.0, 1_024_000)],
        sent: 1_024_000,
        lost: 0,
        longest_gap: 3.2,
        attempts: vec![attempt(500.0, Verdict::Allowed), attempt(600.0, Verdict::Denied)],
    }
}

fn change() -> Change {
    let step =
        |who: &str, begun, ended| Step { who: who.to_owned(), what: "it".to_owned(), begun, ended };
    Change {
        yaml: "kind: NetworkPolicy".to_owned(),
        revision: "1.8".to_owned(),
        trace: "0af7".to_owned(),
        steps: vec![step("weft", 0.0, 0.4), step("node1", 0.4, 6.0), step("packet", 6.0, 7.5)],
    }
}

fn report() -> Report {
    let pod = |name: &str| Pod {
        name: name.to_owned(),
        node: "node1".to_owned(),
        address: "10.0.0.1".to_owned(),
    };
    use Verdict::{Allowed, Denied};
    Report {
        lab: "demo".to_owned(),
        made: "2026-07-30 12:34 UTC".to_owned(),
        version: "weft 0.1.0".to_owned(),
        nodes: vec!["node1".to_owned(), "node2".to_owned()],
        pods: ["shop/db", "shop/web", "x/y"].map(pod).to_vec(),
        policies: 2,
        probes: vec![
            probe("shop/web", "shop/db", "TCP/80", Allowed, Allowed),
            probe("shop/web", "shop/db", "TCP/81", Denied, Denied),
            probe("shop/db", "shop/web", "TCP/80", Denied, Denied),
            probe("x/y", "shop/db", "TCP/80", Denied, Allowed),
        ],
        flows: vec![
            flow("shop/web", "shop/db", Allowed, None),
            flow("shop/db", "shop/web", Denied, Some(Side::Egress)),
            flow("8.8.8.8", "shop/db", Denied, Some(Side::Ingress)),
        ],
        kill: Some(kill()),
        change: Some(change()),
    }
}

/// Whether every tag is closed, in order; the names of those that are open in the end, or of the first that is wrong.
fn unclosed(page: &str) -> Vec<String> {
    const VOID: [&str; 5] = ["meta", "input", "!doctype", "br", "hr"];
    let body = page.split("<script>").next().unwrap().to_owned() + "</body></html>";
    let (before, rest) = body.split_once("<style>").unwrap();
    let body = format!("{before}{}", rest.split_once("</style>").unwrap().1);
    let mut open: Vec<String> = Vec::new();
    for tag in body.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '!')
            .collect();
        if tag.starts_with('/') {
            match open.pop() {
                Some(last) if last == name => {}
                last => return vec![format!("</{name}> after <{last:?}>")],
            }
        } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    open
}

#[test]
fn the_page_is_whole_and_alone() {
    let page = render(&report());
    assert_eq!(unclosed(&page), Vec::<String>::new());
    for section in ["id=\"reach\"", "id=\"flows\"", "id=\"kill\"", "id=\"way\""] {
        assert!(page.contains(section), "{section}");
    }
    // Nothing is fetched: no address but those of the lab, and no element that would fetch one.
    for outside in ["http:", "https:", "//", "url(", "@import", "<link", "<img", "src="] {
        let found = page.find(outside).map(|at| &page[at.saturating_sub(60)..at + 20]);
        let comment = found.is_some_and(|found| found.contains("// "));
        assert!(found.is_none() || comment, "{outside}: {found:?}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf\""), "a figure is none");
}

#[test]
fn what_was_found_is_told_in_words_and_what_is_odd_stands_out() {
    let page = render(&report());
    for told in [
        "web reaches on some ports db\nTCP/80 allowed: shop/db-from-web ingress[0]\nTCP/81 denied",
        "Not as the policies say:",
        "TCP/80 denied, though allowed is what the policies say",
        "<b class=\"bad\">3/4</b>",
        "shop/web → shop/db TCP/80 allowed, 3 times: isolated by shop/default-deny",
        "8.8.8.8 → shop/db",
        "<b class=\"good\">0 bytes</b> were lost",
        "<b class=\"bad\">1</b> came to something else",
        "7.5\u{a0}ms after it was read",
    ] {
        assert!(page.contains(told), "{told:?} is not in {page}");
    }
    let right = Report { probes: report().probes[..3].to_vec(), ..report() };
    assert!(!render(&right).contains("Not as the policies say"), "nothing is odd");
}

#[test]
fn a_denied_thread_is_cut_at_the_end_whose_policy_cut_it() {
    let cut = |side| {
        let picture = flow_map::picture(&[flow("a/b", "c/d", Verdict::Denied, Some(side))]);
        let (_, cut) = picture.split_once("class=\"cut\" d=\"M").unwrap();
        cut.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(cut(Side::Egress) < 400.0 && cut(Side::Ingress) > 560.0);
    let allowed = flow_map::picture(&[flow("a/b", "c/d", Verdict::Allowed, None)]);
    assert!(!allowed.contains("class=\"cut\""), "{allowed}");
}

#[test]
fn of_too_many_flows_the_allowed_are_drawn_and_all_are_told() {
    let many = (0..200).map(|n| {
        let verdict = if n % 4 == 0 { Verdict::Allowed } else { Verdict::Denied };
        flow(&format!("a/p{n}"), "c/d", verdict, None)
    });
    let page = render(&Report { flows: many.collect(), ..report() });
    assert_eq!(page.matches("class=\"thread\"").count(), 120);
    let (allowed, _) = page.split_once("<g class=\"allowed\">").unwrap();
    assert_eq!(
        allowed.matches("class=\"thread\"").count(),
        120 - 50,
        "denied ones are drawn first, below"
    );
    assert!(page.contains("The same, and 80 more, as a table") && page.contains("<td>a/p199</td>"));
}

#[test]
fn an_empty_lab_has_a_page_too() {
    let empty = Report {
        pods: Vec::new(),
        probes: Vec::new(),
        flows: Vec::new(),
        kill: None,
        change: None,
        ..report()
    };
    let page = render(&empty);
    assert_eq!(unclosed(&page), Vec::<String>::new());
    assert!(!page.contains("id=\"kill\"") && !page.contains("NaN"), "{page}");
    let (no_samples, no_steps) = (
        Kill { samples: Vec::new(), attempts: Vec::new(), end: 0.0, ..kill() },
        Change { steps: Vec::new(), ..change() },
    );
    let page = render(&Report { kill: Some(no_samples), change: Some(no_steps), ..empty });
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}

#[test]
fn no_name_breaks_out_of_its_place() {
    let ill = "</style></script><script>alert(1)</script><b x='\"/y\u{1b}";
    let mut report = report();
    report.lab = ill.to_owned();
    report.pods[0].name = ill.to_owned();
    for probe in &mut report.probes {
        (probe.from, probe.why, probe.port) = (ill.to_owned(), ill.to_owned(), ill.to_owned());
    }
    for flow in &mut report.flows {
        (flow.from, flow.to, flow.port, flow.why) =
            (ill.to_owned(), ill.to_owned(), ill.to_owned(), ill.to_owned());
    }
    let (kill, change) = (report.kill.as_mut().unwrap(), report.change.as_mut().unwrap());
    (kill.from, kill.node, kill.attempts[0].to) = (ill.to_owned(), ill.to_owned(), ill.to_owned());
    (change.yaml, change.trace, change.revision) = (ill.to_owned(), ill.to_owned(), ill.to_owned());
    change.steps[0].what = ill.to_owned();
    change.steps[1].who = ill.to_owned();
    let page = render(&report);
    assert_eq!(unclosed(&page), Vec::<String>::new());
    assert_eq!(page.matches("<script>").count(), 1);
    assert!(!page.contains("alert(1)</"), "unescaped");
}
