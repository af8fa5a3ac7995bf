//! Certificates and keys from PEM texts (RFC 7468).

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsConfigError;

/// All certificates of a text; at least one.
pub(super) fn certificates(
    pem: &[u8],
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let bad = |text: String| TlsConfigError::BadPem { what, text };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| bad(error.to_string()))?;
    if found.is_empty() {
        return Err(bad("no certificate was found".to_owned()));
    }
    Ok(found)
}

/// The first private key of a text.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| TlsConfigError::BadPem { what: "private key", text: error.to_string() })
}

/// A store of the certificates of several texts.
pub(super) fn roots(pems: &[Vec<u8>]) -> Result<Arc<RootCertStore>, TlsConfigError> {
    const WHAT: &str = "root certificates";
    let mut store = RootCertStore::empty();
    for pem in pems {
        for certificate in certificates(pem, WHAT)? {
            store
                .add(certificate)
                .map_err(|error| TlsConfigError::BadPem { what: WHAT, text: error.to_string() })?;
        }
    }
    Ok(Arc::new(store))
}
