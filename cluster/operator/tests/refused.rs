//! Who gets no session: refused with a reason, counted, and the operator goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};
use support::{Agent, Authority, PATIENCE, Running, World, block_on, get, node, pod};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use weft_types::{Identity, NamespacedName, NodeName, PodEndpoint, Revision};
use weft_wire::{
    ToAgent, ToOperator, VERSIONS,
    frame::{encode, encode_in, receive_greeting},
    tls,
    version::Versions,
};

fn hello() -> ToOperator {
    greeting(1)
}

fn greeting(session: u64) -> ToOperator {
    ToOperator::Hello {
        node: NodeName("node1".to_owned()),
        session,
        held: None,
        from: None,
        identities: vec![],
        asked: vec![],
    }
}

/// One more of this reason is counted, and a good agent gets its session.
async fn counted(world: &World, operator: &Running, reason: &str, before: f64) {
    let line = format!("weft_operator_sessions_refused_total{{reason=\"{reason}\"}}");
    let until = std::time::Instant::now() + PATIENCE;
    while operator.metric(&line) < before + 1.0 {
        assert!(std::time::Instant::now() < until, "{reason} is not counted");
        tokio::task::yield_now().await;
    }
    assert_eq!(operator.metric(&line), before + 1.0);
    let mut agent = world.agent(operator.address, "node9", None).await;
    agent.reach(operator.revision()).await;
}

async fn raw(operator: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(operator).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    // It is closed, whatever it says before.
    drop(timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it is closed"));
}

/// Bytes in the place of a message, after a good greeting or instead of one.
async fn says(world: &World, operator: &Running, greeted: bool, bytes: &[u8]) -> Agent {
    let identity = world.authority.identity("node1.node.weft");
    let mut agent = if greeted {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(operator.revision()).await;
        agent
    } else {
        let connector = identity.connector().unwrap();
        let stream = tls::connect(operator.address, &connector).await.unwrap();
        Agent::over(stream, "node1")
    };
    agent.stream.write_all(bytes).await.unwrap();
    agent.stream.flush().await.unwrap();
    agent
}

#[test]
fn without_a_certificate() {
    let world = World::new();
    let operator = world.start();
    block_on(async {
        let mut roots = RootCertStore::empty();
        let ca = std::fs::read(world.dir.path().join("keys/ca.pem")).unwrap();
        use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(tls::OPERATOR_NAME).unwrap();
        let stream = TcpStream::connect(operator.address).await.unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        if let Ok(mut stream) = connected {
            drop(stream.write_all(&encode(&hello()).unwrap()).await);
            assert!(stream.read_u8().await.is_err(), "it is told nothing");
        }
        counted(&world, &operator, "Handshake", 0.0).await;
    });
}

#[test]
fn of_another_labs_authority() {
    let world = World::new();
    let operator = world.start();
    let other = Authority::new(&world.dir.path().join("other"));
    let (_, certificate, key) = other.issue("node1.node.weft");
    // It trusts the right operators; they do not trust it.
    let ca = world.dir.path().join("keys/ca.pem");
    let identity = tls::Identity::read(&ca, &certificate, &key).unwrap();
    block_on(async {
        if let Ok(mut agent) = Agent::greet(&identity, operator.address, "node1", None).await {
            assert!(agent.hear().await.is_err());
        }
        counted(&world, &operator, "Handshake", 0.0).await;
        // And an agent of another lab does not trust this operator.
        let stranger = other.identity("node1.node.weft");
        assert!(Agent::greet(&stranger, operator.address, "node1", None).await.is_err());
    });
}

#[test]
fn for_another_node() {
    let world = World::new();
    let operator = world.start();
    operator.apply(vec![node(1), node(2), pod("web-0", "web", 2)]);
    let identity = world.authority.identity("node1.node.weft");
    block_on(async {
        let greeted = Agent::greet(&identity, operator.address, "node2", None).await;
        let reason = greeted.unwrap().refused().await;
        assert!(reason.contains("node1") && reason.contains("node2"), "{reason}");
        counted(&world, &operator, "OtherNode", 0.0).await;
        // For a pod of another node.
        let mut agent = world.agent(operator.address, "node1", None).await;
        let endpoint = PodEndpoint {
            name: NamespacedName::new("shop", "web-0"),
            address: [10, 244, 2, 7].into(),
            identity: Identity::INIT,
            node: NodeName("node2".to_owned()),
        };
        agent.say(ToOperator::EndpointPlugged { endpoint, trace: None }).await;
        agent.closed().await;
        counted(&world, &operator, "OtherNode", 1.0).await;
        // For an address of another node: not taken, and nothing else happens.
        let mut agent = world.agent(operator.address, "node1", None).await;
        // A session's first word is put in order whatever it is.
        let revision = Revision(operator.revision().0 + 1);
        agent.say(ToOperator::EndpointsAre { endpoints: Vec::new() }).await;
        agent.reach(revision).await;
        agent.plug("web-0", [10, 244, 2, 7].into()).await;
        let address = [10, 244, 2, 7].into();
        agent.say(ToOperator::EndpointUnplugged { address, trace: None }).await;
        agent.acknowledge().await;
        assert!(operator.wait(Some("node1"), 30_000).enforced);
        assert_eq!(operator.revision(), revision);
    });
}

#[test]
fn an_operators_certificate_is_no_nodes_and_a_nodes_is_no_operators() {
    let world = World::new();
    let operator = world.start();
    block_on(async {
        let identity = world.authority.identity("operator.weft");
        if let Ok(mut agent) = Agent::greet(&identity, operator.address, "node1", None).await {
            assert!(agent.hear().await.is_err());
        }
        counted(&world, &operator, "NotANode", 0.0).await;
        // A node that pretends to be an operator.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = world.authority.identity("node1.node.weft").acceptor().unwrap();
        let connector = world.authority.identity("node2.node.weft").connector().unwrap();
        let accept = async {
            let (stream, _) = listener.accept().await.unwrap();
            drop(acceptor.accept(stream).await);
        };
        let (connected, ()) = tokio::join!(tls::connect(address, &connector), accept);
        let error = connected.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    });
}

#[test]
fn with_garbage_before_the_handshake() {
    let world = World::new();
    let operator = world.start();
    block_on(async {
        let plain = encode(&hello()).unwrap();
        for (number, bytes) in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &plain].iter().enumerate()
        {
            raw(operator.address, bytes).await;
            counted(&world, &operator, "Handshake", number as f64).await;
        }
    });
}

#[test]
fn with_garbage_after_the_handshake() {
    let world = World::new();
    let operator = world.start();
    operator.apply(vec![node(1)]);
    let frame = |length: u32, body: &[u8]| {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(VERSIONS.oldest.to_be_bytes());
        bytes.extend(body);
        bytes
    };
    block_on(async {
        let mut count = 0.0;
        for greeted in [false, true] {
            for bytes in [
                frame(3, &[200, 1, 2]),
                frame(0, &[]),
                // A length that nobody sends, and one above what an agent may.
                frame(u32::MAX, &[]),
                frame(4 << 20, &[]),
                // A list that claims more than there is.
                frame(10, &[4, 253, 255, 255, 255, 255, 255, 255, 255, 63]),
            ] {
                let mut agent = says(&world, &operator, greeted, &bytes).await;
                if !greeted {
                    drop(agent.refused().await);
                }
                agent.closed().await;
                counted(&world, &operator, "Protocol", count).await;
                count += 1.0;
            }
        }
        // Another first message, and a second greeting.
        let pong = encode(&ToOperator::Pong).unwrap();
        let mut agent = says(&world, &operator, false, &pong).await;
        assert!(agent.refused().await.contains("greeting"));
        counted(&world, &operator, "Protocol", count).await;
        let mut agent = says(&world, &operator, true, &encode(&hello()).unwrap()).await;
        agent.closed().await;
        counted(&world, &operator, "Protocol", count + 1.0).await;
    });
}

#[test]
fn of_another_version() {
    let world = World::new();
    let operator = world.start();
    block_on(async {
        // A greeting as version 1 spelled it.
        let first = [&[0, 0, 0, 8, 0, 1, 0, 5][..], b"node1", &[0]].concat();
        let mut agent = says(&world, &operator, false, &first).await;
        let why = agent.refused().await;
        let Versions { oldest, newest } = VERSIONS;
        let versions = format!("wire version 1, this one {oldest} to {newest}");
        assert!(why.contains(&versions) && why.contains("a release apart"), "{why}");
        counted(&world, &operator, "Version", 0.0).await;
        // What a later release may say once it stands.
        let later = encode_in(newest + 1, &ToOperator::Pong).unwrap();
        says(&world, &operator, true, &later).await.closed().await;
        counted(&world, &operator, "Version", 1.0).await;
    });
}

#[test]
fn of_a_version_that_both_speak_there_is_a_session() {
    let world = World::new();
    let operator = world.start();
    let Versions { oldest, newest } = VERSIONS;
    block_on(async {
        let offers = [(oldest, oldest), (newest, newest), (newest + 3, newest)];
        for ((offered, agreed), session) in offers.into_iter().zip(1..) {
            let greeting = encode_in(offered, &greeting(session)).unwrap();
            let mut agent = says(&world, &operator, false, &greeting).await;
            let (version, answer) = receive_greeting(&mut agent.stream, 1 << 20).await.unwrap();
            assert!(matches!(answer, ToAgent::Welcome { .. }), "{answer:?}");
            assert_eq!(version, agreed, "{offered} was offered");
            agent.reach(operator.revision()).await;
            let line = format!("weft_operator_sessions_by_wire{{wire=\"{agreed}\"}}");
            assert_eq!(operator.metric(&line), 1.0);
            drop(agent);
            let until = std::time::Instant::now() + PATIENCE;
            while operator.metric(&line) > 0.0 {
                assert!(std::time::Instant::now() < until, "the session is over, and counted");
                tokio::task::yield_now().await;
            }
        }
    });
}

#[test]
fn one_that_is_ahead_is_counted() {
    let world = World::new();
    let operator = world.start();
    block_on(async {
        let held = Some(weft_types::Revision::new(7, 7));
        drop(world.agent(operator.address, "node1", held).await.refused().await);
        counted(&world, &operator, "Ahead", 0.0).await;
    });
}

#[test]
fn hundreds_of_silent_connections_leave_room_for_others() {
    let world = World::new();
    let operator = world.start();
    block_on(async {
        let mut silent = Vec::new();
        for _ in 0..300 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            silent.push(socket.connect(operator.address).await.unwrap());
        }
        let begun = std::time::Instant::now();
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(operator.revision()).await;
        assert!(begun.elapsed() < Duration::from_secs(9), "it waited for the silent ones");
        let line = "weft_operator_sessions_refused_total{reason=\"Limit\"}";
        assert!(operator.metric(line) >= 280.0, "{}", operator.metric(line));
    });
}

#[test]
fn metrics_and_health_are_served() {
    let world = World::new();
    let operator = world.start();
    // The founding is entry 1, the leader's first 2, and both are written before it serves.
    let (revision, _) = operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(revision).await;
        operator.apply(vec![pod("web-1", "web", 1)]);
        agent.reach(operator.revision()).await;
        for (line, expected) in [
            ("weft_operator_revision", 4.0),
            ("weft_operator_generation", 1.0),
            ("weft_operator_sessions", 1.0),
            ("weft_operator_pushes_total", 1.0),
            ("weft_operator_snapshots_total", 1.0),
            ("weft_operator_waiters", 0.0),
            ("weft_operator_store_seconds_count{operation=\"log_append\"}", 3.0),
            ("weft_operator_store_seconds_count{operation=\"store_write\"}", 2.0),
        ] {
            assert_eq!(operator.metric(&format!("{line} ")), expected, "{line}");
        }
    });
    assert!(get(operator.metrics.unwrap(), "/healthz").starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn an_admin_socket_that_cannot_be_had_is_an_error() {
    let world = World::new();
    let config = world.config();
    std::fs::write(&config.admin_socket, "").unwrap();
    let refused = Running::start(config).err().unwrap().to_string();
    assert!(refused.contains("operator.sock"), "{refused}");
    let config = world.config();
    std::fs::remove_file(&config.admin_socket).unwrap();
    let metrics_listen = Some("0.0.0.0:0".parse().unwrap());
    let config = weft_operator::config::Config { metrics_listen, ..config };
    let refused = Running::start(config).err().unwrap().to_string();
    assert!(refused.contains("loopback"), "{refused}");
}
