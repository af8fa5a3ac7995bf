//! What the two halves of a connection share: the write queue, its life, and who waits for what.
//!
//! ```text
//!   StreamReader ── before it waits ──▶ flush ◀── drain, flush, close ── StreamWriter
//!                                        ▲
//!   Drive (one task a connection) ───────┘   everything that has to wait for the socket or the clock
//! ```
//!
//! The lock is held for bookkeeping and for non-blocking sends, never across an await, and no waker is woken or dropped
//! under it.

mod change;
mod closing;
mod drive;
mod flush;
#[cfg(feature = "tls")]
mod handshake;
mod reading;
mod sealed;
mod stopping;
mod task;
mod watch;
mod writing;

use std::sync::OnceLock;
use std::task::Waker;
use std::time::Duration;

use millstream_core::tls::TlsPipe;
use millstream_core::{Deadlines, Failure, Lifecycle, WriteQueue};
use tokio::runtime::Handle;
use tokio::time::Instant;

pub(crate) use drive::Drive;
use flush::TURN_LEN;
pub(crate) use stopping::{Asked, StopEnd};
use task::Task;
pub(crate) use writing::check_cap;

use crate::address::Address;
use crate::proxy::Proxied;
use crate::stats::{ReadStats, Stats};
use crate::stopping::StopSignal;
use crate::sync::{Arc, AtomicBool, Mutex};
use crate::transport::Transport;
use crate::waiters::{Waiters, Wakes};

/// One connection, shared by its halves and its driver.
///
/// In memory it stands as it is written: what each request touches comes first, in as few cache lines as it takes. With a
/// thousand connections they are in no near cache when their turn comes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Connection {
    transport: Transport,
    /// Follows `State::needs_attention`: while it is false, `drain` has nothing to wait for and takes no lock.
    attention: AtomicBool,
    /// Follows `State::reading_over`: once it is true, the reader no longer touches the transport.
    reading_over: AtomicBool,
    /// Follows `State::tls`: whether what arrives is ciphertext. Set while the reader is in the hands of who sets it, so no
    /// model has to look at its order.
    is_sealed: std::sync::atomic::AtomicBool,
    /// Who spoke last: the peer to the handler, or the handler to the peer. See `stopping.rs`.
    talk: std::sync::atomic::AtomicU8,
    /// Whether it has deadlines.
    is_watched: bool,
    /// Whether the task that owns this connection's driver has to poll it when the handler has had its turn. False
    /// only while the driver rests, no call is on its way, and nothing was left to do in this turn.
    driver_due: AtomicBool,
    read_stats: ReadStats,
    state: Mutex<State>,
    /// Where the driver is spawned.
    runtime: Option<Handle>,
    /// How long closing may take, from the call to the closed socket.
    close_deadline: Duration,
    since: Instant,
    peer: OnceLock<Option<Address>>,
    local: OnceLock<Option<Address>>,
    /// Of the server that accepted it, if one did.
    stop_signal: OnceLock<StopSignal>,
    /// What the PROXY header said, if there was one. Boxed: most connections do without.
    proxied: OnceLock<Box<Proxied>>,
    /// The name it was opened by: whom a TLS handshake verifies if nobody says otherwise.
    #[cfg(feature = "tls")]
    host: OnceLock<Box<str>>,
}

/// Everything under the lock. As above, what each request touches comes first.
#[derive(Debug)]
#[repr(C)]
struct State {
    queue: WriteQueue,
    life: Lifecycle,
    /// How much may still be sent before others get their turn. Renewed by those after whom they do, the reader that
    /// waits and the driver, and by an explicit flush.
    turn_left: usize,
    /// Between the queue and the transport, once a handshake has begun. Boxed: most connections do without.
    tls: Option<Box<TlsPipe>>,
    /// For the deadlines, if there are any.
    waits: Option<Box<watch::Waits>>,
    /// The task that waits in a read.
    reader_waker: Option<Waker>,
    driver: Driver,
    stop: stopping::Stop,
    /// The last send took less than it was offered: the driver waits for the socket, and nobody else need try.
    blocked: bool,
    reader: ReaderHalf,
    drainers: Waiters,
    /// Wait for an empty queue.
    flushers: Waiters,
    counts: Counts,
    closers: Waiters,
    /// How many queued bytes were written before TLS began, and leave as they are.
    plain_left: usize,
    /// The task of a handler that has outlived its connection.
    handler_waker: Option<Waker>,
    /// Bytes were handed to an adopted stream that it was not yet asked to flush, or has not flushed.
    unflushed: bool,
    /// The writer was dropped without `close`: a reader that is still there may read on.
    reader_keeps: bool,
    /// The peer has ended its side, so nothing it sends can turn our close into a reset.
    peer_ended: bool,
    transport_closed: bool,
    /// The server wants the handler of this connection gone.
    handler_cancelled: bool,
}

/// What became of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReaderHalf {
    /// It may still read the transport.
    Reading,
    /// It has seen the end or a failure.
    Ended,
    Dropped,
}

/// The task that does what has to wait.
#[derive(Debug)]
enum Driver {
    /// Not needed so far.
    Absent,
    Working {
        waker: Option<Waker>,
        /// A wake-up is on its way; there is never a second one.
        called: bool,
        /// What it found to do when it last looked. A call is due when there is something else to do now.
        parked: Task,
    },
    /// It has done its last duty, or its runtime is gone.
    Gone,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: u64,
    writes: u64,
    flushes: u64,
    stalls: u64,
    calls: u64,
}

/// The settings of a connection that do not change later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionSettings {
    pub(crate) watermarks: millstream_core::Watermarks,
    pub(crate) hard_cap: Option<usize>,
    pub(crate) close_deadline: Duration,
    pub(crate) deadlines: Deadlines,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            watermarks: millstream_core::Watermarks::default(),
            hard_cap: None,
            close_deadline: DEFAULT_CLOSE_DEADLINE,
            deadlines: Deadlines::none(),
        }
    }
}

/// asyncio gives a TLS close 30 s; the same bound holds here for every close.
pub(crate) const DEFAULT_CLOSE_DEADLINE: Duration = Duration::from_secs(30);

impl Connection {
    /// A connection whose driver is spawned on `runtime` when it is first needed. With `driven`, the caller makes and
    /// polls the [`Drive`] itself from the start.
    pub(crate) fn new(
        transport: Transport,
        settings: ConnectionSettings,
        runtime: Option<Handle>,
        driven: bool,
    ) -> Arc<Self> {
        let driver = if driven {
            Driver::Working { waker: None, called: false, parked: Task::Rest }
        } else {
            Driver::Absent
        };
        Arc::new(Self {
            transport,
            state: Mutex::new(State {
                queue: WriteQueue::new(settings.watermarks, settings.hard_cap),
                tls: None,
                plain_left: 0,
                life: Lifecycle::default(),
                blocked: false,
                unflushed: false,
                turn_left: TURN_LEN,
                drainers: Waiters::default(),
                flushers: Waiters::default(),
                closers: Waiters::default(),
                reader_waker: None,
                reader: ReaderHalf::Reading,
                waits: (!settings.deadlines.is_none()).then(Box::default),
                reader_keeps: false,
                peer_ended: false,
                transport_closed: false,
                handler_cancelled: false,
                handler_waker: None,
                driver,
                stop: stopping::Stop::default(),
                counts: Counts::default(),
            }),
            attention: AtomicBool::new(false),
            reading_over: AtomicBool::new(false),
            is_sealed: std::sync::atomic::AtomicBool::new(false),
            driver_due: AtomicBool::new(true),
            talk: std::sync::atomic::AtomicU8::new(stopping::SILENT),
            read_stats: ReadStats::default(),
            is_watched: !settings.deadlines.is_none(),
            runtime,
            close_deadline: settings.close_deadline,
            since: Instant::now(),
            peer: OnceLock::new(),
            local: OnceLock::new(),
            stop_signal: OnceLock::new(),
            proxied: OnceLock::new(),
            #[cfg(feature = "tls")]
            host: OnceLock::new(),
        })
    }

    /// Notes the peer's address where it is known already.
    pub(crate) fn with_peer(self: Arc<Self>, peer: Address) -> Arc<Self> {
        let _ = self.peer.set(Some(peer));
        self
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Notes what the PROXY header said.
    pub(crate) fn set_proxied(&self, proxied: Proxied) {
        let _ = self.proxied.set(Box::new(proxied));
    }

    pub(crate) fn proxied(&self) -> Option<&Proxied> {
        self.proxied.get().map(AsRef::as_ref)
    }

    /// Whom the connection is from: the one whom the PROXY header names, else the socket's peer.
    pub(crate) fn peer_address(&self) -> Option<Address> {
        let named = self.proxied().and_then(|proxied| proxied.peer.clone());
        named.or_else(|| self.socket_peer_address())
    }

    pub(crate) fn socket_peer_address(&self) -> Option<Address> {
        self.peer.get_or_init(|| self.transport.peer_address()).clone()
    }

    pub(crate) fn local_address(&self) -> Option<Address> {
        self.local.get_or_init(|| self.transport.local_address()).clone()
    }

    /// When it was made.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// The reader's buffer has held this much at most.
    #[inline]
    pub(crate) fn note_peak_buffered(&self, peak: usize) {
        self.read_stats.note_peak(peak);
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.state.lock();
        Stats {
            bytes_read: self.read_stats.bytes(),
            reads: self.read_stats.calls(),
            bytes_written: state.counts.bytes,
            writes: state.counts.writes,
            flushes: state.counts.flushes,
            stalls: state.counts.stalls,
            flusher_calls: state.counts.calls,
            queued: state.queue.len(),
            peak_queued: state.queue.peak_len(),
            peak_buffered: self.read_stats.peak(),
        }
    }

    #[cfg(all(test, millstream_loom))]
    pub(crate) fn waiting_tasks(&self) -> usize {
        let state = self.state.lock();
        [&state.drainers, &state.flushers, &state.closers].map(Waiters::len).iter().sum()
    }

    /// The transport failed: everyone who waits learns of it.
    fn fail(&self, state: &mut State, failure: Failure, wakes: &mut Wakes) {
        state.life.fail(state.as_handshakes(failure));
        state.queue.clear();
        state.wake_everyone(wakes);
    }
}

impl Counts {
    /// One send took `n` bytes.
    #[inline]
    fn sent(&mut self, n: usize) {
        self.writes += 1;
        self.bytes += n as u64;
    }
}

impl State {
    fn wake_everyone(&mut self, wakes: &mut Wakes) {
        self.drainers.wake_all(wakes);
        self.flushers.wake_all(wakes);
        self.closers.wake_all(wakes);
        wakes.wake(self.reader_waker.take());
    }
}
