//! `weft policy list`: the policies that agents hold.

use crate::{commands::listing::Listing, output::Outcome};
use std::collections::BTreeMap;
use weft_api::agent::{Answer, PolicyRow, Request};

/// The policies that agents hold, and how many endpoints each is about.
///
/// Example: weft policy list --node node1 -o json
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    listing: Listing,
}

/// Asks and merges: one row a policy, the endpoints of all nodes counted together.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let listing = &arguments.listing;
    let all = listing.ask(&Request::Policies, "list the policies", |answer| match answer {
        Answer::Policies(rows) => Some(rows),
        _ => None,
    })?;
    let mut merged = BTreeMap::new();
    all.into_iter().for_each(|row| merge(&mut merged, row));
    let rows: Vec<PolicyRow> = merged.into_values().collect();
    let count = |rules: Option<usize>| rules.map_or_else(|| "open".to_owned(), |n| n.to_string());
    let headings = ["POLICY", "KIND", "INGRESS RULES", "EGRESS RULES", "ENDPOINTS"];
    listing.print(headings, &rows, |row| {
        [
            row.name.clone(),
            row.kind.clone(),
            count(row.ingress_rules),
            count(row.egress_rules),
            row.endpoints.to_string(),
        ]
    })
}

/// Agents hold the same policies, each for its own endpoints.
fn merge(merged: &mut BTreeMap<(String, String), PolicyRow>, row: PolicyRow) {
    let key = (row.kind.clone(), row.name.clone());
    match merged.get_mut(&key) {
        Some(known) => known.endpoints += row.endpoints,
        None => {
            merged.insert(key, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_all_nodes_are_counted_together() {
        let row = |name: &str, endpoints| PolicyRow {
            name: name.to_owned(),
            kind: "NetworkPolicy".to_owned(),
            ingress_rules: Some(1),
            egress_rules: None,
            endpoints,
        };
        let mut merged = BTreeMap::new();
        for row in [row("shop/a", 2), row("shop/b", 1), row("shop/a", 3)] {
            merge(&mut merged, row);
        }
        let counts: Vec<_> = merged.values().map(|r| (r.name.as_str(), r.endpoints)).collect();
        assert_eq!(counts, [("shop/a", 5), ("shop/b", 1)]);
    }
}
