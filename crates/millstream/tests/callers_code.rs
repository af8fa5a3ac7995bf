//! What callers hand in: code of theirs that panics or calls back in the middle of a call, options at their extremes,
//! and addresses that are not to be had.

mod support;

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, Read};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use millstream::testing::{pair, pair_with, pair_with_capacity};
use millstream::{
    ConfigError, ConnectError, ConnectOptions, ErrorClass, Hosts, ReadLineError, ServeError, ServerOptions,
    StreamReader, StreamWriter, Watermarks, from_io, open_unix_connection, start_server,
};
use support::{reset, tcp_pair};
use tokio::io::{AsyncWrite, AsyncWriteExt, BufStream, duplex};
use tokio_stream::StreamExt;

/// Runs a test on a thread of its own, so that a deadlock fails it instead of hanging it.
fn run_bounded<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    const LONG: Duration = Duration::from_secs(10);
    let (running, ended) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let _running = running;
        support::run(test());
    });
    assert_eq!(ended.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected), "it has not ended in {LONG:?}");
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Bytes that ask their own writer something whenever they are looked at, and when they are dropped.
struct Nosy {
    writer: Weak<StreamWriter>,
    bytes: Vec<u8>,
}

impl Nosy {
    fn new(writer: &Arc<StreamWriter>, len: usize) -> Self {
        Self { writer: Arc::downgrade(writer), bytes: vec![b'x'; len] }
    }

    fn ask(&self) {
        if let Some(writer) = self.writer.upgrade() {
            assert!(writer.stats().queued <= writer.watermarks().high());
        }
    }
}

impl AsRef<[u8]> for Nosy {
    fn as_ref(&self) -> &[u8] {
        self.ask();
        &self.bytes
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.ask();
    }
}

async fn handler(_reader: StreamReader, writer: StreamWriter) -> Result<(), millstream::Error> {
    Ok(writer.write(b"millstream")?)
}

#[test]
fn with_socket_may_end_the_connection_that_it_looks_at() {
    run_bounded(|| async {
        for end in [StreamWriter::abort, StreamWriter::close] {
            let ((_reader, writer), peer) = tcp_pair(&ConnectOptions::new());
            let still_open = writer.with_socket(|socket| {
                end(&writer);
                socket.try_clone_to_owned().is_ok()
            });
            assert_eq!(still_open, Some(true), "closed while it was looked at");
            drop(peer);
            writer.wait_closed().await.unwrap();
            assert_eq!(writer.with_socket(|_| ()), None);
        }
    });
}

#[test]
fn bytes_given_away_may_use_their_writer_when_they_are_dropped() {
    run_bounded(|| async {
        const LEN: usize = 20_000;
        // Sent at once, sent by the driver, never sent.
        for (capacity, aborts) in [(LEN, false), (1000, false), (1000, true)] {
            let ((_reader, writer), (mut peer, _writer)) = pair_with_capacity(capacity);
            let writer = Arc::new(writer);
            writer.write_bytes(Bytes::from_owner(Nosy::new(&writer, LEN))).unwrap();
            assert_eq!(writer.stats().queued, LEN - capacity);
            if aborts {
                writer.abort();
            } else {
                assert_eq!(peer.read_exactly(LEN).await.unwrap(), vec![b'x'; LEN]);
            }
            assert_eq!(writer.stats().queued, 0);
        }
        // Few enough to be copied, and refused.
        let writer = Arc::new(pair().0.1);
        writer.write_bytes(Bytes::from_owner(Nosy::new(&writer, 3))).unwrap();
        writer.close();
        writer.write_bytes(Bytes::from_owner(Nosy::new(&writer, LEN))).unwrap_err();
    });
}

#[test]
fn pieces_may_use_their_writer_when_they_are_looked_at() {
    run_bounded(|| async {
        let ((_reader, writer), (mut peer, _writer)) = pair();
        let writer = Arc::new(writer);
        for count in [1, 2, 100] {
            let pieces: Vec<Nosy> = (0..count).map(|_| Nosy::new(&writer, 3)).collect();
            writer.write_lines(&pieces).unwrap();
            assert_eq!(peer.read_exactly(3 * count).await.unwrap(), vec![b'x'; 3 * count]);
        }
    });
}

#[test]
fn a_panic_in_a_piece_queues_nothing() {
    struct Bomb<'a> {
        looks: &'a Cell<usize>,
        last: usize,
    }
    impl AsRef<[u8]> for Bomb<'_> {
        fn as_ref(&self) -> &[u8] {
            assert!(self.looks.replace(self.looks.get() + 1) < self.last, "boom");
            b"piece"
        }
    }
    run_bounded(|| async {
        let ((_reader, writer), _peer) = pair();
        // Each piece is looked at once, so what never panics in 20 looks is queued.
        for last in 0..=20 {
            let looks = Cell::new(0);
            let pieces = [(); 20].map(|()| Bomb { looks: &looks, last });
            let panicked = catch_unwind(AssertUnwindSafe(|| writer.write_lines(&pieces))).is_err();
            let expected = if last < 20 { (true, 0) } else { (false, 100) };
            assert_eq!((panicked, writer.stats().queued), expected, "after {last} looks");
        }
    });
}

#[test]
fn a_close_deadline_without_end_is_as_good_as_none() {
    run_bounded(|| async {
        const LEN: usize = 16 << 20;
        let ((_reader, writer), mut peer) = tcp_pair(&ConnectOptions::new().close_deadline(Duration::MAX));
        writer.write_bytes(vec![b'x'; LEN]).unwrap();
        writer.close();
        tokio::task::yield_now().await;
        assert!(writer.stats().queued > 0, "nothing to wait for");
        let read = tokio::task::spawn_blocking(move || peer.read_to_end(&mut Vec::new()).unwrap());
        writer.wait_closed().await.unwrap();
        assert_eq!(read.await.unwrap(), LEN);
    });
}

#[test]
fn an_abort_needs_no_driver() {
    support::run(async {
        let ((_reader, writer), _peer) = tcp_pair(&ConnectOptions::new());
        writer.abort();
        assert_eq!(writer.stats().flusher_calls, 0);
        writer.wait_closed().await.unwrap();
    });
}

#[test]
fn lines_end_after_a_failure() {
    support::run(async {
        let ((mut reader, _writer), peer) = tcp_pair(&ConnectOptions::new());
        reset(peer);
        for _ in 0..2 {
            let mut lines = reader.lines();
            assert!(matches!(lines.next().await, Some(Err(ReadLineError::Failed(_)))));
            assert_eq!([lines.next().await, lines.next().await], [None, None]);
        }
    });
}

#[test]
fn lines_made_anew_go_on_behind_a_skipped_line() {
    support::run(async {
        let ((mut reader, _writer), (_reader, peer)) = pair_with(&ConnectOptions::new().limit(4)).unwrap();
        peer.write(b"far too long\nok\n").unwrap();
        peer.write_eof().unwrap();
        let lines: Vec<_> = reader.lines().take(3).collect().await;
        assert!(matches!(lines[..], [Err(ReadLineError::LimitOverrun { .. })]), "{lines:?}");
        reader.skip_until(b"\n").await.unwrap();
        assert_eq!(reader.lines().collect::<Vec<_>>().await, [Ok(Bytes::from("ok\n"))]);
    });
}

#[test]
fn async_write_takes_what_fits_below_the_high_mark() {
    support::run(async {
        for vectored in [false, true] {
            let ((_reader, mut writer), _peer) = pair_with_capacity(1);
            let high = writer.watermarks().high();
            let data = vec![b'x'; 10 * high];
            let slices = [b"", &data[..high - 5], b"", &data[..]].map(IoSlice::new);
            for room in [high, 1] {
                let taken = poll_fn(|cx| match vectored {
                    false => Pin::new(&mut writer).poll_write(cx, &data),
                    true => Pin::new(&mut writer).poll_write_vectored(cx, &slices),
                });
                assert_eq!(taken.await.unwrap(), room, "vectored: {vectored}");
            }
            assert!(writer.stats().peak_queued <= high);
        }
    });
}

#[test]
fn async_write_of_more_than_the_hard_cap_waits_instead_of_failing() {
    support::run(async {
        let options = ConnectOptions::new().hard_cap(Watermarks::default().high() + 1);
        let ((_reader, mut writer), (mut peer, _writer)) = pair_with(&options).unwrap();
        let data: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
        let write = async { writer.write_all(&data).await.unwrap() };
        let ((), read) = tokio::join!(write, peer.read_exactly(data.len()));
        assert!(read.unwrap() == data);
    });
}

#[test]
fn async_flush_waits_for_the_flush_of_an_adopted_stream() {
    support::run_paused(async {
        let (one, other) = duplex(4);
        let (_reader, mut writer) = from_io(BufStream::new(one));
        let (mut peer, _writer) = from_io(other);
        StreamWriter::write(&writer, b"0123456789").unwrap();
        let mut flush = pin!(AsyncWriteExt::flush(&mut writer));
        // The clock only moves when there is nothing else to do.
        let early = tokio::time::timeout(Duration::from_secs(1), &mut flush).await.is_ok();
        assert!(!early, "flushed with bytes stuck in the inner buffer");
        let (flushed, read) = tokio::join!(flush, peer.read_exactly(10));
        assert_eq!((flushed.is_ok(), read.unwrap()), (true, Bytes::from("0123456789")));
    });
}

#[test]
fn a_hard_cap_within_the_watermarks_is_refused_at_the_call() {
    support::run(async {
        let high = Watermarks::default().high();
        let refused = ConfigError::CapWithinWatermarks { hard_cap: high, high };
        let options = ConnectOptions::new().hard_cap(high);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for result in [
            options.adopt_tcp(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap()),
            options.adopt_unix(std::os::unix::net::UnixStream::pair().unwrap().0),
            options.adopt_io(duplex(1).0),
            options.open("127.0.0.1", 1).await,
        ] {
            assert_eq!(result.unwrap_err(), ConnectError::Config(refused));
        }
        assert_eq!(pair_with(&options).unwrap_err(), refused);
        let served = ServerOptions::new().hard_cap(high).start("127.0.0.1", 0, handler).await;
        assert_eq!(served.unwrap_err(), ServeError::Config(refused));

        let ((_reader, writer), _peer) = pair_with(&options.hard_cap(high + 1)).unwrap();
        assert_eq!(writer.set_hard_cap(Some(high)), Err(refused));
        let raised = Err(ConfigError::CapWithinWatermarks { hard_cap: high + 1, high: high + 1 });
        assert_eq!(writer.set_watermarks(high + 1, 0), raised);
        assert_eq!(writer.watermarks(), Watermarks::default());
        writer.set_hard_cap(None).and_then(|()| writer.set_watermarks(high + 1, 0)).unwrap();
    });
}

#[test]
fn an_adopted_stream_and_a_pair_in_memory_have_their_options() {
    let marks = Watermarks::new(50, 10).unwrap();
    let options = ConnectOptions::new().limit(100).watermarks(marks).hard_cap(60);
    support::run(async {
        let adopted = options.adopt_io(duplex(1000).0).unwrap();
        let (one, other) = pair_with(&options).unwrap();
        for (reader, writer) in [adopted, one, other] {
            assert_eq!((reader.limit(), writer.watermarks()), (100, marks));
            writer.write(&[b'x'; 61]).unwrap_err();
            writer.write(&[b'x'; 60]).unwrap();
        }
    });
    let error = options.adopt_io(duplex(1).0).unwrap_err();
    assert!(matches!(error, ConnectError::Adopt(_)), "outside a runtime: {error}");
}

#[test]
fn hosts_may_be_owned_borrowed_and_several() {
    async fn listens(hosts: impl Hosts, count: usize) {
        let server = ServerOptions::new().start(hosts, 0, handler).await.unwrap();
        assert_eq!(server.sockets().len(), count);
    }
    support::run(async {
        let both = ["127.0.0.1", "127.0.0.2"];
        listens(&both[0].to_owned(), 1).await;
        listens(both.map(str::to_owned).to_vec(), 2).await;
        listens(&both, 2).await;
        listens(&both[..], 2).await;
    });
}

#[test]
fn an_address_that_is_taken_is_the_callers_mistake() {
    support::run(async {
        let server = start_server("127.0.0.1", 0, handler).await.unwrap();
        let address = server.sockets().remove(0);
        let error = start_server("127.0.0.1", address.port().unwrap(), handler).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (ErrorKind::AddrInUse, ErrorClass::BadCall));
        assert!(matches!(error, ServeError::Listen { address: taken, .. } if taken == address));
    });
}

#[test]
fn a_path_that_was_taken_before_serving_began_is_in_use() {
    support::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let idle = ServerOptions::new().start_serving(false).start_unix(&path, handler).unwrap();
        let taker = ServerOptions::new().start_unix(&path, handler).unwrap();
        assert_eq!(idle.start_serving(), Err(ServeError::PathInUse { path: path.clone() }));
        drop(idle);
        let mut client = open_unix_connection(&path).await.unwrap();
        assert_eq!(client.0.read_to_end(100).await.unwrap(), "millstream");
        drop(client);
        taker.close();
        taker.wait_closed().await;
        assert!(!path.exists());
    });
}

#[test]
fn a_start_outside_a_runtime_is_an_error_and_leaves_no_path() {
    support::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = &folder.path().join("s");
        // A thread of its own knows no runtime.
        let start = || ServerOptions::new().start_unix(path, handler).unwrap_err();
        let error = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
        assert_eq!((error, path.exists()), (ServeError::NoRuntime, false));
    });
}
