//! `weft-operator`: runs the operator until it is told to stop.

use mimalloc::MiMalloc;
use tokio::signal::unix::{SignalKind, signal};
use weft_operator::{config::Config, operator::Operator};
use weft_process::otlp::{self, Service};

/// A good part of what an operator does is to make and forget short texts, which takes the C library longer: a tenth of all its time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    let config: Config = weft_process::config::load();
    let service = Service { name: "weft-operator", instance: None };
    weft_process::logs::start(&config.logs, service);
    let ended = actix::System::new().block_on(run(config));
    otlp::farewell();
    ended
}

async fn run(config: Config) -> anyhow::Result<()> {
    let operator = Operator::bind(&config).await?;
    tracing::info!(listen = %config.listen, "serving");
    let mut terminate = signal(SignalKind::terminate())?;
    operator
        .run(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
        })
        .await
}
