//! `weft policy explain`: one connection, which rule decided it, and why.

use crate::{
    commands::{
        policy_matrix,
        policy_offline::{Cluster, Endpoint, Judge, Origin, Whom, question, verdict},
        policy_words as words,
    },
    output::{Outcome, say},
    port::Port,
};
use weft_core::policy::offline::{Answer, Side};
use weft_types::policy::Direction;

/// One connection: which rule decided, and why.
///
/// Example: weft policy explain -f docs/examples/shop.yaml --from shop/frontend-0 --to shop/cart-0 --port TCP/8080
///
/// Of what is in force now: weft policy explain --lab lab --from shop/frontend-0 --to shop/cart-0 --port TCP/8080
#[derive(clap::Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    cluster: Cluster,
    /// Who opens it: namespace/pod, node:NAME, ext:NAME, an address or a CIDR.
    #[arg(long, value_name = "WHO")]
    from: String,
    /// Who is called: the same.
    #[arg(long, value_name = "WHO")]
    to: String,
    /// Which port, PROTOCOL/PORT or ICMP/TYPE.
    #[arg(long, value_name = "PROTO/PORT")]
    port: Port,
    /// `json` prints the rows that `policy matrix` would.
    #[arg(short = 'o', long = "output", value_parser = ["json"])]
    output: Option<String>,
}

/// Explains.
pub(crate) fn run(command: &Explain) -> anyhow::Result<Outcome> {
    let judge = command.cluster.judge()?;
    let from = endpoints(&judge, &judge.find(&command.from)?);
    let to = endpoints(&judge, &judge.find(&command.to)?);
    let pairs: Vec<(&Endpoint, &Endpoint)> =
        from.iter().flat_map(|from| to.iter().map(move |to| (from, to))).collect();
    if command.output.is_some() {
        let row = |(from, to): &(&Endpoint, &Endpoint)| {
            policy_matrix::row(&judge, from, to, command.port)
        };
        let rows: Vec<_> = pairs.iter().map(row).collect();
        say(&format!("{}\n", serde_json::json!({ "rows": rows })))?;
        return Ok(Outcome::Done);
    }
    let texts: Vec<String> =
        pairs.into_iter().map(|(from, to)| explain(&judge, from, to, command.port)).collect();
    say(&texts.join("\n"))?;
    Ok(Outcome::Done)
}

/// One of each kind of address that policies may tell apart.
fn endpoints(judge: &Judge, whom: &Whom) -> Vec<Endpoint> {
    match whom {
        Whom::One(endpoint) => vec![endpoint.clone()],
        Whom::Block(block) => judge
            .cluster
            .kinds_within(*block)
            .into_iter()
            .map(|(prefix, address)| match judge.at(address) {
                Whom::One(endpoint) if prefix.prefix_len() == 32 => endpoint,
                _ => Endpoint {
                    name: prefix.to_string(),
                    address,
                    origin: Origin::Given,
                    ports: Default::default(),
                },
            })
            .collect(),
    }
}

fn explain(judge: &Judge, from: &Endpoint, to: &Endpoint, port: Port) -> String {
    let answer = judge.ask(from.address, to.address, port);
    let mut text = format!(
        "{} -> {}, {port}: {}\n",
        words::endpoint(from),
        words::endpoint(to),
        verdict(answer.allowed())
    );
    let Answer { egress, ingress } = &answer;
    for (direction, side, own) in
        [(Direction::Egress, egress, from), (Direction::Ingress, ingress, to)]
    {
        text.push_str(&format!("  {direction} of {}: {}\n", own.name, why(side, own)));
        for line in details(judge, side, direction, &question(from.address, to.address, port)) {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

/// A side's answer in a sentence.
fn why(side: &Side, own: &Endpoint) -> String {
    match side {
        Side::NoPod => "allowed: it is no pod, so policies say nothing of it".to_owned(),
        Side::Itself => "allowed: a pod always reaches itself".to_owned(),
        Side::OwnNode => "allowed: a pod's own node always reaches it".to_owned(),
        Side::Open => format!("allowed: no policy isolates {} in this direction", own.name),
        Side::Allowed(rules) => {
            let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
            format!("allowed by {}", rules.join(" and "))
        }
        Side::Isolated(policies) => {
            let policies: Vec<String> = policies.iter().map(ToString::to_string).collect();
            format!("denied: isolated by {}, and no rule allows it", policies.join(", "))
        }
        Side::Dropped(reason) => format!("dropped: {}", reason.text()),
    }
}

/// The rules that decided, or why each rule that might have does not.
fn details(
    judge: &Judge,
    side: &Side,
    direction: Direction,
    question: &weft_core::policy::offline::Question,
) -> Vec<String> {
    let allowed = match side {
        Side::Allowed(rules) => rules.as_slice(),
        Side::Isolated(_) => &[],
        Side::NoPod | Side::Itself | Side::OwnNode | Side::Open | Side::Dropped(_) => {
            return Vec::new();
        }
    };
    let policies: Vec<_> = judge.cluster.engine().policies().collect();
    judge
        .cluster
        .matches(question, direction)
        .into_iter()
        .filter(|found| allowed.is_empty() || allowed.contains(&found.rule))
        .filter_map(|found| {
            let policy = policies.iter().find(|policy| policy.id == found.rule.policy)?;
            let rule = words::rule(policy, &found.rule)?;
            let but = match (found.peer, found.port) {
                (true, true) => "",
                (true, false) => ", but not this port",
                (false, true) => ", but not this peer",
                (false, false) => ", but neither this peer nor this port",
            };
            Some(format!("{}: allows {rule}{but}", found.rule))
        })
        .collect()
}
