//! Files, folders and standard input; texts and the documents in them.

use crate::{
    document,
    finding::{Findings, Place},
    set::Set,
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};
use weft_types::LabelFilter;

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// Reads sources into a set.
pub(crate) struct Reading<'a> {
    pub(crate) filter: &'a LabelFilter,
    pub(crate) set: Set,
    pub(crate) findings: Findings,
}

impl Reading<'_> {
    /// A file, a folder of them, or `-`.
    pub(crate) fn path(&mut self, path: &Path) {
        let name = path.display().to_string();
        if name == "-" {
            self.stream("standard input", Ok(io::stdin()));
        } else if path.is_dir() {
            self.folder(path, &name);
        } else {
            self.stream(&name, File::open(path));
        }
    }

    fn folder(&mut self, path: &Path, name: &str) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.fail(name, format!("cannot be listed: {error}")),
        };
        let mut files: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|p| {
                matches!(p.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"))
            })
            .filter(|p| !p.is_dir())
            .collect();
        files.sort();
        if files.is_empty() {
            self.fail(name, "has no .yaml, .yml or .json file in it".to_owned());
        }
        for file in files {
            self.stream(&file.display().to_string(), File::open(&file));
        }
    }

    /// Reads a file or a pipe, but no more of it than a manifest may have.
    fn stream(&mut self, name: &str, source: io::Result<impl Read>) {
        let mut bytes = Vec::new();
        let read = source.and_then(|source| source.take(FILE_MAX + 1).read_to_end(&mut bytes));
        match (read, String::from_utf8(bytes)) {
            (Err(error), _) => self.fail(name, format!("cannot be read: {error}")),
            (Ok(length), _) if length as u64 > FILE_MAX => {
                self.fail(name, format!("is longer than {} MiB", FILE_MAX >> 20));
            }
            (Ok(_), Err(error)) => {
                let at = error.utf8_error().valid_up_to();
                self.fail(name, format!("is no text: byte {at} is not UTF-8"));
            }
            (Ok(_), Ok(text)) => self.text(name, &text),
        }
    }

    /// A text of YAML or JSON documents.
    pub(crate) fn text(&mut self, file: &str, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut place = Place::of_file(file);
        if let Some(values) = json(text) {
            for value in values {
                place.document += 1;
                document::read(self, place.clone(), value);
            }
            return;
        }
        for chunk in chunks(text) {
            place.document += 1;
            match yaml(chunk.text) {
                Ok(values) => {
                    for value in values {
                        document::read(self, place.clone(), value);
                    }
                }
                Err(error) => {
                    let (line, problem) = explain(&error);
                    let problem = match problem.strip_prefix("budget breached: ") {
                        Some(limit) => {
                            format!("is too large or too deep, perhaps by its aliases: {limit}")
                        }
                        None => format!("is not YAML: {problem}"),
                    };
                    let problem = match line {
                        Some(line) => format!("line {}: {problem}", chunk.lines_before + line),
                        None => problem,
                    };
                    self.findings.error(&place, "", problem);
                }
            }
        }
    }

    fn fail(&mut self, file: &str, problem: String) {
        self.findings.error(&Place::of_file(file), "", problem);
    }
}

/// One or more JSON values, if that is what the text is.
fn json(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()
}

/// Values of a text that is as large as its bytes make it: aliases may repeat parts of a small one, and of a large
/// one (a dump of a cluster has a value every 15 bytes) no more than what stands in it for itself.
const VALUES: usize = 250_000;
const BYTES_A_VALUE: usize = 4;

fn yaml(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let values = VALUES.max(text.len() / BYTES_A_VALUE);
    let options = serde_saphyr::options! {
        // kubectl reads YAML 1.1, where 0644 is octal.
        legacy_octal_numbers: true,
        // A map or list has a beginning and an end.
        budget: serde_saphyr::budget! { max_nodes: values, max_events: 4 * values },
    };
    serde_saphyr::from_multiple_with_options(text, options)
}

/// The line an error is at within its text, and what it says.
fn explain(error: &serde_saphyr::Error) -> (Option<usize>, String) {
    let error = error.without_snippet();
    let text = error.to_string();
    let Some(location) = error.location() else { return (None, text) };
    let place = format!(" at line {}, column {}", location.line(), location.column());
    let problem = text
        .strip_suffix(&place)
        .unwrap_or(&text)
        .replace(", set DuplicateKeyPolicy in Options if acceptable", "");
    (usize::try_from(location.line()).ok().filter(|line| *line > 0), problem)
}

/// A document's text.
#[derive(Debug, PartialEq, Eq)]
struct Chunk<'a> {
    text: &'a str,
    lines_before: usize,
}

/// The documents of a text, each parsed by itself so that a broken one hides no other. In YAML `---` at
/// the start of a line ends a document wherever it stands: even in a quoted text it would be an error.
fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks: Vec<Chunk<'_>> = Vec::new();
    let (mut begin, mut lines_before, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marks = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim_start() != rest || rest.is_empty());
        let before = text.get(begin..at).unwrap_or_default();
        // What is before the first document's mark, comments and directives, belongs to it.
        if marks && before.lines().any(is_content) {
            chunks.push(Chunk { text: before, lines_before });
            (begin, lines_before) = (at, number);
        }
        at += line.len();
    }
    let rest = text.get(begin..).unwrap_or_default();
    if rest.lines().any(is_content) {
        chunks.push(Chunk { text: rest, lines_before });
    }
    chunks
}

fn is_content(line: &str) -> bool {
    let line = line.strip_prefix("---").unwrap_or(line).trim_start();
    !line.is_empty() && !line.starts_with(['#', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_may_have_what_stands_in_it_and_a_small_one_not_what_aliases_make_of_it() {
        let large: String = (0..130_000).map(|n| format!("label-{n}: value-{n}\n")).collect();
        assert!(yaml(&large).is_ok());
        let mut small = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (one, next) in "abcdefg".chars().zip("bcdefgh".chars()) {
            let nine = vec![format!("*{one}"); 9].join(",");
            small.push_str(&format!("{next}: &{next} [{nine}]\n"));
        }
        let (_, problem) = explain(&yaml(&small).expect_err("nine to the eighth"));
        assert!(problem.starts_with("budget breached"), "{problem}");
    }

    #[test]
    fn documents_are_what_stands_between_marks() {
        let texts =
            |text| chunks(text).into_iter().map(|c| (c.lines_before, c.text)).collect::<Vec<_>>();
        assert_eq!(texts(""), []);
        assert_eq!(texts("# only\n---\n---\n"), []);
        assert_eq!(texts("a: 1"), [(0, "a: 1")]);
        assert_eq!(texts("a: 1\n---\nb: 2\n"), [(0, "a: 1\n"), (1, "---\nb: 2\n")]);
        assert_eq!(texts("# x\n---\na: 1\n---\n---\n"), [(0, "# x\n---\na: 1\n")]);
        assert_eq!(texts("%YAML 1.2\n---\na: 1\n"), [(0, "%YAML 1.2\n---\na: 1\n")]);
        assert_eq!(texts("a: 1\r\n---\r\nb: 2"), [(0, "a: 1\r\n"), (1, "---\r\nb: 2")]);
        assert_eq!(texts("--- {a: 1}\n--- {b: 2}"), [(0, "--- {a: 1}\n"), (1, "--- {b: 2}")]);
        // No marks: longer, indented, or within a line.
        for one in ["a: |\n  ---\n  b\n", "----\n", "---a: 1\n", "a: ---\n"] {
            assert_eq!(texts(one), [(0, one)]);
        }
    }
}
