//! asyncio Streams in Rust: bounded, cancel-safe reads and automatically corked writes, on tokio.
//!
//! A connection is a pair, a [`StreamReader`] and a [`StreamWriter`], the same two types over TCP, Unix sockets, TLS,
//! memory or any adopted byte stream. Names and meaning follow Python's asyncio Streams.
//!
//! ```no_run
//! use millstream::{Error, StreamReader, StreamWriter};
//!
//! async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
//!     while let Some(line) = reader.read_line().await? {
//!         writer.write(&line)?;
//!         writer.drain().await?;
//!     }
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     Ok(millstream::start_server("127.0.0.1", 8888, echo).await?.serve_forever().await?)
//! }
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! |---|---|
//! | opening a connection | [`open_connection`], [`open_unix_connection`]; with options, [`ConnectOptions`]; of any byte stream, [`from_io`] |
//! | serving | [`start_server`], [`start_unix_server`]; with options, [`ServerOptions`]; on every core, [`serve_per_core`] |
//! | stopping | [`Server::stop`], [`Server::serve_until_terminated`], [`Stopping`] |
//! | reading and writing | [`StreamReader`], [`StreamWriter`] |
//! | limits and time | [`ServerOptions::max_connections`], [`Deadlines`], [`Watermarks`] |
//! | TLS, STARTTLS | the module `tls`, and `StreamWriter::start_tls` |
//! | proxies | [`relay`]; the PROXY protocol, [`proxy`] |
//! | tests without sockets | [`testing`] |
//! | errors | [`Error`], [`ErrorClass`], [`ServerFailure`] |
//!
//! The repository has a book (`make book`): a start, a cookbook of whole programs, a page for who comes from tokio and one for
//! who comes from asyncio, each error and each limit explained.
//!
//! # The contract of a reader
//!
//! 1. **Bounded.** It never holds more than twice its limit of unread bytes plus one receive (64 KiB by default);
//!    `read_exactly` and `read_to_end` name their own size, and grow only as bytes arrive.
//! 2. **Cancel-safe.** No byte leaves the buffer before the call that returns it.
//! 3. **Never rescans.** A search goes on where it stopped, after a receive and after a cancelled call.
//! 4. **An over-long item** is an error that carries the numbers; its bytes stay, and `skip_until` goes on.
//! 5. **A reset destroys nothing**: what arrived is delivered first, then the error, for ever.
//!
//! # The contract of a writer
//!
//! 1. `write` takes the whole message or fails, and never waits.
//! 2. **Corked.** Bytes leave in as few system calls as possible, no later than the first of: the reader is about to
//!    wait; the task that wrote gives control back; 16 KiB are queued; `flush`, `close` or `write_eof`. Never a timer.
//! 3. **Watermarks.** `drain` waits above the high one until the low one; below, it returns at once.
//! 4. A failure is kept, wakes everyone who waits, and is returned by the next `write`, `drain` and `wait_closed`.
//! 5. Every close sends what is queued, then the end, and is over by its deadline.
//!
//! # Cancel safety
//!
//! | call | when its future is dropped |
//! |---|---|
//! | every `read…`, `peek`, `lines().next()` | nothing was read; the next read goes on |
//! | `skip`, `skip_until` | what was dropped so far is dropped; call it again for the rest |
//! | `drain`, `wait_closed`, `Server::wait_closed` | nothing changes; no message is ever cut |
//! | `open_connection` | every attempt is closed at once |
//! | `start_tls` | the connection is closed: there is no way back into plaintext |
//! | `Server::serve_forever` | the server goes on |
//! | `Server::stop` | the stop goes on, deadline included |
//! | `relay` | what was read is queued on the other side; a new relay goes on |
//!
//! # Features
//!
//! | feature | default | what it does |
//! |---|---|---|
//! | `tls` | on | TLS by rustls with the ring provider: one option on each side, or `start_tls` on a live connection |
//! | `tracing` | off | a span for each served connection, and events for what happens to it |
//!
//! # What it tells
//!
//! [`StreamWriter::stats`], [`StreamReader::stats`] and [`Server::connection_stats`] count bytes, system calls, flushes and
//! stalls. [`ServerOptions::on_failure`] hears of every failure in a server. With the feature `tracing`, off by default, each
//! served connection has a span (`connection`, with its peer's address) in which its handler runs, and events tell when it
//! was accepted, when its TLS handshake was over, what failed, and how it closed, with its counters. Failures are warnings or
//! errors at the bounded rate of a [`ReportLimit`], and events of level DEBUG above it.
//!
//! # Errors
//!
//! One enum per operation, with the numbers that a caller needs. All turn into [`Error`] and into [`std::io::Error`] by `?`.
//! Each value is in one [`ErrorClass`], which says whose doing it was:
//!
//! | class | whose doing | the stream afterwards |
//! |---|---|---|
//! | `BadCall` | the caller's: it can never work | untouched |
//! | `ClosedByUs` | the caller's: closed, half-closed or aborted before | closed |
//! | `BrokenByPeer` | the peer's, the network's or the system's | over; what arrived can still be read |
//! | `Limit` | a bound that was set is reached | goes on, with its bytes |
//! | `Deadline` | the peer was too slow | over |
//!
//! # What it needs
//!
//! A tokio runtime with its I/O and time drivers (`enable_all`), of any kind. Handlers and what they own must be `Send`.
#![cfg(unix)]
// Says at each item which feature it needs, where the documentation is built by a nightly.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Programs print; libraries do not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod accept;
mod adapters;
mod address;
mod admission;
mod connect;
mod connection;
mod connection_stats;
mod deadline_counts;
mod deadline_options;
mod error;
mod handler;
mod limited;
mod lines;
mod listen;
#[cfg(all(test, millstream_loom))]
mod loom_models;
mod per_core;
pub mod proxy;
mod reader;
mod refusal;
mod relay;
mod report;
mod report_limit;
mod resolve;
mod serve;
mod server;
mod server_options;
mod server_stats;
pub mod signals;
mod socket_options;
mod stats;
mod stopping;
mod streams;
mod sync;
pub mod testing;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
#[cfg(feature = "tracing")]
mod trace;
#[cfg(not(feature = "tracing"))]
#[path = "no_trace.rs"]
mod trace;
mod transport;
mod turn;
mod unix;
mod waiters;
mod writer;

pub use address::{Address, PeerCredentials};
pub use admission::WhenFull;
pub use connect::{ConnectOptions, open_connection, open_unix_connection};
pub use connection_stats::ConnectionStats;
pub use error::{Attempt, ConnectError, Error, HostError, ServeError};
pub use handler::{Async, BoxError, HandlerOutput, HandlerReturn, HandlerWork, Plain};
pub use limited::Limited;
pub use lines::Lines;
pub use millstream_core::{
    CloseError, ConfigError, DeadlineKind, Deadlines, DrainError, ErrorClass, Failure, ReadError,
    ReadExactlyError, ReadLineError, ReadToEndError, ReadUntilError, SkipError, Watermarks, WriteError,
};
pub use per_core::{PerCoreOptions, PerCoreServer, serve_per_core};
pub use reader::StreamReader;
pub use relay::{Relay, RelayCounters, RelayEnd, RelayOptions, RelayPair, RelaySide, Relayed, relay};
pub use report::ServerFailure;
pub use report_limit::ReportLimit;
pub use resolve::Family;
pub use server::{ListeningSocket, Server, Stopped};
pub use server_options::{Hosts, ServerOptions, start_server, start_unix_server};
pub use server_stats::ServerStats;
pub use socket_options::Keepalive;
pub use stats::Stats;
pub use stopping::Stopping;
pub use streams::from_io;
pub use writer::StreamWriter;

/// The README's program is compiled with the documentation tests; `tests/readme.rs` holds the repository's README to it.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
