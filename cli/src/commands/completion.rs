//! `weft completion`: what a shell needs to complete commands, flags and values.

use crate::output::{Outcome, say};
use anyhow::Result;
use clap::Command;
use clap_complete::{Shell, generate};

/// Print a shell's completions
///
/// Example: weft completion bash
///
///   bash:  weft completion bash > /etc/bash_completion.d/weft
///   zsh:   weft completion zsh > "${fpath[1]}/_weft"
///   fish:  weft completion fish > ~/.config/fish/completions/weft.fish
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// For which shell.
    shell: Shell,
}

/// Prints them for this command.
pub(crate) fn run(arguments: &Arguments, mut command: Command) -> Result<Outcome> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    generate(arguments.shell, &mut command, name, &mut script);
    say(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
