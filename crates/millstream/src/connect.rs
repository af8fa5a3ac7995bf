//! Opening connections: by name with Happy Eyeballs, by path, or from a socket that is open already.

mod race;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use millstream_core::{DEFAULT_FIRST_FAMILY_COUNT, DEFAULT_STAGGER};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;

use crate::address::Address;
use crate::error::ConnectError;
use crate::reader::StreamReader;
use crate::resolve::{Query, check_host};
use crate::streams::{StreamSettings, stream_setters};
use crate::transport::{IoTransport, Socket, Transport};
use crate::writer::StreamWriter;

/// Connects to a host by name or address over TCP, as asyncio's `open_connection`. For anything but the defaults, use
/// [`ConnectOptions`].
///
/// # Errors
/// See [`ConnectError`]: it lists every address that was tried.
///
/// ```no_run
/// # async fn run() -> Result<(), millstream::Error> {
/// let (mut reader, writer) = millstream::open_connection("localhost", 8888).await?;
/// writer.write(b"hello\n")?;
/// let echo = reader.read_line().await?;
/// # Ok(()) }
/// ```
pub async fn open_connection(host: &str, port: u16) -> Result<(StreamReader, StreamWriter), ConnectError> {
    ConnectOptions::new().open(host, port).await
}

/// Connects to a Unix socket by its path, as asyncio's `open_unix_connection`. A path that begins with a zero byte is a
/// name in Linux's abstract name space.
///
/// # Errors
/// See [`ConnectError`].
pub async fn open_unix_connection(
    path: impl AsRef<Path>,
) -> Result<(StreamReader, StreamWriter), ConnectError> {
    ConnectOptions::new().open_unix(path).await
}

/// The two halves of a connection.
type Pair = (StreamReader, StreamWriter);

/// How to connect: every keyword of asyncio's `open_connection` that makes sense here, with its defaults.
///
/// ```no_run
/// # async fn run() -> Result<(), millstream::Error> {
/// use std::time::Duration;
/// let options = millstream::ConnectOptions::new().limit(1024).timeout(Duration::from_secs(5));
/// let (reader, writer) = options.open("example.org", 7).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) streams: StreamSettings,
    query: Query,
    local_address: Option<SocketAddr>,
    stagger: Option<Duration>,
    first_family_count: usize,
    timeout: Option<Duration>,
    pub(crate) proxy_header: Option<Result<bytes::Bytes, crate::proxy::ProxyEncodeError>>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::TlsClient>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            streams: StreamSettings::default(),
            query: Query::default(),
            local_address: None,
            stagger: Some(DEFAULT_STAGGER),
            first_family_count: DEFAULT_FIRST_FAMILY_COUNT,
            timeout: None,
            proxy_header: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    stream_setters!();

    /// The address to connect from (asyncio's `local_addr`). Peers of the other family are failed attempts then.
    #[must_use]
    pub fn local_address(mut self, address: SocketAddr) -> Self {
        self.local_address = Some(address);
        self
    }

    /// How long an address may be alone before the next one is tried beside it (250 ms by default, RFC 8305; at least
    /// 10 ms). `None` tries one after the other, as asyncio does by default.
    #[must_use]
    pub fn happy_eyeballs_delay(mut self, delay: Option<Duration>) -> Self {
        self.stagger = delay;
        self
    }

    /// How many addresses of the first family come before the families alternate (asyncio's `interleave`; 1 by
    /// default). Zero keeps the resolver's order.
    #[must_use]
    pub fn interleave(mut self, first_family_count: usize) -> Self {
        self.first_family_count = first_family_count;
        self
    }

    /// Connects with TLS (asyncio's `ssl`): the pair is handed out when the handshake is over. The name to verify is the
    /// host, unless the configuration has one.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::tls::TlsClient) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long connecting may take in all, name lookup included; a TLS handshake has a deadline of its own. Without it the system decides: about two minutes for
    /// an address that never answers.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Connects over TCP. Tries the host's addresses as Happy Eyeballs v2 (RFC 8305) says: families alternating, the
    /// next one when the last has failed or was silent for the delay, none cancelled by a later one, the first success
    /// wins and the others are closed.
    ///
    /// **Cancel-safe**: dropping it closes every attempt at once.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn open(&self, host: &str, port: u16) -> Result<(StreamReader, StreamWriter), ConnectError> {
        self.streams.check()?;
        self.check_proxy_header()?;
        check_host(host)?;
        self.check_name(Some(host))?;
        let mut attempts = Vec::new();
        let race = self.race(host, port, &mut attempts);
        let socket = match self.timeout {
            None => race.await?,
            Some(timeout) => match tokio::time::timeout(timeout, race).await {
                Ok(result) => result?,
                Err(_) => return Err(ConnectError::TimedOut { host: host.to_owned(), timeout, attempts }),
            },
        };
        let peer = socket.peer_addr().ok().map(Address::Ip);
        let pair = self.pair(Transport::Tcp(Socket::new(socket)), peer)?;
        #[cfg(feature = "tls")]
        pair.1.connection.set_host(host);
        self.secure(pair).await
    }

    /// Connects to a Unix socket.
    ///
    /// **Cancel-safe.**
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn open_unix(
        &self,
        path: impl AsRef<Path>,
    ) -> Result<(StreamReader, StreamWriter), ConnectError> {
        self.streams.check()?;
        self.check_proxy_header()?;
        self.check_name(None)?;
        let path = path.as_ref();
        if let Err(error) = crate::unix::check_path(path) {
            return Err(ConnectError::BadPath { path: path.to_owned(), failure: error.into() });
        }
        let failed =
            |error: io::Error| ConnectError::PathFailed { path: path.to_owned(), failure: error.into() };
        let socket = match self.timeout {
            None => UnixStream::connect(path).await.map_err(failed)?,
            Some(timeout) => tokio::time::timeout(timeout, UnixStream::connect(path))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map_err(failed)?,
        };
        self.secure(self.pair(Transport::Unix(Socket::new(socket)), None)?).await
    }

    /// Begins TLS, if it was asked for.
    async fn secure(&self, pair: Pair) -> Result<Pair, ConnectError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let (mut reader, writer) = pair;
            crate::tls::upgrade::begin(&mut reader, tls).await?;
            return Ok((reader, writer));
        }
        Ok(pair)
    }

    /// Refuses names that no certificate could be for, before anything is opened.
    #[cfg_attr(
        not(feature = "tls"),
        allow(clippy::unused_self, reason = "without TLS there is nothing to verify")
    )]
    fn check_name(&self, host: Option<&str>) -> Result<(), ConnectError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.name_for(host)?;
        }
        let _ = host;
        Ok(())
    }

    /// Refuses what adopting cannot do, before the socket is touched.
    fn check_adopt(&self) -> Result<(), ConnectError> {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return Err(crate::tls::TlsError::NeedsStartTls.into());
        }
        self.check_proxy_header()?;
        Ok(self.streams.check()?)
    }

    /// Adopts a connected TCP socket (asyncio's `sock`). TLS on it begins with
    /// [`start_tls`](StreamWriter::start_tls): adopting does not wait, so these options must not ask for it (the socket is closed then).
    ///
    /// # Errors
    /// [`ConnectError::Adopt`] if it is not connected, or outside a tokio runtime.
    pub fn adopt_tcp(
        &self,
        socket: std::net::TcpStream,
    ) -> Result<(StreamReader, StreamWriter), ConnectError> {
        self.check_adopt()?;
        let adopt = || -> io::Result<(TcpStream, SocketAddr)> {
            Handle::try_current().map_err(io::Error::other)?;
            let peer = socket.peer_addr()?;
            socket.set_nonblocking(true)?;
            socket.set_nodelay(self.streams.nodelay)?;
            self.streams.socket().apply(&SockRef::from(&socket))?;
            Ok((TcpStream::from_std(socket)?, peer))
        };
        let (socket, peer) = adopt().map_err(|error| ConnectError::Adopt(error.into()))?;
        self.pair(Transport::Tcp(Socket::new(socket)), Some(Address::Ip(peer)))
    }

    /// Adopts a connected Unix socket (asyncio's `sock`).
    ///
    /// # Errors
    /// [`ConnectError::Adopt`] if it is not connected, or outside a tokio runtime.
    pub fn adopt_unix(
        &self,
        socket: std::os::unix::net::UnixStream,
    ) -> Result<(StreamReader, StreamWriter), ConnectError> {
        self.check_adopt()?;
        let adopt = || -> io::Result<UnixStream> {
            Handle::try_current().map_err(io::Error::other)?;
            socket.peer_addr()?;
            socket.set_nonblocking(true)?;
            UnixStream::from_std(socket)
        };
        let socket = adopt().map_err(|error| ConnectError::Adopt(error.into()))?;
        self.pair(Transport::Unix(Socket::new(socket)), None)
    }

    /// Adopts any byte stream, as [`from_io`](crate::from_io), with these options.
    ///
    /// # Errors
    /// [`ConnectError::Adopt`] outside a tokio runtime.
    pub fn adopt_io(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + 'static,
    ) -> Result<(StreamReader, StreamWriter), ConnectError> {
        self.check_adopt()?;
        Handle::try_current().map_err(|error| ConnectError::Adopt(io::Error::other(error).into()))?;
        self.pair(Transport::Io(IoTransport::new(io)), None)
    }
}
