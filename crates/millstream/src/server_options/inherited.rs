//! Servers on sockets that this process was started with: systemd's socket activation, or a predecessor's hand-over.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;

use listenfd::ListenFd;
use millstream_core::Failure;
use socket2::Socket;

use super::ServerOptions;
use crate::error::ServeError;
use crate::handler::HandlerReturn;
use crate::listen::Bound;
use crate::reader::StreamReader;
use crate::server::Server;
use crate::writer::StreamWriter;

impl ServerOptions {
    /// Starts a server on all the listening TCP and Unix sockets that this process was started with, by systemd's socket
    /// activation or by [`Server::listeners`] in a predecessor. Paths of Unix sockets are left alone.
    ///
    /// The sockets are descriptors 3 and up; `LISTEN_FDS` is their number, and `LISTEN_PID`, if set, has to be this
    /// process. Both are removed from the environment at the first call in a process, so that its children do not take
    /// them for theirs; make it before other threads read the environment. Each socket can be taken once.
    ///
    /// # Errors
    /// [`ServeError::NoInherited`] if there is none (any more); [`ServeError::BadInherited`] if one is no socket that
    /// listens for streams; otherwise see [`ServeError`].
    ///
    /// ```no_run
    /// # async fn handle(_: millstream::StreamReader, _: millstream::StreamWriter) {}
    /// # async fn serve() -> Result<(), millstream::Error> {
    /// use millstream::{ServeError, ServerOptions};
    /// let options = ServerOptions::new();
    /// let server = match options.start_inherited(handle) {
    ///     Err(ServeError::NoInherited { .. }) => options.start("127.0.0.1", 8888, handle).await?,
    ///     inherited => inherited?,
    /// };
    /// # Ok(()) }
    /// ```
    pub fn start_inherited<F, R, K>(&self, handler: F) -> Result<Server, ServeError>
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: HandlerReturn<K>,
    {
        self.streams.check()?;
        self.finish(self.take_inherited(None)?, handler)
    }

    /// As [`start_inherited`](Self::start_inherited), only on the sockets of this name in `LISTEN_FDNAMES`
    /// (`FileDescriptorName=` in a systemd socket unit): for programs with several servers.
    ///
    /// # Errors
    /// As [`start_inherited`](Self::start_inherited).
    pub fn start_inherited_named<F, R, K>(&self, name: &str, handler: F) -> Result<Server, ServeError>
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: HandlerReturn<K>,
    {
        self.streams.check()?;
        self.finish(self.take_inherited(Some(name))?, handler)
    }

    fn take_inherited(&self, name: Option<&str>) -> Result<Vec<Bound>, ServeError> {
        let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
        // Only once: a second `ListenFd` would own the same descriptors again.
        let sockets = inherited.get_or_insert_with(ListenFd::from_env);
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut bound = Vec::new();
        for index in 0..sockets.len() {
            let its_name = names.next();
            if name.is_some() && its_name != name {
                continue;
            }
            let taken = take(sockets, index).map_err(|error| bad(index, &error))?;
            if let Some(socket) = taken {
                bound.push(Bound::adopt(socket, self.streams.nodelay, self.streams.socket())?);
            }
        }
        if bound.is_empty() {
            return Err(ServeError::NoInherited { name: name.map(str::to_owned) });
        }
        Ok(bound)
    }
}

/// The socket at this index, unless it was taken before.
fn take(sockets: &mut ListenFd, index: usize) -> io::Result<Option<Socket>> {
    let socket = match sockets.take_tcp_listener(index) {
        Ok(socket) => socket.map(Socket::from),
        Err(_) => sockets.take_unix_listener(index)?.map(Socket::from),
    };
    match socket {
        Some(socket) if !socket.is_listener()? => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a socket, but does not listen"))
        }
        socket => Ok(socket),
    }
}

fn bad(index: usize, error: &io::Error) -> ServeError {
    ServeError::BadInherited { index, failure: Failure::from(error) }
}

/// What this process was started with and has not taken yet; `None` before anyone has asked.
static INHERITED: Mutex<Option<ListenFd>> = Mutex::new(None);
