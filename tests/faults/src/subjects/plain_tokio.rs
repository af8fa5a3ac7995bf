//! Plain tokio, as its tutorial writes a server: `BufReader`, `read_until`, `write_all`, a task a connection, `?` on accept.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::plain_tokio_works::work;
use super::{Order, announce, say};
use crate::Result;
use crate::papers::Papers;

/// Any byte stream.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Serves until the process is ended, or accepting fails.
pub(super) async fn serve(order: Order) -> Result<()> {
    let listener = listen()?;
    let papers = order.tls.as_ref().or(order.papers.as_ref());
    let acceptor = papers.map(|folder| Papers::read(folder)?.server()).transpose()?.map(TlsAcceptor::from);
    let (at_once, order) = (order.tls.is_some(), Arc::new(order));
    announce(listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, order) = (acceptor.clone(), Arc::clone(&order));
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            match acceptor {
                Some(acceptor) if at_once => {
                    let stream = acceptor.accept(stream).await?;
                    work(&order.work, stream).await
                }
                Some(acceptor) => starttls(stream, &acceptor).await,
                None => work(&order.work, stream).await,
            }
        });
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    socket.listen(4096)
}

/// Echoes lines; the line `STARTTLS` is answered by `go`, and TLS begins on the socket below the `BufReader`.
async fn starttls(stream: tokio::net::TcpStream, acceptor: &TlsAcceptor) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        if line == b"STARTTLS\n" {
            reader.get_mut().write_all(b"go\n").await?;
            let stream = match acceptor.accept(reader.into_inner()).await {
                Ok(stream) => stream,
                Err(error) => {
                    say("upgrade failed");
                    return Err(error);
                }
            };
            let mut reader = BufReader::new(stream);
            line.clear();
            while reader.read_until(b'\n', &mut line).await? > 0 {
                say(format_args!("line {}", String::from_utf8_lossy(&line).trim()));
                reader.write_all(&line).await?;
                reader.flush().await?;
                line.clear();
            }
            return Ok(());
        }
        say(format_args!("line {}", String::from_utf8_lossy(&line).trim()));
        reader.get_mut().write_all(&line).await?;
        line.clear();
    }
    Ok(())
}
