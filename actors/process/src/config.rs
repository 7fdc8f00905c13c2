//! Configuration: one name is the flag (`--state-dir`), the variable (`WEFT_AGENT_STATE_DIR`) and the key of
//! the file (`state-dir`). A flag wins over the variable, that over `--config FILE`, that over the default.

use clap::{Arg, Args, Command, Parser, ValueHint, error::ErrorKind};
use serde_json::Value;
use std::{collections::BTreeMap, ffi::OsString, fs, path::PathBuf};

/// The flag that names the file, which is no key of it.
const FILE: &str = "config";

/// This process's configuration; a mistake in it ends the process with exit code 2.
pub fn load<C: Parser>() -> C {
    load_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// The same from these arguments, the program's name first.
pub fn load_from<C: Parser>(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<C, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = command::<C>();
    // What is wrong with the other arguments is said below; help needs no file.
    let early = command.clone().ignore_errors(true).try_get_matches_from(&arguments).ok();
    let file = early.as_ref().and_then(|matches| matches.get_one::<PathBuf>(FILE)).cloned();
    let command = match file {
        Some(file) => with_file(command, &file)?,
        None => command,
    };
    let matches = command.try_get_matches_from(&arguments)?;
    C::from_arg_matches(&matches)
}

/// A component's configuration where nothing is said about it.
pub fn defaults<C: Args>() -> C {
    let command = C::augment_args(Command::new("defaults").no_binary_name(true));
    let matches = command.get_matches_from(std::iter::empty::<OsString>());
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The arguments with their variables and `--config`.
fn command<C: Parser>() -> Command {
    let command = C::command();
    let prefix = variable(command.get_name());
    let file = Arg::new(FILE)
        .long(FILE)
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .value_parser(clap::value_parser!(PathBuf))
        .help("YAML with the flags as keys, as state-dir: /var/lib/weft; what is given as a flag or variable wins");
    command.arg(file).mut_args(|arg| match arg.get_long() {
        Some(long) if arg.get_env().is_none() && !arg.is_hide_set() => {
            let name: &'static str = format!("{prefix}_{}", variable(long)).leak();
            arg.env(name)
        }
        _ => arg,
    })
}

fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// The command with what a file says as its defaults.
fn with_file(mut command: Command, file: &PathBuf) -> Result<Command, clap::Error> {
    let wrong = |problem: String| {
        clap::Error::raw(ErrorKind::InvalidValue, format!("{}: {problem}\n", file.display()))
    };
    let text = fs::read_to_string(file).map_err(|error| wrong(format!("read it: {error}")))?;
    let keys: BTreeMap<String, Value> =
        serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let known: Vec<String> = command
        .get_arguments()
        .filter(|arg| arg.get_id() != FILE && !arg.is_hide_set())
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .collect();
    for (key, value) in keys {
        if !known.contains(&key) {
            return Err(wrong(format!("unknown key {key:?}; keys are {}", known.join(", "))));
        }
        let values = texts(&value)
            .ok_or_else(|| wrong(format!("{key}: neither a text, a number nor a list of them")))?;
        let id = command.get_arguments().find(|arg| arg.get_long() == Some(&key));
        let Some(id) = id.map(|arg| arg.get_id().clone()) else { continue };
        // Read once in a process's life.
        let values: Vec<&'static str> = values.into_iter().map(|v| &*v.leak()).collect();
        command = command.mut_arg(id, |arg| arg.required(false).default_values(values));
    }
    Ok(command)
}

/// A value as flags spell it.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Number(number) => Some(vec![number.to_string()]),
        Value::Bool(switch) => Some(vec![switch.to_string()]),
        Value::Array(values) => {
            values.iter().map(texts).collect::<Option<Vec<_>>>().map(|texts| texts.concat())
        }
        Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, net::SocketAddr};

    /// A program of the tests.
    #[derive(Debug, PartialEq, Parser)]
    #[command(name = "weft-configtest")]
    struct Config {
        /// Its name.
        #[arg(long)]
        node: String,
        /// Whom it speaks to.
        #[arg(long, required = true, value_delimiter = ',')]
        operator: Vec<SocketAddr>,
        /// How large.
        #[arg(long, default_value_t = 7)]
        state_size: u32,
        /// Whether.
        #[arg(long)]
        quiet: bool,
    }

    fn load(file: &str, flags: &[&str]) -> Result<Config, String> {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(file.as_bytes()).unwrap();
        let path = written.path().to_owned().into_os_string();
        let words = ["weft-configtest"].into_iter().chain(flags.iter().copied());
        let words = words.map(OsString::from).chain(["--config".into(), path]);
        load_from(words).map_err(|error| error.to_string())
    }

    const WHOLE: &str =
        "node: a\noperator: ['10.0.0.1:1', '10.0.0.2:2']\nstate-size: 9\nquiet: true\n";

    #[test]
    fn a_file_says_what_flags_say() {
        let operator = vec!["10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap()];
        let config = Config { node: "a".to_owned(), operator, state_size: 9, quiet: true };
        assert_eq!(load(WHOLE, &[]), Ok(config));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let config = load(WHOLE, &["--state-size", "1", "--operator", "10.0.0.3:3"]).unwrap();
        assert_eq!((config.state_size, config.node.as_str()), (1, "a"));
        assert_eq!(config.operator, ["10.0.0.3:3".parse().unwrap()]);
        assert_eq!(load("node: a\n", &["--operator", "10.0.0.3:3"]).unwrap().state_size, 7);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (file, part) in [
            (&*format!("{WHOLE}nod: b\n"), "unknown key \"nod\""),
            ("config: x\n", "unknown key \"config\""),
            ("node: {a: b}\n", "node: neither"),
            ("state-size: many\nnode: a\noperator: '10.0.0.1:1'\n", "--state-size"),
            ("node: a\n", "--operator"),
            ("node: [", "line"),
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains(part), "{file}: {error}");
        }
        let absent = ["weft-configtest", "--config", "/nowhere/x.yaml"].map(OsString::from);
        let error = load_from::<Config>(absent).unwrap_err().to_string();
        assert!(error.contains("/nowhere/x.yaml"), "{error}");
    }

    #[test]
    fn help_names_flags_variables_and_defaults() {
        let help = command::<Config>().render_long_help().to_string();
        for part in ["--config <FILE>", "[env: WEFT_CONFIGTEST_STATE_SIZE=]", "[default: 7]"] {
            assert!(help.contains(part), "{part} is not in {help}");
        }
    }
}
