//! The file that the report goes to: opened before anything is touched, and left alone when there is no report.

use anyhow::{Context, Result};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// A file that can be written. What is in it stays until the page is written; one that was made for it goes without.
pub(super) struct Page<'a> {
    path: &'a Path,
    file: File,
    made: bool,
}

impl<'a> Page<'a> {
    /// Opens the file, or makes an empty one.
    pub(super) fn open(path: &'a Path) -> Result<Self> {
        let made = !path.exists();
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = opened.with_context(|| format!("write {}", path.display()))?;
        Ok(Self { path, file, made })
    }

    /// Writes it over what was there.
    pub(super) fn write(mut self, text: &str) -> Result<()> {
        let written = self.put(text);
        self.made &= written.is_err();
        written.with_context(|| format!("write {}", self.path.display()))
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        // Pipes and terminals have nothing to cut.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        if self.made {
            // Empty; somebody may have removed it.
            let _ = fs::remove_file(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_refused_at_once_and_nothing_is_left_without_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Page::open(path).err().map(|error| format!("{error:#}"));
        for path in [folder.path().to_owned(), folder.path().join("not/there.html")] {
            let told = refused(&path).unwrap();
            assert!(told.starts_with(&format!("write {}", path.display())), "{told}");
        }
        let new = folder.path().join("new.html");
        drop(Page::open(&new).unwrap());
        assert!(!new.exists());
        Page::open(&new).unwrap().write("a page").unwrap();
        drop(Page::open(&new).unwrap());
        assert_eq!(fs::read_to_string(&new).unwrap(), "a page", "an older one stays");
        Page::open(&new).unwrap().write("page").unwrap();
        assert_eq!(fs::read_to_string(&new).unwrap(), "page");
    }
}
