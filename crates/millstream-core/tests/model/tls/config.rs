//! The configurations of both sides: one authority, one server, and keys that are the same in every run.

use std::sync::Arc;

use millstream_core::tls::{RustlsEngine, TlsEngine};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Both sides of a connection to `localhost`.
#[derive(Clone, Debug)]
pub(crate) struct Configs {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl Configs {
    pub(crate) fn new(provider: CryptoProvider, version: &'static SupportedProtocolVersion) -> Self {
        let provider = Arc::new(provider);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, key(b'a')).expect("signs itself");
        let params = CertificateParams::new([NAME.to_owned()]).expect("a valid name");
        let certificate = params.signed_by(&key(b's'), &authority).expect("signs");

        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).expect("a root");
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .expect("the provider knows it")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        client.enable_secret_extraction = true;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("the provider knows it")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(pkcs8(b's')))
            .expect("they belong together");
        server.enable_secret_extraction = true;
        Self { client: Arc::new(client), server: Arc::new(server) }
    }

    pub(crate) fn client_engine(&self) -> Box<dyn TlsEngine> {
        Box::new(RustlsEngine::client(Arc::clone(&self.client), name()).expect("a valid configuration"))
    }

    pub(crate) fn server_engine(&self) -> Box<dyn TlsEngine> {
        Box::new(RustlsEngine::server(Arc::clone(&self.server)).expect("a valid configuration"))
    }
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("a valid name")
}

fn key(seed: u8) -> KeyPair {
    KeyPair::try_from(&pkcs8(seed)).expect("an Ed25519 key")
}

/// The Ed25519 key with this seed (RFC 8410, section 7), whose signatures need no randomness.
fn pkcs8(seed: u8) -> PrivatePkcs8KeyDer<'static> {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend_from_slice(&[seed; 32]);
    PrivatePkcs8KeyDer::from(der)
}

const NAME: &str = "localhost";
