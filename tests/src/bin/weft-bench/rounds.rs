//! The order of measuring: every arm once a round, a different one first each time, so that what drifts
//! with time or follows another arm falls on all of them alike.

use anyhow::{Context, Result};

/// One thing that is measured: its name, and one round of it.
pub(crate) struct Arm<'a> {
    /// What it is called in an error.
    pub(crate) name: &'a str,
    /// Measures once.
    pub(crate) round: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Arm<'a> {
    /// One of these.
    pub(crate) fn new(name: &'a str, round: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self { name, round: Box::new(round) }
    }
}

/// The figures of each arm, round by round. `between` is asked before each round whether to go on.
pub(crate) fn interleave(
    rounds: usize,
    arms: &mut [Arm<'_>],
    mut between: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<f64>>> {
    let mut figures = vec![Vec::with_capacity(rounds); arms.len()];
    for round in 0..rounds {
        between(round)?;
        for arm in order(round, arms.len()) {
            let (Some(arm), Some(figures)) = (arms.get_mut(arm), figures.get_mut(arm)) else {
                continue;
            };
            let figure = (arm.round)();
            figures.push(figure.with_context(|| format!("{}, round {}", arm.name, round + 1))?);
        }
    }
    Ok(figures)
}

/// Which arm when: A B C, B C A, C A B, …
fn order(round: usize, arms: usize) -> impl Iterator<Item = usize> {
    (0..arms).map(move |turn| (turn + round) % arms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn arms_take_turns_and_each_is_first_in_its_turn() {
        let seen = RefCell::new(String::new());
        let arm = |name: &'static str, value: f64| {
            let seen = &seen;
            Arm::new(name, move || {
                seen.borrow_mut().push_str(name);
                Ok(value)
            })
        };
        let mut arms = [arm("a", 1.0), arm("b", 2.0), arm("c", 3.0)];
        let figures = interleave(4, &mut arms, |_| {
            seen.borrow_mut().push(' ');
            Ok(())
        });
        drop(arms);
        assert_eq!(figures.unwrap(), vec![vec![1.0; 4], vec![2.0; 4], vec![3.0; 4]]);
        assert_eq!(seen.into_inner(), " abc bca cab abc");
    }

    #[test]
    fn a_failure_names_arm_and_round() {
        let mut left = 1;
        let mut arms = [Arm::new("bare", move || {
            anyhow::ensure!(left > 0, "no answer");
            left -= 1;
            Ok(1.0)
        })];
        let error = interleave(3, &mut arms, |_| Ok(())).unwrap_err();
        assert_eq!(format!("{error:#}"), "bare, round 2: no answer");
    }

    #[test]
    fn who_is_told_to_stop_measures_no_more() {
        let mut arms = [Arm::new("bare", || panic!("it was measured"))];
        assert!(interleave(3, &mut arms, |_| anyhow::bail!("interrupted")).is_err());
    }
}
