//! Upgrades in the middle of a connection (T1, T2, T8): plaintext before them, a ClientHello that comes early, and what
//! passes when they fail.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use millstream::ConnectOptions;
use millstream::tls::TlsClient;
use rustls::StreamOwned;

use crate::Result;
use crate::chaos::{Fate, Pace, Plan, Proxy};
use crate::context::Context;
use crate::load::block_on;
use crate::papers::HOST;
use crate::peer::{ask, connect, read_line, tcp_pair};
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup};
use crate::tls_peer;

/// T1: plaintext pipelined behind the word that starts TLS, on both sides. How often the caller sees it.
pub(super) fn t1(context: &Context) -> Result<Outcome> {
    let runs = context.scaled(300, 5);
    let mut outcome = context.compare(|subject, tally| {
        // A server that drops what it had buffered passes this row, and fails T2.
        let server = Server::start(context, subject, &Setup::work("starttls").papers())?;
        let (mut leaked, mut secured) = (0, 0);
        let runs = if subject.is_ours() { runs } else { runs.min(30) };
        for _ in 0..runs {
            let mut socket = server.connect()?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            socket.write_all(b"STARTTLS\nEVIL\n")?;
            // The upgrade may fail before `go` has left.
            let _ = read_line(&mut socket);
            let mut tls = tls_peer::on(context, socket)?;
            secured += u64::from(ask(&mut tls, "good").is_ok());
            std::thread::sleep(Duration::from_millis(1));
            let seen = server.reports().iter().filter(|line| line.contains("EVIL")).count();
            tally.check(seen == 0, || "the injected line was taken for one of the secured peer's".to_owned());
            leaked += seen;
        }
        Ok(format!("{leaked} of {runs} injected lines leaked, {secured} handshakes went on"))
    });
    let mut tally = Tally::default();
    let leaked = client_side(context, runs, &mut tally)?;
    outcome.tally.add(tally);
    outcome.ours += &format!("; as a client {leaked} of {runs}");
    Ok(outcome)
}

/// The server answers `go` and a line of plaintext in one segment, then upgrades.
fn client_side(context: &Context, runs: usize, tally: &mut Tally) -> Result<usize> {
    let mut leaked = 0;
    for _ in 0..runs {
        let (ours, mut peer) = tcp_pair()?;
        peer.set_read_timeout(Some(Duration::from_millis(500)))?;
        peer.write_all(b"go\nEVIL\n")?;
        let papers = context.papers.server()?;
        let peer = std::thread::spawn(move || {
            let mut stream = StreamOwned::new(rustls::ServerConnection::new(papers)?, peer);
            stream.write_all(b"good\n").and_then(|()| stream.flush()).map_err(Into::into) as Result<()>
        });
        let seen = block_on(async {
            let (mut reader, writer) = ConnectOptions::new().adopt_tcp(ours)?;
            reader.read_line().await?;
            let tls =
                TlsClient::builder().root_certificates(&context.papers.chain).build()?.server_name(HOST)?;
            let _ = writer.start_tls(&mut reader, &tls).await;
            Ok(reader.read_line().await.ok().flatten().unwrap_or_default())
        })?;
        let is_leak = seen.starts_with(b"EVIL");
        tally.check(!is_leak, || "the client read the injected line".to_owned());
        leaked += usize::from(is_leak);
        // It may have failed: that is the client's choice.
        drop(peer.join());
    }
    Ok(leaked)
}

/// T2: the ClientHello comes glued to the word that starts TLS, or byte by byte through the chaos proxy.
pub(super) fn t2(context: &Context) -> Result<Outcome> {
    let runs = context.scaled(300, 5);
    Ok(context.compare(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("starttls").papers().handshake(HANDSHAKE))?;
        let secure = Server::start(context, subject, &Setup::work("echo").tls(true))?;
        let slow = Plan { fate: Fate::Kept, pace: Pace::OneByte };
        let proxies =
            [Proxy::start(server.port, slow, context.seed)?, Proxy::start(secure.port, slow, context.seed)?];
        // Each that hangs costs the handshake's deadline.
        let runs = if subject.is_ours() { runs } else { runs.min(10) };
        let mut glued = [0, 0];
        for (place, port) in [(0, server.port), (1, proxies[0].port)] {
            for _ in 0..runs {
                let done = glued_hello(context, port);
                glued[place] += u64::from(tally.check(done.is_ok(), || format!("glued: {done:?}")));
            }
        }
        let mut split = 0;
        for _ in 0..runs {
            let asked = (|| {
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(ask(
                    &mut tls_peer::on(context, connect(proxies[1].port)?)?,
                    "ping",
                )?)
            })();
            let right = asked.as_ref().is_ok_and(|line| line == "ping");
            split += u64::from(tally.check(right, || format!("byte by byte: {asked:?}")));
        }
        Ok(format!(
            "glued {} of {runs}, glued and byte by byte {} of {runs}, byte by byte {split} of {runs}",
            glued[0], glued[1]
        ))
    }))
}

fn glued_hello(context: &Context, port: u16) -> Result<()> {
    let mut socket = connect(port)?;
    socket.set_read_timeout(Some(HANDSHAKE * 2))?;
    let mut engine = tls_peer::client(context)?;
    let mut segment = b"STARTTLS\n".to_vec();
    segment.extend(tls_peer::hello(&mut engine)?);
    socket.write_all(&segment)?;
    if read_line(&mut socket)? != "go" {
        return Err("no upgrade".into());
    }
    let mut stream = StreamOwned::new(engine, socket);
    if ask(&mut stream, "ping")? == "ping" { Ok(()) } else { Err("another answer".into()) }
}

/// T8: the certificate is not trusted, or the peer refuses; what passes in plaintext afterwards.
pub(super) fn t8(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let mut after = 0;
    for number in 0..context.scaled(300, 6) {
        let refuses = number % 2 == 0;
        let (ours, peer) = tcp_pair()?;
        let papers = context.papers.server()?;
        let wire = std::thread::spawn(move || wire_of(peer, refuses, papers));
        let calls = block_on(async {
            let (mut reader, writer) = ConnectOptions::new().adopt_tcp(ours)?;
            // Trusts what the system trusts: not the row's own certificate.
            let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()])?;
            let tls = TlsClient::builder().root_certificates(other.cert.pem()).build()?.server_name(HOST)?;
            let upgraded = writer.start_tls(&mut reader, &tls).await.is_ok();
            let wrote = writer.write(SECRET).is_ok() || writer.write_lines(&[SECRET]).is_ok();
            writer.close();
            let _ = writer.wait_closed().await;
            Ok(upgraded || wrote)
        });
        let seen = wire.join().map_err(|_| "the peer panicked")??;
        let leaks = seen.windows(SECRET.len()).filter(|window| *window == SECRET).count();
        after += leaks * SECRET.len();
        let what = if refuses { "a refusing peer" } else { "a bad certificate" };
        if let Some(passed) = tally.value(calls, what)
            && (passed || leaks > 0)
        {
            tally.fail(format!("{what}: a call succeeded {passed}, {leaks} leaks on the wire"));
        }
    }
    let figure = format!("{after} plaintext bytes after {} failed upgrades", tally.runs);
    Ok(Outcome::ours(tally, figure))
}

/// Everything that comes over the wire.
fn wire_of(
    mut peer: TcpStream,
    refuses: bool,
    papers: std::sync::Arc<rustls::ServerConfig>,
) -> Result<Vec<u8>> {
    let (mut seen, mut block) = (Vec::new(), [0; 4096]);
    let mut engine = rustls::ServerConnection::new(papers)?;
    if refuses {
        let n = peer.read(&mut block)?;
        seen.extend_from_slice(&block[..n]);
        peer.write_all(b"500 no TLS today\r\n")?;
    }
    loop {
        // A reset ends it as well.
        let n = peer.read(&mut block).unwrap_or(0);
        if n == 0 {
            return Ok(seen);
        }
        seen.extend_from_slice(&block[..n]);
        if !refuses {
            engine.read_tls(&mut &block[..n])?;
            // The client's alert is an error of ours.
            let _ = engine.process_new_packets();
            let mut answer = Vec::new();
            while engine.wants_write() {
                engine.write_tls(&mut answer)?;
            }
            let _ = peer.write_all(&answer);
        }
    }
}

/// Keeps a stranger's hang short.
const HANDSHAKE: Duration = Duration::from_secs(1);
const SECRET: &[u8] = b"the secret of this row";
