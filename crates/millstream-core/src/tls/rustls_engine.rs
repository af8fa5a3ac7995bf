//! rustls behind the engine's trait: the one place that knows its types.

use std::fmt;
use std::io::{self, BufRead, IoSlice, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, ServerConfig,
    ServerConnection, SupportedCipherSuite,
};

use super::engine::{TlsEngine, TlsInfo, TlsVersion};
use super::fault::TlsFault;
use super::rustls_errors::failure_of;
use crate::failure::Failure;

/// One side of a TLS connection by rustls.
pub struct RustlsEngine {
    connection: Connection,
    /// The name that a client verifies.
    verified_name: Option<String>,
    peer_closed: bool,
    close_notify_queued: bool,
    /// The most plaintext in one record.
    record_len: usize,
    /// How many records the keys are still good for. Counted only where they cannot be renewed.
    records_left: Option<u64>,
}

impl RustlsEngine {
    /// The client's side, which verifies that the server is `name`.
    ///
    /// # Errors
    /// A [`Failure`] for a configuration that rustls refuses.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Failure> {
        let record_len = record_len(config.max_fragment_size);
        let verified_name = Some(name.to_str().into_owned());
        let connection = ClientConnection::new(config, name).map_err(|error| failure_of(&error))?;
        Ok(Self::new(connection.into(), verified_name, record_len))
    }

    /// The server's side.
    ///
    /// # Errors
    /// A [`Failure`] for a configuration that rustls refuses, or that accepts early data (0-RTT), which anyone can replay
    /// and which is not passed on.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Failure> {
        if config.max_early_data_size > 0 {
            return Err(TlsFault::Local.failure("early data (0-RTT) can be replayed and is not supported"));
        }
        let record_len = record_len(config.max_fragment_size);
        let connection = ServerConnection::new(config).map_err(|error| failure_of(&error))?;
        Ok(Self::new(connection.into(), None, record_len))
    }

    fn new(mut connection: Connection, verified_name: Option<String>, record_len: usize) -> Self {
        // The pipe bounds what is sealed.
        connection.set_buffer_limit(None);
        Self {
            connection,
            verified_name,
            peer_closed: false,
            close_notify_queued: false,
            record_len,
            records_left: None,
        }
    }

    /// Lets rustls look at what arrived.
    fn process(&mut self) -> Result<(), Failure> {
        let mut process = || self.connection.process_new_packets();
        let processed = if self.close_notify_queued {
            // Debug builds of rustls assert that no alert follows a close_notify, and any rubbish from the peer of a
            // half-closed connection calls for one (rustls#959). What the peer did wrong is lost with the panic.
            catch_unwind(AssertUnwindSafe(process)).map_err(|_| {
                TlsFault::Misbehaved
                    .failure("the peer broke the TLS protocol after this side had ended its own")
            })?
        } else {
            process()
        };
        self.peer_closed = processed.map_err(|error| failure_of(&error))?.peer_has_closed();
        Ok(())
    }

    /// How many records may be sealed under the present keys, if rustls would not renew them by itself.
    fn records_left(&mut self) -> Option<u64> {
        if self.records_left.is_none()
            && let Some(SupportedCipherSuite::Tls12(suite)) = self.connection.negotiated_cipher_suite()
        {
            let limit = suite.common.confidentiality_limit;
            self.records_left = Some(limit.saturating_sub(RECORDS_KEPT_BACK));
        }
        self.records_left
    }
}

impl TlsEngine for RustlsEngine {
    fn receive(&mut self, ciphertext: &[u8]) -> Result<usize, Failure> {
        let mut left = ciphertext;
        while !left.is_empty() {
            match self.connection.read_tls(&mut left) {
                // The peer has closed: what follows is void.
                Ok(0) => left = &[],
                Ok(_) => {}
                // As much as rustls holds at once; it has to be processed first.
                Err(_) => break,
            }
        }
        self.process()?;
        let taken = ciphertext.len() - left.len();
        if taken == 0 && !ciphertext.is_empty() {
            return Err(TlsFault::Misbehaved.failure("the peer sent a message longer than TLS allows"));
        }
        Ok(taken)
    }

    fn take_plaintext(&mut self, sink: &mut dyn FnMut(&[u8])) {
        let mut reader = self.connection.reader();
        // Without plaintext rustls reports an end or that there is none yet; neither is of interest here.
        while let Ok(chunk) = reader.fill_buf() {
            let len = chunk.len();
            if len == 0 {
                break;
            }
            sink(chunk);
            reader.consume(len);
        }
    }

    fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    fn seal(&mut self, plaintext: &[IoSlice<'_>]) -> Result<(), Failure> {
        let len: usize = plaintext.iter().map(|slice| slice.len()).sum();
        if let Some(left) = self.records_left() {
            let records = len.div_ceil(self.record_len) as u64;
            // rustls would drop the bytes without a word.
            let left = left.checked_sub(records).ok_or_else(|| {
                TlsFault::KeysUsedUp
                    .failure("the keys of this TLS 1.2 connection were used for as many records as is safe")
            })?;
            self.records_left = Some(left);
        }
        let taken = self.connection.writer().write_vectored(plaintext);
        match taken {
            Ok(taken) if taken == len => Ok(()),
            Ok(taken) => Err(TlsFault::Local.failure(format!("rustls took {taken} of {len} bytes"))),
            Err(error) => Err(TlsFault::Local.failure(error.to_string())),
        }
    }

    fn close_notify(&mut self) {
        self.close_notify_queued = true;
        self.connection.send_close_notify();
    }

    fn wants_send(&self) -> bool {
        self.connection.wants_write()
    }

    fn send(&mut self, sink: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize> {
        self.connection.write_tls(&mut Sink(sink))
    }

    fn info(&self) -> Option<TlsInfo> {
        let version = self.version()?;
        let suite = self.connection.negotiated_cipher_suite()?.suite();
        // rustls marks the suites of TLS 1.3 by a name of its own.
        let suite = format!("{suite:?}").replace("TLS13_", "TLS_");
        let mut info = TlsInfo::new(version, suite);
        info.alpn = self.connection.alpn_protocol().map(<[u8]>::to_vec);
        info.server_name = match &self.connection {
            Connection::Client(_) => self.verified_name.clone(),
            Connection::Server(server) => server.server_name().map(str::to_owned),
        };
        let certificates = self.connection.peer_certificates().unwrap_or_default();
        info.peer_certificates = certificates.iter().map(|certificate| certificate.to_vec()).collect();
        info.resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        Some(info)
    }

    fn version(&self) -> Option<TlsVersion> {
        if self.connection.is_handshaking() {
            return None;
        }
        Some(match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => TlsVersion::V1_2,
            _ => TlsVersion::V1_3,
        })
    }
}

impl fmt::Debug for RustlsEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RustlsEngine").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// What rustls writes to.
struct Sink<'a>(&'a mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>);

impl Write for Sink<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (self.0)(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (self.0)(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The plaintext of one record: rustls counts the record's header into its setting.
fn record_len(max_fragment_size: Option<usize>) -> usize {
    max_fragment_size.map_or(MAX_RECORD_LEN, |size| size.saturating_sub(RECORD_HEADER_LEN)).max(1)
}

/// RFC 8446, section 5.1.
const MAX_RECORD_LEN: usize = 16 * 1024;
const RECORD_HEADER_LEN: usize = 5;
/// Records that the handshake and the closing of a connection take from the same keys, and then some.
const RECORDS_KEPT_BACK: u64 = 64;
