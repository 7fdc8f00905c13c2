//! Figures of rounds, and what they say of each other. Pure.

use serde::Serialize;

/// A figure of many rounds: its median and its quartiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Half of the rounds were below.
    pub(crate) median: f64,
    /// A quarter of the rounds were below.
    pub(crate) low: f64,
    /// A quarter of the rounds were above.
    pub(crate) high: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one round.
    pub(crate) fn of(rounds: &[f64]) -> Option<Self> {
        let sorted = sorted(rounds);
        Some(Self {
            median: at(&sorted, 0.5)?,
            low: at(&sorted, 0.25)?,
            high: at(&sorted, 0.75)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

/// A value with the quartiles of what single rounds say of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Reading {
    /// From the medians of all rounds.
    pub(crate) value: f64,
    /// Lower quartile of the rounds.
    pub(crate) low: f64,
    /// Upper quartile of the rounds.
    pub(crate) high: f64,
}

impl Reading {
    /// A figure for itself.
    pub(crate) fn alone(rounds: &[f64]) -> Option<Self> {
        Spread::of(rounds).map(|s| Self { value: s.median, low: s.low, high: s.high })
    }

    /// Whether the medians say what single rounds say; a machine that changes its pace midway parts them.
    pub(crate) fn is_of_one_mind(self) -> bool {
        let slack = 1e-9 * self.value.abs();
        (self.low - slack..=self.high + slack).contains(&self.value)
    }

    /// How many times the baseline the subject is: the ratio of the medians, with the quartiles of the
    /// ratios of rounds that were measured next to each other.
    pub(crate) fn ratio(subject: &[f64], baseline: &[f64]) -> Option<Self> {
        Self::pairwise(subject, baseline, |s, b| s / b).filter(|r| r.value.is_finite())
    }

    /// How much more than the baseline the subject is; less is negative.
    pub(crate) fn excess(subject: &[f64], baseline: &[f64]) -> Option<Self> {
        Self::pairwise(subject, baseline, |s, b| s - b)
    }

    fn pairwise(subject: &[f64], baseline: &[f64], relate: fn(f64, f64) -> f64) -> Option<Self> {
        let medians = (Spread::of(subject)?.median, Spread::of(baseline)?.median);
        let pairs: Vec<f64> = subject.iter().zip(baseline).map(|(s, b)| relate(*s, *b)).collect();
        let spread = Spread::of(&pairs)?;
        Some(Self { value: relate(medians.0, medians.1), low: spread.low, high: spread.high })
    }
}

/// The value that this share of them does not exceed, between neighbours by proportion.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    at(&sorted(values), share)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between zero and the length"
)]
fn at(sorted: &[f64], share: f64) -> Option<f64> {
    let place = sorted.len().checked_sub(1)? as f64 * share.clamp(0.0, 1.0);
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 0.5), Some(2.5));
        assert_eq!(quantile(&values, 0.75), Some(3.25));
        assert_eq!(quantile(&values, 7.0), Some(4.0));
        assert_eq!(quantile(&[9.0], 0.3), Some(9.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn one_wild_round_moves_no_median() {
        let spread = Spread::of(&[10.0, 11.0, 12.0, 13.0, 900.0]).unwrap();
        assert_eq!((spread.median, spread.low, spread.high), (12.0, 11.0, 13.0));
        assert_eq!((spread.min, spread.max), (10.0, 900.0));
    }

    #[test]
    fn a_ratio_pairs_the_rounds_that_were_neighbours() {
        // The machine slowed down by half in between; each pair says 1.1.
        let (subject, baseline) = ([110.0, 55.0, 110.0], [100.0, 50.0, 100.0]);
        let ratio = Reading::ratio(&subject, &baseline).unwrap();
        for number in [ratio.value, ratio.low, ratio.high] {
            assert!((number - 1.1).abs() < 1e-9, "{ratio:?}");
        }
    }

    #[test]
    fn medians_that_met_another_machine_are_noticed() {
        // Each pair but one says the same; the machine doubled its pace between the arms' medians.
        let (subject, baseline) = ([1.0, 1.0, 2.0, 2.0, 2.0], [1.0, 1.0, 1.0, 2.0, 2.0]);
        let torn = Reading::ratio(&subject, &baseline).unwrap();
        assert_eq!((torn.value, torn.low, torn.high), (2.0, 1.0, 1.0));
        assert!(!torn.is_of_one_mind());
        assert!(Reading::alone(&[3.0]).unwrap().is_of_one_mind());
    }

    #[test]
    fn less_than_the_baseline_stays_less() {
        let below = Reading::ratio(&[80.0, 90.0], &[100.0, 100.0]).unwrap();
        assert!(below.value < 1.0 && below.low < 1.0, "{below:?}");
        let below = Reading::excess(&[30.0, 31.0], &[34.0, 34.0]).unwrap();
        assert_eq!((below.value, below.low), (-3.5, -3.75));
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Reading::ratio(&[1.0], &[]), None);
        assert_eq!(Reading::ratio(&[1.0], &[0.0]), None);
    }
}
