//! The load's side of TLS: rustls fed from memory, with one version, one suite and no resumption.
//!
//! It does not verify the server's certificate: that would be its own time, and shows nothing of the server.

use std::io::{self, BufRead as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use super::wire::{self, Wire};
use crate::Result;

/// TLS on a socket.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) socket: TcpStream,
    pub(super) tls: ClientConnection,
}

/// Most bytes that are encrypted before they are sent: four full records.
const SEALED: usize = 64 * 1024;

impl Session {
    /// Connects; the handshake is still to be done, and the socket blocks.
    pub(super) fn dial(port: u16, number: usize) -> Result<Self> {
        let socket = wire::dial(port, number)?;
        let name = ServerName::try_from("localhost")?;
        let mut tls = ClientConnection::new(Arc::clone(&CONFIG), name)?;
        tls.set_buffer_limit(None);
        Ok(Self { socket, tls })
    }

    /// Sends what is encrypted, as far as there is room.
    pub(super) fn flush(&mut self) -> Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Decrypts what came and hands it to `take`.
    pub(super) fn open(
        &mut self,
        mut ciphertext: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        while !ciphertext.is_empty() {
            let before = ciphertext.len();
            // An error says that rustls holds as much as it wants to at once.
            while !ciphertext.is_empty() && self.tls.read_tls(&mut ciphertext).is_ok_and(|n| n > 0) {}
            self.tls.process_new_packets()?;
            let mut reader = self.tls.reader();
            while let Ok(chunk) = reader.fill_buf() {
                let n = chunk.len();
                if n == 0 {
                    break;
                }
                take(chunk)?;
                reader.consume(n);
            }
            if ciphertext.len() == before {
                return Err("the server goes on after its close_notify".into());
            }
        }
        Ok(())
    }
}

impl Wire for Session {
    fn connect(port: u16, number: usize) -> Result<Self> {
        let mut session = Self::dial(port, number)?;
        while session.tls.is_handshaking() {
            session.tls.complete_io(&mut session.socket)?;
        }
        session.socket.set_nonblocking(true)?;
        Ok(session)
    }

    fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn send(&mut self, bytes: &[u8]) -> Result<usize> {
        self.flush()?;
        if bytes.is_empty() || self.tls.wants_write() {
            return Ok(0);
        }
        let n = self.tls.writer().write(&bytes[..bytes.len().min(SEALED)])?;
        self.flush()?;
        Ok(n)
    }

    fn holds_back(&self) -> bool {
        self.tls.wants_write()
    }

    fn receive(
        &mut self,
        scratch: &mut [u8],
        take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<usize>> {
        let Some(n) = wire::receive(&self.socket, scratch)? else { return Ok(None) };
        if n == 0 {
            return Err("the server closed the connection".into());
        }
        self.open(&scratch[..n], take)?;
        Ok(Some(n))
    }
}

/// TLS 1.3 with `TLS_AES_128_GCM_SHA256` on X25519, whatever a server would rather have.
static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![ring::kx_group::X25519];
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the suite is one of TLS 1.3");
    let verifier = Arc::new(NotVerified(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
});

/// Takes any certificate and any signature.
#[derive(Debug)]
struct NotVerified(Arc<CryptoProvider>);

impl ServerCertVerifier for NotVerified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
