//! `weft lab report`: what the lab's other commands find, as a page that people would rather look at than read.

mod facts;
mod page;

use super::{
    desired, interrupt, node, probe,
    record::{self, Held, Lab},
    start, stream,
};
use crate::{
    commands::{
        flow_source::{News, Source, Until, now_ns},
        policy_offline::{Judge, judge_lab},
    },
    grid::Row,
    output::{Outcome, note},
    port::Port,
    report::{self, Attempt, Change, Kill, Pod, Probe, Report, Step, Verdict},
    target::{Server, ask},
};
use anyhow::{Context, Result, anyhow, bail};
use page::Page;
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, mpsc::channel},
    thread,
    time::{Duration, Instant},
};
use weft_api::agent::{Answer, Request};
use weft_core::policy::offline;
use weft_hubble::{flow::Flow, time};
use weft_process::{trace, version};
use weft_types::{Object, Revision};

/// An agent is killed so long after the stream began, started again so long after that, and the stream goes on so long.
const BEFORE: Duration = Duration::from_millis(1200);
const AWAY: Duration = Duration::from_millis(1200);
const WHOLE: Duration = Duration::from_millis(4500);
/// How often a new connection is tried meanwhile, and how long each may take.
const EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long nodes may take to enforce the policy of the report.
const ENFORCED: Duration = Duration::from_secs(10);

/// Write a lab's connectivity, flows, an agent's death and a policy's way as one HTML page
///
/// It kills an agent and starts it again, and adds a policy and takes it away, all under an open stream; --look-only leaves both out.
///
/// Example: weft lab report -o report.html
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Where the page goes.
    #[arg(short, long, value_name = "FILE", default_value = "weft-report.html", value_hint = clap::ValueHint::FilePath)]
    output: PathBuf,
    /// Kill nothing and change nothing.
    #[arg(long)]
    look_only: bool,
    #[command(flatten)]
    lab: node::Which,
}

/// Looks, tries, and writes the page.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let lab = record::find(arguments.lab.name.as_deref())?;
    let page = Page::open(&arguments.output)?;
    interrupt::watch()?;
    let judge = judge_lab(&lab)?;
    note!("trying every pair of {} pods", lab.pods.len());
    let rows = probe::all(&lab, &BTreeSet::new())?;
    let flows = flows(&lab)?;
    let (mut kill, mut change) = (None, None);
    if !arguments.look_only {
        match course(&lab, &judge, &rows) {
            Some(chosen) => {
                interrupt::check()?;
                kill = Some(killed(&lab, &chosen)?);
                interrupt::check()?;
                change = changed(&lab, &judge, &chosen)?;
            }
            None => {
                note!("no pod reaches another by TCP: no agent is killed and no policy is tried")
            }
        }
    }
    let report = Report {
        lab: lab.name.clone(),
        made: made(now_ns()),
        version: format!("weft {}", version::short()),
        nodes: lab.nodes.iter().map(|node| node.name.clone()).collect(),
        pods: pods(&lab),
        policies: desired::objects(&lab)?
            .iter()
            .filter(|it| matches!(it, Object::Policy(_)))
            .count(),
        probes: rows.iter().map(|row| judged(&judge, &lab, row)).collect::<Result<_>>()?,
        flows: facts::flows(&flows, &lab.pods.iter().map(|pod| (&*pod.name, &*pod.node)).collect()),
        kill,
        change,
    };
    page.write(&report::render(&report))?;
    note!("written: {}", arguments.output.display());
    Ok(Outcome::Done)
}

/// `2026-07-30 12:34 UTC`.
fn made(now_ns: u64) -> String {
    let text = time::rfc3339(now_ns).replace('T', " ");
    format!("{} UTC", text.get(..16).unwrap_or_default())
}

fn pods(lab: &Lab) -> Vec<Pod> {
    let pod = |pod: &record::Pod| Pod {
        name: pod.name.clone(),
        node: pod.node.clone(),
        address: pod.address.map(|address| address.to_string()).unwrap_or_default(),
    };
    let mut pods: Vec<Pod> = lab.pods.iter().map(pod).collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    pods
}

/// All flows that the nodes still have.
fn flows(lab: &Lab) -> Result<Vec<Arc<Flow>>> {
    let (tell, news) = channel();
    for node in &lab.nodes {
        Source::new(Server::agent(lab, node), Until::End).run(&tell);
    }
    drop(tell);
    let mut flows = Vec::new();
    for told in news {
        match told {
            News::Flow(flow) => flows.push(flow),
            News::Ended(ended) => ended?,
            News::Lost(..) | News::Interrupted => {}
        }
    }
    Ok(flows)
}

/// What policies say of a row, beside what was found.
fn judged(judge: &Judge, lab: &Lab, row: &Row) -> Result<Probe> {
    let answer = answer(judge, lab, row)?;
    let found = if row.verdict == "allowed" { Verdict::Allowed } else { Verdict::Denied };
    let computed = if answer.allowed() { Verdict::Allowed } else { Verdict::Denied };
    let why = facts::why(&answer);
    let (from, to) = (row.from.clone(), row.to.clone());
    Ok(Probe { from, to, port: port_of(row), found, computed, why })
}

fn port_of(row: &Row) -> String {
    format!("{}/{}", row.protocol, row.port)
}

fn answer(judge: &Judge, lab: &Lab, row: &Row) -> Result<offline::Answer> {
    let address = |name: &str| -> Result<_> {
        lab.pod(name)?.address.with_context(|| format!("{name} has no address yet"))
    };
    let port: Port = port_of(row).parse().map_err(|error: String| anyhow!(error))?;
    Ok(judge.ask(address(&row.from)?, address(&row.to)?, port))
}

/// What is tried while an agent is away.
struct Course {
    /// A connection that is allowed, across nodes where there is one.
    open: Row,
    /// One of the same pod that is not.
    shut: Option<Row>,
}

/// The first that a policy on the opener's side could shut, else any.
fn course(lab: &Lab, judge: &Judge, rows: &[Row]) -> Option<Course> {
    let node = |name: &str| lab.pod(name).ok().map(|pod| &pod.node);
    let apart = |row: &&Row| node(&row.from) != node(&row.to);
    let open = |row: &&Row| {
        answer(judge, lab, row).is_ok_and(|answer| answer.egress == offline::Side::Open)
    };
    let guarded = |row: &&Row| {
        let ingress = answer(judge, lab, row).map(|answer| answer.ingress);
        matches!(ingress, Ok(offline::Side::Allowed(_)))
    };
    let served = |row: &&Row| lab.pod(&row.to).is_ok_and(|pod| pod.command.is_empty());
    let candidates = rows.iter().filter(|row| row.verdict == "allowed" && row.protocol == "TCP");
    let candidates: Vec<&Row> = candidates.filter(served).collect();
    let most = |row: &&&Row| (open(row), apart(row), guarded(row));
    // Of equals the first.
    let chosen = candidates.iter().rev().max_by_key(most)?;
    let shut = rows.iter().find(|row| row.verdict == "denied" && row.from == chosen.from);
    Some(Course { open: (*chosen).clone(), shut: shut.cloned() })
}

/// Kills the agent of the opener's node under a stream, and starts it again.
fn killed(lab: &Lab, course: &Course) -> Result<Kill> {
    let Row { from, to, port, .. } = &course.open;
    let name = lab.pod(from)?.node.clone();
    note!("killing the agent of {name} under a stream from {from} to {to}");
    let rows: Vec<Row> =
        [Some(&course.open), course.shut.as_ref()].into_iter().flatten().cloned().collect();
    let times = u32::try_from((WHOLE - EVERY).as_millis() / EVERY.as_millis())?;
    thread::scope(|scope| {
        let streaming = scope.spawn(|| stream::course(lab, (from, to, *port), WHOLE, ENFORCED));
        let trying = scope.spawn(|| probe::repeatedly(lab, &rows, (EVERY, times, PATIENCE)));
        let away = away(lab, &name);
        let (streamed, tries) = (joined(streaming)?, joined(trying)?);
        let (killed, back) = away?;
        let since = |at: Instant| {
            at.saturating_duration_since(streamed.begun.into_std()).as_secs_f64() * 1000.0
        };
        let samples = streamed.back.iter().map(|(at, back)| (since(at.into_std()), *back));
        let attempts = tries.iter().filter_map(|(at, tried, reached)| {
            let row = rows.get(*at)?;
            let verdict = |allowed: bool| if allowed { Verdict::Allowed } else { Verdict::Denied };
            let (expected, found) = (verdict(row.verdict == "allowed"), verdict(*reached));
            let to = format!("{}:{}", row.to, row.port);
            Some(Attempt { at: since(tried.into_std()), to, expected, found })
        });
        Ok(Kill {
            from: from.clone(),
            to: to.clone(),
            port: port_of(&course.open),
            node: name,
            killed: since(killed),
            back: since(back),
            end: WHOLE.as_secs_f64() * 1000.0,
            samples: facts::thinned(&samples.collect::<Vec<_>>(), WHOLE),
            sent: streamed.sent,
            lost: streamed.lost,
            longest_gap: streamed.longest_gap.as_secs_f64() * 1000.0,
            attempts: attempts.collect(),
        })
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a part of the report panicked"))?
}

/// When a node's agent was killed, and when it served again.
fn away(lab: &Lab, node: &str) -> Result<(Instant, Instant)> {
    thread::sleep(BEFORE);
    let mut lab = Held::of(Some(&lab.name))?;
    node::kill(lab.node(node)?.process, &format!("the agent of {node}"))?;
    let killed = Instant::now();
    thread::sleep(AWAY);
    start::agents(&mut lab, &[node.to_owned()])?;
    Ok((killed, Instant::now()))
}

/// Shuts the stream's pod in by a policy, follows that to the first packet, and takes the policy away again.
fn changed(lab: &Lab, judge: &Judge, course: &Course) -> Result<Option<Change>> {
    let from = &course.open.from;
    let known = desired::objects(lab)?;
    let labels = known.iter().find_map(|object| match object {
        Object::Pod(pod) if pod.name.to_string() == *from => Some(pod.labels.clone()),
        _ => None,
    });
    let labels = labels.unwrap_or_default();
    if answer(judge, lab, &course.open)?.egress != offline::Side::Open || labels.is_empty() {
        note!(
            "no policy can shut {from} in that does not concern others or is there: none is tried"
        );
        return Ok(None);
    }
    let yaml = facts::policy(from, &labels);
    note!("shutting {from} in by a policy, for a moment");
    let tried = tried(lab, course, &yaml);
    let gone = read(lab, &yaml).and_then(|objects| desired::remove(lab, objects));
    gone.and_then(|_| desired::wait(lab)).context("take the policy of the report away")?;
    tried.map(Some)
}

fn read(lab: &Lab, yaml: &str) -> Result<Vec<Object>> {
    let mut manifests = weft_manifests::parse("the policy of the report", yaml)
        .map_err(|errors| anyhow!("read the policy of the report: {errors:?}"))?;
    desired::keep_known_namespaces(&mut manifests, &desired::objects(lab)?);
    Ok(manifests.objects)
}

/// The policy on its way, with a stream that it stops.
fn tried(lab: &Lab, course: &Course, yaml: &str) -> Result<Change> {
    let Row { from, to, port, .. } = &course.open;
    thread::scope(|scope| {
        let streaming = scope.spawn(|| stream::course(lab, (from, to, *port), WHOLE, BEFORE));
        thread::sleep(BEFORE / 2);
        let (begun, trace) = (now_ns(), trace::current());
        let step = |who: &str, what: String, from: u64, until: u64| {
            let since = |at: u64| at.saturating_sub(begun) as f64 / 1e6;
            Step { who: who.to_owned(), what, begun: since(from), ended: since(until) }
        };
        let objects = read(lab, yaml)?;
        let understood = now_ns();
        let revision = desired::submit(lab, objects)?;
        let committed = now_ns();
        let nodes: Vec<_> = lab
            .nodes
            .iter()
            .map(|node| scope.spawn(move || realised(lab, node, revision)))
            .collect();
        desired::wait(lab)?;
        let enforced = now_ns();
        let mut steps = vec![
            step("weft", "the YAML is read and checked".to_owned(), begun, understood),
            step(
                "operator",
                "the entry is in the log, durable and committed".to_owned(),
                understood,
                committed,
            ),
        ];
        let mut held = u64::MAX;
        for (node, realised) in lab.nodes.iter().zip(nodes) {
            let (epoch, at) = joined(realised)?;
            held = held.min(at);
            let what = format!("its kernel's maps hold the policy, from epoch {epoch} on");
            steps.push(step(&node.name, what, committed.min(at), at));
        }
        steps.push(step(
            "weft",
            "policy wait returns: enforced on every node".to_owned(),
            committed,
            enforced,
        ));
        joined(streaming)?;
        let packet = flows(lab)?
            .into_iter()
            .filter_map(|flow| facts::stopped(&flow, (from, to), understood));
        if let Some((at, what)) = packet.min() {
            steps.push(step("packet", what, held.min(at), at));
        }
        steps.sort_by(|a, b| a.ended.total_cmp(&b.ended));
        let trace = trace.map(|trace| format!("{:032x}", trace.trace_id)).unwrap_or_default();
        Ok(Change { yaml: yaml.to_owned(), revision: revision.to_string(), trace, steps })
    })
}

/// When a node's kernel held a revision, and in which epoch: its agent is asked until it says so.
fn realised(lab: &Lab, node: &record::Node, revision: Revision) -> Result<(u64, u64)> {
    let (agent, until) = (Server::agent(lab, node), Instant::now() + ENFORCED);
    while Instant::now() < until {
        let Answer::Status(status) = ask(&agent, Request::Status, Duration::ZERO)? else {
            bail!("ask {} for its status: it answered something else", node.name)
        };
        if status.realised.parse::<Revision>().is_ok_and(|realised| realised >= revision) {
            return Ok((status.epoch, now_ns()));
        }
        thread::sleep(Duration::from_micros(200));
    }
    bail!("{} does not hold revision {revision} after {} s", node.name, ENFORCED.as_secs())
}
