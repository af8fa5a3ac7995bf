//! The limits of a server: how many connections, how many of one peer, and what becomes of those above.

use bytes::Bytes;

use super::ServerOptions;
use crate::admission::WhenFull;

impl ServerOptions {
    /// How many connections there may be at once, over all listeners of the server together; at least 1. One counts from
    /// before it is accepted until its handler has ended and it is closed, however that comes. What becomes of those
    /// above is [`when_full`](Self::when_full)'s to say.
    ///
    /// There is no cap by default: which number is right depends on the memory and the descriptors of the process (see
    /// `ulimit -n`), and one made up here would be an outage that nobody ordered. Without a cap, the system's limit of
    /// descriptors is one, and accepting pauses there, but the rest of the program then has none left either. So a server
    /// on the open internet should set it, below that limit.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
    /// use millstream::{ServerOptions, WhenFull};
    /// let options = ServerOptions::new().max_connections(1).when_full(WhenFull::Refuse).farewell("421 try later\r\n");
    /// let server = options.start("127.0.0.1", 0, |mut reader: millstream::StreamReader, _writer| async move {
    ///     reader.read_line().await.map(drop)
    /// }).await?;
    /// let port = server.sockets()[0].port().expect("TCP");
    ///
    /// let _first = millstream::open_connection("127.0.0.1", port).await?;
    /// let (mut second, _) = millstream::open_connection("127.0.0.1", port).await?;
    /// assert_eq!(second.read_to_end(100).await?, "421 try later\r\n");
    /// assert_eq!(server.stats().refused_full, 1);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn max_connections(mut self, most: usize) -> Self {
        self.limits.connections = Some(most.max(1));
        self
    }

    /// What becomes of a connection above [`max_connections`](Self::max_connections): [`WhenFull::Wait`] by default.
    #[must_use]
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.limits.when_full = policy;
        self
    }

    /// How many connections one peer may have at once, at least 1; off by default, because many clients may share one
    /// address behind a proxy or a translating router. A connection above is accepted and closed at once, after the
    /// [`farewell`](Self::farewell).
    ///
    /// A peer is an IPv4 address, also where it comes mapped into IPv6, or an IPv6 network of 64 bits, which is what one
    /// host usually has to choose its addresses from. Unix sockets are not counted.
    ///
    /// Proxies that are asked for a [PROXY header](crate::ServerOptions::proxy_protocol) are not counted, because each
    /// stands for many clients, but the client that a header names is, from then on and together with those of its
    /// connections that come by themselves. So it takes a place of [`max_connections`](Self::max_connections), for as long as
    /// a header may take, before it can be refused. A proxy that speaks for itself or, where headers are optional, sends none
    /// is counted for nobody.
    #[must_use]
    pub fn max_connections_per_peer(mut self, most: usize) -> Self {
        self.limits.per_peer = Some(most.max(1));
        self
    }

    /// What a refused peer is sent before its connection is closed; nothing by default. What does not fit into the
    /// socket's empty buffer at once is cut off. A server with TLS sends nothing, because its peers expect none but TLS's
    /// own messages.
    ///
    /// A refused connection is never reset, so that the farewell arrives: what its peer sends is read and dropped, for a
    /// second at most, by at most 256 connections at once; with more refused ones, the oldest is closed as it is.
    #[must_use]
    pub fn farewell(mut self, farewell: impl Into<Bytes>) -> Self {
        self.limits.farewell = farewell.into();
        self
    }

    /// Whether [`Server::stop`](crate::Server::stop) ends the reads of idle connections (on by default). With it off,
    /// handlers learn of the stop only by [`stopping`](crate::StreamReader::stopping), and what has not ended by itself
    /// is aborted at the deadline, handshakes and awaited PROXY headers included: for protocols whose handlers read while
    /// they work on an answer.
    #[must_use]
    pub fn end_idle_on_stop(mut self, end: bool) -> Self {
        self.limits.keep_idle = !end;
        self
    }
}
