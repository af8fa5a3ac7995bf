//! TLS between a transport and the two queues of a connection, without I/O: ciphertext in, ciphertext out.
//!
//! ```text
//!  socket ──ciphertext──▶ TlsPipe::receive ──plaintext──▶ ReadBuffer
//!  socket ◀──ciphertext── TlsPipe::send ◀── TlsPipe::seal ◀── WriteQueue
//! ```
//!
//! The pipe knows when bytes may pass and what an end means; the cryptography is a [`TlsEngine`]'s, of which the feature
//! `tls` brings one.

mod engine;
mod fault;
mod pipe;
mod record_edge;
#[cfg(feature = "tls")]
mod rustls_engine;
#[cfg(feature = "tls")]
mod rustls_errors;
mod watch;

pub use engine::{TlsEngine, TlsInfo, TlsVersion};
pub use fault::{CertificateFault, TlsFault};
pub use pipe::{SEAL_LEN, TlsPipe};
#[cfg(feature = "tls")]
pub use rustls_engine::RustlsEngine;
