//! `weft policy matrix`: who reaches whom, computed from manifests by the verdict code of the kernel.

use crate::{
    commands::policy_offline::{Cluster, Judge, SideRow, verdict},
    grid::{self, Row},
    output::{self, Outcome, note, say},
    port::Port,
};
use std::collections::BTreeSet;

/// Who reaches whom: every ordered pair of pods, nodes and named outsiders; needs no root and no agent.
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

/// Computes and prints.
pub(crate) fn run(command: &Matrix) -> anyhow::Result<Outcome> {
    let judge = command.cluster.judge()?;
    let rows = rows(&judge, &command.ports);
    if rows.is_empty() {
        note!("no rows: fewer than two endpoints, or no pod declares a port (say --port TCP/80)");
    }
    let text = match command.output {
        Format::Json => format!("{}\n", serde_json::json!({ "rows": rows })),
        Format::Grid => {
            let rows: Vec<Row> = rows.into_iter().map(|row| row.row).collect();
            grid::render(&rows, output::width())
        }
    };
    say(&text)?;
    Ok(Outcome::Done)
}

fn rows(judge: &Judge, ports: &[Port]) -> Vec<MatrixRow> {
    let declared = judge.declared();
    let asked: BTreeSet<Port> = ports.iter().copied().collect();
    let mut rows = Vec::new();
    for from in &judge.endpoints {
        for to in judge.endpoints.iter().filter(|to| to.name != from.name) {
            let is_pod = judge.cluster.pod_at(to.address).is_some();
            let ports = match (asked.is_empty(), is_pod) {
                (false, _) => &asked,
                (true, true) => &to.ports,
                (true, false) => &declared,
            };
            rows.extend(ports.iter().map(|port| row(judge, from, to, *port)));
        }
    }
    rows
}

/// One row.
pub(crate) fn row(
    judge: &Judge,
    from: &super::policy_offline::Endpoint,
    to: &super::policy_offline::Endpoint,
    port: Port,
) -> MatrixRow {
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
