//! A server's TLS: its configuration, and the crowd of handshakes that run at once.

use std::sync::Arc;

use millstream_core::{Failure, ReadBuffer};

use super::crowd::Crowd;
use super::handshake::Handshake;
use super::server::TlsServer;
use crate::connection::Connection;
use crate::sync;

/// What a server needs to begin handshakes.
#[derive(Debug)]
pub(crate) struct Secure {
    tls: TlsServer,
    crowd: Arc<Crowd>,
}

impl Secure {
    pub(crate) fn new(tls: TlsServer, handshakes_at_once: usize) -> Self {
        Self { tls, crowd: Crowd::new(handshakes_at_once) }
    }

    /// How many handshakes run, and how many were pushed out so far.
    pub(crate) fn counts(&self) -> (usize, u64) {
        self.crowd.counts()
    }

    /// Begins that of a new connection.
    pub(crate) fn handshake(
        &self,
        connection: &sync::Arc<Connection>,
        buffer: &mut ReadBuffer,
    ) -> Result<Handshake, Failure> {
        let engine = self.tls.engine()?;
        let place = Some(self.crowd.join());
        Ok(Handshake::new(connection, buffer, engine, self.tls.manners, place))
    }
}
