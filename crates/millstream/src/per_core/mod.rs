//! A server on every core: as many single-threaded runtimes, each with its own listener, between which the kernel spreads
//! the connections.

mod core;

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use self::core::Threads;
use crate::address::Address;
use crate::connection_stats::ConnectionStats;
use crate::error::ServeError;
use crate::handler::HandlerReturn;
use crate::listen::Bound;
use crate::reader::StreamReader;
use crate::server::{Server, Stopped};
use crate::server_options::{Hosts, ServerOptions};
use crate::server_stats::ServerStats;
use crate::writer::StreamWriter;

/// Starts a TCP server on every core: each has a thread with a current-thread runtime of its own, and a listener of its own
/// at the same address (`SO_REUSEPORT`). No connection ever moves between threads, so nothing is shared or stolen; a
/// handler's blocking or its hard work delays only the connections of its own core.
///
/// The handler is shared by all cores; see [`PerCoreOptions::start_each`] for one that each core makes for itself. With port
/// 0 the cores share the port that the system chose. For anything but the defaults, use [`ServerOptions::per_core`].
///
/// # Errors
/// See [`ServeError`]. If one core cannot start, the others are closed, and nothing is left.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// use millstream::{StreamReader, StreamWriter};
/// async fn greet(_reader: StreamReader, writer: StreamWriter) -> Result<(), millstream::Error> {
///     let thread = std::thread::current();
///     writer.write(format!("{} here\n", thread.name().unwrap_or("nobody")).as_bytes())?;
///     Ok(())
/// }
/// let server = millstream::serve_per_core("127.0.0.1", 0, greet).await?;
/// let port = server.sockets()[0].port().expect("TCP");
///
/// let (mut reader, _writer) = millstream::open_connection("127.0.0.1", port).await?;
/// let greeting = reader.read_line().await?.expect("a line");
/// assert!(greeting.starts_with(b"millstream-"));
///
/// server.close();
/// server.close_clients();
/// server.wait_closed().await;
/// # Ok(()) }
/// ```
pub async fn serve_per_core<F, R, K>(
    hosts: impl Hosts,
    port: u16,
    handler: F,
) -> Result<PerCoreServer, ServeError>
where
    F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
    R: HandlerReturn<K>,
{
    ServerOptions::new().per_core().start(hosts, port, handler).await
}

impl ServerOptions {
    /// These options for a server on every core. They hold for each core: what they limit in number, each core may have.
    /// [`reuse_port`](Self::reuse_port) is on whatever it was set to, and serving starts at once.
    pub fn per_core(&self) -> PerCoreOptions {
        PerCoreOptions { options: self.clone().for_cores().reuse_port(true).start_serving(true), cores: None }
    }
}

/// How to serve on every core; made by [`ServerOptions::per_core`].
///
/// Mind that the kernel lets every program of the same user share a port like this: a second server that is started by
/// mistake is no error, but gets some of the connections.
#[derive(Clone, Debug)]
#[must_use = "nothing is served until `start`"]
pub struct PerCoreOptions {
    options: ServerOptions,
    cores: Option<usize>,
}

impl PerCoreOptions {
    /// On how many cores to serve, at least one. By default as many as this process may use
    /// ([`std::thread::available_parallelism`]), which knows of affinities and of the quotas of containers.
    pub fn cores(mut self, cores: usize) -> Self {
        self.cores = Some(cores);
        self
    }

    /// Starts the server. All cores share the handler.
    ///
    /// **Cancelling** it closes what was started.
    ///
    /// # Errors
    /// See [`ServeError`]. If one core cannot start, the others are closed, and nothing is left.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start<F, R, K>(
        &self,
        hosts: impl Hosts,
        port: u16,
        handler: F,
    ) -> Result<PerCoreServer, ServeError>
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: HandlerReturn<K>,
    {
        let handler = Arc::new(handler);
        self.start_each(hosts, port, move |_core| {
            let handler = Arc::clone(&handler);
            move |reader, writer| handler(reader, writer)
        })
        .await
    }

    /// As [`start`](Self::start), with a handler for each core, made by the core's own thread, in its runtime. So a core can
    /// have a cache or a pool of its own; or pin its thread, which this crate leaves to others
    /// (`core_affinity::set_for_current`).
    ///
    /// # Errors
    /// As [`start`](Self::start); [`ServeError::Core`] if `make` panics.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// let options = millstream::ServerOptions::new().per_core().cores(2);
    /// let server = options.start_each("127.0.0.1", 0, |core| {
    ///     let served = AtomicU64::new(0);
    ///     move |_reader, writer: millstream::StreamWriter| {
    ///         let number = served.fetch_add(1, Ordering::Relaxed);
    ///         let _ = writer.write(format!("number {number} of core {core}\n").as_bytes());
    ///     }
    /// }).await?;
    /// assert_eq!(server.cores().len(), 2);
    /// server.close();
    /// server.wait_closed().await;
    /// # Ok(()) }
    /// ```
    pub async fn start_each<M, F, R, K>(
        &self,
        hosts: impl Hosts,
        port: u16,
        make: M,
    ) -> Result<PerCoreServer, ServeError>
    where
        M: Fn(usize) -> F + Send + Sync + 'static,
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: HandlerReturn<K>,
    {
        let cores = self.cores.unwrap_or_else(available_cores).max(1);
        let mut listeners = vec![self.options.bind(hosts, port).await?];
        // The ports may have been the system's choice.
        let addresses: Vec<_> = listeners[0].iter().filter_map(|bound| bound.address.ip()).collect();
        for _ in 1..cores {
            let bind = |&address| Bound::tcp(address, self.options.tcp_options());
            listeners.push(addresses.iter().map(bind).collect::<Result<_, _>>()?);
        }
        let make = Arc::new(make);
        let mut server = PerCoreServer { cores: Vec::new(), threads: Threads::default() };
        for (number, bound) in listeners.into_iter().enumerate() {
            let (options, make) = (self.options.clone(), Arc::clone(&make));
            let serve = move || options.finish(bound, make(number));
            match server.threads.start(number, serve).await {
                Ok(core) => server.cores.push(core),
                Err(error) => {
                    server.close();
                    server.abort_clients();
                    server.wait_closed().await;
                    return Err(error);
                }
            }
        }
        Ok(server)
    }
}

/// A server on every core; made by [`serve_per_core`].
///
/// Dropping it closes it: it stops listening, the connections there are go on, and each core's thread ends with the last of
/// its own. Tasks that handlers have spawned end with the thread.
#[must_use = "a server that is dropped stops listening"]
pub struct PerCoreServer {
    cores: Vec<Server>,
    threads: Threads,
}

impl PerCoreServer {
    /// The servers of the cores, in their order: for what one wants to know of each, or do to each.
    pub fn cores(&self) -> &[Server] {
        &self.cores
    }

    /// The addresses that every core listens on; empty once the server is closed.
    pub fn sockets(&self) -> Vec<Address> {
        self.cores.first().map(Server::sockets).unwrap_or_default()
    }

    /// Whether every core accepts connections.
    pub fn is_serving(&self) -> bool {
        self.cores.iter().all(Server::is_serving)
    }

    /// How many connections all cores have now.
    pub fn connections(&self) -> usize {
        self.cores.iter().map(Server::connections).sum()
    }

    /// What every connection of every core did so far; see [`Server::connection_stats`].
    pub fn connection_stats(&self) -> Vec<ConnectionStats> {
        self.cores.iter().flat_map(Server::connection_stats).collect()
    }

    /// What all cores did so far, in sum; see [`Server::stats`]. Their peaks need not have been at the same moment, so that of
    /// the sum was at most this.
    pub fn stats(&self) -> ServerStats {
        self.cores.iter().map(Server::stats).fold(ServerStats::default(), ServerStats::plus)
    }

    /// As [`Server::stop`], on all cores at once. The threads of the cores end when it is over; see
    /// [`wait_closed`](Self::wait_closed).
    ///
    /// **Cancel-safe** as [`Server::stop`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
    /// let server = millstream::serve_per_core("127.0.0.1", 0, |_reader, _writer| ()).await?;
    /// // millstream::signals::terminated().await?;
    /// let stopped = server.stop(std::time::Duration::from_secs(30)).await;
    /// assert_eq!(stopped.aborted, 0);
    /// server.wait_closed().await;
    /// # Ok(()) }
    /// ```
    pub async fn stop(&self, within: Duration) -> Stopped {
        let mut stops: Vec<_> = self.cores.iter().map(|core| Box::pin(core.stop(within))).collect();
        let mut all = Stopped::default();
        poll_fn(|cx| {
            stops.retain_mut(|stop| match stop.as_mut().poll(cx) {
                Poll::Ready(stopped) => {
                    all = all.plus(stopped);
                    false
                }
                Poll::Pending => true,
            });
            if stops.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        all
    }

    /// Stops listening, on every core. Connections go on; see [`close_clients`](Self::close_clients). Idempotent.
    pub fn close(&self) {
        self.cores.iter().for_each(Server::close);
    }

    /// As [`Server::close_clients`], on every core. Call [`close`](Self::close) first.
    pub fn close_clients(&self) {
        self.cores.iter().for_each(Server::close_clients);
    }

    /// As [`Server::abort_clients`], on every core. Call [`close`](Self::close) first.
    pub fn abort_clients(&self) {
        self.cores.iter().for_each(Server::abort_clients);
    }

    /// Waits until the server is closed, no connection is left, and the threads of all cores have ended. Does not close
    /// anything. What handlers gave to `spawn_blocking` is waited for as well.
    ///
    /// **Cancel-safe.** Needs no runtime.
    pub async fn wait_closed(&self) {
        self.threads.ended().await;
    }
}

impl fmt::Debug for PerCoreServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerCoreServer").field("cores", &self.cores).finish_non_exhaustive()
    }
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
