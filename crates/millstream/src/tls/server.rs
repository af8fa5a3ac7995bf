//! The server's side: its certificates, chosen by the name that a client asks for, and which clients it lets in.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use millstream_core::Failure;
use millstream_core::tls::RustlsEngine;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{KeyLogFile, ServerConfig};

use super::error::TlsConfigError;
use super::{Common, Manners, common_setters, manners_setters, pem, provider};

/// How a server does TLS. Cheap to clone.
///
/// ```no_run
/// # async fn run() -> Result<(), millstream::Error> {
/// use millstream::ServerOptions;
/// use millstream::tls::TlsServer;
/// let tls = TlsServer::new(std::fs::read("chain.pem")?, std::fs::read("key.pem")?)?;
/// let server = ServerOptions::new().tls(tls).start("0.0.0.0", 443, |_reader, writer| {
///     let _ = writer.write(b"nobody else has read this\n");
/// }).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    pub(super) manners: Manners,
}

impl TlsServer {
    /// The defaults, with this certificate, its chain behind it, and its key (both PEM).
    ///
    /// # Errors
    /// See [`TlsConfigError`].
    pub fn new(chain_pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Result<Self, TlsConfigError> {
        Self::builder().certificate(chain_pem, key_pem).build()
    }

    /// For anything but the defaults.
    pub fn builder() -> TlsServerBuilder {
        TlsServerBuilder::default()
    }

    /// Any configuration of rustls, except that early data (0-RTT) is not accepted: anyone can replay it. What it brings
    /// of your own (resolvers, verifiers, key logs) runs under the connection's lock, so it must be quick and must not call
    /// back into the connection.
    pub fn from_config(config: impl Into<Arc<ServerConfig>>) -> Self {
        let mut config = config.into();
        if config.max_early_data_size > 0 {
            Arc::make_mut(&mut config).max_early_data_size = 0;
        }
        Self { config, manners: Manners::default() }
    }

    manners_setters!();

    /// The engine of one connection.
    pub(super) fn engine(&self) -> Result<RustlsEngine, Failure> {
        RustlsEngine::server(Arc::clone(&self.config))
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("manners", &self.manners).finish_non_exhaustive()
    }
}

/// Makes a [`TlsServer`].
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct TlsServerBuilder {
    common: Common,
    fallback: Option<Identity>,
    by_name: Vec<(String, Identity)>,
    clients: Option<Clients>,
}

/// A certificate with its chain, and its key, both PEM.
type Identity = (Vec<u8>, Vec<u8>);

/// Who vouches for clients.
#[derive(Clone)]
struct Clients {
    roots: Vec<Vec<u8>>,
    required: bool,
}

impl TlsServerBuilder {
    common_setters!();

    /// The certificate for every client that asks for no name, or for one that has no certificate of its own; its chain
    /// behind it, and its key (both PEM).
    pub fn certificate(mut self, chain_pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Self {
        self.fallback = Some((chain_pem.as_ref().to_vec(), key_pem.as_ref().to_vec()));
        self
    }

    /// The certificate for clients that ask for this name (SNI); `*.example.org` stands for every name one level below.
    /// Without [`certificate`](Self::certificate) other clients are refused.
    pub fn certificate_for(
        mut self,
        name: &str,
        chain_pem: impl AsRef<[u8]>,
        key_pem: impl AsRef<[u8]>,
    ) -> Self {
        let identity = (chain_pem.as_ref().to_vec(), key_pem.as_ref().to_vec());
        self.by_name.push((name.to_ascii_lowercase(), identity));
        self
    }

    /// Lets in only clients with a certificate that these roots (PEM) vouch for.
    pub fn require_client_certificates(self, roots_pem: impl AsRef<[u8]>) -> Self {
        self.clients(roots_pem.as_ref(), true)
    }

    /// Asks clients for a certificate that these roots (PEM) vouch for, and lets in those without one as well;
    /// [`TlsInfo::peer_certificates`](super::TlsInfo::peer_certificates) tells them apart.
    pub fn request_client_certificates(self, roots_pem: impl AsRef<[u8]>) -> Self {
        self.clients(roots_pem.as_ref(), false)
    }

    fn clients(mut self, roots_pem: &[u8], required: bool) -> Self {
        self.clients = Some(Clients { roots: vec![roots_pem.to_vec()], required });
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// See [`TlsConfigError`].
    pub fn build(self) -> Result<TlsServer, TlsConfigError> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.common.versions()?)
            .map_err(TlsConfigError::refused)?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(Clients { roots, required }) => {
                let roots = pem::roots(roots)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(TlsConfigError::refused)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.by_name(&provider)?));
        config.alpn_protocols = self.common.alpn;
        config.key_log = Arc::new(KeyLogFile::new());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.common.resumption {
            config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsConfigError::refused)?;
        } else {
            config.send_tls13_tickets = 0;
        }
        Ok(TlsServer::from_config(config))
    }

    fn by_name(&self, provider: &CryptoProvider) -> Result<ByName, TlsConfigError> {
        let key = |identity: &Identity| certified(identity, provider);
        let names = self.by_name.iter().map(|(name, identity)| Ok((name.clone(), key(identity)?)));
        let by_name = ByName {
            names: names.collect::<Result<_, TlsConfigError>>()?,
            fallback: self.fallback.as_ref().map(key).transpose()?,
        };
        if by_name.names.is_empty() && by_name.fallback.is_none() {
            return Err(TlsConfigError::NoCertificate);
        }
        Ok(by_name)
    }
}

impl fmt::Debug for TlsServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The keys are nobody's business.
        f.debug_struct("TlsServerBuilder").field("common", &self.common).finish_non_exhaustive()
    }
}

/// Reads a certificate and its key, and checks that they belong together.
fn certified(
    (chain, key): &Identity,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsConfigError> {
    let chain = pem::certificates(chain, "server certificate")?;
    let key = CertifiedKey::from_der(chain, pem::private_key(key)?, provider);
    Ok(Arc::new(key.map_err(|error| TlsConfigError::BadKey { text: error.to_string() })?))
}

/// Chooses the certificate by the name that the client asks for.
#[derive(Debug)]
struct ByName {
    names: HashMap<String, Arc<CertifiedKey>>,
    fallback: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let below = || name.split_once('.').map(|(_, above)| format!("*.{above}"));
            self.names.get(&name).or_else(|| self.names.get(&below()?))
        });
        named.or(self.fallback.as_ref()).cloned()
    }
}
