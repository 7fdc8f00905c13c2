//! All that is under a prefix, as it was at one moment, however often etcd forgets its history meanwhile.

use super::{EtcdStore, connection::Unanswered};
use crate::{StoreError, failed};
use etcd_client::{GetOptions, KeyValue, ResponseHeader};

/// Keys that are listed by one request.
const PAGE: i64 = 1000;
/// Times that a listing is begun before it is given up.
const LISTINGS: usize = 5;

impl EtcdStore {
    /// Everything under a prefix. A compaction may take its revision away between two pages: it is begun anew then.
    pub(super) fn list(
        &self,
        action: &'static str,
        prefix: &str,
    ) -> Result<Vec<KeyValue>, StoreError> {
        for _ in 0..LISTINGS {
            match self.pages(prefix) {
                Err(problem) if problem.was_compacted() => {}
                ended => return ended.map_err(|problem| failed(action, problem)),
            }
        }
        let problem = format!(
            "etcd was compacted each of {LISTINGS} times before all was read; have it keep its history for longer (its --auto-compaction-retention)"
        );
        Err(failed(action, problem))
    }

    /// The same at one revision, page by page.
    fn pages(&self, prefix: &str) -> Result<Vec<KeyValue>, Unanswered> {
        let (mut all, mut revision) = (Vec::new(), 0);
        let mut from = self.key(prefix).into_bytes();
        let end = after_all(&from);
        loop {
            let options =
                GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
            let mut page = self.etcd.get(from, options)?;
            revision = page.header().map_or(revision, ResponseHeader::revision);
            all.extend(page.take_kvs());
            match all.last().filter(|_| page.more()) {
                Some(last) => from = [last.key(), &[0]].concat(),
                None => return Ok(all),
            }
        }
    }
}

/// The first key after all that begin with a prefix.
fn after_all(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}
