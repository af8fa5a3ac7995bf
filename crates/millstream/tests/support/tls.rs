//! TLS in tests: configurations for both sides, a peer of bare rustls that does only what it is told, every kind of transport,
//! and what has to hold when it is over.

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::pin::pin;
use std::sync::Arc;

use millstream::testing::{Pair, pair, pair_with_capacity};
use millstream::tls::{TlsClient, TlsFault, TlsServer, TlsVersion};
use millstream::{
    CloseError, ConnectOptions, DrainError, Error, Failure, ReadError, ReadExactlyError, ReadLineError,
    ReadToEndError, ReadUntilError, SkipError, StreamReader, StreamWriter, WriteError,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use super::certificates::{Authority, Identity};
use super::tcp_pair;

pub const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

/// The name that every server here has.
pub const HOST: &str = "localhost";

/// An authority, a server that it vouches for, and every way to be one of its sides. Nothing is resumed, so that no
/// tickets stand between what a test sends.
pub struct Realm {
    pub authority: Authority,
    pub identity: Identity,
}

impl Realm {
    pub fn new() -> Self {
        let authority = Authority::new("test root");
        let identity = authority.server(&[HOST]);
        Self { authority, identity }
    }

    pub fn client(&self, version: TlsVersion) -> TlsClient {
        let builder = TlsClient::builder().root_certificates(self.authority.root()).resumption(false);
        let client = builder.minimum_version(version).maximum_version(version).build().expect("valid");
        client.server_name(HOST).expect("a name")
    }

    pub fn server(&self, version: TlsVersion) -> TlsServer {
        let builder = TlsServer::builder().certificate(&self.identity.chain, &self.identity.key);
        let builder = builder.minimum_version(version).maximum_version(version).resumption(false);
        builder.build().expect("valid")
    }

    pub fn client_config(&self, version: TlsVersion) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.root().as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[of_rustls(version)])
            .expect("a known version");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config
    }

    pub fn server_config(&self, version: TlsVersion) -> ServerConfig {
        let chain = CertificateDer::pem_slice_iter(self.identity.chain.as_bytes());
        let chain = chain.collect::<Result<_, _>>().expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(self.identity.key.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[of_rustls(version)])
            .expect("a known version");
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).expect("they match");
        config.send_tls13_tickets = 0;
        config
    }

    /// A bare client over the pair.
    pub fn bare_client(&self, version: TlsVersion, pair: Pair) -> BarePeer {
        let name = ServerName::try_from(HOST).expect("a name");
        let tls = ClientConnection::new(Arc::new(self.client_config(version)), name).expect("valid");
        BarePeer::new(tls, pair)
    }

    /// A bare server over the pair.
    pub fn bare_server(&self, version: TlsVersion, pair: Pair) -> BarePeer {
        let tls = ServerConnection::new(Arc::new(self.server_config(version))).expect("valid");
        BarePeer::new(tls, pair)
    }

    /// A tested side and a bare peer after their handshake.
    pub async fn connected(&self, side: Side, version: TlsVersion, pairs: (Pair, Pair)) -> (Pair, BarePeer) {
        let ((mut reader, writer), raw) = pairs;
        let mut bare = self.bare_peer_of(side, version, raw);
        let (result, ()) = tokio::join!(self.start(side, version, &mut reader, &writer), bare.handshake());
        result.expect("a handshake");
        ((reader, writer), bare)
    }

    pub fn bare_peer_of(&self, side: Side, version: TlsVersion, raw: Pair) -> BarePeer {
        match side {
            Side::Client => self.bare_server(version, raw),
            Side::Server => self.bare_client(version, raw),
        }
    }

    /// `start_tls` on the side under test.
    pub async fn start(
        &self,
        side: Side,
        version: TlsVersion,
        reader: &mut StreamReader,
        writer: &StreamWriter,
    ) -> Result<(), millstream::tls::TlsError> {
        match side {
            Side::Client => writer.start_tls(reader, &self.client(version)).await,
            Side::Server => writer.start_tls(reader, &self.server(version)).await,
        }
    }
}

/// Which side of TLS is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

pub const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// Both sides in both versions.
pub fn every_side() -> impl Iterator<Item = (Side, TlsVersion)> {
    SIDES.into_iter().flat_map(|side| VERSIONS.map(|version| (side, version)))
}

fn of_rustls(version: TlsVersion) -> &'static rustls::SupportedProtocolVersion {
    match version {
        TlsVersion::V1_2 => &rustls::version::TLS12,
        _ => &rustls::version::TLS13,
    }
}

/// A peer of bare rustls over any pair that carries bytes.
pub struct BarePeer {
    pub tls: Connection,
    pub reader: StreamReader,
    pub writer: StreamWriter,
}

impl BarePeer {
    pub fn new(tls: impl Into<Connection>, (reader, writer): Pair) -> Self {
        Self { tls: tls.into(), reader, writer }
    }

    /// What rustls wants to be sent, unsent.
    pub fn ciphertext(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("a vector takes all");
        }
        bytes
    }

    /// The data encrypted, unsent.
    pub fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(data).expect("room");
        self.ciphertext()
    }

    /// A close_notify, unsent.
    pub fn goodbye(&mut self) -> Vec<u8> {
        self.tls.send_close_notify();
        self.ciphertext()
    }

    /// Sends bytes as they are, as far as there is still someone.
    pub fn send(&self, bytes: &[u8]) {
        let _ = self.writer.write(bytes).and_then(|()| self.writer.flush().map_err(|_| WriteError::Closed));
    }

    /// Sends what rustls wants to be sent.
    pub fn send_pending(&mut self) {
        let bytes = self.ciphertext();
        self.send(&bytes);
    }

    /// One receive: what it decrypts to, or `None` at the transport's end.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, rustls::Error> {
        match self.reader.read(usize::MAX).await {
            Ok(bytes) if !bytes.is_empty() => self.open(&bytes).map(Some),
            _ => Ok(None),
        }
    }

    /// Decrypts.
    pub fn open(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let mut plaintext = Vec::new();
        while self.tls.read_tls(&mut bytes).is_ok_and(|n| n > 0) {
            self.tls.process_new_packets()?;
            // Ends with a complaint that there is no more yet.
            let _ = self.tls.reader().read_to_end(&mut plaintext);
        }
        Ok(plaintext)
    }

    /// Does the whole handshake.
    pub async fn handshake(&mut self) {
        self.send_pending();
        while self.tls.is_handshaking() {
            let received = self.receive().await;
            self.send_pending();
            assert!(matches!(received, Ok(Some(_))), "{received:?}");
        }
    }

    /// Everything that comes until the transport ends, and the error that ends it before.
    pub async fn receive_all(&mut self) -> (Vec<u8>, Option<rustls::Error>) {
        let mut all = Vec::new();
        loop {
            match self.receive().await {
                Ok(Some(more)) => all.extend(more),
                Ok(None) => return (all, None),
                Err(error) => return (all, Some(error)),
            }
        }
    }
}

/// Runs a future to its end, and says how often it was polled.
pub async fn counting_polls<T>(future: impl Future<Output = T>) -> (T, usize) {
    let mut future = pin!(future);
    let mut polls = 0;
    let output = poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx)
    })
    .await;
    (output, polls)
}

/// The failure that every way to read ends with.
pub async fn read_failure(reader: &mut StreamReader) -> Failure {
    let errors: [Result<(), Error>; 11] = [
        reader.read(10).await.map(drop).map_err(Error::from),
        reader.read_borrowed(10).await.map(drop).map_err(Error::from),
        reader.read_line().await.map(drop).map_err(Error::from),
        reader.read_until(b"\r\n").await.map(drop).map_err(Error::from),
        reader.read_until_any(&[b";", b"\r\n"]).await.map(drop).map_err(Error::from),
        reader.read_exactly(1).await.map(drop).map_err(Error::from),
        reader.read_to_end(10).await.map(drop).map_err(Error::from),
        reader.peek().await.map(drop).map_err(Error::from),
        reader.skip(1).await.map_err(Error::from),
        reader.skip_until(b"\r\n").await.map(drop).map_err(Error::from),
        reader.read(10).await.map(drop).map_err(Error::from),
    ];
    let failures = errors.map(|result| match result {
        Err(
            Error::Read(ReadError::Failed(failure))
            | Error::ReadLine(ReadLineError::Failed(failure))
            | Error::ReadUntil(ReadUntilError::Failed(failure))
            | Error::ReadExactly(ReadExactlyError::Failed(failure))
            | Error::ReadToEnd(ReadToEndError::Failed(failure))
            | Error::Skip(SkipError::Failed(failure)),
        ) => failure,
        other => panic!("a read that should have failed: {other:?}"),
    });
    for failure in &failures {
        assert_eq!(*failure, failures[0], "not sticky");
    }
    assert!(!reader.at_eof(), "a failure is no end");
    failures[0].clone()
}

/// Asserts that neither half does anything any more, and says why.
pub async fn dead(reader: &mut StreamReader, writer: &StreamWriter) -> Option<TlsFault> {
    assert_eq!(reader.buffered(), b"", "something is readable");
    let told = read_failure(reader).await;
    let Err(WriteError::Failed(failure)) = writer.write(b"secret") else { panic!("something is writable") };
    // A send may have met the peer's end before the reader did.
    assert!(failure == told || failure.tls() == Some(TlsFault::EndedInHandshake), "{failure}, but {told}");
    assert_eq!(writer.write_lines(&["secret"]), Err(WriteError::Failed(failure.clone())));
    assert_eq!(writer.write_eof(), Err(WriteError::Failed(failure.clone())));
    assert_eq!(writer.flush(), Err(DrainError::Failed(failure.clone())));
    assert_eq!(writer.drain().await, Err(DrainError::Failed(failure.clone())));
    assert_eq!(writer.wait_closed().await, Err(CloseError::Failed(failure)));
    assert!(writer.is_closing() && writer.stats().queued == 0);
    told.tls()
}

/// A side to be tested and a raw other end, over TCP.
pub fn tcp_pairs() -> (Pair, Pair) {
    let (tested, raw) = tcp_pair(&ConnectOptions::new());
    (tested, ConnectOptions::new().adopt_tcp(raw).expect("a connected socket"))
}

/// The same over adopted streams in memory.
pub fn duplex_pairs() -> (Pair, Pair) {
    let (tested, raw) = tokio::io::duplex(100_000);
    (millstream::from_io(tested), millstream::from_io(raw))
}

/// Every kind of transport, both ends.
pub fn transports() -> Vec<(&'static str, Pair, Pair)> {
    let (tcp, tcp_peer) = tcp_pairs();
    let [unix, unix_peer] = super::unix_pair();
    let (memory, memory_peer) = pair();
    let (tiny, tiny_peer) = pair_with_capacity(7);
    let (io, io_peer) = tokio::io::duplex(64 * 1024);
    let (tiny_io, tiny_io_peer) = tokio::io::duplex(7);
    vec![
        ("TCP", tcp, tcp_peer),
        ("Unix", unix, unix_peer),
        ("memory", memory, memory_peer),
        ("memory of 7 bytes", tiny, tiny_peer),
        ("duplex", millstream::from_io(io), millstream::from_io(io_peer)),
        ("duplex of 7 bytes", millstream::from_io(tiny_io), millstream::from_io(tiny_io_peer)),
    ]
}

/// Closes both ends, one after the other: with pipes of 7 bytes, a close_notify needs a reader.
pub async fn end((reader, writer): Pair, (mut peer_reader, peer_writer): Pair) {
    writer.close();
    assert_eq!(peer_reader.read_to_end(0).await.expect("a clean end"), "");
    peer_writer.close();
    drop((reader, peer_reader));
    let (one, other) = tokio::join!(writer.wait_closed(), peer_writer.wait_closed());
    assert_eq!((one, other), (Ok(()), Ok(())));
}

/// Everything that comes until the end or a reset.
pub async fn all_of(mut reader: StreamReader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(bytes) = reader.read(usize::MAX).await
        && !bytes.is_empty()
    {
        all.extend(bytes);
    }
    all
}
