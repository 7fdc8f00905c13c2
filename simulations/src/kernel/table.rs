//! Who owns a map of rows: the shipped core of what it should hold, driven as `actors/agent/src/mapsync.rs` does.

use super::{
    Kernel,
    maps::{Refused, Write},
};
use weft_core::mapsync::{Edits, Rows, Table};

/// The owner of a map.
pub(super) struct TableSync {
    kernel: Kernel,
    map: &'static str,
    core: Table,
    /// Whether it lacks what it was told last, so that it is to be told all.
    hungry: bool,
}

impl TableSync {
    pub(super) fn new(kernel: Kernel, map: &'static str) -> Self {
        Self { kernel, map, core: Table::default(), hungry: true }
    }

    /// Tells it what changed, or everything when it is new or may not hold what it was told.
    pub(super) async fn tell(
        &mut self,
        edits: Edits,
        whole: impl FnOnce() -> Rows,
    ) -> Result<(), Refused> {
        if !self.hungry && edits.is_empty() {
            return Ok(());
        }
        if std::mem::replace(&mut self.hungry, true) {
            self.core.fill(whole());
            self.mend().await?;
        } else if self.core.is_trusted() {
            let written = self.write(&edits).await;
            self.core.change(edits);
            written?;
        } else {
            self.core.change(edits);
            self.mend().await?;
        }
        self.hungry = false;
        Ok(())
    }

    async fn mend(&mut self) -> Result<(), Refused> {
        let held = self.kernel.maps().rows(self.map);
        let edits = self.core.mend(&held);
        if !edits.is_empty() {
            self.write(&edits).await?;
            self.core.trust(false);
            self.kernel.write([Write::Epoch]).await?;
        }
        self.core.trust(true);
        Ok(())
    }

    async fn write(&mut self, edits: &Edits) -> Result<(), Refused> {
        self.core.trust(false);
        // What goes makes room for what comes.
        let gone = edits.iter().filter(|(_, value)| value.is_none());
        let gone = gone.map(|(key, _)| Write::NoRow(self.map, key.clone()));
        let there = edits
            .iter()
            .filter_map(|(key, value)| Some(Write::Row(self.map, key.clone(), value.clone()?)));
        self.kernel.write(gone.chain(there)).await?;
        self.core.trust(true);
        Ok(())
    }
}
