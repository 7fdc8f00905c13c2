//! From what a class holds for one peer to what it should hold, step by step.

use super::Entries;
use weft_abi::policy::ClassEdit;

/// The edits, in an order in which every query is answered as before or as after by each single step.
///
/// Of the entries that cover a query the longest answers it. New entries come longest first: until the one
/// that will answer a query is there, no new entry touches what answers it now, and afterwards no shorter one
/// can. Old entries go shortest first: while the one that answers a query is there it answers as before, and
/// when it goes no other old one is left that would answer in its place.
pub(super) fn between(old: &Entries, new: &Entries) -> Vec<ClassEdit> {
    let mut edits: Vec<ClassEdit> = new
        .iter()
        .rev()
        .filter(|(prefix, entry)| old.get(prefix) != Some(entry))
        .map(|(prefix, entry)| ClassEdit::Upsert(*prefix, *entry))
        .collect();
    // The order of entries begins with the length.
    let gone = old.keys().filter(|prefix| !new.contains_key(prefix));
    edits.extend(gone.map(|prefix| ClassEdit::Delete(*prefix)));
    edits
}
