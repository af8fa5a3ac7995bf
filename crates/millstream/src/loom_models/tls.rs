//! The same over TLS, with a toy for its cryptography: what is sealed leaves, the end of a handshake wakes whoever waited
//! for it, and however a connection ends, everyone learns of it.
//!
//! | mistake | caught by |
//! |---|---|
//! | no wake when a record has left | drain, client, server |
//! | a refused send of ciphertext is not noted | blocked, drain, close |
//! | ciphertext that waits is nothing to do | all but abort and dropped |
//! | what waits for the end of a handshake is nothing to do behind it | all but abort and dropped |
//! | closing says no close_notify | all but abort and dropped |
//! | an abort keeps the queue | abort |
//! | a dropped handshake fails nothing | dropped |
//!
//! Not caught, because the handshake looks again by itself: no call of the driver from `open`.

use std::time::Duration;

use millstream_core::tls::{TlsFault, TlsPipe};
use millstream_core::{ReadBuffer, WriteQueue};

use super::*;
use crate::tls::{Handshake, Manners};
use toy_tls::{HELLO_LEN, OVERHEAD, ToyEngine};

#[allow(dead_code, reason = "the models use a part of it")]
#[path = "../../../millstream-core/tests/model/toy_tls.rs"]
mod toy_tls;

/// A connection over TLS whose driver works on a thread of its own, and the peer's end without a connection around it.
struct Sealed {
    reader: StreamReader,
    writer: StreamWriter,
    connection: Arc<Connection>,
    driver: JoinHandle<()>,
    peer: SealedPeer,
}

impl Sealed {
    /// Before the handshake, with pipes of this capacity.
    fn new(capacity: usize, we_are_client: bool) -> (Self, ToyEngine) {
        let (client, server) = (ToyEngine::client(ROOMY), ToyEngine::server(ROOMY));
        let (ours, peers) = if we_are_client { (client, server) } else { (server, client) };
        let World { reader, writer, connection, driver, peer } = World::new(capacity);
        let peer = SealedPeer::new(peer, TlsPipe::new(Box::new(peers), false));
        (Self { reader, writer, connection, driver, peer }, ours)
    }

    /// Behind the handshake. The transport takes part of `queued` before the driver first looks.
    fn flushing(capacity: usize, queued: &[u8]) -> Self {
        let engines = [ToyEngine::client(ROOMY), ToyEngine::server(ROOMY)];
        let [mut ours, mut peers] = engines.map(|engine| TlsPipe::new(Box::new(engine), false));
        let mut buffer = ReadBuffer::new(ROOMY).unwrap();
        for side in [0, 1] {
            let (from, to) = if side == 0 { (&mut ours, &mut peers) } else { (&mut peers, &mut ours) };
            from.send(|hello| {
                let hello = hello.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
                assert_eq!(to.receive(&hello, &mut buffer).unwrap(), HELLO_LEN);
                Ok(HELLO_LEN)
            })
            .unwrap();
        }
        let world = World::prepared(capacity, queued, |connection| connection.begin_tls(ours));
        let World { reader, writer, connection, driver, peer } = world;
        Self { reader, writer, connection, driver, peer: SealedPeer::new(peer, peers) }
    }
}

struct SealedPeer {
    end: Peer,
    pipe: TlsPipe,
    buffer: ReadBuffer,
}

impl SealedPeer {
    fn new(end: Peer, pipe: TlsPipe) -> Self {
        Self { end, pipe, buffer: ReadBuffer::new(ROOMY).unwrap() }
    }

    /// Takes what is there off the transport, and answers what has to be answered. False: it has ended.
    fn receive_some(&mut self) -> bool {
        let mut buf = [0; ROOMY];
        let len = block_on(poll_fn(|cx| self.end.0.poll_read(cx, &mut buf))).unwrap();
        let mut rest = &buf[..len];
        while !rest.is_empty() {
            let taken = self.pipe.receive(rest, &mut self.buffer).unwrap();
            assert!(taken > 0, "{rest:?} behind the end");
            rest = &rest[taken..];
        }
        self.send_waiting();
        len > 0
    }

    fn receive(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            assert!(self.receive_some(), "the end after {:?}", self.buffer.unread());
        }
        self.buffer.take(self.buffer.len()).to_vec()
    }

    /// A close_notify, then the end of the transport.
    fn expect_end(&mut self) {
        while self.receive_some() {}
        assert!(self.pipe.peer_closed() && self.buffer.is_empty());
    }

    fn send(&mut self, data: &[u8]) {
        assert_eq!(self.pipe.seal(&mut WriteQueue::default(), data).unwrap(), data.len());
        self.send_waiting();
    }

    /// A connection that is closed takes nothing any more.
    fn send_waiting(&mut self) {
        while self.pipe.wants_send() {
            block_on(poll_fn(|cx| self.end.0.poll_writable(cx))).unwrap();
            if self.pipe.send(|slices| self.end.0.try_write(slices, &mut Wakes::default())).is_err() {
                return;
            }
        }
    }
}

/// Closes in the regular way, in one order only, and sees the driver out.
fn finish(Sealed { reader, writer, connection, driver, mut peer }: Sealed) {
    loom::stop_exploring();
    drop((reader, writer));
    peer.expect_end();
    driver.join().unwrap();
    assert_idle(&connection, 1);
}

/// A handshake without a deadline that could come.
fn handshake(connection: &Arc<Connection>, reader: &mut StreamReader, engine: ToyEngine) -> Handshake {
    let manners = Manners { timeout: Duration::from_secs(3600), truncation_is_end: false };
    Handshake::new(connection, &mut reader.buffer, engine, manners, None)
}

/// A client: its reader waits in one task, another writes and flushes, and the driver comes for both.
fn request_while_the_reader_parks(capacity: usize, request: &[u8]) {
    let Sealed { mut reader, writer, connection, driver, mut peer } = Sealed::flushing(capacity, b"");
    let reads = thread::spawn(move || {
        assert_eq!(block_on(reader.read_exactly(2)).unwrap(), "ok");
        reader
    });
    writer.write(request).unwrap();
    writer.flush().unwrap();
    assert_eq!(peer.receive(request.len()), request);
    peer.send(b"ok");
    let reader = reads.join().unwrap();
    finish(Sealed { reader, writer, connection, driver, peer });
}

#[test]
fn sealed_bytes_leave_while_the_reader_parks() {
    check("tls parked reader", 3, || request_while_the_reader_parks(ROOMY, b"request"));
}

/// A record in two sends: the rest of it is the driver's, or the reader's that is about to wait.
#[test]
fn a_record_that_leaves_in_parts_is_finished_by_whoever_comes() {
    check("tls blocked", 2, || request_while_the_reader_parks(1 + OVERHEAD, b"abc"));
}

/// Above the high mark: what is sealed counts until the last byte of its record has left.
#[test]
fn the_last_byte_of_a_record_wakes_whoever_drains() {
    check("tls drain", 2, || {
        let Sealed { reader, writer, connection, driver, mut peer } = Sealed::flushing(3 + OVERHEAD, b"abcd");
        assert_eq!(connection.stats().queued, 4);
        let receives = thread::spawn(move || {
            assert_eq!(peer.receive(4), b"abcd");
            peer
        });
        block_on(writer.drain()).unwrap();
        assert_idle(&connection, 0);
        let peer = receives.join().unwrap();
        finish(Sealed { reader, writer, connection, driver, peer });
    });
}

/// `close` while a record is half sent: the rest of it, then the close_notify, then the end, against the driver, the
/// reader's drop and the peer.
#[test]
fn close_sends_the_rest_of_a_record_and_the_close_notify_once() {
    check("tls close", 2, || {
        let Sealed { reader, writer, connection, driver, mut peer } = Sealed::flushing(2 + OVERHEAD, b"bye");
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

/// `abort` while a record is half sent, a task reads and one drains: both learn of it.
#[test]
fn an_abort_in_the_middle_of_a_record_wakes_everyone() {
    check("tls abort", 2, || {
        let Sealed { mut reader, writer, connection, driver, peer } = Sealed::flushing(2 + OVERHEAD, b"abcd");
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

/// What a handshake that is dropped leaves behind.
const CANCELLED: Option<TlsFault> = Some(TlsFault::Cancelled);

/// One task does the handshake, another writes and waits for its bytes to leave, which they only can behind it. The peer
/// sends its part, and data behind it, at any moment.
fn write_during_the_handshake(we_are_client: bool) {
    let (Sealed { mut reader, writer, connection, driver, mut peer }, engine) =
        Sealed::new(ROOMY, we_are_client);
    let handshake = handshake(&connection, &mut reader, engine);
    let shakes = thread::spawn(move || {
        block_on(handshake.run(&mut reader.buffer)).unwrap();
        assert_eq!(block_on(reader.read_exactly(2)).unwrap(), "ok");
        reader
    });
    peer.end.send(&ToyEngine::opening(!we_are_client, b"ok"));
    writer.write(b"abcd").unwrap();
    block_on(writer.drain()).unwrap();
    let reader = shakes.join().unwrap();
    assert_eq!(peer.receive(4), b"abcd");
    finish(Sealed { reader, writer, connection, driver, peer });
}

#[test]
fn the_end_of_a_clients_handshake_wakes_reader_and_drainer() {
    check("tls client", 2, || write_during_the_handshake(true));
}

#[test]
fn the_end_of_a_servers_handshake_wakes_reader_and_drainer() {
    check("tls server", 3, || write_during_the_handshake(false));
}

/// The task that does the handshake gives up on it, perhaps just when it is over, while one drains and then waits for the
/// close.
#[test]
fn a_handshake_that_is_dropped_wakes_whoever_waits() {
    check("tls dropped", 2, || {
        let (Sealed { mut reader, writer, connection, driver, peer }, engine) = Sealed::new(ROOMY, true);
        let mut handshake = handshake(&connection, &mut reader, engine);
        writer.write(b"abcd").unwrap();
        let drains = thread::spawn(move || (block_on(writer.drain()), block_on(writer.wait_closed())));
        let answers = thread::spawn(move || {
            let hello = ToyEngine::opening(false, b"");
            // It may find the connection closed.
            let _ = peer.end.0.try_write(&[IoSlice::new(&hello)], &mut Wakes::default());
            peer
        });
        let over = block_on(poll_fn(|cx| Poll::Ready(handshake.poll(cx, &mut reader.buffer))));
        drop(handshake);
        let is_over = over.is_ready();
        if is_over {
            connection.abort();
        }
        let (drained, closed) = drains.join().unwrap();
        if is_over {
            assert!(matches!(drained, Ok(()) | Err(DrainError::Closed)));
            closed.unwrap();
        } else {
            let Err(DrainError::Failed(of_drain)) = drained else { panic!("{drained:?}") };
            let Err(CloseError::Failed(of_close)) = closed else { panic!("{closed:?}") };
            let Err(ReadError::Failed(of_read)) = block_on(reader.read(1)) else { panic!("no failure") };
            assert_eq!([&of_drain, &of_close, &of_read].map(|failure| failure.tls()), [CANCELLED; 3]);
        }
        driver.join().unwrap();
        drop((reader, answers.join().unwrap()));
        assert_idle(&connection, 1);
    });
}
