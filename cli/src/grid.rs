//! The connectivity matrix as a grid for people.

use std::collections::{BTreeMap, BTreeSet};

/// One probed or computed pair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(crate) struct Row {
    /// `namespace/pod`.
    pub(crate) from: String,
    /// `namespace/pod`.
    pub(crate) to: String,
    /// `TCP`, `UDP`.
    pub(crate) protocol: String,
    /// Destination port.
    pub(crate) port: u16,
    /// `allowed` or `denied`.
    pub(crate) verdict: String,
}

/// Sources down, destinations across by number, one cell a pair: `+` all probed ports, `.` none, `~` some.
pub(crate) fn render(rows: &[Row]) -> String {
    let names: BTreeSet<&str> =
        rows.iter().flat_map(|row| [row.from.as_str(), row.to.as_str()]).collect();
    let mut cells: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for row in rows {
        let (allowed, all) = cells.entry((&row.from, &row.to)).or_default();
        *allowed += usize::from(row.verdict == "allowed");
        *all += 1;
    }
    let width = names.iter().map(|name| name.len()).max().unwrap_or_default();
    let mut text = format!("{:>3} {:width$} ", "", "from \\ to");
    for number in 1..=names.len() {
        text.push_str(&format!("{number:>3}"));
    }
    for (number, from) in (1..).zip(&names) {
        text.push_str(&format!("\n{number:>3} {from:width$} "));
        for to in &names {
            let cell = match cells.get(&(*from, *to)) {
                None => " ",
                Some((allowed, all)) if allowed == all => "+",
                Some((0, _)) => ".",
                Some(_) => "~",
            };
            text.push_str(&format!("{cell:>3}"));
        }
    }
    text.push_str("\n\n+ allowed   . denied   ~ some ports\n");
    text
}
