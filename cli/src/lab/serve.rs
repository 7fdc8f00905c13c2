//! What answers on pods' ports: its own name, so that a probe knows it reached the right pod.

use super::{netns, record};
use crate::output::Outcome;
use anyhow::{Result, anyhow};
use std::{net::Ipv4Addr, thread};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, UdpSocket},
};
use weft_types::policy::Protocol;

/// Serves every declared port of every pod until the process ends.
pub(crate) fn run(name: &str) -> Result<Outcome> {
    let lab = record::find(Some(name))?;
    let serving: Vec<_> = lab
        .pods
        .into_iter()
        .map(|pod| {
            let ports = pod.ports.iter().map(|port| (port.protocol, port.port)).collect();
            thread::spawn(move || pod_ports(&pod.netns, pod.name, ports, |_| {}))
        })
        .collect();
    for thread in serving {
        thread.join().map_err(|_| anyhow!("a server panicked"))??;
    }
    loop {
        thread::park();
    }
}

/// Serves ports in a pod's namespace; `ready` hears how many could be opened. Never returns while it serves.
pub(crate) fn pod_ports(
    namespace: &str,
    name: String,
    ports: Vec<(Protocol, u16)>,
    ready: impl FnOnce(usize) + Send + 'static,
) -> Result<()> {
    netns::inside(namespace, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut opened = Vec::new();
            for (protocol, port) in ports {
                let address = (Ipv4Addr::UNSPECIFIED, port);
                let name = name.clone();
                // A port that is taken is served by someone else: the lab's own server, in a probe.
                match protocol {
                    Protocol::Tcp => {
                        if let Ok(listener) = TcpListener::bind(address).await {
                            opened.push(tokio::spawn(tcp(listener, name)));
                        }
                    }
                    Protocol::Udp => {
                        if let Ok(socket) = UdpSocket::bind(address).await {
                            opened.push(tokio::spawn(udp(socket, name)));
                        }
                    }
                    Protocol::Sctp => {}
                }
            }
            ready(opened.len());
            for task in opened {
                task.await?;
            }
            Ok(())
        })
    })
}

async fn tcp(listener: TcpListener, name: String) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let name = name.clone();
        tokio::spawn(async move {
            // A caller that left early is no failure of the server.
            let _ = stream.write_all(name.as_bytes()).await;
        });
    }
}

async fn udp(socket: UdpSocket, name: String) {
    let mut request = [0; 2048];
    while let Ok((_, from)) = socket.recv_from(&mut request).await {
        let _ = socket.send_to(name.as_bytes(), from).await;
    }
}
