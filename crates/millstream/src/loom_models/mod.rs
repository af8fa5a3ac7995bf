//! Loom models of the halves, the driver and the drain wake-ups: whatever the threads' order, no wake is lost.
//!
//! They run the code that ships, over the memory pair, with loom's types in place of std's (`sync.rs`):
//!
//! ```text
//! RUSTFLAGS="--cfg millstream_loom" cargo test -p millstream --release --lib loom_models -- --nocapture
//! ```
//!
//! A lost wake leaves every thread waiting, which loom reports as a deadlock. `LOOM_MAX_PREEMPTIONS` and
//! `LOOM_MAX_BRANCHES` override the bounds below. tokio's timers can be armed (a paused clock that nobody advances
//! stands around every model) but never fire.
//!
//! That the models can fail was tried by hand; each of these mistakes is caught by the models named:
//!
//! | mistake | caught by |
//! |---|---|
//! | the driver does not reset `called` | a, b, e close, g |
//! | the driver parks without registering for room after a refused send | b blocked, g |
//! | the driver leaves no waker, or notes a task it does not wait for (`parked`) | a, b, g |
//! | a corked write always counts on others to flush | a, b served |
//! | any thread counts as the handler's turn | all |
//! | a wake for one drainer only; none at the low mark | c; c and d |
//! | a drainer that gives up takes its neighbour's place along | d |
//! | a drainer does not register | c, d, f drain |
//! | `close` leaves the reader asleep | e reader |
//! | dropping the driver closes once more | all |
//! | an abort looks like the peer's end (was a bug) | e abort |
//! | a failure leaves drainers asleep | f drain |
//! | no second look at the transport before a failure is told (was a bug) | f read |
//! | a receive does not wake the sender | b blocked, b served, c, d, e close, g |
//!
//! The models of `tls.rs` have their own table.
//!
//! Not caught, because each write has called the driver already: no call of it from `before_wait`.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but does not see this switch as one")]

#[cfg(feature = "tls")]
mod tls;

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use loom::future::block_on;
use loom::thread::{self, JoinHandle};
use millstream_core::{CloseError, DrainError, ErrorClass, ReadError, Watermarks};

use crate::connection::{Connection, ConnectionSettings};
use crate::handler::HandlerReturn;
use crate::reader::StreamReader;
use crate::serve::{Before, Serve};
use crate::streams::StreamSettings;
use crate::transport::{MemoryEnd, Transport};
use crate::waiters::{Ticket, Wakes};
use crate::writer::StreamWriter;

/// Room for everything that a model sends.
const ROOMY: usize = 64;
/// Above two bytes `drain` waits, until one is left.
const MARKS: (usize, usize) = (2, 1);

/// Runs every order of the threads' steps with at most so many preemptions.
fn check(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let clock =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // Loom's threads are coroutines on this one.
    let _clock = clock.enter();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    if std::env::var_os("LOOM_MAX_BRANCHES").is_none() {
        builder.max_branches = 10_000;
    }
    let bound = builder.preemption_bound;
    let runs = Arc::new(AtomicUsize::new(0));
    let began = std::time::Instant::now();
    let counted = Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let runs = runs.load(Ordering::Relaxed);
    eprintln!("{name}: {runs} orders, preemption bound {bound:?}, {:.1?}", began.elapsed());
}

/// A connection whose driver works on a thread of its own, and the peer's bare end.
struct World {
    reader: StreamReader,
    writer: StreamWriter,
    connection: Arc<Connection>,
    driver: JoinHandle<()>,
    peer: Peer,
}

impl World {
    /// With pipes of this capacity.
    fn new(capacity: usize) -> Self {
        Self::flushing(capacity, b"")
    }

    /// The pipe takes part of `queued` before the driver first looks.
    fn flushing(capacity: usize, queued: &[u8]) -> Self {
        Self::prepared(capacity, queued, |_| {})
    }

    /// As `flushing`; something is done to the connection before.
    fn prepared(capacity: usize, queued: &[u8], prepare: impl FnOnce(&Arc<Connection>)) -> Self {
        let (ours, peer) = MemoryEnd::pair(capacity);
        let (reader, writer, connection, drive) =
            settings().driven_pair(Transport::Memory(ours), None).unwrap();
        prepare(&connection);
        writer.write(queued).unwrap();
        writer.flush().unwrap();
        Self { reader, writer, connection, driver: thread::spawn(move || block_on(drive)), peer: Peer(peer) }
    }
}

fn settings() -> StreamSettings {
    let watermarks = Watermarks::new(MARKS.0, MARKS.1).unwrap();
    let connection = ConnectionSettings { watermarks, ..ConnectionSettings::default() };
    StreamSettings { connection, ..StreamSettings::default() }
}

/// The other end, without a connection around it: it waits for nothing but the pipe.
struct Peer(MemoryEnd);

impl Peer {
    fn receive(&self, n: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < n {
            let mut buf = [0; ROOMY];
            let len = block_on(poll_fn(|cx| self.0.poll_read(cx, &mut buf))).unwrap();
            assert_ne!(len, 0, "the end after {got:?}");
            got.extend_from_slice(&buf[..len]);
        }
        assert_eq!(got.len(), n, "bytes came twice: {got:?}");
        got
    }

    fn expect_end(&self) {
        let len = block_on(poll_fn(|cx| self.0.poll_read(cx, &mut [0; 1]))).unwrap();
        assert_eq!(len, 0);
    }

    fn send(&self, data: &[u8]) {
        assert_eq!(self.0.try_write(&[IoSlice::new(data)], &mut Wakes::default()).unwrap(), data.len());
    }

    fn close(&self, reset: bool) {
        self.0.close(reset, &mut Wakes::default());
    }
}

/// Nobody waits, nothing is queued, and the transport was closed this often.
fn assert_idle(connection: &Connection, closes: usize) {
    assert_eq!(connection.stats().queued, 0);
    assert_eq!(connection.waiting_tasks(), 0);
    let Transport::Memory(end) = connection.transport() else { unreachable!() };
    assert_eq!(end.closes.load(Ordering::Relaxed), closes);
}

/// Closes in the regular way, in one order only, and sees the driver out.
fn finish(World { reader, writer, connection, driver, peer }: World) {
    loom::stop_exploring();
    drop((reader, writer));
    peer.expect_end();
    driver.join().unwrap();
    assert_idle(&connection, 1);
}

/// Two messages, corked, while the driver comes, works and goes back to wait: each leaves without any help.
#[test]
fn corked_bytes_leave_while_the_driver_parks() {
    check("a corked", 3, || {
        let World { reader, writer, connection, driver, peer } = World::new(ROOMY);
        let writes = thread::spawn(move || {
            writer.write(b"a").unwrap();
            writer.write(b"b").unwrap();
            writer
        });
        assert_eq!(peer.receive(2), b"ab");
        let writer = writes.join().unwrap();
        assert!(connection.stats().flusher_calls <= 2);
        finish(World { reader, writer, connection, driver, peer });
    });
}

/// A client: its reader waits in one task, `request` is written by another.
fn request_while_the_reader_parks(capacity: usize, request: &[u8]) {
    let World { mut reader, writer, connection, driver, peer } = World::new(capacity);
    let reads = thread::spawn(move || {
        assert_eq!(block_on(reader.read_exactly(2)).unwrap(), "ok");
        reader
    });
    writer.write(request).unwrap();
    assert_eq!(peer.receive(request.len()), request);
    peer.send(b"ok");
    let reader = reads.join().unwrap();
    finish(World { reader, writer, connection, driver, peer });
}

#[test]
fn bytes_leave_while_the_reader_parks() {
    check("b parked reader", 3, || request_while_the_reader_parks(ROOMY, b"request"));
}

/// The reader's own flush finds the pipe full: the driver has to take over.
#[test]
fn a_parking_reader_hands_a_blocked_flush_to_the_driver() {
    check("b blocked", 2, || request_while_the_reader_parks(2, b"abc"));
}

/// A served connection: what the handler writes in its turn calls nobody, what another task writes does.
#[test]
fn a_served_connection_flushes_what_its_handler_and_others_write() {
    check("b served", 2, || {
        let (ours, peer) = MemoryEnd::pair(2);
        let peer = Peer(peer);
        let (reader, writer, connection, drive) =
            settings().driven_pair(Transport::Memory(ours), None).unwrap();
        let handler = |mut reader: StreamReader, writer: StreamWriter| {
            let writer = Arc::new(writer);
            let other = Arc::clone(&writer);
            thread::spawn(move || other.write(b"d").unwrap());
            async move {
                writer.write(b"ab").unwrap();
                writer.write(b"c").unwrap();
                assert_eq!(reader.read_exactly(1).await.unwrap(), "?");
            }
            .into_work()
        };
        let halves = (reader, writer);
        let serve = Serve::new(
            Arc::new(handler),
            halves,
            Before::Nothing,
            Arc::clone(&connection),
            drive,
            Arc::new(|_| {}),
            (),
        );
        let serves = thread::spawn(move || block_on(serve));
        let mut got = peer.receive(4);
        got.retain(|&byte| byte != b'd');
        assert_eq!(got, b"abc");
        peer.send(b"?");
        peer.expect_end();
        serves.join().unwrap();
        assert_idle(&connection, 1);
    });
}

/// Two tasks above the high mark while the peer makes room.
#[test]
fn the_low_mark_wakes_every_drainer() {
    check("c drainers", 2, || {
        let World { reader, writer, connection, driver, peer } = World::flushing(2, b"abcd");
        let writer = Arc::new(writer);
        let other = Arc::clone(&writer);
        let drains = thread::spawn(move || block_on(other.drain()).unwrap());
        let receives = thread::spawn(move || {
            assert_eq!(peer.receive(2), b"ab");
            peer
        });
        block_on(writer.drain()).unwrap();
        drains.join().unwrap();
        assert_idle(&connection, 0);
        let peer = receives.join().unwrap();
        assert_eq!(peer.receive(2), b"cd");
        let writer = Arc::into_inner(writer).unwrap();
        finish(World { reader, writer, connection, driver, peer });
    });
}

/// One of two drainers gives up, perhaps just when it was woken.
#[test]
fn a_drainer_that_gives_up_takes_no_wake_from_another() {
    check("d cancelled", 2, || {
        let World { reader, writer, connection, driver, peer } = World::flushing(2, b"abcd");
        let writer = Arc::new(writer);
        let other = Arc::clone(&writer);
        let drains = thread::spawn(move || block_on(other.drain()).unwrap());
        let receives = thread::spawn(move || {
            assert_eq!(peer.receive(2), b"ab");
            peer
        });
        {
            let mut drain = pin!(writer.drain());
            let _ = block_on(poll_fn(|cx| Poll::Ready(drain.as_mut().poll(cx).map(Result::unwrap))));
        }
        drains.join().unwrap();
        assert_idle(&connection, 0);
        let peer = receives.join().unwrap();
        assert_eq!(peer.receive(2), b"cd");
        let writer = Arc::into_inner(writer).unwrap();
        finish(World { reader, writer, connection, driver, peer });
    });
}

/// `close` with bytes that do not fit, against the driver, the reader's drop and the peer.
#[test]
fn close_ends_once_whoever_gets_there_first() {
    check("e close", 2, || {
        let World { reader, writer, connection, driver, peer } = World::new(2);
        writer.write(b"bye").unwrap();
        let closes = thread::spawn(move || {
            writer.close();
            block_on(writer.wait_closed()).unwrap();
        });
        drop(reader);
        assert_eq!(peer.receive(3), b"bye");
        peer.expect_end();
        driver.join().unwrap();
        closes.join().unwrap();
        assert_idle(&connection, 1);
    });
}

/// `close` ends a read that waits, at once, though the peer does not take what is queued.
#[test]
fn close_wakes_the_reader() {
    check("e reader", 3, || {
        let World { mut reader, writer, connection, driver, peer } = World::flushing(2, b"abcd");
        let reads = thread::spawn(move || assert_eq!(block_on(reader.read(1)).unwrap(), ""));
        writer.close();
        reads.join().unwrap();
        assert_eq!(peer.receive(4), b"abcd");
        peer.expect_end();
        block_on(writer.wait_closed()).unwrap();
        drop(writer);
        driver.join().unwrap();
        assert_idle(&connection, 1);
    });
}

/// The writer is dropped; the reader reads on to the peer's answer, and its drop ends the connection.
#[test]
fn a_reader_outlives_its_writer_and_the_last_drop_closes() {
    check("e drop", 3, || {
        let World { mut reader, writer, connection, driver, peer } = World::new(ROOMY);
        let reads = thread::spawn(move || assert_eq!(block_on(reader.read_exactly(2)).unwrap(), "ok"));
        writer.write(b"bye").unwrap();
        drop(writer);
        assert_eq!(peer.receive(3), b"bye");
        peer.expect_end();
        peer.send(b"ok");
        reads.join().unwrap();
        driver.join().unwrap();
        assert_idle(&connection, 1);
    });
}

/// `abort` while a task reads and one drains: both learn of it, and the reader does not take it for the peer's end.
#[test]
fn an_abort_wakes_everyone_and_is_no_end() {
    check("e abort", 2, || {
        let World { mut reader, writer, connection, driver, peer } = World::flushing(2, b"abcd");
        let reads = thread::spawn(move || {
            let Err(ReadError::Failed(failure)) = block_on(reader.read(1)) else { panic!("no failure") };
            assert_eq!(failure.class(), ErrorClass::ClosedByUs);
        });
        let writer = Arc::new(writer);
        let other = Arc::clone(&writer);
        let drains = thread::spawn(move || assert_eq!(block_on(other.drain()), Err(DrainError::Closed)));
        writer.abort();
        reads.join().unwrap();
        drains.join().unwrap();
        driver.join().unwrap();
        drop((writer, peer));
        assert_idle(&connection, 1);
    });
}

/// The peer answers and resets while sends are waiting for room: the answer is read, then the failure.
#[test]
fn a_reset_reaches_the_reader_after_the_bytes_that_arrived() {
    check("f read", 3, || {
        let World { mut reader, writer, connection, driver, peer } = World::flushing(2, b"abcd");
        let reads = thread::spawn(move || {
            assert_eq!(block_on(reader.read_exactly(2)).unwrap(), "ok");
            let Err(ReadError::Failed(failure)) = block_on(reader.read(1)) else { panic!("no failure") };
            assert_eq!(failure.class(), ErrorClass::BrokenByPeer);
        });
        peer.send(b"ok");
        peer.close(true);
        reads.join().unwrap();
        assert!(matches!(block_on(writer.wait_closed()), Err(CloseError::Failed(_))));
        drop(writer);
        driver.join().unwrap();
        assert_idle(&connection, 1);
    });
}

/// The peer resets: those who drain and those who wait for the close learn of it, though nobody reads.
#[test]
fn a_reset_wakes_whoever_drains_or_waits_for_the_close() {
    check("f drain", 2, || {
        let World { reader, writer, connection, driver, peer } = World::flushing(2, b"abcd");
        let resets = thread::spawn(move || peer.close(true));
        let other = Arc::clone(&connection);
        let waits = thread::spawn(move || {
            let mut ticket = Ticket::default();
            assert!(matches!(
                block_on(poll_fn(|cx| other.poll_closed(cx, &mut ticket))),
                Err(CloseError::Failed(_))
            ));
        });
        assert!(matches!(block_on(writer.drain()), Err(DrainError::Failed(_))));
        waits.join().unwrap();
        resets.join().unwrap();
        drop((reader, writer));
        driver.join().unwrap();
        assert_idle(&connection, 1);
    });
}

/// The pipe is full, `flush` and the driver both find out, and the peer makes room at any moment.
#[test]
fn room_in_a_full_pipe_is_never_missed() {
    check("g full pipe", 2, || {
        let World { reader, writer, connection, driver, peer } = World::new(1);
        let flushes = thread::spawn(move || {
            writer.write(b"abc").unwrap();
            writer.flush().unwrap();
            writer
        });
        assert_eq!(peer.receive(3), b"abc");
        let writer = flushes.join().unwrap();
        finish(World { reader, writer, connection, driver, peer });
    });
}
