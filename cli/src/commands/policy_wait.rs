//! `weft policy wait`: is this policy enforced, everywhere?

use crate::{
    output::{Outcome, say},
    target::{Target, wait_at},
};
use anyhow::Context;
use serde_json::json;
use std::time::Duration;
use weft_api::operator::NodeProgress;
use weft_types::Revision;

/// What `weft policy wait` can be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The revision to wait for, GENERATION.INDEX; the newest by default.
    #[arg(long, value_parser = revision)]
    revision: Option<Revision>,
    /// How long: a number with ms, s or m.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// `json` prints the answer as an object.
    #[arg(short, long, value_parser = ["json"])]
    output: Option<String>,
}

/// Exit 1 when a node does not hold the revision in time; it is named.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let node = arguments.target.node();
    let everywhere = node.map_or("every node".to_owned(), |node| format!("node {node}"));
    let operators = arguments.target.operators()?;
    let names: Vec<&str> = operators.iter().map(|operator| operator.name.as_str()).collect();
    let waited = wait_at(&operators, arguments.revision, node, arguments.timeout)
        .with_context(|| format!("ask {} whether policies are enforced", names.join(", ")))?;
    if arguments.output.is_some() {
        let behind = waited.behind.iter().map(|node| {
            let held = node.acknowledged.map(|revision| revision.to_string());
            let NodeProgress { node, connected, problem, .. } = node;
            json!({"node": node, "acknowledged": held, "connected": connected, "problem": problem})
        });
        let behind: Vec<_> = behind.collect();
        let revision = waited.revision.to_string();
        let answer = json!({"revision": revision, "enforced": waited.enforced, "behind": behind});
        say(&format!("{}\n", serde_json::to_string_pretty(&answer)?))?;
        return Ok(if waited.enforced { Outcome::Done } else { Outcome::No });
    }
    if waited.enforced {
        say(&format!("revision {} is enforced on {everywhere}\n", waited.revision))?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("revision {} is not enforced on {everywhere}:\n", waited.revision);
    for node in waited.behind {
        let holds = node.acknowledged.map_or_else(|| "nothing yet".to_owned(), |r| r.to_string());
        let session = if node.connected { "connected" } else { "its agent is not connected" };
        text.push_str(&format!("  {}: holds {holds}; {session}\n", node.node));
        node.problem.iter().for_each(|problem| text.push_str(&format!("    {problem}\n")));
    }
    say(&text)?;
    Ok(Outcome::No)
}

fn revision(text: &str) -> Result<Revision, String> {
    text.parse().map_err(|_| "a revision is GENERATION.INDEX, as 1.42".to_owned())
}

/// A number with `ms`, `s` or `m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        _ => return Err(format!("{unit:?} is no unit of time: use ms, s or m, as in 30s")),
    };
    let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
    millis.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is no time, as 30s is"))
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "1h", "-1s", "99999999999999999999s", "18446744073709551615m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
