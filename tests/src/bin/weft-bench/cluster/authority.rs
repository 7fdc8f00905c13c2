//! An authority of certificates, in a folder.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The authority.
pub(crate) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// All certificates are of one key: nobody is to be kept from anything here.
    key: KeyPair,
}

/// Files of whoever is somebody.
pub(crate) struct Keys {
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    /// Its own.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new one.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let dir = folder.join("keys");
        fs::create_dir(&dir).context("make a folder for keys")?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let own = KeyPair::generate()?;
        fs::write(dir.join("ca.pem"), params.self_signed(&own)?.pem())?;
        let key = KeyPair::generate()?;
        fs::write(dir.join("key.pem"), key.serialize_pem())?;
        Ok(Self { dir, issuer: Issuer::new(params, own), key })
    }

    /// A certificate for these DNS names; the next one of the same name takes its place.
    pub(crate) fn issue(&self, name: &str, names: &[String]) -> Result<Keys> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = self.dir.join(format!("{name}.pem"));
        fs::write(&certificate, params.signed_by(&self.key, &self.issuer)?.pem())?;
        Ok(Keys { ca: self.dir.join("ca.pem"), certificate, key: self.dir.join("key.pem") })
    }
}
