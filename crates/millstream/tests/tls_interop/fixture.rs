//! What every peer is tested with: certificates as files, a server of ours that tells what its handlers saw,
//! and the conversations themselves.

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use millstream::tls::{
    TlsClient, TlsClientBuilder, TlsFault, TlsInfo, TlsServer, TlsServerBuilder, TlsVersion,
};
use millstream::{
    ConnectError, ConnectOptions, Error, Failure, Server, ServerFailure, ServerOptions, StreamReader,
    StreamWriter,
};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::certificates::{Authority, Identity};
use crate::support::programs::{Program, have};
use crate::support::run;

/// Runs a test with these programs, or says that it skipped.
pub(crate) fn with(programs: &[&str], test: impl Future<Output = ()>) {
    if have(programs) {
        run(soon(test));
    }
}

/// What a test waits for, on a machine with other work.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(90), future).await.expect("no end in sight")
}

pub(crate) const BOTH_VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];
pub(crate) const MEGABYTE: usize = 1 << 20;

/// Bytes that differ from place to place, and from record to record.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at + at / 251) % 256).expect("below 256")).collect()
}

/// An authority, and a folder with what it vouches for: `root.pem`; `server` (for localhost), `other` (for
/// other.test) and `client`, each `.pem` and `.key`; and `stranger.pem`, a root that vouches for nobody.
pub(crate) struct Papers {
    folder: TempDir,
    root: String,
    server: Identity,
    other: Identity,
    client: Identity,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("interoperation root");
        let papers = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            root: authority.root(),
            server: authority.server(&["localhost"]),
            other: authority.server(&["other.test"]),
            client: authority.client("visitor"),
        };
        papers.put("root.pem", &papers.root);
        papers.put("stranger.pem", Authority::new("a stranger").root());
        let named = [("server", &papers.server), ("other", &papers.other), ("client", &papers.client)];
        for (name, identity) in named {
            papers.put(&format!("{name}.pem"), &identity.chain);
            papers.put(&format!("{name}.key"), &identity.key);
        }
        papers
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file beside the certificates.
    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.folder().join(name), content).expect("a file in a temporary folder");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder().join(name)).expect("a file in a temporary folder")
    }

    /// Starts a program in the folder.
    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> Program {
        Program::start(program, arguments, self.folder())
    }

    /// A client that trusts the authority.
    pub(crate) fn client(&self) -> TlsClientBuilder {
        TlsClient::builder().root_certificates(&self.root)
    }

    /// One that shows a certificate as well.
    pub(crate) fn known_client(&self) -> TlsClientBuilder {
        self.client().certificate(&self.client.chain, &self.client.key)
    }

    /// A server for localhost, and for other.test under that name.
    pub(crate) fn server(&self) -> TlsServerBuilder {
        let server = TlsServer::builder().certificate(&self.server.chain, &self.server.key);
        server.certificate_for("other.test", &self.other.chain, &self.other.key)
    }

    /// One that lets in only clients that show the client's certificate.
    pub(crate) fn strict_server(&self) -> TlsServerBuilder {
        self.server().require_client_certificates(&self.root)
    }
}

pub(crate) trait OneVersion {
    /// Speaks this version and no other.
    fn only(self, version: TlsVersion) -> Self;
}

impl OneVersion for TlsClientBuilder {
    fn only(self, version: TlsVersion) -> Self {
        self.minimum_version(version).maximum_version(version)
    }
}

impl OneVersion for TlsServerBuilder {
    fn only(self, version: TlsVersion) -> Self {
        self.minimum_version(version).maximum_version(version)
    }
}

/// Our client's connection to a server on this machine, whose certificate is for localhost.
pub(crate) async fn open(port: u16, tls: &TlsClient) -> Result<(StreamReader, StreamWriter), ConnectError> {
    open_as("localhost", port, tls).await
}

/// As [`open`], for another name. The address is of the one family that every program here was told of.
pub(crate) async fn open_as(
    name: &str,
    port: u16,
    tls: &TlsClient,
) -> Result<(StreamReader, StreamWriter), ConnectError> {
    let tls = tls.clone().server_name(name).expect("a name");
    ConnectOptions::new().tls(tls).open("127.0.0.1", port).await
}

/// Closes and waits for it.
pub(crate) async fn close(writer: &StreamWriter) {
    writer.close();
    writer.wait_closed().await.expect("a clean close");
}

/// What TLS failure this is, if it is one.
pub(crate) fn fault(error: impl Into<io::Error>) -> Option<TlsFault> {
    let error = error.into();
    let inner = error.get_ref()?;
    match (inner.downcast_ref::<Failure>(), inner.downcast_ref::<ConnectError>()) {
        (Some(failure), _) => failure.tls(),
        (None, Some(ConnectError::Tls(error))) => error.fault(),
        _ => None,
    }
}

/// Whether a stream was cut: an end without close_notify, or a reset. A clean end is no error at all.
pub(crate) fn is_cut(error: impl Into<io::Error>) -> bool {
    let error = error.into();
    error.kind() == io::ErrorKind::ConnectionReset || fault(error) == Some(TlsFault::Truncated)
}

/// A server of ours for one test.
pub(crate) struct Serving<T> {
    server: Server,
    pub(crate) port: u16,
    outcomes: UnboundedReceiver<Result<T, Error>>,
    failures: UnboundedReceiver<ServerFailure>,
}

impl<T: Send + 'static> Serving<T> {
    pub(crate) async fn start<F, R>(tls: TlsServer, handler: F) -> Self
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, Error>> + Send + 'static,
    {
        Self::start_with(ServerOptions::new().tls(tls), handler).await
    }

    pub(crate) async fn start_with<F, R>(options: ServerOptions, handler: F) -> Self
    where
        F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (tell, outcomes) = unbounded_channel();
        let (report, failures) = unbounded_channel();
        let options = options.on_failure(move |failure| drop(report.send(failure)));
        let server = options.start("127.0.0.1", 0, move |reader, writer| {
            let (work, tell) = (handler(reader, writer), tell.clone());
            async move { drop(tell.send(work.await)) }
        });
        let server = server.await.expect("a free port");
        let port = server.sockets()[0].port().expect("TCP");
        Self { server, port, outcomes, failures }
    }

    /// How the next handler ended.
    pub(crate) async fn outcome(&mut self) -> Result<T, Error> {
        self.outcomes.recv().await.expect("the server lives")
    }

    /// Why the next connection that failed its handshake did.
    pub(crate) async fn refused(&mut self) -> Option<TlsFault> {
        let failure = self.failures.recv().await.expect("the server lives");
        failure.tls_handshake().unwrap_or_else(|| panic!("no handshake failed: {failure}")).tls()
    }

    /// Ends; nothing may have happened that the test did not ask for.
    pub(crate) async fn close(mut self) {
        self.server.close();
        self.server.wait_closed().await;
        if let Ok(failure) = self.failures.try_recv() {
            panic!("{failure}");
        }
        assert!(self.outcomes.try_recv().is_err(), "another handler was called");
    }
}

/// A handler that sends back every line, and tells who the peer was once that has ended cleanly.
pub(crate) async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result<TlsInfo, Error> {
    while let Some(line) = reader.read_line().await? {
        writer.write(&line)?;
        writer.drain().await?;
    }
    Ok(writer.tls_info().expect("the handshake is over"))
}

/// A handler that takes a MiB, sends it back in reverse, and waits for the peer's end.
pub(crate) async fn turn_round(mut reader: StreamReader, writer: StreamWriter) -> Result<TlsInfo, Error> {
    let mut data = reader.read_exactly(MEGABYTE).await?.to_vec();
    data.reverse();
    writer.write_bytes(data)?;
    writer.drain().await?;
    let rest = reader.read_to_end(MEGABYTE).await?;
    assert!(rest.is_empty(), "{} bytes more", rest.len());
    Ok(writer.tls_info().expect("the handshake is over"))
}
