//! Files that outlive a process: an agent's endpoints, what was published to it, queued DELs; an operator's log.

use crate::bytes::Bytes;
use std::{fs, path::Path, sync::LazyLock};
use tempfile::TempDir;
use weft_agent::{
    journal::Journal,
    state::{self, Record},
};
use weft_api::cni::Attachment;
use weft_state::{ClusterState, decode_entry, encode_entry};

/// What a file of published state begins with.
const MAGIC: &[u8] = b"weftpub\x01";
/// In place of a name; tests and libFuzzer's own processes have one each.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

/// The target: which file, then what is in it.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    match bytes.up_to(5) {
        0 => record(bytes.0),
        1 => journal(FOLDER.path(), bytes.0),
        2 => journal(FOLDER.path(), &framed(bytes)),
        3 => drop(serde_json::from_slice::<Attachment>(bytes.0)),
        4 => entry(bytes.0),
        _ => snapshot(bytes.0),
    }
}

fn record(bytes: &[u8]) {
    let folder = state::folder(FOLDER.path()).unwrap();
    fs::write(folder.join("wl1.json"), bytes).unwrap();
    let read = || -> Record { state::read(&folder).unwrap().remove("wl1").unwrap().unwrap() };
    match state::read(&folder).unwrap().remove("wl1") {
        Some(Ok(record)) => {
            state::write(&folder, "wl1", &record).unwrap();
            assert_eq!(read(), record);
        }
        Some(Err(why)) => assert!(why.to_string().contains("wl1.json"), "{why}"),
        None => panic!("the file is not seen"),
    }
}

/// Bodies of frames, each as long as its first two bytes say, with checksums that are right: chance finds none.
fn framed(mut bytes: Bytes<'_>) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    while !bytes.is_empty() {
        let length = usize::from(bytes.number()).min(bytes.0.len());
        let (body, rest) = bytes.0.split_at(length);
        let mut header = u32::try_from(length).unwrap().to_le_bytes().to_vec();
        header.extend(crc32fast::hash(body).to_le_bytes());
        header.extend(crc32fast::hash(&header).to_le_bytes());
        file.extend(header);
        file.extend(body);
        bytes.0 = rest;
    }
    file
}

fn journal(folder: &Path, bytes: &[u8]) {
    let mut journal = Journal::new(folder);
    fs::write(journal.path(), bytes).unwrap();
    let Ok(Some(published)) = journal.read() else { return };
    let whole = published.whole();
    journal.record(&whole).expect("what was read can be written");
    let again = journal.read().unwrap().unwrap().whole();
    assert_eq!((again.revision, again.deltas), (whole.revision, whole.deltas));
}

fn entry(bytes: &[u8]) {
    let Ok(entry) = decode_entry(bytes) else { return };
    let again = decode_entry(&encode_entry(&entry).unwrap()).unwrap();
    assert_eq!(again, entry);
    let mut state = ClusterState::new("fuzz");
    let would = state.would_change(&entry.command);
    let changes = state.apply(&entry.command);
    assert!(would || changes.is_empty(), "{:?}: {changes:?}", entry.command);
}

fn snapshot(bytes: &[u8]) {
    let Ok(state) = ClusterState::decode(bytes) else { return };
    let once = state.encode().expect("what was read can be written");
    let again = ClusterState::decode(&once).expect("what was written can be read");
    assert!(again.snapshot().eq(state.snapshot()), "{once:?}");
    assert_eq!(again.encode().unwrap(), once);
}
