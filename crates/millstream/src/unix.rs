//! Unix socket paths: their rights are set before anyone can connect, a stale one is taken over, a foreign one never
//! touched, and ours is removed when the server closes.

use std::io;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_core::Failure;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::Address;
use crate::error::ServeError;

/// A path that this process has bound. Removes it when dropped, unless someone has put something else there.
#[derive(Debug)]
pub(crate) struct BoundPath {
    path: PathBuf,
    /// Device and inode, which tell our socket from another's at the same path.
    identity: (u64, u64),
    kept: AtomicBool,
}

/// Checks that the path fits into a socket address.
pub(crate) fn check_path(path: &Path) -> io::Result<()> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is empty"));
    }
    if !is_abstract(path) && bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has a zero byte"));
    }
    SockAddr::unix(path).map(drop).map_err(|_| {
        let text =
            format!("the path has {} bytes; a Unix socket's address holds {LONGEST_PATH}", bytes.len());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// Binds a socket to the path, not listening yet, so that `mode` is in force before the first connection.
pub(crate) fn bind(
    path: &Path,
    mode: Option<u32>,
    unlink: bool,
) -> Result<(Socket, Option<BoundPath>), ServeError> {
    let failed = |error: io::Error| ServeError::Listen {
        address: Address::Path(path.to_owned()),
        failure: error.into(),
    };
    check_path(path).map_err(|error| ServeError::BadPath { path: path.to_owned(), failure: error.into() })?;
    let address = SockAddr::unix(path).map_err(failed)?;
    if !is_abstract(path) {
        take_over_stale(path, &address)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.bind(&address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ServeError::PathInUse { path: path.to_owned() },
        _ => failed(error),
    })?;
    if is_abstract(path) {
        return Ok((socket, None));
    }
    let bound = BoundPath {
        path: path.to_owned(),
        identity: identity(path).map_err(failed)?,
        kept: AtomicBool::new(false),
    };
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    if unlink {
        return Ok((socket, Some(bound)));
    }
    bound.keep();
    Ok((socket, None))
}

impl BoundPath {
    /// Whether the path still leads to our socket.
    pub(crate) fn is_ours(&self) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the path where it is.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) && self.is_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket at the path that nobody listens on. Anything else there is an error, and stays.
fn take_over_stale(path: &Path, address: &SockAddr) -> Result<(), ServeError> {
    let failed = |error: io::Error| ServeError::Listen {
        address: Address::Path(path.to_owned()),
        failure: Failure::from(error),
    };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ServeError::NotASocket { path: path.to_owned() });
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    probe.set_nonblocking(true).map_err(failed)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        // Connected, or its backlog is full: it lives.
        Ok(()) => Err(ServeError::PathInUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ServeError::PathInUse { path: path.to_owned() })
        }
        Err(error) => Err(failed(error)),
    }
}

fn is_abstract(path: &Path) -> bool {
    cfg!(any(target_os = "linux", target_os = "android")) && path.as_os_str().as_bytes().first() == Some(&0)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Linux's `sun_path` has 108 bytes, the last of which is a zero byte.
const LONGEST_PATH: usize = 107;
