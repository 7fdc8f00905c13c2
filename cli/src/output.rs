//! How a command ends: exit codes, and errors for people.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// `-o`: for whom a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// JSON for programs.
    Json,
}

/// Prints rows in the format asked for; `cells` are a row's columns.
pub(crate) fn rows<T: serde::Serialize, const N: usize>(
    format: Format,
    headings: [&str; N],
    rows: &[T],
    cells: impl Fn(&T) -> [String; N],
) -> anyhow::Result<Outcome> {
    match format {
        Format::Json => {
            say(&format!("{}\n", serde_json::to_string_pretty(rows)?))?;
        }
        Format::Table => {
            columns(headings, rows, cells)?;
        }
    }
    Ok(Outcome::Done)
}

/// Prints rows for people; `cells` are a row's columns.
pub(crate) fn columns<T, const N: usize>(
    headings: [&str; N],
    rows: &[T],
    cells: impl Fn(&T) -> [String; N],
) -> io::Result<Reader> {
    let lines: Vec<[String; N]> = rows.iter().map(cells).collect();
    say(&table(headings, &lines, width()))
}

/// Says a line on standard error, to whoever watches. That nobody does is no error, and no reason to stop half-way.
macro_rules! note {
    ($($words:tt)*) => {
        $crate::output::aside(format_args!("{}\n", format_args!($($words)*)))
    };
}
pub(crate) use note;

/// Writes to standard error.
pub(crate) fn aside(text: std::fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// Writes to standard output. Who reads no further (`| head`) is no error.
pub(crate) fn say(text: &str) -> io::Result<Reader> {
    stream(|out| out.write_all(text.as_bytes()))
}

/// The same of what is too much to be held at once.
pub(crate) fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Reader> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => {
            let what = format!("write to standard output: {error}");
            Err(io::Error::new(error.kind(), what))
        }
        Ok(()) => Ok(Reader::There),
    }
}

/// Whether somebody still reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Somebody does.
    There,
    /// Nobody does.
    Gone,
}

/// Columns of the terminal; none where standard output is something else.
pub(crate) fn width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// Columns as wide as their widest cell, two spaces between them, none at the end of a line.
/// On a terminal a line that is too long is cut, for its last column is the one that explains.
fn table<const N: usize>(
    headings: [&str; N],
    lines: &[[String; N]],
    columns: Option<usize>,
) -> String {
    let headings = headings.map(str::to_owned);
    let all = || std::iter::once(&headings).chain(lines);
    let mut widths = [0; N];
    for line in all() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in all() {
        let padded: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let joined = padded.join("  ");
        let joined = joined.trim_end();
        match columns.filter(|columns| joined.chars().count() > *columns) {
            Some(columns) => {
                text.extend(joined.chars().take(columns.saturating_sub(1)).chain(['…']));
            }
            None => text.push_str(joined),
        }
        text.push('\n');
    }
    text
}

/// Names that were perhaps meant, or else what there is, for an error about one that there is not.
pub(crate) fn alike<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<&str> = names.into_iter().collect();
    let near = names.iter().copied().filter(|name| name.contains(wanted));
    let near: Vec<&str> = near.take(SHOWN / 4).collect();
    match (near.as_slice(), names.len()) {
        ([_, ..], _) => format!("did you mean {}?", near.join(" or ")),
        ([], 0) => "there are none".to_owned(),
        ([], count) if count > SHOWN => {
            let shown: Vec<&str> = names.into_iter().take(SHOWN).collect();
            format!("there are {count}, as {}", shown.join(", "))
        }
        ([], _) => format!("there are {}", names.join(", ")),
    }
}

/// How a command that worked ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit 0.
    Done,
    /// Exit 1: the answer is no, and was printed.
    No,
}

/// Wrong usage that shows only when arguments are taken together; clap tells the rest itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Exit codes of the fixed interface: 0 done, 1 no, 2 wrong usage, 3 could not reach or do it.
pub(crate) fn exit_code(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            note!("weft: {}", told(&error));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 3 })
        }
    }
}

/// An error with its causes, each once: many spell out their own.
pub(crate) fn told(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| match cause.to_string() {
        cause if text.ends_with(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::{alike, table, told};

    #[test]
    fn what_was_perhaps_meant_is_named() {
        let names = ["shop/cart-0", "shop/cart-1", "shop/db-0"];
        assert_eq!(alike("cart", names), "did you mean shop/cart-0 or shop/cart-1?");
        assert_eq!(alike("x", names), "there are shop/cart-0, shop/cart-1, shop/db-0");
        assert_eq!(alike("x", []), "there are none");
        let many: Vec<String> = (0..100).map(|n| format!("p{n:02}")).collect();
        let told = alike("x", many.iter().map(String::as_str));
        assert!(told.starts_with("there are 100, as p00, ") && told.ends_with("p19"), "{told}");
    }

    #[test]
    fn a_cause_is_told_once() {
        let refused = std::io::Error::other("refused");
        let error = anyhow::Error::new(refused).context("connect: refused").context("ask");
        assert_eq!(told(&error), "ask: connect: refused");
        assert_eq!(told(&anyhow::Error::msg("b").context("a")), "a: b");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [["shop/web-0".to_owned(), "7".to_owned()], [String::new(), "12".to_owned()]];
        let text = table(["POD", "ID"], &lines, None);
        assert_eq!(text, "POD         ID\nshop/web-0  7\n            12\n");
        let text = table(["POD", "ID"], &lines, Some(12));
        assert_eq!(
            text,
            "POD         …\nshop/web-0 …\n           …\n".replace("POD         …", "POD        …")
        );
        assert_eq!(table(["POD", "ID"], &lines, Some(80)), table(["POD", "ID"], &lines, None));
    }
}
