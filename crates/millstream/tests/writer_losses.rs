//! Rows W5 and W6 of the fault table: what a writer answers after an end of its own, and after a loss.
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::future::{Future, poll_fn};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use millstream::testing::{pair, pair_with_capacity};
use millstream::{
    CloseError, ConnectOptions, DrainError, Failure, ReadError, StreamReader, StreamWriter, WriteError,
    from_io,
};
use support::{reset, tcp_pair};
use tokio::io::AsyncWrite;
use tokio::signal::unix::{SignalKind, signal};

type Pair = (StreamReader, StreamWriter);

/// How a call ended, whatever its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Waits,
    AfterEof,
    Closed,
    Failed,
    /// As `io::Error`: closed, or after the end.
    BrokenPipe,
}

use Outcome::{AfterEof, BrokenPipe, Closed, Done, Failed, Waits};

impl From<Result<(), WriteError>> for Outcome {
    fn from(result: Result<(), WriteError>) -> Self {
        match result {
            Ok(()) => Done,
            Err(WriteError::AfterEof) => AfterEof,
            Err(WriteError::Closed) => Closed,
            Err(WriteError::Failed(_)) => Failed,
            Err(other) => panic!("{other}"),
        }
    }
}

impl From<Result<(), DrainError>> for Outcome {
    fn from(result: Result<(), DrainError>) -> Self {
        match result {
            Ok(()) => Done,
            Err(DrainError::Closed) => Closed,
            Err(DrainError::Failed(_)) => Failed,
            Err(other) => panic!("{other}"),
        }
    }
}

impl From<Result<(), CloseError>> for Outcome {
    fn from(result: Result<(), CloseError>) -> Self {
        match result {
            Ok(()) => Done,
            Err(CloseError::Failed(_)) => Failed,
            Err(other) => panic!("{other}"),
        }
    }
}

impl From<std::io::Result<()>> for Outcome {
    fn from(result: std::io::Result<()>) -> Self {
        match result.map_err(|error| error.kind()) {
            Ok(()) => Done,
            Err(ErrorKind::BrokenPipe) => BrokenPipe,
            Err(ErrorKind::ConnectionReset) => Failed,
            Err(other) => panic!("{other}"),
        }
    }
}

/// One poll of something that may have to wait.
fn polled<T: Into<Outcome>>(poll: Poll<T>) -> Outcome {
    match poll {
        Poll::Ready(result) => result.into(),
        Poll::Pending => Waits,
    }
}

fn once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The answers of every call that can fail, in the order of the table below: the plain writes, the writes of
/// `AsyncWrite`, `write_eof`, `shutdown`, `drain`, `flush`, the flush of `AsyncWrite`, `wait_closed`.
fn answers(writer: &mut StreamWriter) -> [Outcome; 8] {
    let mut cx = Context::from_waker(Waker::noop());
    let plain: [Outcome; 4] = [
        writer.write(b"late").into(),
        writer.write(b"").into(),
        writer.write_bytes(vec![b'x'; 5000]).into(),
        writer.write_lines(&[b"late", b"very"]).into(),
    ];
    assert!(plain.iter().all(|outcome| *outcome == plain[0]), "{plain:?}");
    let adapted = [
        polled(Pin::new(&mut *writer).poll_write(&mut cx, b"late").map(|result| result.map(drop))),
        polled(
            Pin::new(&mut *writer)
                .poll_write_vectored(&mut cx, &[IoSlice::new(b"late"), IoSlice::new(b"very")])
                .map(|result| result.map(drop)),
        ),
    ];
    assert_eq!(adapted[0], adapted[1]);
    [
        plain[0],
        adapted[0],
        writer.write_eof().into(),
        polled(Pin::new(&mut *writer).poll_shutdown(&mut cx)),
        polled(once(writer.drain())),
        writer.flush().into(),
        polled(Pin::new(&mut *writer).poll_flush(&mut cx)),
        polled(once(writer.wait_closed())),
    ]
}

/// A pair whose peer takes one byte, with ten written.
fn clogged() -> (Pair, Pair) {
    let (tested, peer) = pair_with_capacity(1);
    tested.1.write(b"ten bytes!").unwrap();
    tested.1.flush().unwrap();
    (tested, peer)
}

#[test]
fn w5_every_call_in_every_state_has_one_answer_and_queues_nothing() {
    support::run(async {
        let free = pair();
        free.0.1.write_eof().unwrap();
        let clogged_end = clogged();
        clogged_end.0.1.write_eof().unwrap();
        let clogged_close = clogged();
        clogged_close.0.1.close();
        let closed = pair();
        closed.0.1.close();
        let aborted = clogged();
        aborted.0.1.abort();
        let mut lost = clogged();
        lost.1.1.abort();
        assert!(lost.0.0.read(1).await.is_err());

        // Left queued, closing, and the answers.
        let table = [
            ("ended", free, 0, false, [AfterEof, BrokenPipe, Done, Done, Done, Done, Done, Waits]),
            ("ending", clogged_end, 9, false, [AfterEof, BrokenPipe, Done, Waits, Done, Done, Waits, Waits]),
            (
                "closing",
                clogged_close,
                9,
                true,
                [Closed, BrokenPipe, Closed, BrokenPipe, Done, Done, Waits, Waits],
            ),
            (
                "closed",
                closed,
                0,
                true,
                [Closed, BrokenPipe, Closed, BrokenPipe, Closed, Closed, BrokenPipe, Done],
            ),
            (
                "aborted",
                aborted,
                0,
                true,
                [Closed, BrokenPipe, Closed, BrokenPipe, Closed, Closed, BrokenPipe, Done],
            ),
            ("lost", lost, 0, true, [Failed, Failed, Failed, Failed, Failed, Failed, Failed, Failed]),
        ];
        for (state, ((reader, mut writer), mut peer), queued, closing, expected) in table {
            // Twice: no call changes the answer of the next.
            for _ in 0..2 {
                assert_eq!(answers(&mut writer), expected, "{state}");
                assert_eq!((writer.stats().queued, writer.is_closing()), (queued, closing), "{state}");
            }
            if closing && queued == 0 {
                // What is over cannot end again.
                writer.close();
                writer.abort();
                assert_eq!(answers(&mut writer), expected, "{state}, closed and aborted again");
            }
            drop((reader, writer));
            if queued > 0 {
                assert_eq!(peer.0.read_to_end(100).await.unwrap(), "ten bytes!", "{state}");
            }
        }
    });
}

#[test]
fn w5_a_connection_whose_runtime_is_gone_fails_instead_of_waiting() {
    support::run(async {
        let made_elsewhere = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (tested, peer) = runtime.block_on(async {
                let pairs = clogged();
                tokio::task::yield_now().await;
                pairs
            });
            drop(runtime);
            (tested, peer)
        });
        let ((mut reader, writer), (mut peer, _writer)) = made_elsewhere.join().unwrap();
        assert!(matches!(writer.write(b"more"), Err(WriteError::Failed(_))));
        assert!(matches!(writer.drain().await, Err(DrainError::Failed(_))));
        assert!(matches!(writer.wait_closed().await, Err(CloseError::Failed(_))));
        assert_eq!(writer.stats().queued, 0);
        let Err(ReadError::Failed(failure)) = reader.read(1).await else { panic!("the reader saw an end") };
        assert_eq!(failure.kind(), ErrorKind::ConnectionAborted);
        assert_eq!(peer.read(100).await.unwrap(), "t", "what had left has arrived");
    });
}

/// Eight tasks that wait in `drain`; each returns how it ended and how often it was polled.
async fn drainers(
    writer: &Arc<StreamWriter>,
) -> Vec<tokio::task::JoinHandle<(Result<(), DrainError>, usize)>> {
    let waiting = Arc::new(AtomicUsize::new(0));
    let tasks = (0..8).map(|_| {
        let (writer, waiting) = (Arc::clone(writer), Arc::clone(&waiting));
        tokio::spawn(async move {
            let mut polls = 0;
            let mut drain = pin!(writer.drain());
            let result = poll_fn(|cx| {
                polls += 1;
                let poll = drain.as_mut().poll(cx);
                waiting.fetch_add(1, Ordering::Relaxed);
                poll
            });
            (result.await, polls)
        })
    });
    let tasks = tasks.collect();
    while waiting.load(Ordering::Relaxed) < 8 {
        tokio::task::yield_now().await;
    }
    tasks
}

/// A reset as the system may tell it to one who sends.
fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn fails_with_reset(error: Failure) {
    assert!(is_reset(error.kind()), "{error}");
}

#[test]
fn w6_a_reset_after_any_number_of_bytes_wakes_everyone_once() {
    support::run(async {
        for k in [0, 1, 100, 4096, 65_536, 200_000, 500_000] {
            let ((mut reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
            let writer = Arc::new(writer);
            let reading = tokio::spawn(async move { (reader.read(1).await, reader.read(1).await) });
            writer.write_bytes(vec![b'x'; 16 << 20]).unwrap();
            let drainers = drainers(&writer).await;
            let peer = tokio::task::spawn_blocking(move || {
                peer.read_exact(&mut vec![0; k]).unwrap();
                reset(peer);
            });
            for drainer in drainers {
                let (result, polls) = drainer.await.unwrap();
                let Err(DrainError::Failed(failure)) = result else { panic!("{result:?}") };
                fails_with_reset(failure);
                assert_eq!(polls, 2, "woken more than once");
            }
            let (first, second) = reading.await.unwrap();
            let (Err(ReadError::Failed(first)), Err(ReadError::Failed(second))) = (first, second) else {
                panic!("the reader has not seen the reset after {k} bytes");
            };
            assert_eq!(first, second);
            fails_with_reset(first);

            assert!(matches!(writer.write(b"more"), Err(WriteError::Failed(_))));
            assert!(matches!(writer.drain().await, Err(DrainError::Failed(_))));
            assert!(matches!(writer.wait_closed().await, Err(CloseError::Failed(_))));
            assert_eq!(writer.stats().queued, 0);
            peer.await.unwrap();
        }
    });
}

#[test]
fn w6_what_arrived_before_our_send_failed_can_still_be_read() {
    support::run(async {
        let ((mut reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
        let answer: Vec<u8> = (0..50_000_u32).map(|n| (n % 251) as u8).collect();
        peer.write_all(&answer).unwrap();
        reset(peer);
        writer.write(b"a question too late").unwrap();
        assert!(matches!(writer.wait_closed().await, Err(CloseError::Failed(_))));
        assert!(reader.read_exactly(answer.len()).await.unwrap() == answer);
        let Err(ReadError::Failed(failure)) = reader.read(1).await else { panic!("no failure") };
        fails_with_reset(failure);
    });
}

#[test]
fn w6_a_send_to_a_peer_that_is_gone_raises_no_signal() {
    support::run(async {
        let mut broken_pipe = signal(SignalKind::pipe()).unwrap();
        for _ in 0..2 {
            let (tcp, peer) = tcp_pair(&ConnectOptions::new());
            reset(peer);
            let (unix, peer) = std::os::unix::net::UnixStream::pair().unwrap();
            drop(peer);
            for (_reader, writer) in [tcp, ConnectOptions::new().adopt_unix(unix).unwrap()] {
                writer.write_lines(&[&[b'x'; 5000][..], b"y"]).unwrap();
                writer.write_bytes(vec![b'x'; 5000]).unwrap();
                assert!(matches!(writer.wait_closed().await, Err(CloseError::Failed(_))));
            }
        }
        tokio::task::yield_now().await;
        assert!(once(broken_pipe.recv()).is_pending());

        // The signal would have been seen: this is how it comes.
        let (read_end, write_end) = std::io::pipe().unwrap();
        drop(read_end);
        assert_eq!((&write_end).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        broken_pipe.recv().await.unwrap();
    });
}

#[test]
fn w6_an_adopted_stream_that_breaks_fails_everything_as_a_socket_does() {
    support::run(async {
        let (one, other) = tokio::io::duplex(64);
        let (mut reader, writer) = from_io(one);
        let writer = Arc::new(writer);
        writer.write(&[b'x'; 100_000]).unwrap();
        let drainers = drainers(&writer).await;
        tokio::task::yield_now().await;
        drop(other);
        for drainer in drainers {
            let (result, polls) = drainer.await.unwrap();
            assert!(matches!(result, Err(DrainError::Failed(_))) && polls == 2, "{result:?}, {polls} polls");
        }
        assert!(matches!(writer.write(b"more"), Err(WriteError::Failed(_))));
        assert_eq!(writer.stats().queued, 0);
        // Its peer had ended the stream, so for the reader this is an end.
        assert_eq!(reader.read(1).await.unwrap(), "");
    });
}

#[test]
fn w6_a_reader_that_waits_is_woken_by_a_failed_send_alone() {
    support::run(async {
        // Nothing ever comes or ends in the one direction, and the other is broken.
        let (silent, _kept) = tokio::io::duplex(1);
        let (broken, _) = tokio::io::duplex(1);
        let (mut reader, writer) = from_io(tokio::io::join(silent, broken));
        let (result, ()) = tokio::join!(biased; reader.read(1), async { writer.write(b"x").unwrap() });
        let Err(ReadError::Failed(failure)) = result else { panic!("{result:?}") };
        assert_eq!(failure.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn w6_a_reader_that_waits_is_woken_by_our_own_abort_and_close() {
    support::run(async {
        for abort in [true, false] {
            let ((mut reader, writer), _peer) = pair();
            let end = async { if abort { writer.abort() } else { writer.close() } };
            let (result, ()) = tokio::join!(biased; reader.read(1), end);
            match result {
                Err(ReadError::Failed(failure)) if abort => {
                    assert_eq!(failure.class(), millstream::ErrorClass::ClosedByUs);
                }
                Ok(end) if !abort => assert_eq!(end, ""),
                other => panic!("abort: {abort}, {other:?}"),
            }
        }
    });
}
