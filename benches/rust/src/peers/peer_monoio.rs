//! monoio, as its README does it: buffers are lent to the driver, which is io_uring or its legacy epoll.

use std::future::Future;
use std::io;

use monoio::io::{
    AsyncBufReadExt as _, AsyncReadRent, AsyncReadRentExt as _, AsyncWriteRentExt as _, BufReader,
    Splitable as _,
};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::READ_BUFFER;

/// Which driver a server runs on.
#[derive(Clone, Copy)]
enum Driver {
    Uring,
    Epoll,
}

/// Each line back, on io_uring.
pub(super) fn lines() -> io::Result<()> {
    serve(Driver::Uring, echo_lines)
}

/// Each line back, on epoll.
pub(super) fn lines_epoll() -> io::Result<()> {
    serve(Driver::Epoll, echo_lines)
}

/// Each message back, on io_uring.
pub(super) fn counted() -> io::Result<()> {
    serve(Driver::Uring, echo_counted)
}

/// Each message back, on epoll.
pub(super) fn counted_epoll() -> io::Result<()> {
    serve(Driver::Epoll, echo_counted)
}

/// Each block back, on io_uring.
pub(super) fn bulk() -> io::Result<()> {
    serve(Driver::Uring, echo_blocks)
}

/// Each block back, on epoll.
pub(super) fn bulk_epoll() -> io::Result<()> {
    serve(Driver::Epoll, echo_blocks)
}

async fn echo_lines(stream: TcpStream) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::with_capacity(READ_BUFFER, read);
    let mut line = Vec::new();
    loop {
        if reader.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let (written, back) = write.write_all(line).await;
        written?;
        line = back;
        line.clear();
    }
}

async fn echo_counted(stream: TcpStream) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::with_capacity(READ_BUFFER, read);
    let mut message = Vec::new();
    loop {
        let (read, length) = reader.read_exact(Box::new([0; 4])).await;
        read?;
        message.clear();
        message.extend_from_slice(&*length);
        message.resize(super::counted_len(*length)?, 0);
        let (read, body) = reader.read_exact(monoio::buf::IoBufMut::slice_mut(message, 4..)).await;
        read?;
        let (written, back) = write.write_all(body.into_inner()).await;
        written?;
        message = back;
    }
}

async fn echo_blocks(mut stream: TcpStream) -> io::Result<()> {
    let mut block = Vec::with_capacity(READ_BUFFER);
    loop {
        let (read, back) = stream.read(block).await;
        if read? == 0 {
            return Ok(());
        }
        let (written, back) = stream.write_all(back).await;
        written?;
        block = back;
        block.clear();
    }
}

/// Accepts on one thread and gives each connection a task of its own.
fn serve<F>(driver: Driver, handler: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let accept = async {
        let listener = TcpListener::from_std(super::listen()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A peer that reset is no news for an echo server.
            let connection = handler(stream);
            monoio::spawn(async move { drop(connection.await) });
        }
    };
    match driver {
        Driver::Uring => RuntimeBuilder::<IoUringDriver>::new().build()?.block_on(accept),
        Driver::Epoll => RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(accept),
    }
}
