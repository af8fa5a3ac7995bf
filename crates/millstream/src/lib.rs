//! asyncio Streams in Rust: bounded, cancel-safe reads and automatically corked writes, on tokio.
#![cfg(unix)]

mod accept;
mod adapters;
mod address;
mod connect;
mod connection;
mod error;
mod handler;
mod limited;
mod lines;
mod listen;
#[cfg(all(test, millstream_loom))]
mod loom_models;
mod reader;
mod report;
mod resolve;
mod serve;
mod server;
mod server_options;
mod stats;
mod streams;
mod sync;
pub mod testing;
mod transport;
mod turn;
mod unix;
mod waiters;
mod writer;

pub use address::{Address, PeerCredentials};
pub use connect::{ConnectOptions, open_connection, open_unix_connection};
pub use error::{Attempt, ConnectError, Error, HostError, ServeError};
pub use handler::{Async, BoxError, HandlerOutput, HandlerReturn, HandlerWork, Plain};
pub use limited::Limited;
pub use lines::Lines;
pub use millstream_core::{
    CloseError, ConfigError, DrainError, ErrorClass, Failure, ReadError, ReadExactlyError, ReadLineError,
    ReadToEndError, ReadUntilError, SkipError, Watermarks, WriteError,
};
pub use reader::StreamReader;
pub use report::ServerFailure;
pub use resolve::Family;
pub use server::Server;
pub use server_options::{Hosts, ServerOptions, start_server, start_unix_server};
pub use stats::Stats;
pub use streams::from_io;
pub use writer::StreamWriter;
