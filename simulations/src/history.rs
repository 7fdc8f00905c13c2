//! What clients asked and were answered, operation by operation; as a file, one JSON object a line.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

/// An operation: what a client asked, when, and what came of it. Times are microseconds from any beginning, the same for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Who asked.
    pub client: String,
    /// When it asked. An answer that may be old, as one from a copy is, was called at 0.
    pub call: u64,
    /// When it was answered; none when it never was.
    #[serde(rename = "return")]
    pub returned: Option<u64>,
    /// What it asked.
    pub operation: Action,
    /// What it was answered.
    pub outcome: Outcome,
}

/// What is asked of registers: objects by key, and numbers by label set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// That these objects are so; none is an object that is removed.
    Write(BTreeMap<String, Option<String>>),
    /// How an object is.
    Read(String),
    /// That a label set has a number, whatever number.
    Allocate(String),
    /// Which number a label set has.
    Number(String),
    /// That a label set has no number any more.
    Free {
        /// The label set.
        labels: String,
        /// The number that it had.
        number: u32,
    },
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is so.
    Done,
    /// It is not so, and never will be.
    Failed,
    /// Nobody knows: it may be so at any time after the call, or never.
    Unknown,
    /// How the object was; none when there was none.
    Value(Option<String>),
    /// The label set's number; none when it had none.
    Number(Option<u32>),
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file.
    #[error("read the history: {0}")]
    Io(#[from] io::Error),
    /// A line of it.
    #[error("read the history: line {line}: {problem}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

impl Operation {
    /// What contradicts itself in it.
    fn problem(&self) -> Option<&'static str> {
        let suits = matches!(
            (&self.operation, &self.outcome),
            (_, Outcome::Failed | Outcome::Unknown)
                | (Action::Write(_) | Action::Allocate(_) | Action::Free { .. }, Outcome::Done)
                | (Action::Read(_), Outcome::Value(_))
                | (Action::Number(_), Outcome::Number(_))
        );
        match (self.returned, &self.outcome) {
            _ if !suits => Some("the outcome is not one of the operation"),
            (Some(at), _) if at < self.call => Some("it returned before it was called"),
            (None, Outcome::Done | Outcome::Value(_) | Outcome::Number(_)) => {
                Some("it has an outcome and did not return")
            }
            (Some(_) | None, _) => None,
        }
    }
}

/// Reads a history; empty lines are none of it.
pub fn read(from: impl BufRead) -> Result<Vec<Operation>, HistoryError> {
    let mut history = Vec::new();
    for (line, text) in (1..).zip(from.lines()) {
        let text = text?;
        if text.trim().is_empty() {
            continue;
        }
        let wrong = |problem: String| HistoryError::Line { line, problem };
        let operation: Operation =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        match operation.problem() {
            Some(problem) => return Err(wrong(problem.to_owned())),
            None => history.push(operation),
        }
    }
    Ok(history)
}

/// Writes a history.
pub fn write(history: &[Operation], mut to: impl Write) -> io::Result<()> {
    for operation in history {
        serde_json::to_writer(&mut to, operation)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn a_history_is_read_as_it_was_written() {
        let text = concat!(
            r#"{"client":"1","call":5,"return":9,"operation":{"write":{"pod/a":"v1","pod/b":null}},"outcome":"done"}"#,
            "\n",
            r#"{"client":"2","call":0,"return":7,"operation":{"read":"pod/a"},"outcome":{"value":null}}"#,
            "\n",
            r#"{"client":"2","call":8,"return":null,"operation":{"allocate":"k8s:app=x"},"outcome":"unknown"}"#,
            "\n",
            r#"{"client":"2","call":8,"return":9,"operation":{"number":"k8s:app=x"},"outcome":{"number":300}}"#,
            "\n",
            r#"{"client":"3","call":9,"return":9,"operation":{"free":{"labels":"k8s:app=x","number":300}},"outcome":"done"}"#,
            "\n",
        );
        let history = read(text.as_bytes()).unwrap();
        assert_eq!(history.len(), 5);
        let mut written = Vec::new();
        write(&history, &mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), text);
    }

    #[test]
    fn what_is_no_history_is_told_by_its_line() {
        let line = |operation: &str, outcome: &str, times: &str| {
            let text =
                format!(r#"{{"client":"1",{times},"operation":{operation},"outcome":{outcome}}}"#);
            read(format!("\n{text}\n").as_bytes()).unwrap_err().to_string()
        };
        let (times, read) = (r#""call":1,"return":2"#, r#"{"read":"pod/a"}"#);
        for (problem, says) in [
            (line(read, r#""done""#, times), "line 2: the outcome is not one"),
            (line(read, r#"{"number":1}"#, times), "line 2: the outcome is not one"),
            (line(read, r#"{"value":"x"}"#, r#""call":3,"return":2"#), "before it was called"),
            (line(read, r#"{"value":"x"}"#, r#""call":3,"return":null"#), "did not return"),
            (line(read, r#"{"value":"x"}"#, r#""call":3,"return":4,"more":1"#), "unknown field"),
        ] {
            assert!(problem.contains(says), "{problem}");
        }
    }
}
