//! Which labels of pods make identities: told to the operator, held by the replicated state.

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
