//! What is wrong with manifests: every finding of a file set, each with its place.

use std::{collections::BTreeSet, fmt, rc::Rc};

/// The most findings that are kept: whoever has more has the wrong file.
const FINDINGS_MAX: usize = 1000;

/// One thing wrong with a manifest, or likely not meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestError {
    /// The file, as it was named.
    pub file: String,
    /// The document within it, from 1; 0 when it could not be told apart.
    pub document: usize,
    /// `Kind namespace/name`, as far as the document says it; empty for a file.
    pub object: String,
    /// The field's path, empty for the whole document.
    pub field: String,
    /// What is wrong, or likely not meant.
    pub problem: String,
}

impl fmt::Display for ManifestError {
    /// `FILE: document N (Kind namespace/name): field.path[0]: what is wrong`, always one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, place(self.document, &self.object))?;
        if !self.field.is_empty() {
            write!(f, "{}: ", one_line(&self.field))?;
        }
        f.write_str(&one_line(&self.problem))
    }
}

fn place(document: usize, object: &str) -> String {
    match (document, object) {
        (0, _) => String::new(),
        (number, "") => format!("document {number}: "),
        (number, object) => format!("document {number} ({}): ", one_line(object)),
    }
}

/// What a manifest says can hold any character; a finding is one line of plain text.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Where an object stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: Rc<str>,
    pub(crate) document: usize,
    /// Path of the object within its document, for items of a list: empty, or ending with a dot.
    pub(crate) at: String,
    /// `Kind namespace/name`, as far as it is known.
    pub(crate) object: String,
}

impl Place {
    /// A file as a whole.
    pub(crate) fn of_file(file: &str) -> Self {
        Self { file: file.into(), document: 0, at: String::new(), object: String::new() }
    }

    fn finding(&self, field: &str, problem: String) -> ManifestError {
        ManifestError {
            file: self.file.to_string(),
            document: self.document,
            object: self.object.clone(),
            field: format!("{}{field}", self.at).trim_end_matches('.').to_owned(),
            problem,
        }
    }
}

impl fmt::Display for Place {
    /// For a finding elsewhere that names this place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)?;
        let at = self.at.trim_end_matches('.');
        if at.is_empty() { Ok(()) } else { write!(f, ", {at}") }
    }
}

/// Findings of a file set.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<ManifestError>,
    pub(crate) warnings: Vec<ManifestError>,
    left_out: usize,
}

impl Findings {
    /// Something is wrong.
    pub(crate) fn error(&mut self, place: &Place, field: &str, problem: impl Into<String>) {
        if self.errors.len() < FINDINGS_MAX {
            self.errors.push(place.finding(field, problem.into()));
        } else {
            self.left_out += 1;
        }
    }

    /// Something is likely not meant.
    pub(crate) fn warning(&mut self, place: &Place, field: &str, problem: impl Into<String>) {
        if self.warnings.len() < FINDINGS_MAX {
            self.warnings.push(place.finding(field, problem.into()));
        }
    }

    /// The errors, if any; what was left out is said.
    pub(crate) fn into_errors(mut self) -> Result<Vec<ManifestError>, Vec<ManifestError>> {
        if self.left_out > 0 {
            let more = format!("{} more errors are not shown", self.left_out);
            self.errors.push(Place::of_file("and").finding("", more));
        }
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(self.errors) }
    }
}

/// Findings of one object: at most one error a field, the first.
pub(crate) struct Sink<'a> {
    pub(crate) place: &'a Place,
    findings: &'a mut Findings,
    seen: BTreeSet<String>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(place: &'a Place, findings: &'a mut Findings) -> Self {
        Self { place, findings, seen: BTreeSet::new() }
    }

    /// Something is wrong with a field.
    pub(crate) fn error(&mut self, field: &str, problem: impl Into<String>) {
        if self.seen.insert(field.to_owned()) {
            self.findings.error(self.place, field, problem);
        }
    }

    /// A field must be there.
    pub(crate) fn missing(&mut self, field: &str) {
        self.error(field, "is required");
    }

    /// A field says something that is likely not meant.
    pub(crate) fn warning(&mut self, field: &str, problem: impl Into<String>) {
        self.findings.warning(self.place, field, problem);
    }

    /// Whether nothing was wrong with the object so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.seen.is_empty()
    }

    /// Reports what a check found wrong with a text.
    pub(crate) fn check(
        &mut self,
        field: &str,
        text: &str,
        check: fn(&str) -> Option<&'static str>,
    ) {
        if let Some(rule) = check(text) {
            self.error(field, format!("{} {rule}", quoted(text)));
        }
    }
}

/// A text as errors show it: quoted, cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((at, _)) => format!("{:?}…", text.get(..at).unwrap_or_default()),
    }
}
