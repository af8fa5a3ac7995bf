//! The listening sockets of a server, for whoever goes on listening after it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Weak;

use super::Server;
use crate::address::Address;

/// One more descriptor of a socket that a server listens on; made by [`Server::listeners`].
#[derive(Debug)]
#[non_exhaustive]
pub struct ListeningSocket {
    /// What it listens on.
    pub address: Address,
    /// A descriptor of its own, closed when this is dropped, and on `exec`.
    pub socket: OwnedFd,
}

impl Server {
    /// Duplicates the sockets that this server listens on, in the order of [`sockets`](Self::sockets), to hand them to
    /// the process that takes over. As long as one of the descriptors is open somewhere, nobody is refused: who connects
    /// waits in the backlog until someone accepts. Empty if the server is closed or does not serve yet.
    ///
    /// The way to restart without refusing anyone: duplicate the sockets, start the new process with them, wait until it
    /// says that it serves, then [`stop`](Self::stop) this server. Both accept for a moment, which does no harm.
    ///
    /// The new process takes them with [`start_inherited`](crate::ServerOptions::start_inherited) if it finds them as
    /// descriptors 3 and up, with their number in `LISTEN_FDS`. The crate `command-fds` puts them there:
    ///
    /// ```no_run
    /// # async fn restart(server: millstream::Server) -> Result<(), Box<dyn std::error::Error>> {
    /// use command_fds::{CommandFdExt, FdMapping};
    /// let sockets = server.listeners()?;
    /// let mut command = std::process::Command::new(std::env::current_exe()?);
    /// command.env("LISTEN_FDS", sockets.len().to_string()).env_remove("LISTEN_PID");
    /// let numbered = sockets.into_iter().zip(3..);
    /// command.fd_mappings(numbered.map(|(it, child_fd)| FdMapping { parent_fd: it.socket, child_fd }).collect())?;
    /// let _child = command.spawn()?;
    /// // … once the child says that it serves:
    /// server.stop(std::time::Duration::from_secs(30)).await;
    /// # Ok(()) }
    /// ```
    ///
    /// A single socket can also be the child's standard input, without any crate: `command.stdin(it.socket)` here, and
    /// `std::io::stdin().as_fd().try_clone_to_owned()` for [`start_on_tcp`](crate::ServerOptions::start_on_tcp) there.
    ///
    /// From now on the path of a Unix socket is left where it is when this server closes: it is someone else's as well.
    ///
    /// # Errors
    /// What the system says if it has no descriptor left.
    pub fn listeners(&self) -> io::Result<Vec<ListeningSocket>> {
        if self.shared.status.borrow().closed {
            return Ok(Vec::new());
        }
        let listeners = self.shared.state.lock().listeners.clone();
        let sockets = listeners.iter().filter_map(Weak::upgrade);
        let duplicate = |listener: std::sync::Arc<crate::listen::Listener>| {
            Ok(ListeningSocket { address: listener.address.clone(), socket: listener.duplicate()? })
        };
        sockets.map(duplicate).collect()
    }
}
