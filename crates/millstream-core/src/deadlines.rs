//! How long a peer may take: the deadlines of a connection, each off unless it is set, and the name that a failure carries
//! when one has passed.

use std::time::Duration;

use crate::error::ConfigError;

/// What a peer did not do in time. Carried by the [`Failure`](crate::Failure) of a connection that was cut for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadlineKind {
    /// The item that it had begun was not whole in time: [`Deadlines::item`].
    Item,
    /// Nothing passed in either direction while a read waited: [`Deadlines::idle`].
    Idle,
    /// The item that it had begun came too slowly: [`Deadlines::receive_rate`].
    ReceiveRate,
    /// It took none of the bytes that are queued for it: [`Deadlines::write_progress`].
    WriteProgress,
}

impl DeadlineKind {
    /// All of them, for counters.
    pub const ALL: [Self; 4] = [Self::Item, Self::Idle, Self::ReceiveRate, Self::WriteProgress];

    /// Whether it is about what the peer sends. A reader was waiting then, so there was nothing left to be read.
    pub fn is_of_reading(self) -> bool {
        self != Self::WriteProgress
    }
}

/// The deadlines of a connection. All are off by default: a stream that is silent for hours is a legal one, here as in
/// asyncio.
///
/// They are looked at four times within the shortest of them and cost nothing in between: no clock is read and no timer
/// armed for a read or a write. So a deadline `d` passes between `d` and 1.25 `d` after its cause.
///
/// **Only the peer is blamed.** The clocks of reading run while a read waits for the peer, and stand still while the program
/// does something else, however much has arrived meanwhile. That of writing runs while the peer takes nothing.
///
/// During a TLS handshake none of them runs: that has a deadline of its own, and so has closing.
///
/// ```
/// use millstream_core::Deadlines;
/// use std::time::Duration;
/// // A line protocol between people and a server: patient with people, not with lines that do not end.
/// let deadlines = Deadlines::internet().idle(Duration::from_secs(3600)).item(Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    pub(crate) item: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) receive_rate: Option<Rate>,
    pub(crate) write_progress: Option<Duration>,
}

/// At least this many bytes a second, on average over the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) bytes_per_second: u64,
    pub(crate) window: Duration,
}

impl Deadlines {
    /// None: the default.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// For a server that strangers can reach. Conservative: each number is what widely used servers have by default.
    ///
    /// | deadline | value | why |
    /// |---|---|---|
    /// | [`idle`](Self::idle) | 75 s | nginx's `keepalive_timeout`; longer than the 60 s after which common load balancers let go, so that it is they who close first |
    /// | [`receive_rate`](Self::receive_rate) | 500 bytes/s over 30 s | Apache's `RequestReadTimeout … MinRate=500` for heads and bodies; the window bridges a handover, or four lost packets in a row (1 + 2 + 4 + 8 s) |
    /// | [`write_progress`](Self::write_progress) | 60 s | nginx's `send_timeout` |
    /// | [`item`](Self::item) | none | a bulk item may take as long as it likes if it keeps coming; where items are small, set one |
    #[must_use]
    pub fn internet() -> Self {
        Self::none()
            .idle(Duration::from_secs(75))
            .receive_rate(500, Duration::from_secs(30))
            .write_progress(Duration::from_secs(60))
    }

    /// How long an item may take, from the first look at which its first byte was there to its last byte. An item is what
    /// one read asks for: a line, `n` bytes, everything up to a separator or to the end. A peer that has not begun one is
    /// idle, and may be.
    ///
    /// What is dropped counts as what is kept: to `skip` and `skip_until` the item is all that they drop. What `read` and
    /// `peek` ask for is there with its first byte, so for them this never passes. The same holds for the receive rate.
    #[must_use]
    pub fn item(mut self, deadline: Duration) -> Self {
        self.item = Some(deadline);
        self
    }

    /// How long nothing may be received and nothing sent while a read waits.
    #[must_use]
    pub fn idle(mut self, timeout: Duration) -> Self {
        self.idle = Some(timeout);
        self
    }

    /// How fast an item that has begun has to come, on average over each `window` of its waiting; this cuts a drip and spares
    /// a transfer that is slow but lives. Counted are the bytes of the transport: over TLS, those of the ciphertext.
    #[must_use]
    pub fn receive_rate(mut self, bytes_per_second: u64, window: Duration) -> Self {
        self.receive_rate = Some(Rate { bytes_per_second, window });
        self
    }

    /// How long the peer may take none of the bytes that are queued for it. It takes them when the transport does: what fits
    /// into the buffers of the two systems counts as taken.
    #[must_use]
    pub fn write_progress(mut self, timeout: Duration) -> Self {
        self.write_progress = Some(timeout);
        self
    }

    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }

    /// Whether there is one about writes, for a driver whose transport can be made to tell sooner what the peer takes.
    pub fn watches_writes(&self) -> bool {
        self.write_progress.is_some()
    }

    fn shortest(&self) -> Option<Duration> {
        let window = self.receive_rate.map(|rate| rate.window);
        [self.item, self.idle, window, self.write_progress].into_iter().flatten().min()
    }

    /// How often to look: four times within the shortest of them.
    pub(crate) fn tick(&self) -> Duration {
        self.shortest().map_or(LONGEST_TICK, |shortest| (shortest / 4).min(LONGEST_TICK))
    }

    /// Refuses what can never work.
    ///
    /// # Errors
    /// [`ConfigError::ShortDeadline`] for a deadline below 4 ms: timers have whole milliseconds, and it is looked at four
    /// times within each deadline.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self.shortest() {
            Some(deadline) if deadline < SHORTEST => Err(ConfigError::ShortDeadline { deadline }),
            _ => Ok(()),
        }
    }
}

/// Four ticks of timers that count milliseconds.
const SHORTEST: Duration = Duration::from_millis(4);
/// Far from where the sum of a time and a duration overflows.
const LONGEST_TICK: Duration = Duration::from_secs(24 * 3600);
