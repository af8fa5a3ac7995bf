//! `start_tls`: TLS on a live connection, in place.

use millstream_core::Failure;
use millstream_core::tls::{RustlsEngine, TlsInfo};

use super::TlsFault;
use super::client::TlsClient;
use super::error::TlsError;
use super::handshake::Handshake;
use super::server::TlsServer;
use crate::reader::StreamReader;
use crate::sync::Arc;
use crate::writer::StreamWriter;

/// One side's configuration: [`TlsClient`] or [`TlsServer`].
pub trait TlsSide: sealed::Side {}

impl TlsSide for TlsClient {}
impl TlsSide for TlsServer {}

pub(crate) mod sealed {
    use std::time::Duration;

    use super::{RustlsEngine, TlsError};

    /// What both sides do at a handshake.
    #[derive(Clone, Copy, Debug)]
    pub struct Manners {
        pub(crate) timeout: Duration,
        pub(crate) truncation_is_end: bool,
    }

    pub trait Side {
        fn engine(&self, host: Option<&str>) -> Result<RustlsEngine, TlsError>;
        fn manners(&self) -> Manners;
        fn peer(&self, host: Option<&str>) -> String;
    }
}

impl sealed::Side for TlsClient {
    fn engine(&self, host: Option<&str>) -> Result<RustlsEngine, TlsError> {
        self.engine(host)
    }

    fn manners(&self) -> sealed::Manners {
        self.manners
    }

    fn peer(&self, host: Option<&str>) -> String {
        self.peer(host)
    }
}

impl sealed::Side for TlsServer {
    fn engine(&self, _: Option<&str>) -> Result<RustlsEngine, TlsError> {
        self.engine().map_err(|failure| TlsError::BadConfiguration { text: failure.to_string() })
    }

    fn manners(&self) -> sealed::Manners {
        self.manners
    }

    fn peer(&self, _: Option<&str>) -> String {
        "the client".to_owned()
    }
}

impl StreamWriter {
    /// Puts TLS on this connection, in place, as asyncio's `start_tls`: with a [`TlsClient`] as its client, with a
    /// [`TlsServer`] as its server. `reader` is the other half of the same connection.
    ///
    /// What was written before leaves first, in plaintext; what is written meanwhile waits and is encrypted. **Bytes that
    /// have arrived and were not read are ciphertext**, the peer's part of the handshake: no one who gets between can make
    /// plaintext pass for something that came by TLS.
    ///
    /// **Not cancel-safe**: dropping it closes the connection, for there is no way back into plaintext.
    ///
    /// # Errors
    /// [`TlsError::Handshake`] and [`TlsError::TimedOut`]: the connection is closed, and neither half reads or writes any
    /// more. After the others, which are the caller's mistakes, it is as it was.
    ///
    /// ```no_run
    /// # async fn run(mut reader: millstream::StreamReader, writer: millstream::StreamWriter) -> Result<(), millstream::Error> {
    /// use millstream::tls::TlsClient;
    /// writer.write(b"STARTTLS\r\n")?;
    /// if reader.read_line().await?.is_some_and(|answer| answer.starts_with(b"220 ")) {
    ///     writer.start_tls(&mut reader, &TlsClient::new()?).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn start_tls<S: TlsSide>(&self, reader: &mut StreamReader, tls: &S) -> Result<(), TlsError> {
        if !Arc::ptr_eq(&self.connection, &reader.connection) {
            return Err(TlsError::NotOnePair);
        }
        if self.connection.is_sealed() {
            return Err(TlsError::AlreadySecure);
        }
        if self.connection.has_ended() {
            return Err(TlsError::Ended);
        }
        reader.forget_dropped();
        begin(reader, tls).await
    }

    /// What the two sides agreed on: version, cipher suite, application protocol, names, certificates. `None` without TLS
    /// and before the handshake is over.
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.connection.tls_info()
    }
}

/// Does the handshake on the reader's connection.
pub(crate) async fn begin<S: TlsSide>(reader: &mut StreamReader, tls: &S) -> Result<(), TlsError> {
    let connection = Arc::clone(&reader.connection);
    let engine = tls.engine(connection.host())?;
    let manners = tls.manners();
    let handshake = Handshake::new(&connection, &mut reader.buffer, engine, manners, None);
    handshake.run(&mut reader.buffer).await.map_err(|failure: Failure| {
        let peer = tls.peer(connection.host());
        if failure.tls() == Some(TlsFault::TimedOut) {
            TlsError::TimedOut { peer, timeout: manners.timeout }
        } else {
            TlsError::Handshake { peer, failure }
        }
    })
}
