//! `weft policy validate`: says of manifests what the API server, and Weft, would refuse.

use crate::{
    manifests::{self, Labels},
    output::{Outcome, note, say},
};
use std::path::PathBuf;
use weft_manifests::ManifestError;
use weft_types::LabelFilter;

/// Checks manifests: exit 0, or 1 with a line an error.
#[derive(clap::Args)]
pub(crate) struct Validate {
    /// A file, a folder of them, or `-` for standard input; may be given more than once.
    #[arg(short = 'f', long = "filename", required = true, num_args = 1.., value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    labels: Labels,
    /// `json` prints the errors as one array.
    #[arg(short = 'o', long = "output", value_parser = ["json"])]
    output: Option<String>,
}

/// Reads and reports.
pub(crate) fn run(command: &Validate) -> anyhow::Result<Outcome> {
    let filter = command.labels.or(LabelFilter::default());
    let (errors, outcome) = match weft_manifests::read_filtered(&command.files, &filter) {
        Ok(manifests) => {
            manifests::remarks(&manifests);
            note!("valid objects: {}", manifests::summary(&manifests.objects));
            (Vec::new(), Outcome::Done)
        }
        Err(errors) => (errors, Outcome::No),
    };
    if command.output.is_some() {
        let rows: Vec<_> = errors.iter().map(row).collect();
        say(&format!("{}\n", serde_json::to_string_pretty(&rows)?))?;
    } else {
        let lines: String = errors.iter().map(|error| format!("{error}\n")).collect();
        say(&lines)?;
    }
    Ok(outcome)
}

fn row(error: &ManifestError) -> serde_json::Value {
    serde_json::json!({
        "file": error.file,
        "document": error.document,
        "object": error.object,
        "field": error.field,
        "problem": error.problem,
    })
}
