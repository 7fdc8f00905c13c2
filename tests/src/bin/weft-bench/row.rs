//! A row of the table: what was measured, against what, whether it worked, and what follows. Pure.

use crate::stats::{Reading, Spread};
use serde::Serialize;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Transactions a second.
    PerSecond,
    /// Gigabits a second.
    GigabitsPerSecond,
    /// Nanoseconds.
    Nanoseconds,
    /// Milliseconds.
    Milliseconds,
    /// Mebibytes.
    Mebibytes,
    /// Kibibytes.
    Kibibytes,
    /// Hundredths of one CPU.
    PercentOfCpu,
}

/// How the subject is read against its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Relation {
    /// Subject ÷ baseline, a rival: either may be ahead.
    Ratio,
    /// Subject ÷ baseline, the least that it can take.
    Floor,
    /// Subject − baseline, the least that it can take.
    Excess,
    /// The subject's figure itself.
    Alone,
}

/// What the result should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    /// The quartile that lies on the wrong side has to meet it too.
    fn is_met_by(self, result: Reading) -> bool {
        match self {
            Self::AtLeast(least) => result.low >= least,
            Self::AtMost(most) => result.high <= most,
        }
    }
}

/// What is to be measured. A new row of the table is one of these and two lists of figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Its name for programs.
    pub(crate) name: &'static str,
    /// The same for people.
    pub(crate) title: &'static str,
    /// What is counted.
    pub(crate) unit: Unit,
    /// How it is read.
    pub(crate) relation: Relation,
    /// What the baseline is; empty where it stands alone.
    pub(crate) baseline: &'static str,
    /// What it should be, if anything was said.
    pub(crate) target: Option<Target>,
}

/// Whether what was measured did what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// It did.
    pub(crate) ok: bool,
    /// What was looked at, and what was seen.
    pub(crate) shown: String,
}

impl Check {
    /// It worked, and this shows it.
    pub(crate) fn passed(shown: impl Into<String>) -> Self {
        Self { ok: true, shown: shown.into() }
    }

    /// It did not work.
    pub(crate) fn failed(shown: impl Into<String>) -> Self {
        Self { ok: false, shown: shown.into() }
    }
}

/// What speaks against judging a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Conditions {
    /// CPUs that others used while nothing was measured.
    pub(crate) foreign_cpus: f64,
    /// Too few or too short rounds, or a build that is not optimised.
    pub(crate) is_trial: bool,
}

/// Above this many CPUs of others a row is printed and not judged.
pub(crate) const NOISE: f64 = 0.5;

impl Conditions {
    fn noise(self) -> Option<String> {
        let noisy = self.foreign_cpus > NOISE;
        noisy.then(|| format!("noisy: others used {:.1} CPUs", self.foreign_cpus))
    }
}

/// How a row ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Measured; nothing was said of what it should be.
    Measured,
    /// The target is met.
    Met,
    /// It is not.
    Missed,
    /// There is a target, but conditions speak against judging.
    Unjudged,
    /// What was measured does not work; its figures say nothing.
    Broken,
}

/// One side of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Side {
    /// What it is.
    pub(crate) name: String,
    /// Its rounds in one.
    #[serde(flatten)]
    pub(crate) spread: Spread,
    /// Each round, in the order of time.
    pub(crate) rounds: Vec<f64>,
}

impl Side {
    fn of(name: &str, rounds: &[f64]) -> Option<Self> {
        let spread = Spread::of(rounds)?;
        Some(Self { name: name.to_owned(), spread, rounds: rounds.to_vec() })
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Its name for programs.
    pub(crate) name: String,
    /// The same for people.
    pub(crate) title: String,
    /// What is counted.
    pub(crate) unit: Unit,
    /// How it is read.
    pub(crate) relation: Relation,
    /// Weft's figures; none when it was not measured.
    pub(crate) subject: Option<Side>,
    /// What it was measured against.
    pub(crate) baseline: Option<Side>,
    /// Of the relation.
    pub(crate) result: Option<Reading>,
    /// What it should be.
    pub(crate) target: Option<Target>,
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// Whether it worked.
    pub(crate) function: Check,
    /// What a reader has to know.
    pub(crate) remarks: Vec<String>,
}

impl Plan {
    /// The row of these figures.
    pub(crate) fn row(
        self,
        subject: &[f64],
        baseline: &[f64],
        function: Check,
        conditions: Conditions,
    ) -> Row {
        let result = match self.relation {
            Relation::Ratio | Relation::Floor => Reading::ratio(subject, baseline),
            Relation::Excess => Reading::excess(subject, baseline),
            Relation::Alone => Reading::alone(subject),
        };
        let torn = result.filter(|result| !result.is_of_one_mind());
        let torn = torn.map(|_| "single rounds say something else than the medians".to_owned());
        let impossible = result.and_then(|result| self.impossible(result));
        let remarks =
            [conditions.noise(), torn, impossible].into_iter().flatten().collect::<Vec<_>>();
        let verdict = match (result, self.target) {
            (None, _) => Verdict::Broken,
            _ if !function.ok => Verdict::Broken,
            (Some(_), None) => Verdict::Measured,
            (Some(_), Some(_)) if conditions.is_trial || !remarks.is_empty() => Verdict::Unjudged,
            (Some(result), Some(target)) if target.is_met_by(result) => Verdict::Met,
            (Some(_), Some(_)) => Verdict::Missed,
        };
        Row {
            name: self.name.to_owned(),
            title: self.title.to_owned(),
            unit: self.unit,
            relation: self.relation,
            subject: Side::of("weft", subject),
            baseline: Side::of(self.baseline, baseline),
            result,
            target: self.target,
            verdict,
            function,
            remarks,
        }
    }

    /// The row of what could not be measured.
    pub(crate) fn broken(self, why: impl Into<String>) -> Row {
        self.row(&[], &[], Check::failed(why), Conditions::default())
    }

    /// A subject below the least that it can take: told, never hidden, never judged.
    fn impossible(self, result: Reading) -> Option<String> {
        let below = match self.relation {
            Relation::Floor => result.value < 1.0,
            Relation::Excess => result.value < 0.0,
            Relation::Ratio | Relation::Alone => false,
        };
        below.then(|| format!("{} was slower than what it is the floor of", self.baseline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        name: "rr",
        title: "requests",
        unit: Unit::PerSecond,
        relation: Relation::Ratio,
        baseline: "bare route",
        target: Some(Target::AtLeast(1.03)),
    };

    fn row(plan: Plan, subject: &[f64], baseline: &[f64]) -> Row {
        plan.row(subject, baseline, Check::passed("it did"), Conditions::default())
    }

    #[test]
    fn a_baseline_slower_than_the_subject_is_reported_as_it_is() {
        let row = row(PLAN, &[110.0, 112.0], &[100.0, 100.0]);
        assert_eq!(row.result.map(|r| r.value), Some(1.11));
        assert_eq!(row.baseline.map(|b| b.spread.median), Some(100.0));
        assert_eq!((row.verdict, row.remarks.is_empty()), (Verdict::Met, true));
    }

    #[test]
    fn a_floor_slower_than_its_subject_is_reported_and_never_judged() {
        for (relation, value) in [(Relation::Floor, 0.9), (Relation::Excess, -10.0)] {
            let plan = Plan { relation, target: Some(Target::AtMost(3.0)), ..PLAN };
            let row = row(plan, &[90.0, 90.0], &[100.0, 100.0]);
            assert_eq!(row.result.map(|r| r.value), Some(value), "neither clamped nor left out");
            assert_eq!(row.verdict, Verdict::Unjudged);
            assert_eq!(row.remarks, ["bare route was slower than what it is the floor of"]);
        }
    }

    #[test]
    fn a_subject_slower_than_the_baseline_misses() {
        let row = row(PLAN, &[90.0, 90.0], &[100.0, 100.0]);
        assert_eq!((row.verdict, row.result.map(|r| r.value)), (Verdict::Missed, Some(0.9)));
    }

    #[test]
    fn a_median_that_meets_is_not_enough() {
        let (subject, baseline) = ([90.0, 105.0, 106.0, 107.0], [100.0; 4]);
        assert_eq!(row(PLAN, &subject, &baseline).verdict, Verdict::Missed);
    }

    #[test]
    fn what_did_not_work_has_no_verdict_but_broken() {
        let failed = Check::failed("the denied one got through");
        let row = PLAN.row(&[200.0], &[100.0], failed, Conditions::default());
        assert_eq!(row.verdict, Verdict::Broken);
        assert_eq!(PLAN.broken("no lab").verdict, Verdict::Broken);
    }

    #[test]
    fn noise_is_said_and_neither_it_nor_a_trial_is_judged() {
        let noisy = Conditions { foreign_cpus: 0.8, is_trial: false };
        let trial = Conditions { foreign_cpus: 0.4, is_trial: true };
        for (conditions, remarks) in [(noisy, 1), (trial, 0)] {
            let row = PLAN.row(&[200.0], &[100.0], Check::passed(""), conditions);
            assert_eq!((row.verdict, row.remarks.len()), (Verdict::Unjudged, remarks));
            let plan = Plan { target: None, ..PLAN };
            let row = plan.row(&[200.0], &[100.0], Check::passed(""), conditions);
            assert_eq!((row.verdict, row.remarks.len()), (Verdict::Measured, remarks));
        }
    }
}
