//! The table as text and as JSON. Pure.

use crate::{
    environment::Environment,
    row::{Relation, Row, Side, Target, Unit, Verdict},
    stats::Reading,
};
use serde::Serialize;

/// Version of the JSON: fields may be added under it, none changed or removed.
pub(crate) const SCHEMA: u32 = 1;

/// All that a run says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// Version of Weft.
    pub(crate) version: String,
    /// Seconds since 1970 when it began.
    pub(crate) begun: u64,
    /// Whether it was a trial: `--quick`, few rounds, or a build that is not optimised.
    pub(crate) trial: bool,
    /// How much was measured.
    pub(crate) scale: Scale,
    /// The machine.
    pub(crate) environment: Environment,
    /// The table.
    pub(crate) rows: Vec<Row>,
}

/// How much was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Scale {
    /// Rounds of each comparison.
    pub(crate) rounds: usize,
    /// How long a round of load takes.
    pub(crate) round_milliseconds: u128,
    /// Pods on the lab's first node.
    pub(crate) pods: usize,
    /// Rules that match nobody's packets.
    pub(crate) other_rules: usize,
    /// Entries of a map that is synchronised.
    pub(crate) entries: usize,
    /// Flows that rotate.
    pub(crate) flows: usize,
}

impl Scale {
    fn lines(self) -> String {
        let Self { rounds, pods, other_rules, entries, flows, .. } = self;
        format!(
            "{rounds} interleaved rounds; medians, in brackets the quartiles of single rounds\n\
             {pods} pods on a node, {other_rules} other rules; maps of {entries} entries, {flows} rotating flows\n\n"
        )
    }
}

impl Report {
    /// The table for people.
    pub(crate) fn text(&self) -> String {
        let headings = ["MEASUREMENT", "WEFT", "BASELINE", "RESULT", "TARGET", "WORKED"];
        let mut lines = vec![headings.map(str::to_owned)];
        lines.extend(self.rows.iter().map(cells));
        let mut text = format!("{}\n", self.environment.line());
        text += &self.scale.lines();
        if self.trial {
            text += "A TRIAL RUN: the figures below are not to be believed.\n\n";
        }
        let width = |column: usize| {
            lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max()
        };
        for line in &lines {
            let padded = line.iter().enumerate().map(|(column, cell)| {
                format!("{cell:<width$}", width = width(column).unwrap_or_default())
            });
            text += padded.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text.push('\n');
        for row in &self.rows {
            text += &format!("{}: {}", row.name, row.function.shown);
            row.remarks.iter().for_each(|remark| text += &format!("; {remark}"));
            text.push('\n');
        }
        text
    }
}

fn cells(row: &Row) -> [String; 6] {
    let figure = |side: &Option<Side>| {
        side.as_ref().map(|side| amount(side.spread.median, row.unit)).unwrap_or_default()
    };
    let baseline = match &row.baseline {
        Some(side) => format!("{} {}", figure(&row.baseline), side.name),
        None => String::new(),
    };
    let broken = row.verdict == Verdict::Broken;
    let result = match row.result.filter(|_| !broken) {
        Some(result) => reading(result, row),
        None => "FAIL".to_owned(),
    };
    let verdict = match row.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
        Verdict::Unjudged => "not judged",
        Verdict::Measured | Verdict::Broken => "",
    };
    let target = row.target.map(|t| format!("{} {verdict}", wanted(t, row))).unwrap_or_default();
    let worked = if row.function.ok { "yes" } else { "NO" };
    [
        row.title.clone(),
        figure(&row.subject),
        baseline,
        result,
        target.trim_end().to_owned(),
        worked.to_owned(),
    ]
}

fn wanted(target: Target, row: &Row) -> String {
    let (sign, value) = match target {
        Target::AtLeast(value) => (">=", value),
        Target::AtMost(value) => ("<=", value),
    };
    match row.relation {
        Relation::Ratio | Relation::Floor => format!("{sign} {value:.2}x"),
        Relation::Excess | Relation::Alone => format!("{sign} {}", amount(value, row.unit)),
    }
}

fn reading(result: Reading, row: &Row) -> String {
    let (Reading { value, low, high }, unit) = (result, row.unit);
    let (value, digits) = match row.relation {
        Relation::Ratio | Relation::Floor => (format!("{value:.3}x"), 3),
        Relation::Excess => (format!("{:+}", Shown(value, unit)), 0),
        Relation::Alone => (amount(value, unit), if unit == Unit::PercentOfCpu { 2 } else { 1 }),
    };
    // A figure of all rounds together has no quartiles.
    if row.subject.as_ref().is_some_and(|side| side.rounds.len() == 1) {
        return value;
    }
    match row.relation {
        Relation::Excess => format!("{value} [{low:+.digits$} {high:+.digits$}]"),
        Relation::Ratio | Relation::Floor | Relation::Alone => {
            format!("{value} [{low:.digits$} {high:.digits$}]")
        }
    }
}

/// An amount that shows its sign when asked with `+`.
struct Shown(f64, Unit);

impl std::fmt::Display for Shown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if out.sign_plus() && self.0 >= 0.0 { "+" } else { "" };
        write!(out, "{sign}{}", amount(self.0, self.1))
    }
}

fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond if value >= 1000.0 => format!("{:.1}k/s", value / 1000.0),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::GigabitsPerSecond => format!("{value:.1} Gb/s"),
        Unit::Nanoseconds => format!("{value:.0} ns"),
        Unit::Milliseconds => format!("{value:.2} ms"),
        Unit::Mebibytes => format!("{value:.1} MiB"),
        Unit::Kibibytes => format!("{value:.1} KiB"),
        Unit::PercentOfCpu => format!("{value:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Check, Conditions, Plan};

    const RATE: Plan = Plan {
        name: "rr",
        title: "TCP requests",
        unit: Unit::PerSecond,
        relation: Relation::Ratio,
        baseline: "bare route",
        target: Some(Target::AtLeast(1.03)),
    };
    const COST: Plan = Plan {
        name: "cost",
        title: "a packet",
        unit: Unit::Nanoseconds,
        relation: Relation::Excess,
        baseline: "empty program",
        target: None,
    };

    fn report() -> Report {
        let said = |plan: Plan, subject: &[f64], baseline: &[f64]| {
            plan.row(subject, baseline, Check::passed("42 echoed"), Conditions::default())
        };
        Report {
            schema: SCHEMA,
            version: "1.2.3".to_owned(),
            begun: 7,
            trial: false,
            scale: Scale {
                rounds: 2,
                round_milliseconds: 5,
                pods: 3,
                other_rules: 4,
                entries: 6,
                flows: 7,
            },
            environment: Environment::read(),
            rows: vec![
                said(RATE, &[66_000.0, 66_000.0], &[60_000.0, 60_000.0]),
                said(COST, &[30.0, 30.0], &[34.0, 34.0]),
                RATE.broken("no lab"),
            ],
        }
    }

    #[test]
    fn the_table_says_figures_ratio_target_and_function() {
        let text = report().text();
        let line = |with: &str| text.lines().find(|line| line.contains(with)).unwrap().to_owned();
        let rr = line("60.0k/s bare route");
        for part in ["66.0k/s", "1.100x [1.100 1.100]", ">= 1.03x met", "yes"] {
            assert!(rr.contains(part), "{part} is missing: {rr}");
        }
        assert!(line("a packet").contains("-4 ns [-4 -4]"), "{text}");
        assert!(text.contains("FAIL") && text.contains("no lab"), "{text}");
    }

    #[test]
    fn the_json_keeps_its_fields() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["schema"], 1);
        assert!(json["environment"]["kernel"].is_string());
        let row = &json["rows"][0];
        assert_eq!(row["name"], "rr");
        assert_eq!(row["unit"], "per_second");
        assert_eq!(row["relation"], "ratio");
        assert_eq!(row["subject"]["median"], 66_000.0);
        assert_eq!(row["baseline"]["rounds"][1], 60_000.0);
        assert_eq!(row["result"]["low"], 1.1);
        assert_eq!(row["target"]["at_least"], 1.03);
        assert_eq!(row["verdict"], "met");
        assert_eq!(row["function"]["ok"], true);
        assert_eq!(json["rows"][1]["target"], serde_json::Value::Null);
        assert_eq!(json["rows"][2]["verdict"], "broken");
    }
}
