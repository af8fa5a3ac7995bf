//! What the living connections of a server did so far.

use std::time::Duration;

use crate::address::Address;
use crate::connection::Connection;
use crate::server::Server;
use crate::stats::Stats;

/// One connection of a server, as it is now; from [`Server::connection_stats`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Who is connected.
    pub peer: Option<Address>,
    /// How long ago the connection was accepted.
    pub age: Duration,
    /// Whether it is closing: what is queued has until the close deadline to leave.
    pub is_closing: bool,
    /// What it did so far.
    pub stats: Stats,
}

impl Server {
    /// A snapshot of every connection there is, those in their TLS handshake included, in no particular order. Each takes its
    /// connection's lock for a moment; nothing is counted for the sake of this that is not counted anyway.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
    /// # let server = millstream::start_server("127.0.0.1", 0, |_, _| ()).await?;
    /// for connection in server.connection_stats() {
    ///     if connection.stats.queued > 1_000_000 {
    ///         println!("{:?} takes nothing, after {:?}", connection.peer, connection.age);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn connection_stats(&self) -> Vec<ConnectionStats> {
        self.shared.connections().iter().map(|connection| connection.snapshot()).collect()
    }
}

impl Connection {
    fn snapshot(&self) -> ConnectionStats {
        ConnectionStats {
            peer: self.peer_address(),
            age: self.since().elapsed(),
            is_closing: self.is_closing(),
            stats: self.stats(),
        }
    }
}
