//! Every input of the corpus, those among them that once broke something, through its target.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::{fs, panic, path::PathBuf};
use weft_fuzz::TARGETS;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn nothing_in_the_corpus_breaks_anything() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let done = panic::catch_unwind(|| target(&bytes));
            assert!(done.is_ok(), "{name}: {}", file.display());
        }
        target(&[]);
    }
}

#[test]
fn the_corpus_stays_small() {
    for (name, _) in TARGETS {
        let sizes = corpus(name).into_iter().map(|file| fs::metadata(file).unwrap().len());
        let sizes: Vec<u64> = sizes.collect();
        let total: u64 = sizes.iter().sum();
        assert!(
            sizes.len() <= 400 && total <= 256 << 10,
            "{name}: {} files, {total} bytes",
            sizes.len()
        );
    }
}
