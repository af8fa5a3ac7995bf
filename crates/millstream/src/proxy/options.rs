//! The options of servers and clients that concern PROXY headers.

use bytes::Bytes;
use millstream_core::proxy::{ProxyEncodeError, ProxyHeader};

use super::protocol::ProxyProtocol;
use crate::connect::ConnectOptions;
use crate::error::ConnectError;
use crate::reader::StreamReader;
use crate::server_options::ServerOptions;
use crate::transport::Transport;
use crate::writer::StreamWriter;

impl ServerOptions {
    /// Whether connections begin with a PROXY header, version 1 or 2 (off by default). It comes before TLS, and
    /// [`peer_address`](StreamWriter::peer_address) is the client's then; a header without addresses (`LOCAL`, `UNKNOWN`)
    /// leaves the socket's own. What comes behind the header, be it in the same segment, is the handler's or TLS's.
    ///
    /// A connection without the header that it should have is closed without its handler being called, and
    /// [`on_failure`](Self::on_failure) is told why, once: see
    /// [`ServerFailure::proxy_header`](crate::ServerFailure::proxy_header).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
    /// use millstream::proxy::{ProxyHeader, ProxyProtocol};
    /// use millstream::{ConnectOptions, ServerOptions, StreamReader, StreamWriter};
    ///
    /// async fn whoami(_reader: StreamReader, writer: StreamWriter) -> Result<(), millstream::Error> {
    ///     let client = writer.peer_address().expect("it was accepted");
    ///     writer.write(format!("you are {client}\n").as_bytes())?;
    ///     Ok(())
    /// }
    ///
    /// // Only the proxies of this network are believed, and nobody else is served.
    /// let proxies = ProxyProtocol::required().trust("127.0.0.0/8")?;
    /// let server = ServerOptions::new().proxy_protocol(proxies).start("127.0.0.1", 0, whoami).await?;
    ///
    /// // What a proxy does for a client of its own.
    /// let port = server.sockets()[0].port().expect("TCP");
    /// let client = ([192, 0, 2, 1], 5000).into();
    /// let header = ProxyHeader::tcp(client, ([198, 51, 100, 1], 443).into());
    /// let (mut reader, _writer) =
    ///     ConnectOptions::new().send_proxy_header(header).open("127.0.0.1", port).await?;
    /// assert_eq!(reader.read_line().await?.as_deref(), Some(&b"you are 192.0.2.1:5000\n"[..]));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn proxy_protocol(mut self, protocol: ProxyProtocol) -> Self {
        self.proxy = protocol;
        self
    }
}

impl ConnectOptions {
    /// Sends this PROXY header before anything else, before TLS too, in the form of its
    /// [`version`](ProxyHeader::version). It leaves with the first bytes that are written, or when the task gives control
    /// back, as everything that is written.
    ///
    /// A proxy makes a header for each connection that it passes on; cloning options is cheap:
    ///
    /// ```no_run
    /// # async fn run(options: millstream::ConnectOptions, accepted: millstream::StreamWriter) -> Result<(), millstream::Error> {
    /// use millstream::proxy::ProxyHeader;
    /// let (from, to) = (accepted.peer_address(), accepted.local_address());
    /// if let (Some(from), Some(to)) = (from.and_then(|from| from.ip()), to.and_then(|to| to.ip())) {
    ///     let options = options.clone().send_proxy_header(ProxyHeader::tcp(from, to));
    ///     let (reader, writer) = options.open("backend.internal", 8080).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A header that cannot be written is [`ConnectError::ProxyHeader`] when connecting; nothing is opened then.
    #[must_use]
    pub fn send_proxy_header(mut self, header: ProxyHeader) -> Self {
        self.proxy_header = Some(header.encode().map(Bytes::from));
        self
    }

    /// Refuses a header that cannot be written, before anything is opened.
    pub(crate) fn check_proxy_header(&self) -> Result<(), ConnectError> {
        self.first_bytes()?;
        Ok(())
    }

    /// A pair whose first bytes are the header.
    pub(crate) fn pair(
        &self,
        transport: Transport,
        peer: Option<crate::address::Address>,
    ) -> Result<(StreamReader, StreamWriter), ConnectError> {
        let header = self.first_bytes()?;
        let (reader, writer) = self.streams.pair(transport, peer)?;
        if let Some(header) = header {
            // The hard cap is for what the user writes. Nothing else can be in the way of a corked write into an empty queue.
            writer.set_hard_cap(None)?;
            let queued = writer.write(header);
            debug_assert_eq!(queued, Ok(()));
            writer.set_hard_cap(self.streams.connection.hard_cap)?;
        }
        Ok((reader, writer))
    }

    fn first_bytes(&self) -> Result<Option<&Bytes>, ProxyEncodeError> {
        self.proxy_header.as_ref().map(Result::as_ref).transpose().map_err(|error| *error)
    }
}
