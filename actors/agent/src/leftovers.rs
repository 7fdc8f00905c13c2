//! What is left over on this node of pods that are gone: looked for when somebody asks; [`weft_core::leftover`] judges.

use crate::{
    Refusal,
    cni::Cni,
    endpoints::{Endpoints, ListHeld},
    internal,
    loader::{Loader, LookAtLinks},
    runtime::{Edge, Seat},
    state,
};
use std::{path::PathBuf, time::Duration};
use weft_core::leftover::{Leftover, Look, leftovers};

/// How long each actor is waited for: who asks for a status wants it of a stalled one, too.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks for them.
pub struct Leftovers {
    loader: Edge<Loader>,
    endpoints: Edge<Endpoints>,
    cni: Cni,
    /// Folder of the endpoints' files.
    folder: PathBuf,
}

impl Leftovers {
    /// Of the endpoints whose files are in this folder.
    pub fn new(
        loader: &Seat<Loader>,
        endpoints: &Seat<Endpoints>,
        cni: Cni,
        folder: PathBuf,
    ) -> Self {
        Self { loader: loader.edge(), endpoints: endpoints.edge(), cni, folder }
    }

    /// All there are now.
    pub async fn look(&self) -> Result<Vec<Leftover>, Refusal> {
        let before = self.one_look().await?;
        let held = self.endpoints.ask_within(PATIENCE, ListHeld).await?;
        let after = self.one_look().await?;
        let held = held.iter().map(|(key, endpoint)| (key.link.as_str(), endpoint));
        Ok(leftovers(&before, held, &after))
    }

    async fn one_look(&self) -> Result<Look, Refusal> {
        let (links, pins) = self.loader.ask_within(PATIENCE, LookAtLinks).await??;
        let deletes = self.cni.waiting().await;
        let folder = self.folder.clone();
        let files = tokio::task::spawn_blocking(move || state::names(&folder));
        let files = files.await.map_err(internal)?.map_err(internal)?;
        Ok(Look { links: links.into_iter().collect(), pins, files, deletes })
    }
}
