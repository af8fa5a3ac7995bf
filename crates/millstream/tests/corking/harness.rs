//! Runs one handler over a real socket, on a runtime of each kind, served or on an opened connection, plain and over TLS.

use std::future::{Future, poll_fn};
use std::net::TcpStream;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millstream::{ConnectOptions, Server, ServerOptions, StreamReader, StreamWriter};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::support;
use crate::wire::Wire;

/// How long a test waits for bytes before it says that they were held back. No test takes this long if all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    CurrentThread,
    MultiThread,
    LocalSet,
}

/// Whose task flushes: the handler's own, or the one that an opened connection spawns when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Served,
    Opened,
}

impl Place {
    /// Runs a case in this place, once for each side, plain and over TLS.
    pub(crate) fn run<C: Future<Output = ()>>(self, case: impl Fn(Setting) -> C) {
        let with_tls = if cfg!(feature = "tls") { &[false, true][..] } else { &[false] };
        for (side, &tls) in
            [Side::Served, Side::Opened].iter().flat_map(|&side| with_tls.iter().map(move |tls| (side, tls)))
        {
            let setting = Setting { place: self, side, tls };
            let case = async {
                let in_time = tokio::time::timeout(PATIENCE, case(setting)).await;
                in_time.unwrap_or_else(|_| panic!("{setting:?}: bytes were held back"));
            };
            match self {
                Self::CurrentThread => support::run(case),
                Self::MultiThread => support::run_on_threads(case),
                Self::LocalSet => support::run(async { LocalSet::new().run_until(case).await }),
            }
        }
    }
}

/// One way to run a handler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) place: Place,
    pub(crate) side: Side,
    pub(crate) tls: bool,
}

impl Setting {
    /// Spawns beside the handler. Served handlers are always tasks of the runtime itself.
    pub(crate) fn spawn(self, task: impl Future<Output = ()> + Send + 'static) {
        match (self.place, self.side) {
            (Place::LocalSet, Side::Opened) => drop(tokio::task::spawn_local(task)),
            _ => drop(tokio::spawn(task)),
        }
    }

    /// Gives the handler a connection, and returns its other end.
    pub(crate) async fn connect<F, W>(self, handler: F) -> Peer
    where
        F: FnOnce(StreamReader, StreamWriter) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        #[cfg(feature = "tls")]
        let realm = support::tls::Realm::new();
        let (socket, server) = match self.side {
            Side::Opened => {
                let ((reader, writer), socket) = support::tcp_pair(&ConnectOptions::new());
                #[cfg(feature = "tls")]
                if self.tls {
                    let tls = realm.server(VERSION);
                    self.spawn(async move {
                        let mut reader = reader;
                        writer.start_tls(&mut reader, &tls).await.expect("a handshake");
                        greet(&writer);
                        handler(reader, writer).await;
                    });
                } else {
                    self.spawn(handler(reader, writer));
                }
                #[cfg(not(feature = "tls"))]
                self.spawn(handler(reader, writer));
                (socket, None)
            }
            Side::Served => {
                let options = ServerOptions::new();
                #[cfg(feature = "tls")]
                let options = if self.tls { options.tls(realm.server(VERSION)) } else { options };
                let handler = Mutex::new(Some(handler));
                let server = options.start("127.0.0.1", 0, move |reader, writer| {
                    if self.tls {
                        greet(&writer);
                    }
                    let handler = handler.lock().unwrap_or_else(PoisonError::into_inner).take();
                    handler.expect("one connection")(reader, writer)
                });
                let server = server.await.expect("a free port");
                let port = server.sockets()[0].port().expect("TCP");
                (TcpStream::connect(("127.0.0.1", port)).expect("loopback"), Some(server))
            }
        };
        socket.set_nodelay(true).expect("a TCP socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        #[cfg(feature = "tls")]
        if self.tls {
            let name = support::tls::HOST.try_into().expect("a valid name");
            let tls =
                rustls::ClientConnection::new(realm.client_config(VERSION).into(), name).expect("valid");
            let sealing = tokio::task::spawn_blocking(move || Wire::sealed(tls, socket));
            let wire = sealing.await.expect("no panic in the handshake").expect("a handshake");
            return Peer { wire: Some(wire), _server: server };
        }
        Peer { wire: Some(Wire::Plain(socket)), _server: server }
    }
}

/// The version does not matter here.
#[cfg(feature = "tls")]
const VERSION: millstream::tls::TlsVersion = millstream::tls::TlsVersion::V1_3;

/// Tells the peer that the handshake is over on this side as well, so that what comes behind is counted alike every time.
fn greet(writer: &StreamWriter) {
    writer.write(b"!").expect("the peer is there");
    writer.flush().expect("the peer is there");
}

/// The other end, used on a thread of its own.
#[derive(Debug)]
pub(crate) struct Peer {
    wire: Option<Wire>,
    _server: Option<Server>,
}

impl Peer {
    pub(crate) async fn talk<T: Send + 'static>(
        &mut self,
        talk: impl FnOnce(&mut Wire) -> std::io::Result<T> + Send + 'static,
    ) -> T {
        let mut wire = self.wire.take().expect("talks take turns");
        let talk = tokio::task::spawn_blocking(move || (talk(&mut wire), wire));
        let (result, wire) = talk.await.expect("no panic in the talk");
        self.wire = Some(wire);
        result.expect("the handler's bytes come in time")
    }
}

/// Waits for something, and tells others whenever it is really waiting.
pub(crate) async fn announcing<T>(waiting: &Notify, wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    poll_fn(|cx| {
        let poll = wait.as_mut().poll(cx);
        if poll.is_pending() {
            waiting.notify_one();
        }
        poll
    })
    .await
}
