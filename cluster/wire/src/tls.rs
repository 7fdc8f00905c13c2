//! Mutual TLS: who may speak at all, and for which node.

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{error::Error, path::Path, sync::Arc};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use weft_types::NodeName;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// The name in every operator's certificate.
pub const OPERATOR_NAME: &str = "operator.weft";
/// What follows a node's name in its agent's certificate.
pub const NODE_SUFFIX: &str = ".node.weft";

/// What follows a member's number in its operator's certificate: with it one may be a peer of the operators' group.
pub const MEMBER_SUFFIX: &str = ".member.weft";

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key cannot be used.
    #[error("use {file}: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody took the connection.
    #[error("connect: {0}")]
    Connect(std::io::Error),
    /// The handshake or connection failed.
    #[error("TLS: {0}")]
    Io(#[from] std::io::Error),
    /// The peer's certificate names no node.
    #[error("the peer's certificate names no node (a DNS name ending in {NODE_SUFFIX})")]
    NoNode,
    /// The peer's certificate names no member of a group.
    #[error("the peer's certificate names no member (a DNS name as 1{MEMBER_SUFFIX})")]
    NoMember,
}

/// What is wrong with whose certificate, when that is why a session failed.
pub fn distrust(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut error = Some(error);
    while let Some(cause) = error {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_)) => {
                return Some("the operator's certificate is not of this agent's authority (--ca)");
            }
            // What it means by any of its alerts: it has seen the certificate, and refuses it.
            Some(rustls::Error::AlertReceived(_)) => {
                return Some("the operator does not accept this agent's certificate (--cert)");
            }
            _ => error = cause.source(),
        }
    }
    None
}

/// Who this process is, and whose word it takes.
#[derive(Clone, Debug)]
pub struct Identity {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// Reads PEM files: the authority, this process's certificate, its key.
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(authority)? {
            roots.add(root).map_err(|e| problem(authority, e))?;
        }
        Ok(Self {
            roots: Arc::new(roots),
            chain: certificates(certificate)?,
            key: Arc::new(PrivateKeyDer::from_pem_file(key).map_err(|e| problem(key, e))?),
        })
    }

    /// The accepting side: every client must have a certificate of the authority.
    pub fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let configuration = || -> Result<ServerConfig, rustls::Error> {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
                    .build()
                    .map_err(|e| rustls::Error::General(e.to_string()))?;
            ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()?
                .with_client_cert_verifier(verifier)
                .with_single_cert(self.chain.clone(), self.key.clone_key())
        };
        let configuration = configuration().map_err(|e| own(&e))?;
        Ok(TlsAcceptor::from(Arc::new(configuration)))
    }

    /// The connecting side: the server must be an operator of the authority.
    pub fn connector(&self) -> Result<TlsConnector, TlsError> {
        let configuration = || -> Result<ClientConfig, rustls::Error> {
            ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(Arc::clone(&self.roots))
                .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
        };
        let configuration = configuration().map_err(|e| own(&e))?;
        Ok(TlsConnector::from(Arc::new(configuration)))
    }
}

/// Connects to an operator.
pub async fn connect(
    address: std::net::SocketAddr,
    connector: &TlsConnector,
) -> Result<client::TlsStream<TcpStream>, TlsError> {
    connect_to(address, OPERATOR_NAME, connector).await
}

/// Connects to a member of the operators' group: to this one, or not at all.
pub async fn connect_to_member(
    address: &str,
    member: u64,
    connector: &TlsConnector,
) -> Result<client::TlsStream<TcpStream>, TlsError> {
    connect_to(address, &format!("{member}{MEMBER_SUFFIX}"), connector).await
}

async fn connect_to(
    address: impl ToSocketAddrs,
    name: &str,
    connector: &TlsConnector,
) -> Result<client::TlsStream<TcpStream>, TlsError> {
    let stream = TcpStream::connect(address).await.map_err(TlsError::Connect)?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    Ok(connector.connect(name, stream).await?)
}

/// The node that an accepted session may speak for.
pub fn node_of(stream: &server::TlsStream<TcpStream>) -> Result<NodeName, TlsError> {
    let name = certified(stream, |name| name.strip_suffix(NODE_SUFFIX).map(str::to_owned));
    name.map(NodeName).ok_or(TlsError::NoNode)
}

/// The member of the operators' group that an accepted connection is of.
pub fn member_of(stream: &server::TlsStream<TcpStream>) -> Result<u64, TlsError> {
    let number = |name: &str| name.strip_suffix(MEMBER_SUFFIX)?.parse().ok();
    certified(stream, number).ok_or(TlsError::NoMember)
}

/// The first of the DNS names in the peer's certificate that is something.
fn certified<T>(
    stream: &server::TlsStream<TcpStream>,
    read: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten()?;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => read(name),
        _ => None,
    })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(file)
        .map_err(|e| problem(file, e))?
        .collect::<Result<_, _>>()
        .map_err(|e| problem(file, e))
}

fn problem(file: &Path, error: impl std::fmt::Display) -> TlsError {
    TlsError::File { file: file.display().to_string(), problem: error.to_string() }
}

fn own(error: &rustls::Error) -> TlsError {
    TlsError::File { file: "this process's certificate".to_owned(), problem: error.to_string() }
}
