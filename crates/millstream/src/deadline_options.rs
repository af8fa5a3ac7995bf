//! The deadlines of connections as options: the same setters for those that are opened and those that are served.

use std::time::Duration;

use millstream_core::Deadlines;

use crate::connect::ConnectOptions;
use crate::server_options::ServerOptions;

macro_rules! deadline_setters {
    () => {
        /// The deadlines of new connections, all of them at once (none by default, as in asyncio: a connection may be
        /// silent for hours). For a server that strangers can reach, [`Deadlines::internet`] is a good beginning.
        ///
        /// When one passes, the connection fails with a [`Failure`](crate::Failure) of
        /// [`ErrorClass::Deadline`](crate::ErrorClass::Deadline), which says what the peer did not do, and whose
        /// [`deadline`](crate::Failure::deadline) names it. A read that waits, a write, a drain get it as they get any
        /// failure; what had arrived stays readable. The peer of an idle connection sees an end, any other a reset.
        #[must_use]
        pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
            self.streams.connection.deadlines = deadlines;
            self
        }

        /// How long one item, which is what one read asks for, may take once the peer has begun it (no bound by default). See
        /// [`Deadlines::item`].
        #[must_use]
        pub fn item_deadline(self, deadline: Duration) -> Self {
            let deadlines = self.streams.connection.deadlines.item(deadline);
            self.deadlines(deadlines)
        }

        /// How long nothing may be received and nothing sent while a read waits (no bound by default). See
        /// [`Deadlines::idle`].
        #[must_use]
        pub fn idle_timeout(self, timeout: Duration) -> Self {
            let deadlines = self.streams.connection.deadlines.idle(timeout);
            self.deadlines(deadlines)
        }

        /// How many bytes a second an item has to bring once the peer has begun it, on average over each `window` (no
        /// bound by default). See [`Deadlines::receive_rate`].
        #[must_use]
        pub fn min_receive_rate(self, bytes_per_second: u64, window: Duration) -> Self {
            let deadlines = self.streams.connection.deadlines.receive_rate(bytes_per_second, window);
            self.deadlines(deadlines)
        }

        /// How long the peer may take none of the bytes that are queued for it (no bound by default). See
        /// [`Deadlines::write_progress`].
        #[must_use]
        pub fn write_progress_timeout(self, timeout: Duration) -> Self {
            let deadlines = self.streams.connection.deadlines.write_progress(timeout);
            self.deadlines(deadlines)
        }
    };
}

impl ServerOptions {
    deadline_setters!();
}

impl ConnectOptions {
    deadline_setters!();
}
