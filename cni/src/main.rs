//! `weft-cni`: the CNI plugin. It hands the runtime's calls to the node agent, which does the work.

use std::{
    io::{self, IsTerminal, Read, Write},
    process::ExitCode,
};
use weft_cni::{Environment, RealNode, about, run};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "--version" || word == "-V") {
        return match io::stdout().write_all(about().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let environment = Environment::of(std::env::vars_os());
    let Some(command) = environment.command() else {
        // Without a command it says what it is, as the specification wants; a closed stderr is no failure.
        let _ = io::stderr().write_all(about().as_bytes());
        return ExitCode::SUCCESS;
    };
    let (output, code) = match run(&command, &environment, stdin(&command), &RealNode) {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(error) => (Some(error), ExitCode::FAILURE),
    };
    if let Some(output) = output
        && writeln!(io::stdout(), "{output}").is_err()
    {
        return ExitCode::FAILURE;
    }
    code
}

/// Who asks for the version by hand is not waited for.
fn stdin(command: &str) -> Box<dyn Read> {
    match command {
        "VERSION" if io::stdin().is_terminal() => Box::new(io::empty()),
        _ => Box::new(io::stdin()),
    }
}
