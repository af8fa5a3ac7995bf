//! Good clients: so many connections that each ask in turn and wait for the answer, and how long the answers took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::Result;
use crate::context::Context;
use crate::papers::HOST;

/// A byte stream of either kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// How to reach a server.
#[derive(Clone)]
pub(crate) struct Target {
    port: u16,
    tls: Option<TlsConnector>,
}

impl Target {
    pub(crate) fn plain(port: u16) -> Self {
        Self { port, tls: None }
    }

    pub(crate) fn tls(port: u16, context: &Context) -> Result<Self> {
        Ok(Self { port, tls: Some(TlsConnector::from(context.papers.client()?)) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A connection from the loopback address with this last number.
    pub(crate) async fn open(&self, host: u8) -> Result<BufReader<Box<dyn Io>>> {
        self.open_with(host, None).await
    }

    /// The same with a receive buffer of so many bytes.
    pub(crate) async fn open_with(&self, host: u8, buffer: Option<u32>) -> Result<BufReader<Box<dyn Io>>> {
        let socket = TcpSocket::new_v4()?;
        if let Some(len) = buffer {
            socket.set_recv_buffer_size(len)?;
        }
        socket.bind(SocketAddr::from(([127, 0, 0, host], 0)))?;
        let stream: TcpStream = socket.connect(SocketAddr::from(([127, 0, 0, 1], self.port))).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Io> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(HOST.try_into()?, stream).await?),
        };
        Ok(BufReader::new(stream))
    }
}

/// One line and its echo; how long that took.
pub(crate) async fn ping(stream: &mut BufReader<Box<dyn Io>>) -> Result<Duration> {
    let began = Instant::now();
    stream.write_all(b"ping\n").await?;
    stream.flush().await?;
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    if line == b"ping\n" { Ok(began.elapsed()) } else { Err(format!("{line:?} came back").into()) }
}

/// So many clients, each on a connection of its own, ask every few milliseconds for so long.
pub(crate) async fn good_clients(target: &Target, count: usize, length: Duration) -> Result<Vec<Duration>> {
    let mut clients = JoinSet::new();
    let target = Arc::new(target.clone());
    for number in 0..count {
        let target = Arc::clone(&target);
        clients.spawn(async move {
            let mut stream = target.open(1).await?;
            let (until, mut times) = (Instant::now() + length, Vec::new());
            tokio::time::sleep(Duration::from_micros(number as u64 * 97)).await;
            while Instant::now() < until {
                times.push(tokio::time::timeout(PATIENCE, ping(&mut stream)).await??);
                tokio::time::sleep(PAUSE).await;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = clients.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

/// Runs the future on a runtime of this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions of one client: the server is far from busy with them alone.
const PAUSE: Duration = Duration::from_millis(10);
