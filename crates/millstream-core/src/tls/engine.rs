//! What a TLS library has to do for a pipe. Small, so that another library, or the next version of one, fits as well.

use std::fmt;
use std::io::{self, IoSlice};

use crate::failure::Failure;

/// One side of one TLS connection. It never waits and stores no waker.
pub trait TlsEngine: fmt::Debug + Send {
    /// Takes a first part of the ciphertext and decrypts what is complete; returns how much it took, at least one byte
    /// unless the peer has closed. It may hold back one record's worth of incomplete ciphertext, and no more.
    ///
    /// # Errors
    /// A [`Failure`] with its [`TlsFault`](super::TlsFault). It is final; an alert for the peer may wait to be sent, and
    /// plaintext that came before it can still be taken.
    fn receive(&mut self, ciphertext: &[u8]) -> Result<usize, Failure>;

    /// Hands all decrypted bytes to `sink`, in order, and forgets them.
    fn take_plaintext(&mut self, sink: &mut dyn FnMut(&[u8]));

    /// Whether the handshake goes on.
    fn is_handshaking(&self) -> bool;

    /// Whether the peer has said by close_notify that nothing more comes.
    fn peer_closed(&self) -> bool;

    /// Encrypts the bytes, all of them, as few records as they fit into.
    ///
    /// # Errors
    /// A [`Failure`] if the keys must not be used any more; nothing was taken then.
    fn seal(&mut self, plaintext: &[IoSlice<'_>]) -> Result<(), Failure>;

    /// Queues a close_notify. Nothing can be sealed after it.
    fn close_notify(&mut self);

    /// Whether ciphertext waits to be sent.
    fn wants_send(&self) -> bool;

    /// Hands waiting ciphertext to one call of `sink`, which says how much of it left.
    ///
    /// # Errors
    /// Those of `sink`.
    fn send(&mut self, sink: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize>;

    /// What was agreed. `None` before the handshake is over.
    fn info(&self) -> Option<TlsInfo>;

    /// The version that was agreed. `None` before the handshake is over.
    fn version(&self) -> Option<TlsVersion> {
        self.info().map(|info| info.version)
    }
}

/// What the two sides of a TLS connection agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version of the protocol.
    pub version: TlsVersion,
    /// The cipher suite by its IANA name, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// The application protocol (ALPN, RFC 7301), such as `h2`, if both sides named one in common.
    pub alpn: Option<Vec<u8>>,
    /// The name that the client asked for (SNI, RFC 6066); at the client, the name it verified.
    pub server_name: Option<String>,
    /// The peer's certificates in DER, its own first. Empty if it sent none.
    pub peer_certificates: Vec<Vec<u8>>,
    /// Whether an earlier session was resumed, which saves the certificates and the signature.
    pub resumed: bool,
}

impl TlsInfo {
    /// With what is always there.
    pub fn new(version: TlsVersion, cipher_suite: impl Into<String>) -> Self {
        Self {
            version,
            cipher_suite: cipher_suite.into(),
            alpn: None,
            server_name: None,
            peer_certificates: Vec::new(),
            resumed: false,
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "TLS 1.2",
            Self::V1_3 => "TLS 1.3",
        })
    }
}
