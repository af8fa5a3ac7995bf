//! What a peer can make the TLS pipe hold: one record and what it was given, whatever the peer sends and for however long.

#[path = "model/tls/mod.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod tls;

use millstream_core::tls::TlsPipe;
use millstream_core::{Failure, ReadBuffer, WriteQueue};
use rustls::version::TLS13;

use tls::config::Configs;
use tls::peer::Peer;
use tls::repeatable;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// What is sent, unless the pipe has enough before.
const ENOUGH: usize = 8 * 1024 * 1024;
/// One receive.
const RECEIVE_LEN: usize = 64 * 1024;

/// One side's pipe, and what it holds beyond what it held when it was made.
struct Watched {
    pipe: TlsPipe,
    buffer: ReadBuffer,
    held: i64,
    peak: i64,
    received: usize,
}

impl Watched {
    /// Before the handshake, and its peer.
    fn new(is_client: bool) -> (Self, Peer) {
        let configs = Configs::new(repeatable::provider(), &TLS13);
        let engine = if is_client { configs.client_engine() } else { configs.server_engine() };
        let pipe = TlsPipe::new(engine, false);
        let buffer = ReadBuffer::new(1).expect("not zero");
        (Self { pipe, buffer, held: 0, peak: 0, received: 0 }, Peer::new(&configs, !is_client))
    }

    /// Behind the handshake.
    fn opened(is_client: bool) -> (Self, Peer) {
        let (mut watched, mut peer) = Self::new(is_client);
        for _ in 0..3 {
            let ciphertext: Vec<u8> = peer.wire.drain(..).collect();
            watched.receive(&ciphertext).expect("an honest peer");
            peer.receive(&watched.sent());
        }
        assert!(!watched.pipe.is_handshaking());
        (Self { held: 0, peak: 0, received: 0, ..watched }, peer)
    }

    fn receive(&mut self, ciphertext: &[u8]) -> Result<(), Failure> {
        let mut result = Ok(());
        let mut rest = ciphertext;
        let held = allocation_counter::measure(|| {
            while !rest.is_empty() {
                match self.pipe.receive(rest, &mut self.buffer) {
                    Ok(0) => break,
                    Ok(taken) => rest = &rest[taken..],
                    Err(failure) => {
                        result = Err(failure);
                        break;
                    }
                }
            }
            self.buffer.consume(self.buffer.len());
        });
        self.peak = self.peak.max(self.held + i64::try_from(held.bytes_max).expect("less than all memory"));
        self.held += held.bytes_current;
        self.received += ciphertext.len();
        result
    }

    /// What waits to be sent, as no driver lets it gather.
    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while self.pipe.wants_send() {
            let send = |slices: &[std::io::IoSlice<'_>]| {
                slices.iter().for_each(|slice| sent.extend_from_slice(slice));
                Ok(slices.iter().map(|slice| slice.len()).sum())
            };
            self.pipe.send(send).expect("a vector takes all");
        }
        sent
    }

    /// What `next` brings, again and again. Returns the failure that ended it, if there was one.
    fn endless(&mut self, mut next: impl FnMut() -> Vec<u8>) -> Option<Failure> {
        let mut chunk = Vec::with_capacity(2 * RECEIVE_LEN);
        while self.received < ENOUGH {
            chunk.clear();
            while chunk.len() < RECEIVE_LEN {
                chunk.extend(next());
            }
            if let Err(failure) = self.receive(&chunk) {
                assert!(failure.tls().is_some(), "{failure}");
                return Some(failure);
            }
        }
        None
    }

    fn report(&self, what: &str, failure: Option<&Failure>) {
        let ending = failure.map_or_else(|| "no failure".to_owned(), ToString::to_string);
        println!(
            "{what}: {} received, {} held, {} at the peak; {ending}",
            self.received, self.held, self.peak
        );
        assert!(self.held < 200 * 1024, "{what}: {} bytes stay", self.held);
        assert!(self.peak < 300 * 1024, "{what}: {} bytes at the peak", self.peak);
    }
}

/// Records that the peer has sealed.
fn sealed(peer: &mut Peer, kind: u8, body: &[u8]) -> Vec<u8> {
    peer.seal(kind, body);
    peer.wire.drain(..).collect()
}

#[test]
fn a_peer_that_seals_anything_for_ever_fills_no_memory() {
    let full = [7; 16 * 1024];
    let ticket = [&[4, 0, 0, 20, 0, 0, 1, 0, 1, 2, 3, 4, 1, 9, 0, 6][..], b"ticket", &[0, 0]].concat();
    let endless_message = [&[4, 255, 255, 255][..], &[0; 1000]].concat();
    let kinds: [(&str, u8, &[u8]); 6] = [
        ("full records", DATA, &full),
        ("records of one byte", DATA, b"1"),
        ("empty records", DATA, b""),
        ("tickets", HANDSHAKE, &ticket),
        ("a message without end", HANDSHAKE, &endless_message),
        ("warnings", ALERT, &[1, 90]),
    ];
    for is_client in [false, true] {
        for (what, kind, body) in kinds {
            let (mut watched, peer) = Watched::opened(is_client);
            let mut peer = peer.turn_bad();
            let failure = watched.endless(|| sealed(&mut peer, kind, body));
            let is_allowed =
                matches!((what, is_client), ("full records" | "records of one byte", _) | ("tickets", true));
            assert_eq!(failure.is_none(), is_allowed, "{what}: {failure:?}");
            watched.report(what, failure.as_ref());
        }
    }
}

#[test]
fn a_peer_that_never_finishes_its_handshake_fills_no_memory() {
    let fragment = |body: &[u8]| [&[HANDSHAKE, 3, 3, 0, 200][..], body].concat();
    let beginnings = [("a hello of 16 MiB", [1, 255, 255, 255]), ("a hello of 64 KiB", [1, 0, 255, 255])];
    for (what, beginning) in beginnings {
        let (mut watched, _peer) = Watched::new(false);
        let mut first = [0; 200];
        first[..4].copy_from_slice(&beginning);
        let mut result = watched.receive(&fragment(&first)).err();
        if result.is_none() {
            result = watched.endless(|| fragment(&[0; 200]));
        }
        assert!(result.is_some(), "{what} is no hello");
        watched.report(what, result.as_ref());
    }
}

/// Each asks for an answer. Nobody has to send one before the next message of its own.
#[test]
fn renewed_keys_pile_up_no_answers() {
    let (mut watched, mut peer) = Watched::opened(false);
    for _ in 0..10_000 {
        peer.renew_keys();
        peer.write(1);
        let ciphertext: Vec<u8> = peer.wire.drain(..).collect();
        watched.receive(&ciphertext).expect("an honest client");
    }
    assert!(!watched.pipe.wants_send());
    let mut queue = WriteQueue::default();
    assert_eq!(watched.pipe.seal(&mut queue, b"x"), Ok(1));
    let sent = watched.sent();
    assert!(sent.len() < 100, "{} bytes", sent.len());
    watched.report("10,000 key updates", None);
}
