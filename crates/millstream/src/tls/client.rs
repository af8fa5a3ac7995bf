//! The client's side: whom to trust, whom to expect, and who we are.

use std::fmt;
use std::sync::Arc;

use millstream_core::tls::RustlsEngine;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, KeyLogFile};
use rustls_platform_verifier::Verifier;

use super::error::{TlsConfigError, TlsError};
use super::{Common, Manners, common_setters, manners_setters, pem, provider};

/// How a client does TLS. Cheap to clone; clones share their remembered sessions.
///
/// ```no_run
/// # async fn run() -> Result<(), millstream::Error> {
/// use millstream::ConnectOptions;
/// use millstream::tls::TlsClient;
/// let options = ConnectOptions::new().tls(TlsClient::new()?);
/// let (mut reader, writer) = options.open("www.rust-lang.org", 443).await?;
/// writer.write(b"HEAD / HTTP/1.0\r\nHost: www.rust-lang.org\r\n\r\n")?;
/// let status = reader.read_line().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    pub(super) manners: Manners,
}

impl TlsClient {
    /// The defaults: TLS 1.2 and 1.3, and the roots that this system trusts.
    ///
    /// # Errors
    /// [`TlsConfigError::Refused`] if the system has no trusted roots.
    pub fn new() -> Result<Self, TlsConfigError> {
        Self::builder().build()
    }

    /// For anything but the defaults.
    pub fn builder() -> TlsClientBuilder {
        TlsClientBuilder::default()
    }

    /// Any configuration of rustls. What it brings of your own (verifiers, resolvers, key logs) runs under the connection's
    /// lock, so it must be quick and must not call back into the connection.
    pub fn from_config(config: impl Into<Arc<ClientConfig>>) -> Self {
        Self { config: config.into(), server_name: None, manners: Manners::default() }
    }

    /// The name to ask for and to verify (asyncio's `server_hostname`). By default the host that is connected to; where there
    /// is none, as with a Unix socket, it is required.
    ///
    /// # Errors
    /// [`TlsConfigError::BadServerName`] if no certificate could be for it.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsConfigError> {
        let parsed = ServerName::try_from(name.to_owned());
        self.server_name = Some(parsed.map_err(|_| TlsConfigError::BadServerName { name: name.to_owned() })?);
        Ok(self)
    }

    manners_setters!();

    /// Whom a connection to `host` has to verify.
    pub(crate) fn name_for(&self, host: Option<&str>) -> Result<ServerName<'static>, TlsError> {
        match (&self.server_name, host) {
            (Some(name), _) => Ok(name.clone()),
            (None, None) => Err(TlsError::NoServerName),
            (None, Some(host)) => {
                // A scope and a final dot are for finding the host, not for its certificate.
                let name = host.split('%').next().unwrap_or(host);
                let name = name.strip_suffix('.').unwrap_or(name);
                ServerName::try_from(name.to_owned())
                    .map_err(|_| TlsError::BadServerName { name: host.to_owned() })
            }
        }
    }

    /// The engine of one connection to `host`.
    pub(super) fn engine(&self, host: Option<&str>) -> Result<RustlsEngine, TlsError> {
        RustlsEngine::client(Arc::clone(&self.config), self.name_for(host)?)
            .map_err(|failure| TlsError::BadConfiguration { text: failure.to_string() })
    }

    /// Whom the handshake is with, for people.
    pub(super) fn peer(&self, host: Option<&str>) -> String {
        match (&self.server_name, host) {
            (Some(name), _) => format!("{:?}", name.to_str()),
            (None, Some(host)) => format!("{host:?}"),
            (None, None) => "the server".to_owned(),
        }
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("server_name", &self.server_name)
            .field("manners", &self.manners)
            .finish_non_exhaustive()
    }
}

/// Makes a [`TlsClient`].
///
/// ```
/// # fn run(company_roots: &[u8]) -> Result<(), millstream::Error> {
/// use millstream::tls::{TlsClient, TlsVersion};
/// let tls = TlsClient::builder()
///     .root_certificates(company_roots)
///     .alpn(&["http/1.1"])
///     .minimum_version(TlsVersion::V1_3)
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct TlsClientBuilder {
    common: Common,
    roots: Vec<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsClientBuilder {
    common_setters!();

    /// Trusts these certificates (PEM), and not those of the system. Can be called several times.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(pem.as_ref().to_vec());
        self
    }

    /// The certificate that this client shows to servers that ask for one, its chain behind it, and its key (both PEM).
    pub fn certificate(mut self, chain_pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Self {
        self.identity = Some((chain_pem.as_ref().to_vec(), key_pem.as_ref().to_vec()));
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// See [`TlsConfigError`].
    pub fn build(self) -> Result<TlsClient, TlsConfigError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.common.versions()?)
            .map_err(TlsConfigError::refused)?;
        let builder = if self.roots.is_empty() {
            let verifier = Verifier::new(provider).map_err(TlsConfigError::refused)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        } else {
            builder.with_root_certificates(pem::roots(&self.roots)?)
        };
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = pem::certificates(&chain, "client certificate")?;
                builder
                    .with_client_auth_cert(chain, pem::private_key(&key)?)
                    .map_err(|error| TlsConfigError::BadKey { text: error.to_string() })?
            }
        };
        config.alpn_protocols = self.common.alpn;
        config.key_log = Arc::new(KeyLogFile::new());
        if !self.common.resumption {
            config.resumption = Resumption::disabled();
        }
        Ok(TlsClient::from_config(config))
    }
}

impl fmt::Debug for TlsClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is nobody's business.
        f.debug_struct("TlsClientBuilder").field("common", &self.common).finish_non_exhaustive()
    }
}
