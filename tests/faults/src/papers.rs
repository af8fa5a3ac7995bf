//! The certificate of a run: made by the row, read by the servers from a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::Result;

/// A self-signed certificate for [`HOST`], and its key.
pub(crate) struct Papers {
    pub(crate) folder: PathBuf,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Papers {
    /// Makes new ones and leaves them in the folder.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![HOST.to_owned()])?.self_signed(&key)?;
        let papers = Self { folder: folder.to_owned(), chain: certificate.pem(), key: key.serialize_pem() };
        fs::write(folder.join(CHAIN), &papers.chain)?;
        fs::write(folder.join(KEY), &papers.key)?;
        Ok(papers)
    }

    /// Those that somebody left in the folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let chain = fs::read_to_string(folder.join(CHAIN))?;
        Ok(Self { folder: folder.to_owned(), chain, key: fs::read_to_string(folder.join(KEY))? })
    }

    /// A client of rustls that trusts them and nothing else.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.chain.as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// A server of rustls with them.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>> {
        let chain = vec![CertificateDer::from_pem_slice(self.chain.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

/// The name in the certificate.
pub(crate) const HOST: &str = "localhost";
const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";
