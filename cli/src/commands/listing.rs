//! What commands that list what agents say have in common: whom they ask, and for whom they print.

use crate::{
    output::{self, Format, Outcome},
    target::{Target, ask_all, ask_any},
};
use anyhow::Result;
use std::time::Duration;
use weft_api::{
    agent::{Answer, Request},
    operator,
};

/// What operators may take to hear from each other what is newest.
const WORK: Duration = Duration::from_secs(2);

/// Whom a listing asks and for whom it is.
#[derive(clap::Args)]
pub(crate) struct Listing {
    #[command(flatten)]
    target: Target,
    /// For people or for programs.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

impl Listing {
    /// The rows of all agents that are meant; `what` is what was attempted, for errors.
    pub(crate) fn ask<T>(
        &self,
        request: &Request,
        what: &str,
        take: impl Fn(Answer) -> Option<Vec<T>>,
    ) -> Result<Vec<T>> {
        ask_all(&self.target, request, what, take)
    }

    /// Whom it asks.
    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    /// What operators answer, of whom any speaks for all.
    pub(crate) fn ask_operators(&self, request: &operator::Request) -> Result<operator::Answer> {
        ask_any(&self.target.operators()?, WORK, |_| request.clone())
    }

    /// Prints them; `cells` are a row's columns.
    pub(crate) fn print<T: serde::Serialize, const N: usize>(
        &self,
        headings: [&str; N],
        rows: &[T],
        cells: impl Fn(&T) -> [String; N],
    ) -> Result<Outcome> {
        output::rows(self.output, headings, rows, cells)
    }
}
