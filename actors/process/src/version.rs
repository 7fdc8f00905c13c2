//! Which program this is and what it speaks.

use std::sync::LazyLock;

/// What `--version` says after the program's name: `0.1.0 (commit 0123456789ab, ABI 1, wire 1, local API 1)`.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{} (commit {}, ABI {}, wire {}, local API {})",
            env!("CARGO_PKG_VERSION"),
            weft_api::COMMIT,
            weft_abi::ABI_VERSION,
            weft_wire::VERSIONS.newest,
            weft_api::API_VERSION,
        )
    });
    &VERSION
}

/// Version and commit, for a column.
pub fn short() -> String {
    format!("{} ({})", env!("CARGO_PKG_VERSION"), weft_api::COMMIT)
}
