//! What was published, on this node's disk: a restarted agent goes on from it while no operator can be reached.
//!
//! One file: [`MAGIC`], then frames: the length of a body, its CRC-32, the CRC-32 of these two, the body; numbers are little
//! endian. The first body is a whole state, each later one a change. A change is in the file before the kernel is told of it, so whoever reads
//! the file never takes the kernel back in time. A frame that ends early at the end of the file was never told and is left
//! out; anything else that is wrong makes the file none, and an operator is waited for.

use crate::published::{Advance, Published};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use weft_types::{Delta, Revision, codec};

/// First bytes of the file; the last of them is its version.
const MAGIC: &[u8; 8] = b"weftpub\x01";
/// Length and checksums before a body.
const HEADER: usize = 12;
/// Changes up to this many bytes, or as many as the whole state has, are kept before the file is written anew.
const CHANGES: usize = 1 << 20;

/// A body: the revision that it leads to, and the deltas of it.
type Body = (Revision, Vec<Delta>);

/// The file. Only its newest user writes it: each writes one of its own first.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// None until the whole state is in it.
    file: Option<File>,
    /// Bytes of the whole state, and of the changes after it.
    whole: usize,
    changes: usize,
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not begin as it should.
    #[error("it is of another version, or none of ours")]
    Other,
    /// A frame is damaged.
    #[error("it is damaged at byte {0}")]
    Damaged(usize),
}

impl Journal {
    /// That of a state folder.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("published"), file: None, whole: 0, changes: 0 }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds; none when there is no file.
    pub fn read(&self) -> Result<Option<Published>, Unusable> {
        match fs::read(&self.path) {
            Ok(bytes) => parse(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the next thing to be recorded is everything.
    pub fn wants_whole(&self) -> bool {
        self.file.is_none() || self.changes > self.whole.max(CHANGES)
    }

    /// Records a change, or everything where that is wanted. After a failure there is no file: an old one would take
    /// the kernel back in time.
    pub fn record(&mut self, advance: &Advance) -> io::Result<()> {
        let done = self.attempt(advance);
        if done.is_err() {
            self.file = None;
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        done
    }

    fn attempt(&mut self, advance: &Advance) -> io::Result<()> {
        let frame = frame(advance)?;
        match self.file.as_mut().filter(|_| !advance.whole) {
            Some(file) => {
                file.write_all(&frame)?;
                self.changes += frame.len();
            }
            None => {
                let new = self.path.with_extension("new");
                let mut file = File::create(&new)?;
                file.write_all(MAGIC)?;
                file.write_all(&frame)?;
                file.sync_data()?;
                fs::rename(&new, &self.path)?;
                if let Some(folder) = self.path.parent() {
                    File::open(folder)?.sync_all()?;
                }
                (self.whole, self.changes) = (frame.len(), 0);
                self.file = Some(file);
            }
        }
        Ok(())
    }

    /// The file, for who waits until all that is recorded is on the disk.
    pub fn unsynced(&self) -> io::Result<Option<File>> {
        self.file.as_ref().map(File::try_clone).transpose()
    }
}

fn frame(advance: &Advance) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    let deltas: Vec<&Delta> = advance.deltas.iter().map(Arc::as_ref).collect();
    codec::encode_into(&(advance.revision, deltas), &mut frame).map_err(io::Error::other)?;
    let (header, body) = frame.split_at_mut(HEADER);
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    header.copy_from_slice(&header_of(length, crc32fast::hash(body)));
    Ok(frame)
}

fn header_of(length: u32, checksum: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let words = u64::from(checksum) << 32 | u64::from(length);
    let (first, last) = header.split_at_mut(8);
    first.copy_from_slice(&words.to_le_bytes());
    last.copy_from_slice(&crc32fast::hash(first).to_le_bytes());
    header
}

fn parse(bytes: &[u8]) -> Result<Published, Unusable> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(Unusable::Other)?;
    let mut published = None;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let Some((body, after)) = split(rest) else { break };
        let (revision, deltas) = body.ok_or(Unusable::Damaged(at))?;
        let follows = match &mut published {
            None => {
                published = Some(Published::recovered(revision, deltas));
                true
            }
            Some(published) => published.take(revision, deltas),
        };
        if !follows {
            return Err(Unusable::Damaged(at));
        }
        rest = after;
    }
    let mut published = published.ok_or(Unusable::Damaged(MAGIC.len()))?;
    // Who begins is told everything anyway.
    drop(published.changes());
    Ok(published)
}

/// The first frame, none in it when it is damaged, and what follows; none when the bytes end early.
fn split(bytes: &[u8]) -> Option<(Option<Body>, &[u8])> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (length, checksum) = (number(0)?, number(4)?);
    if bytes.get(..HEADER)? != header_of(length, checksum) {
        return Some((None, &[]));
    }
    let (body, after) = bytes.get(HEADER..)?.split_at_checked(length as usize)?;
    let whole = crc32fast::hash(body) == checksum;
    Some((whole.then(|| codec::decode(body).ok()).flatten(), after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weft_types::{Identity, LabelSet, Node, NodeName};

    fn identity(number: u32) -> Delta {
        Delta::IdentityUpsert(Identity(number), LabelSet::new())
    }

    fn advance(revision: u64, whole: bool, deltas: &[Delta]) -> Advance {
        let deltas = deltas.iter().cloned().map(Arc::new).collect();
        Advance { revision: Revision(revision), whole, deltas }
    }

    fn held(journal: &Journal) -> (u64, Vec<Delta>) {
        let whole = journal.read().unwrap().unwrap().whole();
        (whole.revision.0, whole.deltas.iter().map(|delta| (**delta).clone()).collect())
    }

    #[test]
    fn what_is_recorded_is_read_by_the_next_agent() {
        let disk = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(disk.path());
        assert!(journal.read().unwrap().is_none());
        assert!(journal.wants_whole());
        journal.record(&advance(5, true, &[identity(300), identity(301)])).unwrap();
        assert!(!journal.wants_whole());
        let gone = Delta::IdentityDelete(Identity(300));
        journal.record(&advance(7, false, &[gone, identity(302)])).unwrap();
        journal.record(&advance(9, false, &[])).unwrap();
        let next = Journal::new(disk.path());
        assert_eq!(held(&next), (9, vec![identity(301), identity(302)]));
        assert!(next.wants_whole(), "its own file first");
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let disk = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(disk.path());
        let state: Vec<Delta> = (300..2000).map(identity).collect();
        let mut wholes = 0;
        for revision in 1..2000 {
            let whole = journal.wants_whole();
            wholes += u32::from(whole);
            journal.record(&advance(revision, whole, &state)).unwrap();
            let size = fs::metadata(journal.path()).unwrap().len();
            assert!(size < 2 * CHANGES as u64, "{size}");
        }
        assert!(wholes < 20, "written anew {wholes} times");
    }

    /// Golden: the file of an older agent is read by a newer one, or its version is another.
    #[test]
    fn the_file_keeps_its_form() {
        let disk = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(disk.path());
        let node = Node {
            name: NodeName("node1".to_owned()),
            address: [172, 30, 0, 11].into(),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        };
        let whole = [identity(300), Delta::NodeUpsert(node)];
        journal.record(&advance(Revision::new(1, 5).0, true, &whole)).unwrap();
        let gone = Delta::IdentityDelete(Identity(300));
        journal.record(&advance(Revision::new(1, 6).0, false, &[gone])).unwrap();
        let bytes = fs::read(journal.path()).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN, "{hex}");
    }

    const GOLDEN: &str = "776566747075620120000000d003cde6b1547b8ffd05000000000001000200fb2c010002056e6f646531ac1e000b010af40100180e0000008e08b47be39e4334fd06000000000001000101fb2c01";

    fn file() -> Vec<u8> {
        let disk = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(disk.path());
        journal.record(&advance(5, true, &[identity(300)])).unwrap();
        journal.record(&advance(6, false, &[identity(301)])).unwrap();
        journal.record(&advance(7, false, &[identity(302)])).unwrap();
        fs::read(journal.path()).unwrap()
    }

    #[test]
    fn what_was_torn_off_at_the_end_is_left_out_and_the_rest_is_read() {
        let bytes = file();
        let frame = (bytes.len() - MAGIC.len()) / 3;
        for cut in 1..frame {
            let read = parse(&bytes[..bytes.len() - cut]).unwrap();
            assert_eq!(read.revision(), Revision(6), "cut by {cut}");
        }
    }

    #[test]
    fn another_version_and_damage_make_it_none() {
        let bytes = file();
        let mut newer = bytes.clone();
        newer[7] = 2;
        assert!(matches!(parse(&newer), Err(Unusable::Other)));
        assert!(matches!(parse(b""), Err(Unusable::Other)));
        assert!(matches!(parse(MAGIC), Err(Unusable::Damaged(8))));
        let second = MAGIC.len() + (bytes.len() - MAGIC.len()) / 3;
        for at in [MAGIC.len(), MAGIC.len() + HEADER, second, second + 3, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(matches!(parse(&damaged), Err(Unusable::Damaged(_))), "at {at}");
        }
        // A change that leads back in time was written by nobody.
        let twice = [&bytes[..], &bytes[MAGIC.len()..]].concat();
        assert!(matches!(parse(&twice), Err(Unusable::Damaged(_))));
    }

    #[test]
    fn a_record_that_fails_leaves_no_file() {
        let disk = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(&disk.path().join("folder"));
        fs::create_dir(disk.path().join("folder")).unwrap();
        journal.record(&advance(5, true, &[identity(300)])).unwrap();
        // A folder is where the new file is to be made.
        fs::create_dir(journal.path().with_extension("new")).unwrap();
        assert!(journal.record(&advance(6, true, &[])).is_err());
        assert!(journal.read().unwrap().is_none() && journal.wants_whole());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, at in 0_usize..200, flip in 1_u8..) {
            drop(parse(&bytes));
            drop(parse(&[&MAGIC[..], &bytes].concat()));
            let mut damaged = file();
            let at = at % damaged.len();
            damaged[at] ^= flip;
            drop(parse(&damaged));
        }
    }
}
