//! Whose turn it is: on which connection's own task this thread is working right now, and how a task lets others go first.
//!
//! The task of a served connection flushes when its handler gives control back, so bytes that the handler writes during
//! its turn need no wake-up. Everyone else who writes has to call the connection's driver.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Context;

use crate::connection::Connection;
use crate::sync::thread_local;

thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "loom's twin of the macro takes no const block")]
    /// The address of the connection whose handler is being polled; zero: none.
    static CURRENT: Cell<usize> = Cell::new(0);
}

/// A handler's turn; ends, and gives way to the one it interrupted, when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    interrupted: usize,
}

impl Turn {
    /// Begins the turn of this connection.
    pub(crate) fn begin(connection: &Connection) -> Self {
        let address = std::ptr::from_ref(connection).addr();
        Self { interrupted: CURRENT.with(|current| current.replace(address)) }
    }

    /// Whether this thread is in the turn of this connection.
    pub(crate) fn is_of(connection: &Connection) -> bool {
        CURRENT.with(|current| current.get() == std::ptr::from_ref(connection).addr())
    }
}

/// Wakes the task again once the others had their turn. A plain wake-up would let the runtime look at its sockets only
/// after 61 such turns.
pub(crate) fn give_way(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

impl Drop for Turn {
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(self.interrupted));
    }
}
