//! Relays two connections to each other: the heart of a proxy, in one future.

mod direction;
mod idle;
mod outcome;
mod side;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub use outcome::{RelayCounters, RelayEnd, RelaySide, Relayed};

use crate::reader::StreamReader;
use crate::writer::StreamWriter;
use direction::Direction;
use idle::Idle;
use side::Side;

/// Copies between two connections, both ways, until both directions ended; [`RelayOptions`] with its defaults. The peer of
/// tokio's `copy_bidirectional`.
///
/// - **Half-close** is passed on: the end of one side becomes [`write_eof`](StreamWriter::write_eof) on the other, and the
///   other direction goes on. TLS 1.2 cannot end one direction: there the end is passed on as a close_notify and a FIN,
///   and what that peer still sends is relayed until it ends too.
/// - **Backpressure** is passed on: of a direction whose receiver is slow, no more is read. Its memory is one receive (64 KiB at
///   most) and the receiver's high watermark, and 8 KiB on top of a mark below that.
/// - **What a reader has buffered already** goes first.
/// - **Corked**: what arrives in one turn leaves in one send, at the latest when the relay waits; bulk is sent from where it was
///   received, without a copy. No task is spawned.
/// - **A failure** ends both directions, after what the failed side had sent before was delivered. It is told to you, not to
///   the other side: call [`abort`](StreamWriter::abort) on that one where a cut stream must not look like a whole one.
///
/// The halves are borrowed: afterwards they are yours again, for a last word or to be dropped, which closes them.
///
/// **Cancel-safe**: when its future is dropped, what was read is queued on the other side, and a new relay of the same halves
/// goes on. An end that was passed on stays passed on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// # let ((mut client, client_says), (mut from_client, to_client)) = millstream::testing::pair();
/// # let ((mut from_server, to_server), (_server, server_says)) = millstream::testing::pair();
/// # client_says.write(b"ping")?;
/// # client_says.write_eof()?;
/// # server_says.write(b"welcome")?;
/// # server_says.write_eof()?;
/// let relayed = millstream::relay((&mut from_client, &to_client), (&mut from_server, &to_server)).await;
/// assert_eq!((relayed.a_to_b, relayed.b_to_a), (4, 7));
/// assert!(relayed.is_complete(), "{}", relayed.end);
/// # assert_eq!(client.read(100).await?, "welcome");
/// # Ok(()) }
/// ```
pub fn relay<'a>(a: RelayPair<'a>, b: RelayPair<'a>) -> Relay<'a> {
    RelayOptions::new().relay(a, b)
}

/// One of the two connections that a relay joins.
pub type RelayPair<'a> = (&'a mut StreamReader, &'a StreamWriter);

/// How to relay; see [`relay`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// # let (_client, (mut from_client, to_client)) = millstream::testing::pair();
/// # let ((mut from_server, to_server), _server) = millstream::testing::pair();
/// let options = millstream::RelayOptions::new().idle_timeout(Duration::from_secs(60));
/// let relayed = options.relay((&mut from_client, &to_client), (&mut from_server, &to_server)).await;
/// assert!(matches!(relayed.end, millstream::RelayEnd::Idle { .. }));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    idle_timeout: Option<Duration>,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { idle_timeout: Some(DEFAULT_IDLE_TIMEOUT) }
    }
}

impl RelayOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long nothing may move in either direction, neither received nor sent, before the relay ends with
    /// [`RelayEnd::Idle`]; it does so within a quarter more. One hour by default, as Envoy's: a relay whose peers have
    /// silently gone, or of which one has ended and the other never does, is not kept for ever. `None` does keep it.
    #[must_use]
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// See [`relay`]. The idle time counts from the first poll.
    ///
    /// # Panics
    /// When first polled outside of a tokio runtime with its time driver, unless there is no idle timeout.
    pub fn relay<'a>(&self, a: RelayPair<'a>, b: RelayPair<'a>) -> Relay<'a> {
        Relay {
            a: Side::new(RelaySide::A, a),
            b: Side::new(RelaySide::B, b),
            there: Direction::default(),
            back: Direction::default(),
            counters: RelayCounters::default(),
            idle: self.idle_timeout.map(Idle::new),
            first_failure: None,
        }
    }
}

/// A relay at work; made by [`relay`].
#[must_use = "a relay does nothing until it is awaited"]
pub struct Relay<'a> {
    a: Side<'a>,
    b: Side<'a>,
    there: Direction,
    back: Direction,
    counters: RelayCounters,
    idle: Option<Idle>,
    /// What ended the relay; later failures follow from it.
    first_failure: Option<RelayEnd>,
}

impl Relay<'_> {
    /// The bytes relayed so far, readable at any time from anywhere.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// # let (_client, (mut from_client, to_client)) = millstream::testing::pair();
    /// # let ((mut from_server, to_server), _server) = millstream::testing::pair();
    /// let relay = millstream::relay((&mut from_client, &to_client), (&mut from_server, &to_server));
    /// let counters = relay.counters();
    /// tokio::select! {
    ///     relayed = relay => println!("{relayed:?}"),
    ///     () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {
    ///         println!("{} and {} bytes so far", counters.a_to_b(), counters.b_to_a());
    ///     }
    /// }
    /// # }
    /// ```
    pub fn counters(&self) -> RelayCounters {
        self.counters.clone()
    }

    /// Moves what can be moved. Ready when both directions are over.
    fn poll_directions(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { a, b, there, back, counters, first_failure, .. } = self;
        let mut note = |failure| _ = first_failure.get_or_insert(failure);
        there.poll(cx, a, b, |n| counters.add_there(n), &mut note);
        if there.lost_its_source() {
            back.stop(a);
        }
        back.poll(cx, b, a, |n| counters.add_back(n), &mut note);
        if back.lost_its_source() {
            there.stop(b);
        }
        if there.is_over() && back.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn end_with(&mut self, end: RelayEnd) -> Poll<Relayed> {
        let (a_to_b, b_to_a) = (self.counters.a_to_b(), self.counters.b_to_a());
        Poll::Ready(Relayed { a_to_b, b_to_a, end })
    }
}

impl Future for Relay<'_> {
    type Output = Relayed;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Relayed> {
        let this = &mut *self;
        loop {
            let directions = this.poll_directions(cx);
            // What was written leaves before the relay waits or ends.
            let lost = [&mut this.a, &mut this.b].map(Side::flush).contains(&false);
            if directions.is_ready() {
                let end = this.first_failure.take().unwrap_or(RelayEnd::Complete);
                return this.end_with(end);
            }
            // Nobody would wake the direction into a connection that was just lost.
            if !lost {
                break;
            }
        }
        let (a, b) = (&this.a, &this.b);
        match this.idle.as_mut().map(|idle| idle.poll(cx, || a.moved().wrapping_add(b.moved()))) {
            Some(Poll::Ready(limit)) => {
                let end = this.first_failure.take().unwrap_or(RelayEnd::Idle { limit });
                this.end_with(end)
            }
            _ => Poll::Pending,
        }
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        self.there.stop(&mut self.b);
        self.back.stop(&mut self.a);
    }
}

impl fmt::Debug for Relay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("counters", &self.counters)
            .field("there", &self.there)
            .field("back", &self.back)
            .finish_non_exhaustive()
    }
}

/// Envoy's default for TCP proxies.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
