//! The sans-I/O core of millstream: it knows bytes and state, and neither socket, clock, runtime nor Python.
//!
//! Both faces of millstream, the Rust one and the Python one, are thin drivers around these
//! machines, so that limits, separators, backpressure and closing mean the same on both sides.
//!
//! ```text
//!            spare/commit                    poll, lend/take
//!  socket ───────────────▶ ReadBuffer ───────────────────────▶ caller
//!                                                                │ admit, push
//!  socket ◀─────────────── WriteQueue ◀──────────────────────────┘
//!            gather/advance     ▲
//!                               └── Lifecycle says what is due: flush, end, linger, close
//!
//!  connect(): AddressRace says which address to try when; the driver passes the time in.
//! ```
//!
//! # The contract a driver keeps
//!
//! 1. **Ask, then fill.** [`ReadBuffer::poll`] first; only on [`Answer::Need`] fill [`ReadBuffer::spare`] once, commit,
//!    and ask again. So a buffer never holds more than its request needs plus one fill.
//! 2. **Consume last.** Bytes leave ([`lend`](ReadBuffer::lend), [`take`](ReadBuffer::take),
//!    [`consume`](ReadBuffer::consume)) only in the call that hands them to the user. This makes every read safe to cancel.
//! 3. **Every verdict is acted on.** [`Urgency`], [`Flow`], [`Duty`] and the wake-the-drainers flags are returned, never
//!    called out: the core stores no waker.
//! 4. **End and failure come behind the bytes.** Report them with [`ReadBuffer::feed_eof`] and [`ReadBuffer::fail`];
//!    the buffer delivers what arrived before.

// Says at each item which feature it needs, where the documentation is built by a nightly.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Programs print; libraries do not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod address_race;
mod deadlines;
mod error;
mod failure;
mod lifecycle;
pub mod proxy;
mod read_buffer;
mod read_request;
mod search;
mod storage;
mod thread_memory;
pub mod tls;
mod watchdog;
mod watermarks;
mod write_queue;

pub use address_race::{
    AddressRace, AttemptId, DEFAULT_FIRST_FAMILY_COUNT, DEFAULT_STAGGER, MIN_STAGGER, RaceStep, interleave,
};
pub use deadlines::{DeadlineKind, Deadlines};
pub use error::{
    CloseError, ConfigError, DrainError, ReadError, ReadExactlyError, ReadLineError, ReadToEndError,
    ReadUntilError, SkipError, WriteError,
};
pub use failure::{ErrorClass, Failure};
pub use lifecycle::{Duty, Lifecycle, Phase};
pub use read_buffer::{DEFAULT_LIMIT, Flow, ReadBuffer};
pub use read_request::{Answer, Request};
pub use search::Separators;
pub use watchdog::{Sight, Waiting, Watchdog};
pub use watermarks::Watermarks;
pub use write_queue::{DEFAULT_CORK_THRESHOLD, Urgency, WriteQueue};
