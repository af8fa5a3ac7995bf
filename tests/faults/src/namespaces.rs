//! A network and mount namespace of a row's own, where routes, neighbours and host names can be made up.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use socket2::{Domain, Socket, Type};

use crate::Result;

/// Whether this process may make namespaces and has the programs for it.
pub(crate) fn usable() -> bool {
    let works = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    works("unshare", &["-n", "-m", "true"]) && works("ip", &["-V"])
}

/// Runs the program `ip`.
pub(crate) fn ip(args: &str) -> Result<()> {
    let output = Command::new("ip").args(args.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Puts these lines over a file, for this mount namespace alone.
pub(crate) fn cover(path: &str, lines: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(lines.as_bytes())?;
    let (_, kept) = file.keep()?;
    let status = Command::new("mount").arg("--bind").arg(&kept).arg(path).status()?;
    // The mount keeps what it shows; its name is not needed any more.
    std::fs::remove_file(kept)?;
    if status.success() { Ok(()) } else { Err(format!("mount --bind over {path}: {status}").into()) }
}

/// A listener whose backlog is full: the kernel drops every further SYN, so nobody ever answers.
pub(crate) struct BlackHole {
    listener: Socket,
    pub(crate) address: SocketAddr,
    _filler: TcpStream,
}

impl BlackHole {
    pub(crate) fn at(address: SocketAddr) -> Result<Self> {
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        listener.set_reuse_address(true)?;
        listener.bind(&address.into())?;
        listener.listen(0)?;
        let address = listener.local_addr()?.as_socket().ok_or("no TCP address")?;
        Ok(Self { listener, address, _filler: TcpStream::connect(address)? })
    }

    /// How many connections the kernel holds for it, its own first one included.
    pub(crate) fn held(&self) -> Result<usize> {
        self.listener.set_nonblocking(true)?;
        Ok(std::iter::from_fn(|| self.listener.accept().ok()).collect::<Vec<_>>().len())
    }
}
