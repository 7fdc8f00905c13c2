//! A lab's certificate authority and one certificate a process; the authority's key is never written.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Files that a process is started with.
pub(crate) struct Credentials {
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    /// The process's certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

/// Where the credentials of a process lie.
pub(crate) fn paths(dir: &Path, process: &str) -> Credentials {
    let at = |name: String| dir.join("keys").join(name);
    Credentials {
        ca: at("ca.pem".into()),
        certificate: at(format!("{process}.pem")),
        key: at(format!("{process}.key")),
    }
}

/// Makes an authority and a certificate for each process, with its DNS names.
pub(crate) fn make(dir: &Path, lab: &str, processes: &[(String, Vec<String>)]) -> Result<()> {
    let keys = dir.join("keys");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&keys)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("weft lab {lab}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?;
    let issuer = Issuer::new(params, ca_key);
    write(&keys.join("ca.pem"), &ca.pem())?;
    for (process, names) in processes {
        let mut params = CertificateParams::new(names.clone())?;
        if let Some(name) = names.first() {
            params.distinguished_name.push(DnType::CommonName, name.clone());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let files = paths(dir, process);
        write(&files.certificate, &certificate.pem())?;
        write(&files.key, &key.serialize_pem())?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}
