//! The formats of `hubble observe -o`: what goes before, between and after flows.

use crate::{
    flow::Flow,
    print::{self, Compact, End, LostIn},
};
use std::{fmt, str::FromStr};

/// `-o`, by Hubble's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line a flow, for people.
    #[default]
    Compact,
    /// A field a line, for people with one flow.
    Dict,
    /// A line of protobuf's JSON a flow (`json` and `jsonpb`, which are one since Hubble 0.9).
    Json,
    /// Columns (`table` and `tab`), whose widths are known when all flows are there.
    Table,
}

impl Format {
    /// Every name there is.
    pub const NAMES: [&'static str; 6] = ["compact", "dict", "json", "jsonpb", "tab", "table"];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "compact" => Ok(Self::Compact),
            "dict" => Ok(Self::Dict),
            "json" | "jsonpb" => Ok(Self::Json),
            "tab" | "table" => Ok(Self::Table),
            _ => Err(format!("{name:?} is no format: {}", Self::NAMES.join(", "))),
        }
    }
}

/// Writes flows in a format.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    compact: Compact,
    /// Whether something was written.
    begun: bool,
    /// Cells of a table.
    rows: Vec<Vec<String>>,
}

/// A row or an entry: what every format but the compact one and JSON is made of.
struct Entry<'a> {
    at: String,
    node: &'a str,
    source: String,
    destination: String,
    kind: String,
    verdict: String,
    summary: String,
}

impl Printer {
    /// In this format, showing this.
    pub fn new(format: Format, compact: Compact) -> Self {
        Self { format, compact, begun: false, rows: Vec::new() }
    }

    /// What a flow adds, with the ends of its lines.
    pub fn flow(&mut self, flow: &Flow) -> String {
        let host = |endpoint, end| self.compact.host(flow, endpoint, end);
        match self.format {
            Format::Compact => self.compact.line(flow) + "\n",
            Format::Json => print::json(flow) + "\n",
            Format::Dict | Format::Table => {
                let entry = Entry {
                    at: print::stamp(flow),
                    node: &flow.node_name,
                    source: host(flow.source.as_ref(), End::Source),
                    destination: host(flow.destination.as_ref(), End::Destination),
                    kind: print::kind(flow),
                    verdict: self.compact.verdict(flow),
                    summary: flow.summary.clone(),
                };
                self.entry(entry)
            }
        }
    }

    /// What it adds that events were lost. One ring serves all CPUs, so it names the first.
    pub fn lost(&mut self, now_ns: u64, node: &str, place: LostIn, lost: u64) -> String {
        match self.format {
            Format::Compact => print::lost_line(now_ns, place, lost) + "\n",
            Format::Json => print::lost_json(now_ns, node, place, lost) + "\n",
            Format::Dict | Format::Table => self.entry(Entry {
                at: String::new(),
                node: "",
                source: place.as_str().to_owned(),
                destination: String::new(),
                kind: "EVENTS LOST".to_owned(),
                verdict: String::new(),
                summary: format!("CPU(0) - {lost}"),
            }),
        }
    }

    /// What is left to write when all flows are there.
    pub fn end(&mut self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let node = self.compact.node_name.then_some("NODE");
        let names = ["SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"];
        let head = ["TIMESTAMP"].into_iter().chain(node).chain(names);
        self.rows.insert(0, head.map(str::to_owned).collect());
        columns(&std::mem::take(&mut self.rows))
    }

    fn entry(&mut self, entry: Entry<'_>) -> String {
        let Entry { at, node, source, destination, kind, verdict, summary } = entry;
        let node = self.compact.node_name.then(|| node.to_owned());
        if self.format == Format::Table {
            let rest = [source, destination, kind, verdict, summary];
            self.rows.push([at].into_iter().chain(node).chain(rest).collect());
            return String::new();
        }
        let between = if std::mem::replace(&mut self.begun, true) { "------------\n" } else { "" };
        let node = node.map_or_else(String::new, |node| format!("       NODE: {node}\n"));
        let to = if kind == "EVENTS LOST" {
            String::new()
        } else {
            format!("DESTINATION: {destination}\n")
        };
        format!(
            "{between}  TIMESTAMP: {at}\n{node}     SOURCE: {source}\n{to}       TYPE: {kind}\n    VERDICT: {verdict}\n    SUMMARY: {summary}\n"
        )
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compact => "compact",
            Self::Dict => "dict",
            Self::Json => "json",
            Self::Table => "table",
        })
    }
}

/// Columns as Go's `tabwriter` sets them with a padding of 3: as wide as their widest cell; the last as it is.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    // Escapes of colours are cells' text to the tabwriter too, so they are counted.
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> =
        (0..count).map(|column| width(column).unwrap_or_default() + 3).collect();
    let line = |row: &Vec<String>| {
        let (last, cells) =
            row.split_last().map_or(("", &[][..]), |(last, cells)| (&**last, cells));
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<String>() + last + "\n"
    };
    rows.iter().map(line).collect()
}
