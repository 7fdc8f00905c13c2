//! How a command ends: exit codes, and errors for people.

use std::process::ExitCode;

/// How a command that worked ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit 0.
    Done,
    /// Exit 1: the answer is no, and was printed.
    No,
}

/// Exit codes of the fixed interface: 0 done, 1 no, 2 wrong usage (clap's own), 3 could not reach or do it.
pub(crate) fn exit_code(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::from(3)
        }
    }
}
