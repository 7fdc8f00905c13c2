//! `weft cluster`: the operators' group, who is of it and who leads it.

use crate::{
    output::{self, Format, Outcome, note, say},
    target::{Server, Target, ask, ask_any},
};
use anyhow::{Result, bail};
use serde::Serialize;
use std::{collections::BTreeSet, time::Duration};
use weft_api::operator::{Answer, Cluster, MemberChange, Request, peer_place};

/// What a change of the group may take: it is in most members' logs then.
const WORK: Duration = Duration::from_secs(10);

/// Subcommands of `weft cluster`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every operator: what it is, how far its log is, what its store says; exit 1 when nobody leads, one does not answer, or they are of several groups.
    ///
    /// Example: weft cluster status -o json
    Status(Arguments),
    /// Who is of the operators' group.
    #[command(subcommand)]
    Member(Member),
    /// Have another operator lead: before its machine is taken down, say.
    ///
    /// Example: weft cluster transfer --to 2
    Transfer {
        #[command(flatten)]
        target: Target,
        /// Its number; whoever's log is furthest when absent.
        #[arg(long, value_name = "NUMBER")]
        to: Option<u64>,
    },
}

/// Subcommands of `weft cluster member`.
#[derive(clap::Subcommand)]
pub(crate) enum Member {
    /// The members, as the leader knows them.
    ///
    /// Example: weft cluster member list -o json
    List(Arguments),
    /// Add an operator, which gets the log and does not vote yet. Then start it with --member NUMBER --join.
    ///
    /// Example: weft cluster member add 4 10.0.0.4:4901
    Add {
        #[command(flatten)]
        target: Target,
        /// Its number, which no member ever had.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        number: u64,
        /// Where its peers reach it (its --peer-address).
        #[arg(value_name = "HOST:PORT", value_parser = peer_place)]
        address: String,
    },
    /// Have a member vote that has the log by now.
    ///
    /// Example: weft cluster member promote 4
    Promote(Numbered),
    /// Take a member out, as one whose disk is lost.
    ///
    /// Example: weft cluster member remove 1
    Remove(Numbered),
}

/// Whom a listing asks and for whom it is.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// For people or for programs.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// A member.
#[derive(clap::Args)]
pub(crate) struct Numbered {
    #[command(flatten)]
    target: Target,
    /// Its number.
    number: u64,
}

/// Runs one.
pub(crate) fn run(command: Command) -> Result<Outcome> {
    match command {
        Command::Status(arguments) => status(&arguments),
        Command::Member(Member::List(arguments)) => list(&arguments),
        Command::Member(Member::Add { target, number: member, address }) => {
            change(&target, MemberChange::Add { member, address })
        }
        Command::Member(Member::Promote(Numbered { target, number: member })) => {
            change(&target, MemberChange::Promote { member })
        }
        Command::Member(Member::Remove(Numbered { target, number: member })) => {
            change(&target, MemberChange::Remove { member })
        }
        Command::Transfer { target, to } => {
            done(&target, &Request::Transfer { to })?;
            note!("another operator was asked to lead; `weft cluster status` shows when it does");
            Ok(Outcome::Done)
        }
    }
}

/// An operator in `weft cluster status`.
#[derive(Serialize)]
struct Row {
    operator: String,
    #[serde(flatten)]
    cluster: Option<Cluster>,
    problem: Option<String>,
}

impl Row {
    fn new(operator: String, seen: Result<Cluster>) -> Self {
        match seen {
            Ok(cluster) => Self { operator, cluster: Some(cluster), problem: None },
            Err(error) => Self { operator, cluster: None, problem: Some(format!("{error:#}")) },
        }
    }
}

fn status(arguments: &Arguments) -> Result<Outcome> {
    let servers = arguments.target.operators()?;
    let rows = servers.iter().map(|server| Row::new(server.name.clone(), seen(server, None)));
    let mut rows: Vec<Row> = rows.collect();
    rows.extend(elsewhere(&servers, &rows));
    let seen: Vec<&Cluster> = rows.iter().filter_map(|row| row.cluster.as_ref()).collect();
    let leader = seen.iter().find(|seen| seen.role == "leader");
    let headings = [
        "OPERATOR",
        "MEMBER",
        "ROLE",
        "TERM",
        "REVISION",
        "LAST",
        "COMMITTED",
        "LAG",
        "AGENTS",
        "STORE",
    ];
    output::rows(arguments.output, headings, &rows, |row| cells(row, leader.copied()))?;
    // Whoever has the newest revision knows the nodes best.
    let knowing = leader.copied().or(seen.iter().copied().max_by_key(|seen| seen.revision));
    if let (Format::Table, Some(knowing)) = (arguments.output, knowing) {
        say("\n")?;
        agents(knowing)?;
    }
    if let (Format::Table, Some(held)) = (arguments.output, held_back(leader.copied())) {
        say(&format!("\n{held}\n"))?;
    }
    let apart = apart(&seen);
    if let Some(why) = &apart {
        note!("{why}");
    }
    let led = seen.iter().any(|seen| seen.serving);
    let well = seen.len() == rows.len() && led && apart.is_none();
    Ok(if well { Outcome::Done } else { Outcome::No })
}

/// Members whose sockets are not here, as the first of those that are hears them.
fn elsewhere(servers: &[Server], rows: &[Row]) -> Vec<Row> {
    let here: Vec<(&Server, &Cluster)> =
        servers.iter().zip(rows).filter_map(|(s, row)| Some((s, row.cluster.as_ref()?))).collect();
    // In a lab all are here, and one that does not answer has its row.
    let Some((server, knowing)) = here.first().filter(|_| here.len() == servers.len()) else {
        return Vec::new();
    };
    let known: BTreeSet<u64> = here.iter().map(|(_, seen)| seen.member).collect();
    let others = knowing.members.iter().filter(|member| !known.contains(&member.member));
    others
        .map(|member| Row::new(member.address.clone(), seen(server, Some(member.member))))
        .collect()
}

/// Which operator each node's agent is connected to, and what its kernel holds.
fn agents(knowing: &Cluster) -> Result<()> {
    let headings = ["NODE", "OPERATOR", "REVISION", "PROBLEM"];
    output::columns(headings, &knowing.agents, |node| {
        [
            node.node.clone(),
            node.operator.map_or_else(|| "none".to_owned(), |member| member.to_string()),
            node.acknowledged.map(|revision| revision.to_string()).unwrap_or_default(),
            node.problem.clone().unwrap_or_default(),
        ]
    })?;
    Ok(())
}

/// What is said of identities whose numbers are not free for nodes' sake.
fn held_back(leader: Option<&Cluster>) -> Option<String> {
    let held = leader?.held_back.as_ref().filter(|held| held.numbers > 0)?;
    let mut said = format!("unused identities that are not free: {}", held.numbers);
    if !held.operators.is_empty() {
        let operators: Vec<String> =
            held.operators.iter().map(|member| format!("member {member}")).collect();
        said += &format!(
            "\n  operators that have not heard of it: {} (remove one that never returns: weft cluster member remove)",
            operators.join(", ")
        );
    }
    if !held.by.is_empty() {
        said += &format!(
            "\n  nodes that may have them still: {} (they say when their agents return; delete the Node of one that never will)",
            held.by.join(", ")
        );
    }
    Some(said)
}

/// Why operators are not of one group, if so.
fn apart(seen: &[&Cluster]) -> Option<String> {
    let lives: BTreeSet<u16> = seen.iter().map(|seen| seen.revision.generation()).collect();
    let numbers: Vec<String> = lives.iter().map(u16::to_string).collect();
    (lives.len() > 1).then(|| {
        format!(
            "operators are of several groups, those of generations {}: stop those of older ones, and start them as new members of the newest",
            numbers.join(", ")
        )
    })
}

fn cells(row: &Row, leader: Option<&Cluster>) -> [String; 10] {
    let Some(seen) = &row.cluster else {
        let problem = row.problem.clone().unwrap_or_default();
        let mut cells = [const { String::new() }; 10];
        [cells[0], cells[2], cells[9]] = [row.operator.clone(), "away".to_owned(), problem];
        return cells;
    };
    let me = seen.member;
    let of = |group: &Cluster| group.members.iter().find(|member| member.member == me).cloned();
    let lag = leader.and_then(|leader| Some(leader.last.saturating_sub(of(leader)?.matched?)));
    [
        row.operator.clone(),
        seen.member.to_string(),
        seen.role.clone(),
        seen.term.to_string(),
        seen.revision.to_string(),
        seen.last.to_string(),
        seen.committed.to_string(),
        lag.map(|lag| lag.to_string()).unwrap_or_default(),
        of(seen).map(|member| member.agents.to_string()).unwrap_or_default(),
        match &seen.store_problem {
            Some(problem) => problem.clone(),
            // Who has begun to lead has not read it yet.
            None if seen.role == "leader" && !seen.serving => String::new(),
            None => "ok".to_owned(),
        },
    ]
}

/// A member in `weft cluster member list`.
#[derive(Serialize)]
struct MemberRow {
    member: u64,
    address: String,
    role: &'static str,
    leads: bool,
    /// Entries that it is not known to have.
    lag: Option<u64>,
}

fn list(arguments: &Arguments) -> Result<Outcome> {
    let seen = as_leader(&arguments.target)?;
    let rows: Vec<MemberRow> = seen
        .members
        .iter()
        .map(|member| MemberRow {
            member: member.member,
            address: member.address.clone(),
            role: if member.voter { "voter" } else { "learner" },
            leads: seen.leader == Some(member.member),
            lag: member.matched.map(|matched| seen.last.saturating_sub(matched)),
        })
        .collect();
    output::rows(arguments.output, ["MEMBER", "ADDRESS", "ROLE", "LEADS", "LAG"], &rows, |row| {
        [
            row.member.to_string(),
            row.address.clone(),
            row.role.to_owned(),
            if row.leads { "yes" } else { "" }.to_owned(),
            row.lag.map(|lag| lag.to_string()).unwrap_or_default(),
        ]
    })
}

fn done(target: &Target, request: &Request) -> Result<()> {
    match ask_any(&target.operators()?, WORK, |_| request.clone())? {
        Answer::Done => Ok(()),
        other => bail!("an operator answered {other:?}; is it of another version?"),
    }
}

fn change(target: &Target, change: MemberChange) -> Result<Outcome> {
    done(target, &Request::Member(change))?;
    Ok(Outcome::Done)
}

/// How one operator sees the group, or a member that it asks.
fn seen(server: &Server, of: Option<u64>) -> Result<Cluster> {
    cluster(ask(server, Request::Cluster { of }, Duration::ZERO)?)
}

fn cluster(answer: Answer) -> Result<Cluster> {
    match answer {
        Answer::Cluster(cluster) => Ok(cluster),
        other => bail!("an operator answered {other:?}; is it of another version?"),
    }
}

/// How the group is seen by who leads it.
fn as_leader(target: &Target) -> Result<Cluster> {
    let operators = target.operators()?;
    let of = |of| cluster(ask_any(&operators, Duration::ZERO, |_| Request::Cluster { of })?);
    let seen = of(None)?;
    match seen.leader {
        Some(leader) if leader != seen.member => of(Some(leader)),
        Some(_) => Ok(seen),
        None => bail!(
            "find the operator that leads: nobody does now; `weft cluster status` shows who is there"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_api::operator::HeldBack;
    use weft_types::Revision;

    fn of(generation: u16, index: u64) -> Cluster {
        Cluster {
            cluster: "blue".to_owned(),
            member: index,
            role: "leader".to_owned(),
            leader: None,
            term: 2,
            revision: Revision::new(generation, index),
            last: index,
            committed: index,
            serving: true,
            store_problem: None,
            held_back: None,
            agents: vec![],
            members: vec![],
        }
    }

    #[test]
    fn who_holds_numbers_back_is_named_with_what_to_do() {
        let said = |by: &[&str], operators: &[u64]| {
            let by = by.iter().map(|&node| node.to_owned()).collect();
            let held = HeldBack { numbers: 7, by, operators: operators.to_vec() };
            held_back(Some(&Cluster { held_back: Some(held), ..of(1, 1) })).unwrap_or_default()
        };
        let begun = "unused identities that are not free: 7";
        let nodes = "\n  nodes that may have them still: node4, node9 (they say when their agents return; delete the Node of one that never will)";
        let operators = "\n  operators that have not heard of it: member 2, member 3 (remove one that never returns: weft cluster member remove)";
        assert_eq!(said(&["node4", "node9"], &[]), format!("{begun}{nodes}"));
        assert_eq!(said(&[], &[2, 3]), format!("{begun}{operators}"));
        assert_eq!(said(&["node4", "node9"], &[2, 3]), format!("{begun}{operators}{nodes}"));
        assert_eq!(held_back(Some(&of(1, 1))), None);
    }

    #[test]
    fn operators_of_two_foundings_are_told_apart_and_those_at_two_revisions_are_not() {
        let (one, behind, other) = (of(1, 16), of(1, 12), of(2, 2));
        assert_eq!(apart(&[&one, &behind]), None);
        let why = apart(&[&one, &other]).unwrap_or_default();
        assert!(why.contains("generations 1, 2"), "{why}");
    }
}
