//! Which labels of pods make identities: told to the operator, held by the replicated state.

use crate::{
    allocator::Allocator,
    founding::{Founded, FoundingError},
    sequencer::Writer,
};
use weft_state::CommandV1;
use weft_types::LabelFilter;

/// Which labels make identities.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Labels of pods that make identities, beside Cilium's defaults: patterns [SOURCE:][!]REGEX with
    /// spaces between them, matched against the beginning of a label's key, as "!team k8s:!build-.*".
    /// A pattern with ! leaves labels out; one without keeps them, and leaves out what no pattern keeps.
    #[arg(long, value_name = "PATTERNS", default_value = "", hide_default_value = true)]
    pub labels: LabelFilter,
}

/// Has the state filter labels as this operator is told. Label sets that are new with it get their numbers, and
/// the store has them first; a set that had one keeps it, so going back gives every pod its old number.
pub fn apply(
    config: &Config,
    founded: &mut Founded,
    allocator: &mut Allocator,
    writer: &mut Writer,
) -> Result<(), FoundingError> {
    let filter = &config.labels;
    if founded.state.labels() == filter {
        return Ok(());
    }
    let identities = allocator.record(&[], &[], founded.state.unnumbered_with(filter))?;
    tracing::info!(
        patterns = filter.added().join(" "),
        new = identities.len(),
        "labels are filtered anew"
    );
    let patterns = filter.added().to_vec();
    let command = CommandV1::FilterLabels { patterns, identities: identities.clone() };
    founded.append(writer, command)?;
    allocator.settled(&identities);
    Ok(())
}
