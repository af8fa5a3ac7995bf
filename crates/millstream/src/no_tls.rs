//! Without the feature `tls`: the same names for handshakes that can never be.

use std::task::{Context, Poll};

use millstream_core::{Failure, ReadBuffer};

use crate::connection::Connection;
use crate::sync::Arc;

/// There is none.
#[derive(Debug)]
pub(crate) enum Handshake {}

impl Handshake {
    pub(crate) fn poll(&mut self, _: &mut Context<'_>, _: &mut ReadBuffer) -> Poll<Result<(), Failure>> {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Secure {}

impl Secure {
    pub(crate) fn counts(&self) -> (usize, u64) {
        match *self {}
    }

    pub(crate) fn handshake(&self, _: &Arc<Connection>, _: &mut ReadBuffer) -> Result<Handshake, Failure> {
        match *self {}
    }
}
