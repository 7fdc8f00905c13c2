//! `weft flows`: the flows of all nodes, merged by time, as `hubble observe` shows them.

use crate::{
    commands::{
        flow_filters::FilterArguments,
        flow_source::{News, Source, Until, now_ns},
    },
    output::{Outcome, Reader, Usage, note, say},
    target::Target,
};
use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::{
    collections::VecDeque,
    io::IsTerminal,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};
use weft_hubble::{
    flow::Flow,
    format::{Format, Printer},
    print::Compact,
    time,
};

/// How long a flow waits for older ones of other nodes.
const REORDER: Duration = Duration::from_millis(300);

/// Flows of all nodes, oldest first, with Hubble's filters and formats
///
/// Examples:
///   weft flows --verdict DROPPED --last 5
///   weft flows --follow --to-pod shop/cart --not --port 9100
///   weft flows -o json --since 5m
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Go on with new flows until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// The newest N that match; 20 unless something else says which.
    #[arg(long, value_name = "N", conflicts_with = "first")]
    last: Option<usize>,
    /// The oldest N that match.
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    first: Option<usize>,
    /// All that the nodes still have.
    #[arg(long, conflicts_with_all = ["last", "first"])]
    all: bool,
    /// None older: a time ago (30s, 5m, 2h) or a date (2026-07-30T12:34:56Z).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// None newer.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
    #[command(flatten)]
    filters: FilterArguments,
    /// As Hubble's: a line a flow for people (compact) or for programs (json, jsonpb), a field a line (dict), columns (table, tab).
    #[arg(short, long, default_value = "compact", value_parser = format_parser())]
    output: Format,
    /// Say the node of each flow.
    #[arg(long)]
    print_node_name: bool,
    /// Say the policies that decided.
    #[arg(long)]
    print_policy_names: bool,
    /// Addresses instead of names.
    #[arg(long)]
    numeric: bool,
    /// Colours: on a terminal, always or never.
    #[arg(long, default_value = "auto", value_parser = ["auto", "always", "never"])]
    color: String,
}

/// Exit 0 at the end of the flows, at Ctrl-C, and when nobody reads on.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    if arguments.follow && arguments.output == Format::Table {
        let why =
            "a table needs all flows, and --follow never has them: take -o compact, dict or json";
        return Err(Usage(why.to_owned()).into());
    }
    let agents = arguments.target.agents()?;
    let (tell, news) = channel();
    for agent in agents.clone() {
        let (tell, span) = (tell.clone(), tracing::Span::current());
        let only_new = arguments.follow
            && arguments.last.is_none()
            && arguments.since.is_none()
            && !arguments.all;
        let source = match (arguments.follow, only_new) {
            (false, _) => Source::new(agent, Until::End),
            (true, false) => Source::new(agent, Until::Interrupt),
            (true, true) => Source::from_now(agent),
        };
        thread::spawn(move || span.in_scope(|| source.run(&tell)));
    }
    watch_interrupts(tell)?;
    let mut merge = Merge {
        arguments,
        printer: Printer::new(arguments.output, arguments.shown()),
        waiting: VecDeque::new(),
        past: arguments.follow,
        seen: 0,
    };
    merge.run(&news, agents.len())
}

/// Has Ctrl-C told, from now on.
fn watch_interrupts(tell: Sender<News>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut interrupts = signal(SignalKind::interrupt())?;
    drop(guard);
    thread::spawn(move || {
        if runtime.block_on(interrupts.recv()).is_some() {
            drop(tell.send(News::Interrupted));
        }
    });
    Ok(())
}

/// Flows on their way to be printed, in the order of their times.
struct Merge<'a> {
    arguments: &'a Arguments,
    printer: Printer,
    waiting: VecDeque<(Instant, Arc<Flow>)>,
    /// Whether what is printed is printed as it comes.
    past: bool,
    /// How many were shown to the filters.
    seen: usize,
}

impl Merge<'_> {
    fn run(&mut self, news: &Receiver<News>, agents: usize) -> Result<Outcome> {
        let (mut left, mut failed) = (agents, 0);
        while left > 0 {
            match news.recv_timeout(REORDER) {
                Ok(News::Flow(flow)) => {
                    self.seen += 1;
                    if self.shows(&flow) {
                        self.waiting.push_back((Instant::now(), flow));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(News::Lost(node, place, lost)) => {
                    // A line of its own, as in Hubble: whatever the filters are, it is part of the answer.
                    if say(&self.printer.lost(now_ns(), &node, place, lost))? == Reader::Gone {
                        return Ok(Outcome::Done);
                    }
                }
                Ok(News::Ended(Ok(()))) => left -= 1,
                Ok(News::Ended(Err(error))) => {
                    (left, failed) = (left - 1, failed + 1);
                    if failed == agents {
                        return Err(error);
                    }
                    note!("weft: warning: {error:#}");
                }
                Ok(News::Interrupted) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.past && self.print(REORDER)? == Reader::Gone {
                return Ok(Outcome::Done);
            }
        }
        self.cut();
        if self.waiting.is_empty() && !self.past {
            note!("no flows to show, of {} that the nodes have", self.seen);
        }
        if self.print(Duration::ZERO)? == Reader::There {
            say(&self.printer.end())?;
        }
        Ok(Outcome::Done)
    }

    fn shows(&self, flow: &Flow) -> bool {
        let at = time::parse(&flow.time);
        let since = self.arguments.since.is_none_or(|since| at.is_some_and(|at| at >= since));
        let until = self.arguments.until.is_none_or(|until| at.is_some_and(|at| at <= until));
        since && until && self.arguments.filters.0.matches(flow)
    }

    /// Of what was there already, only what was asked for.
    fn cut(&mut self) {
        if self.past {
            return;
        }
        self.sort();
        let Arguments { last, first, all, since, .. } = self.arguments;
        let last = last.or((first.is_none() && !all && since.is_none()).then_some(20));
        if let Some(last) = last {
            self.waiting.drain(..self.waiting.len().saturating_sub(last));
        }
        if let Some(first) = first {
            self.waiting.truncate(*first);
        }
    }

    fn sort(&mut self) {
        let key = |flow: &Flow| time::parse(&flow.time);
        self.waiting.make_contiguous().sort_by_cached_key(|(_, flow)| key(flow));
    }

    /// Prints what came that long ago, and what is older than that.
    fn print(&mut self, waited: Duration) -> Result<Reader> {
        let due = |came: &Instant| came.elapsed() >= waited;
        if !self.waiting.iter().any(|(came, _)| due(came)) {
            return Ok(Reader::There);
        }
        self.sort();
        let count = self.waiting.iter().rposition(|(came, _)| due(came)).map_or(0, |at| at + 1);
        let lines: Vec<String> =
            self.waiting.drain(..count).map(|(_, flow)| self.printer.flow(&flow)).collect();
        Ok(say(&lines.concat())?)
    }
}

impl Arguments {
    /// What lines for people show.
    fn shown(&self) -> Compact {
        let colour = match self.color.as_str() {
            "always" => true,
            "never" => false,
            _ => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        };
        Compact {
            node_name: self.print_node_name,
            policy_names: self.print_policy_names,
            numeric: self.numeric,
            colour,
        }
    }
}

/// Every name of a format, for those who ask what there is.
fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::NAMES).try_map(|name| name.parse::<Format>())
}

/// A moment: a date, or a time ago.
fn moment(text: &str) -> Result<u64, String> {
    if let Some(at) = time::parse(text) {
        return Ok(at);
    }
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000_u64,
            _ => 0,
        };
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
        total = match part.filter(|_| scale > 0).and_then(|part| total.checked_add(part)) {
            Some(total) => total,
            None => {
                return Err(format!("{text:?} is no time: 30s, 5m, 2h, or 2026-07-30T12:34:56Z"));
            }
        };
        rest = after;
    }
    if text.is_empty() {
        Err("a time is missing".to_owned())
    } else {
        Ok(now_ns().saturating_sub(total))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn moments_are_dates_or_times_ago() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        let then = moment("1h30m").unwrap();
        let ago = now_ns() - then;
        assert!((5_400_000_000_000..5_460_000_000_000).contains(&ago), "{ago}");
        for bad in ["", "x", "5", "5d", "m", "1h-", "99999999999h"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
