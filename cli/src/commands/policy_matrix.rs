//! `weft policy matrix`: who reaches whom, computed from manifests by the verdict code of the kernel.

use crate::{
    commands::policy_offline::{Cluster, Endpoint, Judge, SideRow, verdict},
    grid::{Grid, Row},
    output::{self, Outcome, note, say},
    port::Port,
};
use std::{
    collections::BTreeSet,
    io::{self, Write},
};

/// Who reaches whom, computed: every ordered pair of pods, nodes and named outsiders; manifests need no root and no agent.
///
/// Example: weft policy matrix -f docs/examples/shop.yaml --external internet=8.8.8.8 -o json
#[derive(clap::Args)]
pub(crate) struct Matrix {
    #[command(flatten)]
    cluster: Cluster,
    /// Ports to ask about, PROTOCOL/PORT or ICMP/TYPE, several with commas or spaces; by default those that the
    /// destination declares, and for nodes and outsiders those that any pod declares.
    #[arg(long = "port", num_args = 1.., value_delimiter = ',', value_name = "PROTO/PORT")]
    ports: Vec<Port>,
    /// How to print.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Grid)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Grid,
    /// For programs.
    Json,
}

/// A row with both ends' answers.
#[derive(serde::Serialize)]
pub(crate) struct MatrixRow {
    #[serde(flatten)]
    pub(crate) row: Row,
    pub(crate) egress: SideRow,
    pub(crate) ingress: SideRow,
}

/// Computes and prints. A thousand pods have millions of rows, so none is kept.
pub(crate) fn run(command: &Matrix) -> anyhow::Result<Outcome> {
    let judge = command.cluster.judge()?;
    let (asked, declared) = (command.ports.iter().copied().collect(), judge.declared());
    let mut count = 0_usize;
    let rows = rows(&judge, &asked, &declared).inspect(|_| count += 1);
    match command.output {
        Format::Json => {
            output::stream(|out| json(out, rows))?;
        }
        Format::Grid => {
            let mut grid = Grid::default();
            rows.for_each(|row| grid.add(&row.row));
            say(&grid.render(output::width()))?;
        }
    }
    if count == 0 {
        note!("no rows: fewer than two endpoints, or no pod declares a port (say --port TCP/80)");
    }
    Ok(Outcome::Done)
}

fn json(out: &mut dyn Write, rows: impl Iterator<Item = MatrixRow>) -> io::Result<()> {
    out.write_all(b"{\"rows\":[")?;
    for (number, row) in rows.enumerate() {
        if number > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, &row)?;
    }
    out.write_all(b"]}\n")
}

/// Each row as it is asked for: every source, every other destination, every port of that.
fn rows<'a>(
    judge: &'a Judge,
    asked: &'a BTreeSet<Port>,
    declared: &'a BTreeSet<Port>,
) -> impl Iterator<Item = MatrixRow> + 'a {
    let ports = |to: &'a Endpoint| match (asked.is_empty(), judge.cluster.pod_at(to.address)) {
        (false, _) => asked,
        (true, Some(_)) => &to.ports,
        (true, None) => declared,
    };
    let all = judge.endpoints.iter().map(|to| (to, ports(to)));
    let called: Vec<(&Endpoint, &BTreeSet<Port>)> =
        all.filter(|(_, ports)| !ports.is_empty()).collect();
    let pairs = judge.endpoints.iter().flat_map(move |from| {
        let others = called.clone().into_iter().filter(|(to, _)| to.name != from.name);
        others.map(move |(to, ports)| (from, to, ports))
    });
    pairs.flat_map(move |(from, to, ports)| {
        ports.iter().map(move |port| row(judge, from, to, *port))
    })
}

/// One row.
pub(crate) fn row(judge: &Judge, from: &Endpoint, to: &Endpoint, port: Port) -> MatrixRow {
    let answer = judge.ask(from.address, to.address, port);
    MatrixRow {
        row: Row {
            from: from.name.clone(),
            to: to.name.clone(),
            protocol: port.protocol().to_owned(),
            port: port.number,
            verdict: verdict(answer.allowed()).to_owned(),
        },
        egress: (&answer.egress).into(),
        ingress: (&answer.ingress).into(),
    }
}
