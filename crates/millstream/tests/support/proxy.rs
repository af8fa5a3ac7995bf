//! A server that wants PROXY headers, what its handlers saw, and whom it refused.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use millstream::proxy::{ProxyHeader, ProxyRefusal};
use millstream::{Address, Error, Server, ServerFailure, ServerOptions, StreamReader, StreamWriter};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What one handler saw.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub peer: Option<Address>,
    pub socket_peer: Option<Address>,
    pub header: Option<ProxyHeader>,
    /// Everything up to the end of the stream.
    pub data: Vec<u8>,
}

pub struct Serving {
    pub server: Server,
    pub port: u16,
    seen: UnboundedReceiver<Seen>,
    failures: UnboundedReceiver<ServerFailure>,
}

impl Serving {
    pub async fn start(options: ServerOptions) -> Self {
        let (options, handler, seen, failures) = told(options);
        let server = options.start("127.0.0.1", 0, handler).await.expect("a free port");
        let port = server.sockets()[0].port().expect("TCP");
        Self { server, port, seen, failures }
    }

    pub fn start_unix(options: ServerOptions, path: &std::path::Path) -> Self {
        let (options, handler, seen, failures) = told(options);
        let server = options.start_unix(path, handler).expect("a free path");
        Self { server, port: 0, seen, failures }
    }

    /// A client from 127.0.0.1.
    pub fn connect(&self) -> TcpStream {
        self.connect_from("127.0.0.1")
    }

    /// A client from another address of this machine.
    pub fn connect_from(&self, ip: &str) -> TcpStream {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let local: SocketAddr = format!("{ip}:0").parse().expect("an address");
        socket.bind(&local.into()).expect("an address of this machine");
        let server: SocketAddr = format!("127.0.0.1:{}", self.port).parse().expect("an address");
        socket.connect(&server.into()).expect("loopback");
        socket.set_tcp_nodelay(true).expect("TCP");
        socket.into()
    }

    /// What the next handler saw.
    pub async fn seen(&mut self) -> Seen {
        tokio::select! {
            seen = self.seen.recv() => seen.expect("the server lives"),
            failure = self.failures.recv() => panic!("{}", failure.expect("the server lives")),
        }
    }

    /// The next failure.
    pub async fn failure(&mut self) -> ServerFailure {
        tokio::select! {
            seen = self.seen.recv() => panic!("a handler was called: {seen:?}"),
            failure = self.failures.recv() => failure.expect("the server lives"),
        }
    }

    /// Why the next connection was refused, and who was told to be its peer.
    pub async fn refused(&mut self) -> (ProxyRefusal, Option<Address>) {
        let failure = self.failure().await;
        let refusal = failure.proxy_header().unwrap_or_else(|| panic!("another failure: {failure}"));
        (refusal.clone(), failure.address().cloned())
    }

    /// Ends; nothing may have happened that the test did not ask for.
    pub async fn end(mut self) {
        self.server.close();
        self.server.wait_closed().await;
        assert!(self.failures.try_recv().is_err(), "another failure was told");
        assert!(self.seen.try_recv().is_err(), "another handler was called");
    }
}

type Told<H> = (ServerOptions, H, UnboundedReceiver<Seen>, UnboundedReceiver<ServerFailure>);

fn told(options: ServerOptions) -> Told<impl Fn(StreamReader, StreamWriter) -> Work + Send + Sync + 'static> {
    let (tell, seen) = unbounded_channel();
    let (report, failures) = unbounded_channel();
    let options = options.on_failure(move |failure| drop(report.send(failure)));
    let handler = move |reader, writer| -> Work { Box::pin(look(reader, writer, tell.clone())) };
    (options, handler, seen, failures)
}

type Work = std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

async fn look(
    mut reader: StreamReader,
    writer: StreamWriter,
    tell: UnboundedSender<Seen>,
) -> Result<(), Error> {
    // Answers at once: the client learns from it that it was let in.
    writer.write(b"in\n")?;
    let data = reader.read_to_end(1 << 20).await?.to_vec();
    let (peer, socket_peer) = (writer.peer_address(), writer.socket_peer_address());
    let _ = tell.send(Seen { peer, socket_peer, header: writer.proxy_header().cloned(), data });
    Ok(())
}

/// Lets everyone do all they can. For the paused clock, which moves on only when nobody can do anything.
pub async fn tick() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Sends, as far as the server has not closed.
pub fn send(mut client: &TcpStream, bytes: &[u8]) {
    let _ = client.write_all(bytes);
}

pub fn end_of_input(client: &TcpStream) {
    let _ = client.shutdown(Shutdown::Write);
}

/// What the server answers until it ends the connection. Everything has to be there already, but the end.
pub async fn answer(mut client: TcpStream) -> Vec<u8> {
    client.set_nonblocking(true).expect("a socket");
    let mut answer = Vec::new();
    for _ in 0..1000 {
        let mut piece = [0; 4096];
        match client.read(&mut piece) {
            Ok(0) => return answer,
            Ok(n) => answer.extend(&piece[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tick().await,
            Err(_) => return answer,
        }
    }
    panic!("the server keeps the connection: {answer:?}");
}

/// A client, as a header names it.
pub const CLIENT: &str = "192.0.2.1:5000";
/// Where it connected to.
pub const FRONT: &str = "198.51.100.1:443";

pub fn tcp_header() -> ProxyHeader {
    ProxyHeader::tcp(CLIENT.parse().expect("an address"), FRONT.parse().expect("an address"))
}

pub fn ip(address: &str) -> Option<Address> {
    Some(Address::Ip(address.parse().expect("an address")))
}

pub fn local_address(client: &TcpStream) -> Option<Address> {
    client.local_addr().ok().map(Address::Ip)
}
