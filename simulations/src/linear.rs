//! Whether a history is linearizable: whether each operation can have happened at one moment between its call and its return.
//!
//! Registers do not depend on each other, so each is looked at by itself. A write of several objects is looked at as several
//! writes: that they happened together is more than is asked. The search is Wing and Gong's, with Lowe's memory of where it was.

use crate::history::{Action, Operation, Outcome};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
};

/// Places that a search looks at; past that it says that it does not know.
const PATIENCE: usize = 1_000_000;

/// What a history was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Operations.
    pub operations: usize,
    /// Registers that they are of.
    pub registers: usize,
    /// What is not as it should be.
    pub faults: Vec<HistoryFault>,
}

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryFault {
    /// No order explains what was answered of a register.
    NotLinear {
        /// Which register.
        register: String,
        /// An operation that fits nowhere.
        stuck: String,
        /// What the register held then.
        held: String,
    },
    /// There are too many orders to look at all of them.
    Undecided {
        /// Of which register.
        register: String,
    },
}

impl Checked {
    /// For programs.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        serde_json::to_string(&serde_json::json!({
            "operations": self.operations,
            "registers": self.registers,
            "linearizable": faults.is_empty(),
            "faults": faults,
        }))
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, registers, faults } = self;
        let verdict = if faults.is_empty() { "linearizable" } else { "NOT LINEARIZABLE" };
        write!(f, "{operations} operations on {registers} registers: {verdict}")?;
        faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl fmt::Display for HistoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinear { register, stuck, held } => {
                write!(f, "{register} held {held}, where no order has room for: {stuck}")
            }
            Self::Undecided { register } => {
                write!(f, "{register}: too many orders to look at all of them")
            }
        }
    }
}

/// What an operation does to one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    Put(&'a str),
    Remove,
    Read(Option<&'a str>),
    Allocate,
    Number(Option<u32>),
    /// That a number stands for a label set was seen.
    Stands(&'a str),
    Free,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Held<'a> {
    Nothing,
    Value(&'a str),
    /// A number that nobody has seen yet.
    SomeNumber,
    Number(u32),
}

impl<'a> Held<'a> {
    /// What it holds after a step; none when the step cannot be then.
    fn after(self, step: Step<'a>) -> Option<Self> {
        match (step, self) {
            (Step::Put(value), _) => Some(Self::Value(value)),
            (Step::Remove, _) => Some(Self::Nothing),
            (Step::Read(seen), Self::Value(value)) => (seen == Some(value)).then_some(self),
            (Step::Read(seen), _) => seen.is_none().then_some(self),
            (Step::Allocate, Self::Nothing) => Some(Self::SomeNumber),
            (Step::Allocate, _) => Some(self),
            (Step::Number(None), _) => (self == Self::Nothing).then_some(self),
            (Step::Number(Some(seen)), Self::Number(number)) => (seen == number).then_some(self),
            // Whoever asked for it need not be of the history.
            (Step::Number(Some(seen)), _) => Some(Self::Number(seen)),
            (Step::Stands(seen), Self::Value(labels)) => (seen == labels).then_some(self),
            (Step::Stands(seen), _) => Some(Self::Value(seen)),
            (Step::Free, _) => Some(Self::Nothing),
        }
    }
}

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Value(value) => f.write_str(value),
            Self::SomeNumber => f.write_str("a number"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// An operation's part in one register.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    operation: &'a Operation,
    step: Step<'a>,
    call: u64,
    /// The end of time when nobody knows whether it happened.
    end: u64,
}

impl Part<'_> {
    fn is_known(&self) -> bool {
        self.end < u64::MAX
    }
}

/// Objects and label sets may have one name. A number is looked at from both sides: a label set has one, and it stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Register<'a> {
    Object(&'a str),
    LabelSet(&'a str),
    Number(u32),
}

impl fmt::Display for Register<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(name) => f.write_str(name),
            Self::LabelSet(labels) => write!(f, "the number of {labels}"),
            Self::Number(number) => write!(f, "number {number}"),
        }
    }
}

/// Looks at a history.
pub fn check(history: &[Operation]) -> Checked {
    let registers = by_register(history);
    let mut faults: Vec<HistoryFault> = Vec::new();
    for (register, parts) in &registers {
        faults.extend(Search::of(parts).run().err().map(|stop| match stop {
            Stop::Stuck(part, held) => HistoryFault::NotLinear {
                register: register.to_string(),
                stuck: told(part.operation),
                held: held.to_string(),
            },
            Stop::Tired => HistoryFault::Undecided { register: register.to_string() },
        }));
    }
    Checked { operations: history.len(), registers: registers.len(), faults }
}

fn told(operation: &Operation) -> String {
    serde_json::to_string(operation).unwrap_or_else(|_| format!("{operation:?}"))
}

/// The parts of each register, by the time of their calls. What failed did nothing.
fn by_register(history: &[Operation]) -> BTreeMap<Register<'_>, Vec<Part<'_>>> {
    let mut registers: BTreeMap<Register, Vec<Part>> = BTreeMap::new();
    for operation in history {
        let end = match (&operation.outcome, operation.returned) {
            (Outcome::Failed, _) => continue,
            (Outcome::Unknown, _) | (_, None) => u64::MAX,
            (Outcome::Done | Outcome::Value(_) | Outcome::Number(_), Some(end)) => end,
        };
        let mut add = |register, step| {
            let part = Part { operation, step, call: operation.call, end };
            registers.entry(register).or_default().push(part);
        };
        match (&operation.operation, &operation.outcome) {
            (Action::Write(objects), _) => {
                for (key, value) in objects {
                    let step = value.as_deref().map_or(Step::Remove, Step::Put);
                    add(Register::Object(key), step);
                }
            }
            (Action::Allocate(labels), _) => add(Register::LabelSet(labels), Step::Allocate),
            (Action::Read(key), Outcome::Value(seen)) => {
                add(Register::Object(key), Step::Read(seen.as_deref()));
            }
            (Action::Number(labels), Outcome::Number(seen)) => {
                add(Register::LabelSet(labels), Step::Number(*seen));
                if let Some(number) = seen {
                    add(Register::Number(*number), Step::Stands(labels));
                }
            }
            (Action::Free { labels, number }, _) => {
                add(Register::LabelSet(labels), Step::Free);
                add(Register::Number(*number), Step::Free);
            }
            // A look that saw nothing says nothing.
            (Action::Read(_) | Action::Number(_), _) => {}
        }
    }
    for parts in registers.values_mut() {
        forget_unseen(parts);
        parts.sort_by_key(|part| part.call);
    }
    registers
}

/// What nobody knows of, and nobody saw, need not have happened.
fn forget_unseen(parts: &mut Vec<Part>) {
    let seen: BTreeSet<Option<&str>> = parts
        .iter()
        .filter_map(|part| match part.step {
            Step::Read(seen) => Some(seen),
            Step::Put(_)
            | Step::Remove
            | Step::Allocate
            | Step::Number(_)
            | Step::Stands(_)
            | Step::Free => None,
        })
        .collect();
    parts.retain(|part| {
        part.is_known()
            || match part.step {
                Step::Put(value) => seen.contains(&Some(value)),
                Step::Remove => seen.contains(&None),
                Step::Read(_) | Step::Allocate | Step::Number(_) | Step::Stands(_) | Step::Free => {
                    false
                }
            }
    });
}

/// Why a search ended without an order.
enum Stop<'a> {
    /// There is none: what no order that went furthest had room for, and what the register held there.
    Stuck(Part<'a>, Held<'a>),
    Tired,
}

/// A search for an order of one register's parts, which are sorted by their calls.
struct Search<'a> {
    parts: &'a [Part<'a>],
    /// What is in order so far: a bit a part, and one after the other with what was held before.
    placed: Vec<u64>,
    order: Vec<(usize, Held<'a>)>,
    held: Held<'a>,
    /// Where it has been.
    seen: HashSet<(Vec<u64>, Held<'a>)>,
    furthest: Option<(usize, usize, Held<'a>)>,
}

impl<'a> Search<'a> {
    fn of(parts: &'a [Part<'a>]) -> Self {
        Self {
            parts,
            placed: vec![0; parts.len().div_ceil(64)],
            order: Vec::new(),
            held: Held::Nothing,
            seen: HashSet::new(),
            furthest: None,
        }
    }

    fn run(mut self) -> Result<(), Stop<'a>> {
        let mut from = 0;
        loop {
            let Some((first_end, stuck)) = self.next_end() else { return Ok(()) };
            if self.seen.len() > PATIENCE {
                return Err(Stop::Tired);
            }
            if let Some((at, held)) = self.next(from, first_end) {
                self.order.push((at, self.held));
                self.flip(at);
                self.held = held;
                from = 0;
                continue;
            }
            if self.furthest.is_none_or(|(depth, ..)| self.order.len() > depth) {
                self.furthest = Some((self.order.len(), stuck, self.held));
            }
            let Some((at, before)) = self.order.pop() else { return Err(self.stuck()) };
            self.flip(at);
            self.held = before;
            from = at + 1;
        }
    }

    fn stuck(&self) -> Stop<'a> {
        let part = self.furthest.and_then(|(_, at, held)| Some((*self.parts.get(at)?, held)));
        part.map_or(Stop::Tired, |(part, held)| Stop::Stuck(part, held))
    }

    fn is_placed(&self, at: usize) -> bool {
        self.placed.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    fn flip(&mut self, at: usize) {
        if let Some(word) = self.placed.get_mut(at / 64) {
            *word ^= 1 << (at % 64);
        }
    }

    /// Parts without a place.
    fn open(&self) -> impl Iterator<Item = (usize, &Part<'a>)> {
        let whole = self.placed.iter().take_while(|word| **word == u64::MAX).count();
        let rest = self.parts.iter().enumerate().skip(64 * whole);
        rest.filter(|(at, _)| !self.is_placed(*at))
    }

    /// The first end of a known part without a place, and whose it is; none when all have one.
    fn next_end(&self) -> Option<(u64, usize)> {
        let mut first: Option<(u64, usize)> = None;
        for (at, part) in self.open() {
            // Who was called later does not end earlier.
            if first.is_some_and(|(end, _)| part.call > end) {
                break;
            }
            if part.is_known() && first.is_none_or(|(end, _)| part.end < end) {
                first = Some((part.end, at));
            }
        }
        first
    }

    /// A part from here on that may come next, to where the search has not been; and what is held then.
    fn next(&mut self, from: usize, first_end: u64) -> Option<(usize, Held<'a>)> {
        // Who was called after another ended comes after it.
        let may: Vec<(usize, Part)> = self
            .open()
            .take_while(|(_, part)| part.call <= first_end)
            .map(|(at, part)| (at, *part))
            .collect();
        let from_here = may.iter().enumerate().filter(|(_, (at, _))| *at >= from);
        let held = self.held;
        let mut worth = from_here.filter(|(before, (_, part))| {
            // What nobody knows of is kept for when it changes something.
            let changes = held.after(part.step) != Some(held);
            part.is_known() || changes && is_worth_it(part.step, may.get(..*before), &may)
        });
        worth.find_map(|(_, (at, part))| {
            let (at, held) = (*at, self.held.after(part.step)?);
            let mut placed = self.placed.clone();
            if let Some(word) = placed.get_mut(at / 64) {
                *word |= 1 << (at % 64);
            }
            self.seen.insert((placed, held)).then_some((at, held))
        })
    }
}

/// Whether something that nobody knows of is to come next: when somebody may see it then, and no other like it was called
/// before. That leaves out no order that is not as good as one that is tried.
fn is_worth_it(step: Step, before: Option<&[(usize, Part)]>, all: &[(usize, Part)]) -> bool {
    let sees = |other: Step| match (step, other) {
        (Step::Put(value), Step::Read(seen)) => seen == Some(value),
        (Step::Remove, Step::Read(seen)) => seen.is_none(),
        (_, _) => false,
    };
    let twin = |(_, part): &(usize, Part)| !part.is_known() && part.step == step;
    all.iter().any(|(_, part)| sees(part.step)) && !before.unwrap_or_default().iter().any(twin)
}

#[cfg(test)]
mod tests;
