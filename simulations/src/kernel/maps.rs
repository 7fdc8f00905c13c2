//! The maps of a node's kernel, as far as packets are judged by them: a model, written one step at a time.
//!
//! `tests/maps.rs` has the maps in memory that agents are tested over do the same; what those do was taught by the kernel
//! (`datapath/loader/tests/root_maps.rs`).

use std::collections::BTreeMap;
use weft_abi::policy::ClassEdit;
use weft_core::{mapsync::Rows, policy::Entries};

/// All of them. They outlive the agent's process, and end with the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Maps of rows, by name.
    pub rows: BTreeMap<&'static str, Rows>,
    /// Policy classes and their tries.
    pub classes: BTreeMap<u32, Entries>,
    /// The node's epoch.
    pub epoch: u64,
}

/// What the kernel does at once: a packet meets what was before it, or what is after.
#[derive(Clone, Debug)]
pub enum Write {
    /// A row comes, or takes the place of another.
    Row(&'static str, Vec<u8>, Vec<u8>),
    /// A row goes, if it is there.
    NoRow(&'static str, Vec<u8>),
    /// A class is swapped in whole.
    Class(u32, Entries),
    /// An entry of a class changes in place.
    Edit(u32, ClassEdit),
    /// A class goes, if it is there.
    NoClass(u32),
    /// Every flow is to be judged again.
    Epoch,
}

/// The kernel did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Maps {
    /// One write.
    pub fn write(&mut self, write: Write) -> Result<(), Refused> {
        match write {
            Write::Row(map, key, value) => {
                self.rows.entry(map).or_default().insert(key, value);
            }
            Write::NoRow(map, key) => {
                self.rows.entry(map).or_default().remove(&key);
            }
            Write::Class(class, entries) => drop(self.classes.insert(class, entries)),
            Write::Edit(class, edit) => {
                let trie = self.classes.get_mut(&class).ok_or(Refused)?;
                match edit {
                    ClassEdit::Upsert(prefix, entry) => drop(trie.insert(prefix, entry)),
                    ClassEdit::Delete(prefix) => drop(trie.remove(&prefix)),
                }
            }
            Write::NoClass(class) => drop(self.classes.remove(&class)),
            Write::Epoch => self.epoch += 1,
        }
        Ok(())
    }

    /// A row of a map.
    pub(crate) fn row(&self, map: &str, key: &[u8]) -> Option<&Vec<u8>> {
        self.rows.get(map)?.get(key)
    }

    /// All rows of a map.
    pub(crate) fn rows(&self, map: &str) -> Rows {
        self.rows.get(map).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_abi::policy::PolicyPrefix;

    #[test]
    fn rows_and_classes_come_and_go_and_what_is_absent_may_go_again() {
        let mut maps = Maps::default();
        let row = |value| Write::Row("map", vec![1], vec![value]);
        for write in [row(1), row(2), Write::Class(7, Entries::new()), Write::Epoch] {
            assert_eq!(maps.write(write), Ok(()));
        }
        assert_eq!(maps.row("map", &[1]), Some(&vec![2]));
        for _ in 0..2 {
            assert_eq!(maps.write(Write::NoRow("map", vec![1])), Ok(()));
            assert_eq!(maps.write(Write::NoClass(7)), Ok(()));
        }
        assert_eq!((maps.rows("map"), maps.classes.len(), maps.epoch), (Rows::new(), 0, 1));
    }

    #[test]
    fn a_class_that_is_not_there_is_not_edited() {
        let edit = ClassEdit::Delete(PolicyPrefix::zeroed());
        assert_eq!(Maps::default().write(Write::Edit(7, edit)), Err(Refused));
    }
}
