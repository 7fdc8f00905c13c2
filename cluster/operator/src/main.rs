//! `weft-operator`: runs the operator until it is told to stop.

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use weft_operator::{
    config::{Config, LogFormat},
    operator::Operator,
};

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    actix::System::new().block_on(run(config))
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
