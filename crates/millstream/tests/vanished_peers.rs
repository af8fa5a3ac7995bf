//! A peer that vanishes without a word: every packet to it and from it is lost. Keepalive finds out on a silent connection, the
//! user timeout in the middle of a write, our own deadlines on both. Row S3. And which sockets have these options.

mod support;

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use millstream::{
    ConnectOptions, ErrorClass, Keepalive, Server, ServerOptions, StreamReader, StreamWriter, open_connection,
};
use socket2::SockRef;
use support::namespaces::in_namespaces;
use support::run;
use tokio::sync::mpsc;
use tokio::time::timeout;

#[test]
fn s3_keepalive_finds_out_that_a_silent_peer_has_vanished() {
    in_namespaces("s3_keepalive_finds_out_that_a_silent_peer_has_vanished", || {
        run(async {
            let probes = Keepalive::new().idle(secs(1)).interval(secs(1)).retries(2);
            let (_peer, mut reader, writer) = served(&ServerOptions::new().keepalive(Some(probes))).await;
            lose_everything();
            let start = Instant::now();
            let error = timeout(LONG, reader.read_line()).await.expect("it finds out").unwrap_err();
            println!("keepalive of 1 s + 2 x 1 s: found out after {:?}", start.elapsed());
            assert_eq!(io::Error::from(error).kind(), ErrorKind::TimedOut);
            // The kernel's timers may be late, and by as much as two intervals.
            assert!(secs(2) <= start.elapsed() && start.elapsed() < secs(6), "{:?}", start.elapsed());
            assert_eq!(writer.write(b"late").unwrap_err().class(), ErrorClass::BrokenByPeer);
        });
    });
}

#[test]
fn s3_the_user_timeout_finds_out_in_the_middle_of_a_write() {
    in_namespaces("s3_the_user_timeout_finds_out_in_the_middle_of_a_write", || {
        run(async {
            let options = ServerOptions::new().user_timeout(Some(Duration::from_millis(1500)));
            let (_peer, _reader, writer) = served(&options).await;
            lose_everything();
            let start = Instant::now();
            writer.write(&vec![b'x'; 16 << 20]).unwrap();
            let error = timeout(LONG, writer.drain()).await.expect("it finds out").unwrap_err();
            println!("user timeout of 1.5 s: found out after {:?}", start.elapsed());
            assert_eq!(io::Error::from(error).kind(), ErrorKind::TimedOut);
            assert!(secs(1) <= start.elapsed() && start.elapsed() < secs(5), "{:?}", start.elapsed());
        });
    });
}

#[test]
fn s3_without_either_the_deadlines_of_the_connection_find_out() {
    in_namespaces("s3_without_either_the_deadlines_of_the_connection_find_out", || {
        run(async {
            let deadlines = ServerOptions::new().idle_timeout(secs(1)).write_progress_timeout(secs(2));
            let (_idle_peer, mut reader, _writer) = served(&deadlines).await;
            let (_peer, _other_reader, writer) = served(&deadlines).await;
            lose_everything();
            let start = Instant::now();
            writer.write(&vec![b'x'; 16 << 20]).unwrap();
            let (idle, stalled) = tokio::join!(reader.read_line(), writer.drain());
            println!("idle timeout of 1 s and write progress of 2 s: found out after {:?}", start.elapsed());
            assert_eq!(idle.unwrap_err().class(), ErrorClass::Deadline);
            assert_eq!(stalled.unwrap_err().class(), ErrorClass::Deadline);
            assert!(start.elapsed() < secs(4), "{:?}", start.elapsed());
        });
    });
}

#[test]
fn accepted_connected_and_adopted_sockets_have_the_options() {
    run(async {
        let keepalive = Some(Keepalive::new().idle(secs(70)).interval(secs(7)).retries(3));
        let user_timeout = Some(Duration::from_millis(12_345));
        let (tell, mut told) = mpsc::unbounded_channel();
        let handler = move |_reader: StreamReader, writer: StreamWriter| {
            tell.send(options_of(&writer)).expect("awaited")
        };
        let options = ServerOptions::new().keepalive(keepalive).user_timeout(user_timeout);
        let own = options.start("127.0.0.1", 0, handler.clone()).await.unwrap();
        let adopted =
            options.start_on_tcp(TcpListener::bind("127.0.0.1:0").unwrap(), handler.clone()).unwrap();
        let plain = ServerOptions::new().start("127.0.0.1", 0, handler).await.unwrap();
        let expected = (true, 70, 7, 3, user_timeout);
        for (server, expected) in [(own, Some(expected)), (adopted, Some(expected)), (plain, None)] {
            let port = server.sockets()[0].port().unwrap();
            let connect = ConnectOptions::new().keepalive(keepalive).user_timeout(user_timeout);
            let opened = connect.open("127.0.0.1", port).await.unwrap();
            assert_eq!(options_of(&opened.1), (true, 70, 7, 3, user_timeout), "opened");
            let got = told.recv().await.unwrap();
            assert!(
                expected.map_or(!got.0 && got.4.is_none(), |expected| got == expected),
                "accepted: {got:?}"
            );

            let socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let adopted = connect.adopt_tcp(socket).unwrap();
            assert_eq!(options_of(&adopted.1), (true, 70, 7, 3, user_timeout), "adopted");
            told.recv().await.unwrap();
            drop((opened, adopted));
            end(server).await;
        }
    });
}

#[test]
fn unix_sockets_take_the_options_without_a_word() {
    run(async {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let options = ConnectOptions::new()
            .keepalive(Some(Keepalive::new()))
            .user_timeout(Some(Duration::from_secs(1)));
        let (mut reader, writer) = options.adopt_unix(ours).unwrap();
        let (peer_reader, peer) = ConnectOptions::new().adopt_unix(theirs).unwrap();
        peer.write(b"ping\n").unwrap();
        peer.flush().unwrap();
        assert_eq!(reader.read_line().await.unwrap().unwrap(), "ping\n");
        drop((reader, writer, peer_reader, peer));
    });
}

/// A connection's end in a handler of a server with these options, after a word with the client, which stays.
async fn served(options: &ServerOptions) -> ((StreamReader, StreamWriter), StreamReader, StreamWriter) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |reader: StreamReader, writer: StreamWriter| {
        assert!(tell.send((reader, writer)).is_ok(), "awaited");
    };
    let server = options.start("127.0.0.1", 0, handler).await.expect("a port");
    let port = server.sockets()[0].port().expect("TCP");
    let (mut peer_reader, peer) = open_connection("127.0.0.1", port).await.expect("it listens");
    let (mut reader, writer) = told.recv().await.expect("a connection");
    peer.write(b"hello\n").expect("open");
    peer.flush().expect("open");
    assert_eq!(reader.read_line().await.expect("a line").as_deref(), Some(&b"hello\n"[..]));
    writer.write(b"ping\n").expect("open");
    writer.flush().expect("open");
    assert_eq!(peer_reader.read_line().await.expect("a line").as_deref(), Some(&b"ping\n"[..]));
    ((peer_reader, peer), reader, writer)
}

/// From now on the loopback of this namespace swallows every packet.
fn lose_everything() {
    let output = std::process::Command::new("tc").args("qdisc add dev lo root blackhole".split(' ')).output();
    let output = output.expect("iproute2");
    assert!(output.status.success(), "tc: {}", String::from_utf8_lossy(&output.stderr));
}

/// Keepalive on or off, its seconds, interval and retries, and the user timeout.
fn options_of(writer: &StreamWriter) -> (bool, u64, u64, u32, Option<Duration>) {
    let options = writer.with_socket(|socket| {
        let socket = SockRef::from(&socket);
        (
            socket.keepalive().expect("a TCP socket"),
            socket.tcp_keepalive_time().expect("a TCP socket").as_secs(),
            socket.tcp_keepalive_interval().expect("a TCP socket").as_secs(),
            socket.tcp_keepalive_retries().expect("a TCP socket"),
            socket.tcp_user_timeout().expect("a TCP socket"),
        )
    });
    options.expect("a socket")
}

async fn end(server: Server) {
    server.close();
    server.close_clients();
    timeout(LONG, server.wait_closed()).await.expect("every connection ends");
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const LONG: Duration = Duration::from_secs(20);
