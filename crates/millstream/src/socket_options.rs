//! What the system is asked to do about peers that vanish: keepalive probes and the user timeout of TCP.

use std::io;
use std::time::Duration;

use millstream_core::Deadlines;
use socket2::{SockRef, TcpKeepalive};

use crate::connect::ConnectOptions;
use crate::server_options::ServerOptions;

/// Probes that find out whether the peer of a silent TCP connection is still there. By default 15 s of silence, then a
/// probe every 15 s; after 9 without an answer the connection fails, 150 s after the last sign of life. These are Go's
/// numbers; those of Linux (2 h, 75 s, 9) are from 1989 and outlive any NAT's memory of the connection.
///
/// ```
/// use millstream::{Keepalive, ServerOptions};
/// use std::time::Duration;
/// let keepalive = Keepalive::new().idle(Duration::from_secs(60)).interval(Duration::from_secs(10)).retries(3);
/// let options = ServerOptions::new().keepalive(Some(keepalive));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    idle: Duration,
    interval: Duration,
    retries: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(15), interval: Duration::from_secs(15), retries: 9 }
    }
}

impl Keepalive {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the connection has to be silent before the first probe. The system counts whole seconds.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// How long to wait between two probes. The system counts whole seconds.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How many probes may go unanswered.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }
}

/// What a TCP socket is set to beyond `TCP_NODELAY`. Nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketSettings {
    keepalive: Option<Keepalive>,
    user_timeout: Option<Duration>,
    /// Whether the kernel is to tell soon what the peer takes.
    shows_progress: bool,
}

impl SocketSettings {
    /// With what these deadlines need.
    pub(crate) fn for_deadlines(mut self, deadlines: Deadlines) -> Self {
        self.shows_progress = deadlines.watches_writes();
        self
    }

    /// Sets a TCP socket before it connects or listens. On Linux accepted sockets inherit all of it from their listener.
    pub(crate) fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if let Some(keepalive) = self.keepalive {
            let parameters = TcpKeepalive::new()
                .with_time(whole_seconds(keepalive.idle))
                .with_interval(whole_seconds(keepalive.interval))
                .with_retries(keepalive.retries);
            socket.set_tcp_keepalive(&parameters)?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.shows_progress {
            socket.set_tcp_notsent_lowat(UNSENT_LEN)?;
        }
        Ok(())
    }
}

/// How much unsent data the kernel takes from a connection whose writes are watched (`TCP_NOTSENT_LOWAT`). Without it, it
/// takes up to 4 MiB and says nothing until a third of that has left: a peer that takes 20 KB a second would look as if
/// it took nothing for a minute. What is on the way is not counted, so a long fat path stays full.
const UNSENT_LEN: u32 = 64 * 1024;

/// The system cuts fractions off, and refuses zero.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().max(1))
}

macro_rules! socket_setters {
    () => {
        /// Whether the system probes silent TCP connections, and how (off by default, as in asyncio: probes wake the radio of
        /// a mobile peer, and end connections that a short loss of the network would not). A connection whose peer has
        /// vanished then fails with the system's `ETIMEDOUT`. It needs no reader and no bytes to find out, which is why
        /// a server wants it beside an [`idle_timeout`](Self::idle_timeout). No effect on Unix sockets, whose peers
        /// cannot vanish, and on adopted byte streams.
        #[must_use]
        pub fn keepalive(mut self, keepalive: Option<crate::Keepalive>) -> Self {
            self.streams.socket.keepalive = keepalive;
            self
        }

        /// How long bytes that were sent may go without the acknowledgement of the peer's system before the connection fails
        /// with `ETIMEDOUT` (`TCP_USER_TIMEOUT`, RFC 5482; the system's default is about 15 minutes). It also bounds how
        /// long a peer's system may refuse to take any, and, where [`keepalive`](Self::keepalive) is on, takes the place
        /// of its number of retries. Whole milliseconds. Only Linux has it; elsewhere, and on Unix sockets and adopted byte
        /// streams, it has no effect.
        #[must_use]
        pub fn user_timeout(mut self, timeout: Option<std::time::Duration>) -> Self {
            self.streams.socket.user_timeout = timeout;
            self
        }
    };
}

impl ServerOptions {
    socket_setters!();
}

impl ConnectOptions {
    socket_setters!();
}
