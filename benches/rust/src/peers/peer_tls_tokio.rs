//! tokio-rustls: lines and messages as first written and as written with care, and block by block.

use std::future::Future;
use std::io;
use std::sync::Arc;

use memchr::memchr;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{MESSAGE, READ_BUFFER, counted};
use crate::certificate::Certificate;

/// The loop of the tutorial: one record and one `send` a line.
pub(super) fn serve_naive() -> io::Result<()> {
    serve(async |stream| {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).await? > 0 {
            stream.write_all(&line).await?;
            stream.flush().await?;
            line.clear();
        }
        Ok(())
    })
}

/// The loop of someone who knows: buffered both ways, flushed when no whole line is left to answer.
pub(super) fn serve_flush() -> io::Result<()> {
    serve(async |stream| {
        let mut stream = buffered(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).await? > 0 {
            stream.write_all(&line).await?;
            line.clear();
            if memchr(b'\n', stream.buffer()).is_none() {
                stream.flush().await?;
            }
        }
        stream.shutdown().await
    })
}

/// Straight from and to the stream: nothing is copied that need not be.
pub(super) fn messages_naive() -> io::Result<()> {
    serve(async |mut stream| {
        let mut message = vec![0; MESSAGE];
        loop {
            stream.read_exact(&mut message).await?;
            stream.write_all(&message).await?;
            stream.flush().await?;
        }
    })
}

/// Buffered both ways, flushed when no whole message is left to answer.
pub(super) fn messages_flush() -> io::Result<()> {
    serve(async |stream| {
        let mut stream = buffered(stream);
        let mut message = vec![0; MESSAGE];
        loop {
            stream.read_exact(&mut message).await?;
            stream.write_all(&message).await?;
            if stream.buffer().len() < MESSAGE {
                stream.flush().await?;
            }
        }
    })
}

/// Messages behind their length, as first written.
pub(super) fn counted_naive() -> io::Result<()> {
    serve(counted::naive)
}

/// Messages behind their length, buffered both ways.
pub(super) fn counted_flush() -> io::Result<()> {
    serve(counted::flush)
}

/// What one read gives, which is a record at most, then all of it written.
pub(super) fn bulk() -> io::Result<()> {
    serve(async |mut stream| {
        let mut block = vec![0; READ_BUFFER];
        loop {
            let n = stream.read(&mut block).await?;
            if n == 0 {
                return Ok(());
            }
            stream.write_all(&block[..n]).await?;
            stream.flush().await?;
        }
    })
}

type Buffered = BufReader<BufWriter<TlsStream<TcpStream>>>;

fn buffered(stream: TlsStream<TcpStream>) -> Buffered {
    BufReader::with_capacity(READ_BUFFER, BufWriter::with_capacity(READ_BUFFER, stream))
}

/// As millstream's own: its provider, and the clients hold the sessions, so that no server keeps any.
fn config() -> io::Result<ServerConfig> {
    let Certificate { chain, key } = Certificate::of_this_run()?;
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(io::Error::other)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
    Ok(config)
}

/// Accepts on one thread and gives each connection a task of its own, which begins with the handshake.
fn serve<F>(handler: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(config()?));
    let handler = Arc::new(handler);
    let listener = super::listen()?;
    super::runtime()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
            // A peer that breaks off is no news for an echo server.
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await?;
                handler(stream).await
            });
        }
    })
}
