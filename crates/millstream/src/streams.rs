//! Makes the pair of halves over a transport, with the settings that connecting and serving have in common.

use millstream_core::{ConfigError, DEFAULT_LIMIT, ReadBuffer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use crate::address::Address;
use crate::connection::{Connection, ConnectionSettings, Drive, check_cap};
use crate::reader::StreamReader;
use crate::socket_options::SocketSettings;
use crate::sync::Arc;
use crate::transport::{IoTransport, Transport};
use crate::writer::StreamWriter;

/// What a connection is made with, whichever side made it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamSettings {
    pub(crate) limit: usize,
    pub(crate) connection: ConnectionSettings,
    pub(crate) nodelay: bool,
    pub(crate) socket: SocketSettings,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            connection: ConnectionSettings::default(),
            nodelay: true,
            socket: SocketSettings::default(),
        }
    }
}

impl StreamSettings {
    /// Refuses what can never work, before anything is opened.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_cap(self.connection.hard_cap, self.connection.watermarks)?;
        self.connection.deadlines.check()?;
        ReadBuffer::new(self.limit).map(drop)
    }

    /// What a TCP socket is set to.
    pub(crate) fn socket(&self) -> SocketSettings {
        self.socket.for_deadlines(self.connection.deadlines)
    }

    /// A pair whose driver is spawned on the present runtime when it is needed.
    ///
    /// # Panics
    /// Outside a runtime.
    pub(crate) fn pair(
        &self,
        transport: Transport,
        peer: Option<Address>,
    ) -> Result<(StreamReader, StreamWriter), ConfigError> {
        let (runtime, deadlines) = (Handle::current(), self.connection.deadlines);
        if deadlines.is_none() {
            let connection = Connection::new(transport, self.connection, Some(runtime), false);
            return self.halves(connection, peer);
        }
        // Someone has to watch the time from the start.
        let (reader, writer, _, drive) = self.driven_pair(transport, peer)?;
        runtime.spawn(drive);
        Ok((reader, writer))
    }

    /// A pair with the driver that its owner has to poll.
    pub(crate) fn driven_pair(
        &self,
        transport: Transport,
        peer: Option<Address>,
    ) -> Result<(StreamReader, StreamWriter, Arc<Connection>, Drive), ConfigError> {
        let connection = Connection::new(transport, self.connection, None, true);
        let drive = Drive::new(Arc::clone(&connection)).watching(self.connection.deadlines);
        let (reader, writer) = self.halves(Arc::clone(&connection), peer)?;
        Ok((reader, writer, connection, drive))
    }

    fn halves(
        &self,
        connection: Arc<Connection>,
        peer: Option<Address>,
    ) -> Result<(StreamReader, StreamWriter), ConfigError> {
        let connection = match peer {
            Some(peer) => connection.with_peer(peer),
            None => connection,
        };
        let mut buffer = ReadBuffer::new(self.limit)?;
        if matches!(connection.transport(), Transport::Io(_)) {
            buffer.keep_apart();
        }
        Ok((StreamReader::new(buffer, Arc::clone(&connection)), StreamWriter::new(connection)))
    }
}

/// The setters that both option builders have.
macro_rules! stream_setters {
    () => {
        /// How many bytes may stand before a separator (64 KiB by default). See
        /// [`StreamReader::limit`](crate::StreamReader::limit).
        #[must_use]
        pub fn limit(mut self, limit: usize) -> Self {
            self.streams.limit = limit;
            self
        }

        /// The watermarks of new connections (64 KiB and 16 KiB by default).
        #[must_use]
        pub fn watermarks(mut self, marks: millstream_core::Watermarks) -> Self {
            self.streams.connection.watermarks = marks;
            self
        }

        /// How many bytes may be queued at all before writes fail (unlimited by default). Has to be above the high
        /// watermark.
        #[must_use]
        pub fn hard_cap(mut self, hard_cap: usize) -> Self {
            self.streams.connection.hard_cap = Some(hard_cap);
            self
        }

        /// Only addresses of this family (asyncio's `family`).
        #[must_use]
        pub fn family(mut self, family: crate::Family) -> Self {
            self.query.family = Some(family);
            self
        }

        /// The `AI_*` flags for `getaddrinfo` (asyncio's `flags`). A server always sets `AI_PASSIVE`.
        #[must_use]
        pub fn flags(mut self, flags: i32) -> Self {
            self.query.flags = flags;
            self
        }

        /// How long closing a connection may take (30 s by default, as for TLS in asyncio).
        #[must_use]
        pub fn close_deadline(mut self, deadline: std::time::Duration) -> Self {
            self.streams.connection.close_deadline = deadline;
            self
        }

        /// Whether small segments leave at once (`TCP_NODELAY`). On by default, as in asyncio: with it off, the kernel
        /// holds answers back for up to 40 ms.
        #[must_use]
        pub fn nodelay(mut self, nodelay: bool) -> Self {
            self.streams.nodelay = nodelay;
            self
        }
    };
}
pub(crate) use stream_setters;

/// Makes a pair of any byte stream: another library's TLS, a pipe, `tokio::io::duplex`. For anything but the defaults,
/// use [`ConnectOptions::adopt_io`](crate::ConnectOptions::adopt_io).
///
/// Its own `flush` is called whenever the queue is empty, and its `shutdown` for
/// [`write_eof`](StreamWriter::write_eof) and at close. It is polled under the connection's lock, so it must not call
/// back into the very pair that it carries.
///
/// # Panics
/// Outside a tokio runtime.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// let (one, other) = tokio::io::duplex(64);
/// let (_reader, writer) = millstream::from_io(one);
/// let (mut reader, _writer) = millstream::from_io(other);
/// writer.write(b"any byte stream will do\n")?;
/// assert_eq!(reader.read_line().await?.as_deref(), Some(&b"any byte stream will do\n"[..]));
/// # Ok(()) }
/// ```
pub fn from_io(io: impl AsyncRead + AsyncWrite + Send + 'static) -> (StreamReader, StreamWriter) {
    default_pair(Transport::Io(IoTransport::new(io)))
}

/// A pair with the default settings.
pub(crate) fn default_pair(transport: Transport) -> (StreamReader, StreamWriter) {
    StreamSettings::default().pair(transport, None).expect("the default settings are valid")
}
