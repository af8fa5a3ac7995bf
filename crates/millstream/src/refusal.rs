//! A connection that is refused: its farewell, its end, and a moment in which its peer may read both.
//!
//! A socket that is closed while its peer's bytes are unread resets the connection, and the farewell may be lost with it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::connection::Drive;
use crate::streams::StreamSettings;
use crate::sync::Mutex;
use crate::transport::Transport;

/// Refused connections that are not closed yet, the oldest first. Dropping it closes them all.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Who drops such an end closes the connection.
    leaving: Mutex<VecDeque<oneshot::Sender<()>>>,
}

/// The task of one of them.
struct Leave {
    drive: Drive,
    cut: oneshot::Receiver<()>,
}

impl Refused {
    pub(crate) fn new() -> Self {
        Self { leaving: Mutex::new(VecDeque::new()) }
    }

    /// Says farewell and closes, in a task of its own.
    pub(crate) fn refuse(&self, transport: Transport, settings: StreamSettings, farewell: &[u8]) {
        let mut settings = settings;
        settings.connection.close_deadline = LONGEST_FAREWELL;
        settings.connection.hard_cap = None;
        let pair = settings.driven_pair(transport, None);
        let (reader, writer, _, drive) = pair.expect("the settings were checked when the server was made");
        let _ = writer.write(farewell);
        writer.close();
        drop((reader, writer));
        self.leave(drive);
    }

    /// Lets a connection that was open already end, in a task of its own. What it is sent is queued, and it is closing.
    pub(crate) fn see_out(&self, drive: Drive) {
        self.leave(drive.closing_within(LONGEST_FAREWELL));
    }

    fn leave(&self, drive: Drive) {
        let (keep, cut) = oneshot::channel();
        let mut leaving = self.leaving.lock();
        while leaving.front().is_some_and(oneshot::Sender::is_closed) || leaving.len() >= MOST_AT_ONCE {
            leaving.pop_front();
        }
        leaving.push_back(keep);
        drop(leaving);
        tokio::spawn(Leave { drive, cut });
    }

    /// Closes all of them.
    pub(crate) fn close(&self) {
        let leaving = std::mem::take(&mut *self.leaving.lock());
        drop(leaving);
    }
}

impl Future for Leave {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.drive).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        Pin::new(&mut self.cut).poll(cx).map(drop)
    }
}

/// How long a refused peer may take to read why.
const LONGEST_FAREWELL: Duration = Duration::from_secs(1);
/// Refused connections that are not closed yet. With more, the oldest is closed as it is: a crowd that comes again and
/// again must not take the descriptors that the cap was to save.
const MOST_AT_ONCE: usize = 256;
