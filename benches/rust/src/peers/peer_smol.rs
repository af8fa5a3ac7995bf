//! smol, as its examples do it: a buffered reader, `read_until` and `write_all`; one local executor on one thread.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;

use smol::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use smol::net::TcpStream;
use smol::{Async, LocalExecutor};

use super::READ_BUFFER;

/// Each line back.
pub(super) fn lines() -> io::Result<()> {
    serve(async |stream: TcpStream| {
        let mut reader = BufReader::with_capacity(READ_BUFFER, stream.clone());
        let mut writer = stream;
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await? > 0 {
            writer.write_all(&line).await?;
            line.clear();
        }
        Ok(())
    })
}

/// Each message back, behind its length.
pub(super) fn counted() -> io::Result<()> {
    serve(async |stream: TcpStream| {
        let mut reader = BufReader::with_capacity(READ_BUFFER, stream.clone());
        let mut writer = stream;
        let mut message = Vec::new();
        loop {
            let mut length = [0; 4];
            reader.read_exact(&mut length).await?;
            message.clear();
            message.extend_from_slice(&length);
            message.resize(super::counted_len(length)?, 0);
            reader.read_exact(&mut message[4..]).await?;
            writer.write_all(&message).await?;
        }
    })
}

/// Each block back.
pub(super) fn bulk() -> io::Result<()> {
    serve(async |mut stream: TcpStream| {
        let mut block = vec![0; READ_BUFFER];
        loop {
            let n = stream.read(&mut block).await?;
            if n == 0 {
                return Ok(());
            }
            stream.write_all(&block[..n]).await?;
        }
    })
}

/// Accepts on one thread and gives each connection a task of its own.
fn serve<F>(handler: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let listener = Async::<TcpListener>::new(super::listen()?)?;
    let executor = Rc::new(LocalExecutor::new());
    smol::block_on(executor.run(async {
        loop {
            let (stream, _) = listener.accept().await?;
            // A peer that reset is no news for an echo server.
            let connection = handler(TcpStream::from(stream));
            executor.spawn(async move { drop(connection.await) }).detach();
        }
    }))
}
