//! Hubble's filter flags. Their order counts: `--not` turns the one behind it.

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind};
use weft_hubble::filter::{self, End, Filter, Filters, LabelSelector};

/// The filters that the flags make.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterArguments(pub(crate) Filters);

/// Flags of the flow itself: long, short, value, help.
const PLAIN: [(&str, Option<char>, &str, &str); 7] = [
    ("verdict", None, "VERDICT", "FORWARDED, DROPPED…"),
    ("drop-reason-desc", None, "REASON", "Why it was dropped, as POLICY_DENIED"),
    ("type", Some('t'), "TYPE[:SUBTYPE]", "drop, policy-verdict, trace…"),
    ("protocol", None, "PROTOCOL", "tcp, udp, sctp, icmp"),
    ("traffic-direction", None, "DIRECTION", "ingress or egress"),
    ("node-name", None, "PATTERN", "[CLUSTER/]NODE; * stands for anything"),
    ("tcp-flags", None, "FLAGS", "TCP flags that are all set, as SYN,ACK"),
];

/// Flags of an end: at either, of the source, of the destination; short, value, help.
const ENDS: [([&str; 3], Option<char>, &str, &str); 6] = [
    (
        ["pod", "from-pod", "to-pod"],
        None,
        "[NAMESPACE/]PREFIX",
        "Pods; NAMESPACE/ is all of one, /PREFIX of any",
    ),
    (
        ["namespace", "from-namespace", "to-namespace"],
        Some('n'),
        "NAMESPACE",
        "All pods of a namespace",
    ),
    (["ip", "from-ip", "to-ip"], None, "ADDRESS|CIDR", "Addresses"),
    (
        ["label", "from-label", "to-label"],
        Some('l'),
        "SELECTOR",
        "Labels, as app=cart or k8s:app=cart",
    ),
    (["port", "from-port", "to-port"], None, "PORT", "Ports"),
    (
        ["identity", "from-identity", "to-identity"],
        None,
        "IDENTITY",
        "An identity's number, or world, host…",
    ),
];

impl clap::Args for FilterArguments {
    fn augment_args(command: Command) -> Command {
        let flag = |name: &'static str, value: &'static str, help: String| {
            Arg::new(name)
                .long(name)
                .value_name(value)
                .help(help)
                .action(ArgAction::Append)
                .help_heading("Filters (values of one flag: any; flags together: all)")
        };
        let mut command = command.arg(
            Arg::new("not")
                .long("not")
                .action(ArgAction::Append)
                .num_args(0)
                .default_missing_value("true")
                .help("What the next filter matches is not shown")
                .help_heading("Filters (values of one flag: any; flags together: all)"),
        );
        for (name, short, value, help) in PLAIN {
            let arg = flag(name, value, help.to_owned());
            command = command.arg(match short {
                Some(short) => arg.short(short),
                None => arg,
            });
        }
        for ([either, from, to], short, value, help) in ENDS {
            let arg = flag(either, value, format!("{help}, at either end"));
            command = command.arg(match short {
                Some(short) => arg.short(short),
                None => arg,
            });
            command = command.arg(flag(from, value, format!("{help}, of who sent it"))).arg(flag(
                to,
                value,
                format!("{help}, of whom it was for"),
            ));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for FilterArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let wrong = |problem| clap::Error::raw(ErrorKind::ValueValidation, format!("{problem}\n"));
        build(given(matches)).map(Self).map_err(wrong)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A flag as it was given.
type Given = (String, String);

/// All flags in their order.
fn given(matches: &ArgMatches) -> Vec<Given> {
    let ends = ENDS.iter().flat_map(|(names, ..)| names);
    let names = PLAIN.iter().map(|(name, ..)| name).chain(ends);
    let mut all: Vec<(usize, Given)> = Vec::new();
    for name in names.chain([&"not"]) {
        let indices = matches.indices_of(name).into_iter().flatten();
        let values = matches.get_many::<String>(name).into_iter().flatten();
        all.extend(
            indices.zip(values).map(|(at, value)| (at, ((*name).to_owned(), value.clone()))),
        );
    }
    all.sort();
    all.into_iter().map(|(_, given)| given).collect()
}

/// A filter for each list; flags of either end make two filters of one.
#[derive(Default)]
struct Pair {
    source: Filter,
    destination: Filter,
    /// Whether a flag of either end was among them: then the two differ.
    either: bool,
    given: bool,
}

impl Pair {
    fn filters(self) -> Vec<Filter> {
        match (self.given, self.either) {
            (false, _) => Vec::new(),
            (true, false) => vec![self.source],
            (true, true) => vec![self.source, self.destination],
        }
    }
}

fn build(flags: Vec<Given>) -> Result<Filters, String> {
    let (mut allow, mut deny, mut not) = (Pair::default(), Pair::default(), false);
    for (name, value) in flags {
        if name == "not" {
            not = true;
            continue;
        }
        let pair = if std::mem::take(&mut not) { &mut deny } else { &mut allow };
        pair.given = true;
        add(pair, &name, &value).map_err(|problem| format!("--{name}: {problem}"))?;
    }
    if not {
        return Err("--not stands before the filter that it turns".to_owned());
    }
    Ok(Filters { allow: allow.filters(), deny: deny.filters() })
}

fn add(pair: &mut Pair, name: &str, value: &str) -> Result<(), String> {
    if let Some(name) = name.strip_prefix("from-") {
        add_end(&mut pair.source.source, name, value)?;
        return add_end(&mut pair.destination.source, name, value);
    }
    if let Some(name) = name.strip_prefix("to-") {
        add_end(&mut pair.source.destination, name, value)?;
        return add_end(&mut pair.destination.destination, name, value);
    }
    if ENDS.iter().any(|([either, ..], ..)| *either == name) {
        pair.either = true;
        add_end(&mut pair.source.source, name, value)?;
        return add_end(&mut pair.destination.destination, name, value);
    }
    for filter in [&mut pair.source, &mut pair.destination] {
        match name {
            "verdict" => filter.verdict.push(filter::verdict(value)?),
            "drop-reason-desc" => filter.drop_reason.push(filter::drop_reason(value)?),
            "type" => filter.event.push(filter::event(value)?),
            "protocol" => filter.protocol.push(filter::protocol(value)?),
            "traffic-direction" => filter.direction.push(filter::direction(value)?),
            "node-name" => filter.node.push(value.to_owned()),
            _ => filter.tcp_flags.push(filter::tcp_flags(value)?),
        }
    }
    Ok(())
}

fn add_end(end: &mut End, name: &str, value: &str) -> Result<(), String> {
    match name {
        "pod" => end.pod.push(filter::pod(value)?),
        "namespace" => end.pod.push((Some(value.to_owned()), String::new())),
        "ip" => end.ip.push(filter::ip(value)?),
        "label" => end.label.push(LabelSelector::parse(value)?),
        "port" => end.port.push(value.parse().map_err(|_| format!("{value:?} is no port"))?),
        _ => end.identity.push(filter::identity(value)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
    use super::*;
    use clap::{Args, FromArgMatches};

    fn parse(flags: &str) -> Result<Filters, clap::Error> {
        let command = FilterArguments::augment_args(Command::new("x").no_binary_name(true));
        let matches = command.try_get_matches_from(flags.split_whitespace())?;
        FilterArguments::from_arg_matches(&matches).map(|arguments| arguments.0)
    }

    #[test]
    fn no_flags_are_no_filters() {
        assert_eq!(parse("").unwrap(), Filters::default());
    }

    #[test]
    fn flags_together_are_one_filter() {
        let filters =
            parse("--verdict dropped --from-pod shop/a --to-port 80 --to-port 81").unwrap();
        assert_eq!((filters.allow.len(), filters.deny.len()), (1, 0));
        let filter = &filters.allow[0];
        assert_eq!(filter.verdict, ["DROPPED"]);
        assert_eq!(filter.source.pod, [(Some("shop".to_owned()), "a".to_owned())]);
        assert_eq!(filter.destination.port, [80, 81]);
    }

    #[test]
    fn a_flag_of_either_end_makes_two_filters() {
        let filters = parse("-n shop --protocol tcp --to-port 80").unwrap();
        let [source, destination] = filters.allow.as_slice() else { panic!("{filters:?}") };
        assert_eq!(source.source.pod, destination.destination.pod);
        assert!(source.destination.pod.is_empty() && destination.source.pod.is_empty());
        for filter in &filters.allow {
            assert_eq!((filter.protocol.len(), filter.destination.port.len()), (1, 1));
        }
    }

    #[test]
    fn not_turns_the_next_filter_alone() {
        let filters = parse("--not --verdict DROPPED --protocol tcp --not --to-port 80").unwrap();
        assert_eq!(filters.allow.len(), 1);
        assert_eq!(filters.allow[0].protocol, ["tcp"]);
        assert_eq!(filters.deny.len(), 1);
        assert_eq!(filters.deny[0].verdict, ["DROPPED"]);
        assert_eq!(filters.deny[0].destination.port, [80]);
        assert!(parse("--verdict DROPPED --not").is_err());
    }

    #[test]
    fn wrong_values_are_refused_with_the_flag() {
        for flags in ["--verdict x", "--port 99999", "--ip x", "--identity x", "--type x", "-l ="] {
            let error = parse(flags).unwrap_err().to_string();
            assert!(error.contains("--"), "{flags}: {error}");
        }
    }
}
