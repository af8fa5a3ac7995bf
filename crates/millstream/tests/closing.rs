//! Every way a connection ends: our last bytes arrive, the other half goes on, and every close is bounded. Rows S1, S2.

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millstream::{
    CloseError, ConnectOptions, DrainError, ErrorClass, StreamReader, StreamWriter, WriteError, testing,
};
use support::{Held, run, run_on_threads, tcp_pair};
use tokio::time::timeout;

type Pair = (StreamReader, StreamWriter);

#[test]
fn s1_a_chatty_peer_that_reads_slowly_gets_all_we_wrote_over_tcp() {
    run(async {
        let (pair, peer) = tcp_pair(&ConnectOptions::new());
        close_on_a_chatty_peer(pair, peer.try_clone().unwrap(), peer).await;
    });
}

#[test]
fn s1_a_chatty_peer_that_reads_slowly_gets_all_we_wrote_over_unix() {
    run_on_threads(async {
        let (pair, peer) = unix_pair(&ConnectOptions::new());
        close_on_a_chatty_peer(pair, peer.try_clone().unwrap(), peer).await;
    });
}

/// Closes with unread input and unsent output, while more input comes for as long as the peer has not seen our end.
async fn close_on_a_chatty_peer(
    (mut reader, writer): Pair,
    mut chat: impl Write + Send + 'static,
    peer: impl Read + Send + 'static,
) {
    let listening = slow_reader(peer);
    let chatting = thread::spawn(move || {
        while !listening.is_finished() && chat.write_all(&[b'c'; 4096]).is_ok() {}
        listening.join().expect("no panic")
    });
    reader.read_exactly(10_000).await.expect("fine");
    let message = pattern(MESSAGE);
    writer.write_bytes(message.clone()).expect("open");
    assert!(writer.stats().queued > 0 && !reader.buffered().is_empty());
    writer.close();
    assert_eq!(writer.write(b"late"), Err(WriteError::Closed));
    assert_eq!(timeout(LONG, writer.wait_closed()).await.expect("every close is bounded"), Ok(()));
    let received = chatting.join().expect("no panic").expect("an end, not a reset");
    assert_eq!(received.len(), message.len());
    assert!(received == message, "the bytes differ");
    reader.read_to_end(usize::MAX).await.expect("what was buffered, then the end");
}

#[test]
fn s1_dropping_both_halves_delivers_everything_too() {
    run(async {
        let (pair, mut peer) = tcp_pair(&ConnectOptions::new());
        peer.write_all(&[b'u'; 100_000]).unwrap();
        pair.1.write_bytes(pattern(MESSAGE)).unwrap();
        drop(pair);
        let listening = slow_reader(peer);
        while !listening.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(listening.join().unwrap().unwrap() == pattern(MESSAGE));
    });
}

#[test]
fn s1_a_peer_that_chats_for_ever_is_left_at_the_deadline() {
    run(async {
        let (pair, peer) = tcp_pair(&ConnectOptions::new().close_deadline(Duration::from_millis(300)));
        let mut chat = peer.try_clone().unwrap();
        let chatting = thread::spawn(move || {
            loop {
                if let Err(error) = chat.write_all(&[b'c'; 4096]) {
                    return error.kind();
                }
            }
        });
        pair.1.write(b"farewell").unwrap();
        pair.1.close();
        assert_eq!(timeout(LONG, pair.1.wait_closed()).await.expect("bounded"), Ok(()), "all was sent");
        assert!(matches!(chatting.join().unwrap(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
        drop(peer);
    });
}

#[test]
fn s1_a_peer_that_never_reads_costs_the_deadline_and_the_unsent_bytes_are_counted() {
    run(async {
        let options = ConnectOptions::new().close_deadline(Duration::from_millis(200));
        for (pair, peer) in [over_tcp(&options), over_unix(&options)] {
            let before = Held::now().descriptors;
            let (reader, writer) = pair;
            writer.write(&vec![b'x'; 32 << 20]).unwrap();
            writer.close();
            let Err(CloseError::Deadline { unsent }) =
                timeout(LONG, writer.wait_closed()).await.expect("bounded")
            else {
                panic!("closed before the peer took anything");
            };
            assert!(0 < unsent && unsent < 32 << 20, "{unsent}");
            assert_eq!(
                writer.stats().bytes_written,
                (32 << 20) - unsent as u64,
                "sent and unsent make the whole"
            );
            assert_eq!(writer.wait_closed().await.unwrap_err().class(), ErrorClass::Deadline, "asked again");
            assert!(writer.with_socket(|_| ()).is_none(), "the socket is closed while the halves live");
            assert_eq!(Held::now().descriptors, before - 1);
            assert!(matches!(writer.drain().await, Err(DrainError::Closed)));
            drop((reader, peer));
        }
    });
}

#[test]
fn s2_after_a_half_close_the_other_side_goes_on_in_both_directions() {
    run(async {
        let (one, peer) = tcp_pair(&ConnectOptions::new());
        half_close_then_read_long(one, ConnectOptions::new().adopt_tcp(peer).unwrap()).await;
        let (one, peer) = tcp_pair(&ConnectOptions::new());
        half_close_then_read_long(ConnectOptions::new().adopt_tcp(peer).unwrap(), one).await;
        let (one, peer) = unix_pair(&ConnectOptions::new());
        half_close_then_read_long(one, ConnectOptions::new().adopt_unix(peer).unwrap()).await;
        let (one, other) = testing::pair();
        half_close_then_read_long(one, other).await;
    });
}

async fn half_close_then_read_long((mut reader, writer): Pair, (mut other_reader, other_writer): Pair) {
    writer.write(b"question").expect("open");
    writer.write_eof().expect("open");
    writer.write_eof().expect("open");
    assert_eq!(writer.write(b"more"), Err(WriteError::AfterEof));
    let answering = tokio::spawn(async move {
        assert_eq!(other_reader.read_to_end(100).await.expect("fine"), "question");
        let message = pattern(MESSAGE);
        for chunk in message.chunks(100_000) {
            other_writer.write(chunk).expect("open");
            other_writer.drain().await.expect("fine");
            tokio::task::yield_now().await;
        }
        other_writer.close();
        other_writer.wait_closed().await.expect("fine");
        other_reader
    });
    assert!(!writer.is_closing());
    assert!(reader.read_to_end(MESSAGE).await.expect("fine") == pattern(MESSAGE));
    writer.close();
    writer.wait_closed().await.expect("fine");
    assert!(answering.await.expect("fine").at_eof());
}

#[test]
fn s2_a_reader_outlives_its_dropped_writer_and_a_writer_its_dropped_reader() {
    run(async {
        for (ours, theirs) in [both_tcp(), testing::pair()] {
            let ((mut reader, writer), (mut other_reader, other_writer)) = (ours, theirs);
            writer.write(b"last words").unwrap();
            drop(writer);
            assert_eq!(other_reader.read_to_end(100).await.unwrap(), "last words");
            drop(other_reader);
            let sending = tokio::spawn(async move {
                for chunk in pattern(MESSAGE).chunks(100_000) {
                    other_writer.write(chunk).unwrap();
                    other_writer.drain().await.unwrap();
                }
                other_writer.close();
                other_writer.wait_closed().await
            });
            assert!(reader.read_to_end(MESSAGE).await.unwrap() == pattern(MESSAGE));
            sending.await.unwrap().unwrap();
        }
    });
}

#[test]
fn an_abort_is_a_reset_for_the_peer_and_no_failure_for_us() {
    run(async {
        let ((mut reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
        writer.write(&vec![b'x'; 8 << 20]).unwrap();
        writer.abort();
        assert_eq!(writer.wait_closed().await, Ok(()));
        assert_eq!(writer.write(b"late"), Err(WriteError::Closed));
        let error = reader.read(1).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::ClosedByUs, "{error}");
        assert_eq!(peer.read_to_end(&mut Vec::new()).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_cancelled_wait_closed_poisons_neither_the_next_nor_its_neighbours() {
    run(async {
        let ((reader, writer), peer) = tcp_pair(&ConnectOptions::new());
        for _ in 0..3 {
            assert!(timeout(SHORT, writer.wait_closed()).await.is_err(), "nobody closes");
        }
        let writer = std::sync::Arc::new(writer);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let writer = std::sync::Arc::clone(&writer);
                tokio::spawn(async move { writer.wait_closed().await })
            })
            .collect();
        tokio::task::yield_now().await;
        writer.close();
        assert!(timeout(SHORT, writer.wait_closed()).await.is_err(), "the peer has not ended yet");
        waiting[1].abort();
        drop(peer);
        assert_eq!(writer.wait_closed().await, Ok(()));
        for (n, waiter) in waiting.into_iter().enumerate() {
            assert_eq!(waiter.await.ok(), (n != 1).then_some(Ok(())), "waiter {n}");
        }
        drop(reader);
    });
}

#[test]
fn a_runtime_that_shuts_down_fails_its_live_connections_with_a_clear_error_and_no_panic() {
    run(async {
        let work = thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (pairs, peers) = runtime.block_on(async {
                let (tcp, tcp_peer) = tcp_pair(&ConnectOptions::new());
                let (unix, unix_peer) = unix_pair(&ConnectOptions::new());
                let (memory, memory_peer) = testing::pair();
                let (driven, driven_peer) = tcp_pair(&ConnectOptions::new());
                // One with a driver at work, which the shutdown drops.
                driven.1.write(&vec![b'x'; 16 << 20]).unwrap();
                tokio::task::yield_now().await;
                let io = millstream::from_io(tokio::io::duplex(10).0);
                (vec![tcp, unix, memory, driven, io], (tcp_peer, unix_peer, memory_peer, driven_peer))
            });
            drop(runtime);
            let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for (n, (mut reader, writer)) in pairs.into_iter().enumerate() {
                // The first write may be the one that finds out.
                let _ = writer.write(b"anyone?");
                let error = io::Error::from(writer.write(b"anyone?").unwrap_err());
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "pair {n}: {error}");
                assert!(error.to_string().contains("runtime"), "pair {n}: {error}");
                assert!(other.block_on(writer.wait_closed()).is_err(), "pair {n}");
                assert!(other.block_on(reader.read_to_end(100)).is_err(), "pair {n}");
            }
            drop(peers);
        });
        work.join().expect("no panic");
    });
}

#[test]
fn a_runtime_that_shuts_down_takes_its_servers_and_their_clients_along() {
    run(async {
        let work = thread::spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let (server, client) = runtime.block_on(async {
                let server = millstream::start_server(
                    "127.0.0.1",
                    0,
                    |mut reader: StreamReader, writer: StreamWriter| async move {
                        writer.write(b"hi").expect("open");
                        let _ = reader.read(1).await;
                        std::future::pending::<()>().await;
                    },
                );
                let server = server.await.unwrap();
                let port = server.sockets()[0].port().unwrap();
                let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
                client.read_exact(&mut [0; 2]).unwrap();
                (server, client)
            });
            drop(runtime);
            assert!(!server.is_serving());
            assert_eq!(server.connections(), 0);
            let end = (&client).read(&mut [0; 1]);
            assert!(
                matches!(end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
            );
        });
        work.join().expect("no panic");
    });
}

/// Reads everything, with pauses at first, so that the sender runs into a full socket.
fn slow_reader(mut peer: impl Read + Send + 'static) -> JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let (mut all, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
        loop {
            if all.len() < 640 * 1024 {
                thread::sleep(Duration::from_millis(2));
            }
            match peer.read(&mut chunk)? {
                0 => return Ok(all),
                n => all.extend_from_slice(&chunk[..n]),
            }
        }
    })
}

fn unix_pair(options: &ConnectOptions) -> (Pair, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    (options.adopt_unix(ours).expect("connected"), theirs)
}

fn over_tcp(options: &ConnectOptions) -> (Pair, Box<dyn Send>) {
    let (pair, peer) = tcp_pair(options);
    (pair, Box::new(peer))
}

fn over_unix(options: &ConnectOptions) -> (Pair, Box<dyn Send>) {
    let (pair, peer) = unix_pair(options);
    (pair, Box::new(peer))
}

fn both_tcp() -> (Pair, Pair) {
    let (one, peer) = tcp_pair(&ConnectOptions::new());
    (one, ConnectOptions::new().adopt_tcp(peer).expect("connected"))
}

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).expect("below 251")).collect()
}

/// More than two sockets hold.
const MESSAGE: usize = 6 << 20;
/// Long enough for what should not happen to happen.
const SHORT: Duration = Duration::from_millis(30);
/// Nothing here takes so long, unless it hangs.
const LONG: Duration = Duration::from_secs(20);
