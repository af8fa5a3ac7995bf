//! TLS for both sides: configurations, the handshake in its own time, and the upgrade of a live connection.
//!
//! A connection over TLS is the same pair, a [`StreamReader`](crate::StreamReader) and a
//! [`StreamWriter`](crate::StreamWriter). What they promise beyond that:
//!
//! - **Truncation is told.** An end without a close_notify is an error ([`TlsFault::Truncated`]), unless
//!   [`allow_truncation`](TlsClient::allow_truncation) says otherwise. `close` and `write_eof` send the close_notify themselves.
//! - **Half-close.** Over TLS 1.3 [`write_eof`](crate::StreamWriter::write_eof) ends one direction, and reading goes on.
//!   TLS 1.2 cannot do that, and [`can_write_eof`](crate::StreamWriter::can_write_eof) says so.
//! - **No injection.** At an upgrade, bytes that arrived already are ciphertext. A failed upgrade leaves a connection that
//!   neither reads nor writes.
//! - **Corked before it is sealed.** Many small writes make one record, and one receive takes up to 64 KiB of them.
//! - **Deadlines.** A handshake has [10 s](DEFAULT_HANDSHAKE_TIMEOUT); closing has the
//!   [close deadline](crate::ConnectOptions::close_deadline), close_notify included.
//!
//! With the environment variable `SSLKEYLOGFILE` set, configurations made here write their session keys to that file, for
//! tools such as Wireshark, as Python's default context does.

mod client;
mod crowd;
mod error;
mod handshake;
mod pem;
mod secure;
mod server;
pub(crate) mod upgrade;

pub use client::{TlsClient, TlsClientBuilder};
pub use error::{TlsConfigError, TlsError};
pub(crate) use handshake::Handshake;
pub use millstream_core::tls::{CertificateFault, TlsFault, TlsInfo, TlsVersion};
pub(crate) use secure::Secure;
pub use server::{TlsServer, TlsServerBuilder};
pub use upgrade::TlsSide;
pub(crate) use upgrade::sealed::Manners;

use std::sync::Arc;
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

/// How long a handshake may take: long enough for a slow path and a repeated packet or two, short enough that peers which
/// never finish do not gather. (asyncio gives it 60 s.)
pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many handshakes a server runs at once. Each takes some 20 KiB, and with 10 s for each, silent peers have to come at
/// 100 a second before the oldest of them is pushed out.
pub const DEFAULT_HANDSHAKES_AT_ONCE: usize = 1000;

impl Default for Manners {
    fn default() -> Self {
        Self { timeout: DEFAULT_HANDSHAKE_TIMEOUT, truncation_is_end: false }
    }
}

/// What both builders are told.
#[derive(Clone, Debug)]
struct Common {
    alpn: Vec<Vec<u8>>,
    oldest: TlsVersion,
    newest: TlsVersion,
    resumption: bool,
}

impl Default for Common {
    fn default() -> Self {
        Self { alpn: Vec::new(), oldest: TlsVersion::V1_2, newest: TlsVersion::V1_3, resumption: true }
    }
}

impl Common {
    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsConfigError> {
        let known =
            [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
        let wanted = known.into_iter().filter(|(version, _)| (self.oldest..=self.newest).contains(version));
        let versions: Vec<_> = wanted.map(|(_, version)| version).collect();
        if versions.is_empty() {
            return Err(TlsConfigError::NoVersion { oldest: self.oldest, newest: self.newest });
        }
        Ok(versions)
    }
}

/// The cryptography that the process has installed, else ring's.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

/// The setters that both builders have.
macro_rules! common_setters {
    () => {
        /// The application protocols this side speaks, the preferred one first (ALPN, RFC 7301), such as `h2` and
        /// `http/1.1`.
        pub fn alpn<T: AsRef<[u8]>>(mut self, protocols: &[T]) -> Self {
            self.common.alpn = protocols.iter().map(|protocol| protocol.as_ref().to_vec()).collect();
            self
        }

        /// The oldest version to speak (TLS 1.2 by default).
        pub fn minimum_version(mut self, version: super::TlsVersion) -> Self {
            self.common.oldest = version;
            self
        }

        /// The newest version to speak (TLS 1.3 by default).
        pub fn maximum_version(mut self, version: super::TlsVersion) -> Self {
            self.common.newest = version;
            self
        }

        /// Whether sessions are resumed, which saves a signature and a flight of certificates (on by default). Clients
        /// remember the sessions of the last 256 servers in the configuration; servers remember none, their clients
        /// hold the tickets.
        pub fn resumption(mut self, on: bool) -> Self {
            self.common.resumption = on;
            self
        }
    };
}
use common_setters;

/// The setters that both configurations have.
macro_rules! manners_setters {
    () => {
        /// How long a handshake may take ([10 s](super::DEFAULT_HANDSHAKE_TIMEOUT) by default; asyncio's
        /// `ssl_handshake_timeout`).
        #[must_use]
        pub fn handshake_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.manners.timeout = timeout;
            self
        }

        /// Takes the end of the connection for the end of the stream even without a close_notify, as asyncio does. Off by
        /// default: anyone on the path can cut the stream unnoticed then, so it is safe only for protocols whose
        /// messages tell their own length.
        #[must_use]
        pub fn allow_truncation(mut self, allow: bool) -> Self {
            self.manners.truncation_is_end = allow;
            self
        }
    };
}
use manners_setters;
