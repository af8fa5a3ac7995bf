//! Starting servers: on hosts, on a path, or on sockets that are open already.

mod inherited;
mod limits;

use std::path::Path;
use std::sync::Arc;

use crate::admission::{Admission, Limits};
use crate::error::ServeError;
use crate::handler::HandlerReturn;
use crate::listen::{Bound, TcpOptions};
use crate::reader::StreamReader;
use crate::report::{Report, ServerFailure, to_stderr};
use crate::resolve::{Query, check_host, resolve};
use crate::serve::Handler;
use crate::server::Server;
use crate::streams::{StreamSettings, stream_setters};
use crate::tls::Secure;
use crate::writer::StreamWriter;

/// Starts a TCP server, as asyncio's `start_server`: the handler is called with the two halves of each connection, and
/// may be a plain function or an async one. Port 0 lets the system choose; see [`Server::sockets`]. For anything but
/// the defaults, use [`ServerOptions`].
///
/// # Errors
/// See [`ServeError`].
pub async fn start_server<F, R, K>(host: &str, port: u16, handler: F) -> Result<Server, ServeError>
where
    F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
    R: HandlerReturn<K>,
{
    ServerOptions::new().start(host, port, handler).await
}

/// Starts a server on a Unix socket, as asyncio's `start_unix_server`. The path is removed when the server closes; a
/// stale one is taken over, a living one is an error.
///
/// # Errors
/// See [`ServeError`].
pub async fn start_unix_server<F, R, K>(path: impl AsRef<Path>, handler: F) -> Result<Server, ServeError>
where
    F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
    R: HandlerReturn<K>,
{
    ServerOptions::new().start_unix(path, handler)
}

/// How to serve: every keyword of asyncio's `start_server` and `start_unix_server` that makes sense here.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// let options = millstream::ServerOptions::new().limit(4096).backlog(512);
/// let server = options.start("127.0.0.1", 0, |_reader, writer| {
///     let _ = writer.write(b"closed on Mondays\n");
/// }).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ServerOptions {
    pub(crate) streams: StreamSettings,
    query: Query,
    backlog: u32,
    reuse_address: bool,
    reuse_port: bool,
    start_serving: bool,
    mode: Option<u32>,
    unlink: bool,
    /// Without one, failures are lines on standard error; each server has a bound of its own for those.
    report: Option<Report>,
    limits: Limits,
    pub(crate) proxy: crate::proxy::ProxyProtocol,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::TlsServer>,
    #[cfg(feature = "tls")]
    handshakes_at_once: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            streams: StreamSettings::default(),
            query: Query { passive: true, ..Query::default() },
            backlog: DEFAULT_BACKLOG,
            reuse_address: true,
            reuse_port: false,
            start_serving: true,
            mode: None,
            unlink: true,
            report: None,
            limits: Limits::default(),
            proxy: crate::proxy::ProxyProtocol::off(),
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            handshakes_at_once: crate::tls::DEFAULT_HANDSHAKES_AT_ONCE,
        }
    }
}

impl ServerOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    stream_setters!();

    /// How many connections the system may hold for us before they are accepted (100 by default, as in asyncio).
    #[must_use]
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Whether an address with old connections in TIME_WAIT can be bound again (on by default).
    #[must_use]
    pub fn reuse_address(mut self, reuse: bool) -> Self {
        self.reuse_address = reuse;
        self
    }

    /// Whether several sockets may bind the same address and share its connections (off by default).
    #[must_use]
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Whether to accept at once (the default) or only after [`Server::start_serving`].
    #[must_use]
    pub fn start_serving(mut self, start: bool) -> Self {
        self.start_serving = start;
        self
    }

    /// The rights of a Unix socket's path (such as `0o600`), in force before the first connection can come.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Whether a Unix socket's path is removed when the server closes (on by default, as in CPython 3.13). A path that
    /// someone else has put there since is never removed.
    #[must_use]
    pub fn cleanup_socket(mut self, unlink: bool) -> Self {
        self.unlink = unlink;
        self
    }

    /// Serves over TLS (asyncio's `ssl`): handlers are called when the handshake of their connection is over. Each runs in
    /// the connection's own task, so a peer that never finishes one delays nobody.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::tls::TlsServer) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How many TLS handshakes may run at once (1,000 by default, at least 1). One more pushes out the oldest of them, so
    /// peers that never finish one push out each other. Upgrades by [`start_tls`](StreamWriter::start_tls) are not counted.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn handshakes_at_once(mut self, most: usize) -> Self {
        self.handshakes_at_once = most;
        self
    }

    /// Who is told of failed handlers, failed TLS handshakes, refused PROXY headers and pauses in accepting: of every one,
    /// once, so that it can count. It is called in the task of the connection, or of the listener: one that blocks holds up
    /// the thread.
    ///
    /// Strangers can cause as many as they like. So by default there are lines on standard error at a bounded rate, of each
    /// cause ten at once and then one a second, which says how many were held back; [`ReportLimit`](crate::ReportLimit) is
    /// that bound, for callbacks that write.
    #[must_use]
    pub fn on_failure(mut self, report: impl Fn(ServerFailure) + Send + Sync + 'static) -> Self {
        self.report = Some(Arc::new(report));
        self
    }

    /// What all servers that are started from these options have in common where they are one: the cores of one server.
    pub(crate) fn for_cores(mut self) -> Self {
        self.report.get_or_insert_with(to_stderr);
        self
    }

    /// Starts a TCP server on one host or several. An empty host means every interface. With port 0 each address gets a
    /// port of its own.
    ///
    /// # Errors
    /// See [`ServeError`]. Nothing stays bound after an error.
    pub async fn start<F, R, K>(&self, hosts: impl Hosts, port: u16, handler: F) -> Result<Server, ServeError>
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: HandlerReturn<K>,
    {
        let bound = self.bind(hosts, port).await?;
        self.finish(bound, handler)
    }

    /// Binds to every address of the hosts, without listening yet.
    pub(crate) async fn bind(&self, hosts: impl Hosts, port: u16) -> Result<Vec<Bound>, ServeError> {
        self.streams.check()?;
        let mut addresses = Vec::new();
        for host in hosts.hosts() {
            let named = (!host.is_empty()).then_some(host.as_str());
            if let Some(host) = named {
                check_host(host)?;
            }
            let found = resolve(named, port, self.query).await;
            for address in found.map_err(|failure| ServeError::Lookup { host, failure })? {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        if addresses.is_empty() {
            return Err(ServeError::NoAddress);
        }
        let options = self.tcp_options();
        let mut bound = Vec::new();
        let mut missing = None;
        for address in addresses {
            match Bound::tcp(address, options) {
                Ok(socket) => bound.push(socket),
                // A family that the resolver knows and this machine has switched off, as IPv6 often is in containers.
                Err(error) if error.is_missing_family() => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if bound.is_empty() => Err(error),
            _ => Ok(bound),
        }
    }

    pub(crate) fn tcp_options(&self) -> TcpOptions {
        TcpOptions {
            reuse_address: self.reuse_address,
            reuse_port: self.reuse_port,
            nodelay: self.streams.nodelay,
            socket: self.streams.socket(),
        }
    }

    /// Starts a server on a Unix socket. A path that begins with a zero byte is a name in Linux's abstract name space.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn start_unix<F, R, K>(&self, path: impl AsRef<Path>, handler: F) -> Result<Server, ServeError>
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: HandlerReturn<K>,
    {
        self.streams.check()?;
        let bound = Bound::unix(path.as_ref().to_owned(), self.mode, self.unlink)?;
        self.finish(vec![bound], handler)
    }

    /// Starts a server on a TCP socket that is listening already (asyncio's `sock`).
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn start_on_tcp<F, R, K>(
        &self,
        socket: std::net::TcpListener,
        handler: F,
    ) -> Result<Server, ServeError>
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: HandlerReturn<K>,
    {
        self.streams.check()?;
        self.finish(vec![Bound::adopt(socket.into(), self.streams.nodelay, self.streams.socket())?], handler)
    }

    /// Starts a server on a Unix socket that is listening already (asyncio's `sock`). Its path is left alone.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn start_on_unix<F, R, K>(
        &self,
        socket: std::os::unix::net::UnixListener,
        handler: F,
    ) -> Result<Server, ServeError>
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: HandlerReturn<K>,
    {
        self.streams.check()?;
        self.finish(vec![Bound::adopt(socket.into(), self.streams.nodelay, self.streams.socket())?], handler)
    }

    #[cfg(feature = "tls")]
    fn secure(&self) -> Option<Secure> {
        self.tls.clone().map(|tls| Secure::new(tls, self.handshakes_at_once))
    }

    #[cfg(not(feature = "tls"))]
    fn secure(&self) -> Option<Secure> {
        None
    }

    pub(crate) fn finish<F, R, K>(&self, bound: Vec<Bound>, handler: F) -> Result<Server, ServeError>
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: HandlerReturn<K>,
    {
        let handler: Arc<Handler> = Arc::new(move |reader, writer| handler(reader, writer).into_work());
        let report = self.report.clone().unwrap_or_else(to_stderr);
        let admission = Admission::new(self.limits.clone());
        let before = (self.proxy.clone(), self.secure());
        let server = Server::new(bound, handler, self.streams, self.backlog, report, before, admission);
        if self.start_serving {
            server.start_serving()?;
        }
        Ok(server)
    }
}

impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions")
            .field("streams", &self.streams)
            .field("query", &self.query)
            .field("backlog", &self.backlog)
            .finish_non_exhaustive()
    }
}

/// One host or several, for [`ServerOptions::start`].
pub trait Hosts {
    /// The hosts; an empty name stands for every interface.
    fn hosts(&self) -> Vec<String>;
}

impl Hosts for str {
    fn hosts(&self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl Hosts for String {
    fn hosts(&self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl<T: Hosts + ?Sized> Hosts for &T {
    fn hosts(&self) -> Vec<String> {
        (**self).hosts()
    }
}

impl<T: AsRef<str>> Hosts for [T] {
    fn hosts(&self) -> Vec<String> {
        self.iter().map(|host| host.as_ref().to_owned()).collect()
    }
}

impl<T: AsRef<str>, const N: usize> Hosts for [T; N] {
    fn hosts(&self) -> Vec<String> {
        self.as_slice().hosts()
    }
}

impl<T: AsRef<str>> Hosts for Vec<T> {
    fn hosts(&self) -> Vec<String> {
        self.as_slice().hosts()
    }
}

/// asyncio's default.
const DEFAULT_BACKLOG: u32 = 100;
