//! Hostile bytes for a pipe with rustls behind it: an honest conversation, changed, cut, repeated, made up.

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use millstream_core::ErrorClass;
use millstream_core::tls::TlsFault;
use rustls::version::{TLS12, TLS13};

use super::config::Configs;
use super::peer::Peer;
use super::repeatable;
use super::side::Side;

/// One event.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum TlsOp {
    /// The peer's next bytes arrive, so many of them, in one receive.
    Relay(u16),
    /// All of them, in receives of so many bytes.
    RelayInPieces(u8),
    /// One of the next bytes arrives changed, and those before it as they are.
    Flip {
        at: u16,
        bits: u8,
    },
    /// The next bytes are lost.
    Lose(u8),
    /// The last receive comes once more.
    Repeat,
    /// Anything.
    Raw(Text),
    /// What looks like a record.
    Record {
        kind: Kind,
        len: u16,
        body: Text,
    },
    /// The peer seals what it must not.
    Sealed {
        kind: Kind,
        body: Text,
    },
    PeerWrites(u16),
    PeerRenewsKeys,
    PeerCloses,
    Write(u16),
    Flush(u16),
    CloseNotify,
}

/// Up to 63 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Text(Vec<u8>);

impl<'a> Arbitrary<'a> for Text {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Self> {
        let len = usize::from(u8::arbitrary(source)? % 64).min(source.len());
        Ok(Self(source.bytes(len)?.to_vec()))
    }
}

/// What a record calls itself: mostly one of the kinds there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(u8);

impl<'a> Arbitrary<'a> for Kind {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Self> {
        let byte = u8::arbitrary(source)?;
        Ok(Self(if byte < 240 { 20 + byte % 5 } else { byte }))
    }
}

/// How the conversation begins, out of the first byte of the input.
#[derive(Clone, Copy, Debug)]
struct Setup {
    /// The pipe under test is the client's.
    is_client: bool,
    is_tls12: bool,
    /// The handshake is over.
    opened: bool,
}

/// What a run came to, so that a corpus can be seen to reach everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) fault: Option<TlsFault>,
    pub(crate) read: usize,
}

struct World {
    side: Side,
    peer: Peer,
    /// Nothing was changed and nobody broke a rule so far.
    honest: bool,
    last: Vec<u8>,
    outcome: Outcome,
    /// Ciphertext that arrived, and calls that may each have sealed something.
    received: usize,
    seals: usize,
    /// How much of what was read is known to be right.
    checked: usize,
}

/// Runs the operations.
///
/// # Panics
/// If a failure is no TLS failure, if an honest peer fails, if anything else comes out than the peer has sealed, or if
/// anything is without bounds.
pub(crate) fn run(setup: u8, ops: &[TlsOp]) -> Outcome {
    let setup = Setup { is_client: setup & 1 > 0, is_tls12: setup & 2 > 0, opened: setup & 4 > 0 };
    static CONFIGS: LazyLock<[Configs; 2]> =
        LazyLock::new(|| [&TLS13, &TLS12].map(|version| Configs::new(repeatable::provider(), version)));
    let configs = &CONFIGS[usize::from(setup.is_tls12)];
    let engine = if setup.is_client { configs.client_engine() } else { configs.server_engine() };
    let mut world = World {
        side: Side::new(engine),
        peer: Peer::new(configs, !setup.is_client),
        honest: true,
        last: Vec::new(),
        outcome: Outcome::default(),
        received: 0,
        seals: 0,
        checked: 0,
    };
    for _ in 0..if setup.opened { 3 } else { 0 } {
        world.flush(usize::MAX);
        world.relay(usize::MAX);
    }
    assert!(!setup.opened || !world.side.pipe.is_handshaking());
    for op in ops {
        world = world.step(op);
        world.check();
    }
    world.finish()
}

impl World {
    fn step(mut self, op: &TlsOp) -> Self {
        match op {
            TlsOp::Relay(len) => self.relay(usize::from(*len)),
            TlsOp::RelayInPieces(len) => {
                let len = usize::from(*len).max(1).max(self.peer.wire.len() / MOST_PIECES);
                while !self.peer.wire.is_empty() {
                    self.relay(len);
                }
            }
            TlsOp::Flip { at, bits } => {
                let at = usize::from(*at);
                if let Some(byte) = self.peer.wire.get_mut(at) {
                    *byte ^= bits;
                    self.honest &= *bits == 0;
                    self.relay(at + 1);
                }
            }
            TlsOp::Lose(len) => {
                let len = usize::from(*len).min(self.peer.wire.len());
                self.peer.wire.drain(..len);
                self.honest &= len == 0;
            }
            TlsOp::Repeat => {
                let last = self.last.clone();
                self.honest &= last.is_empty();
                self.receive(&last);
            }
            TlsOp::Raw(text) => {
                self.honest &= text.0.is_empty();
                self.receive(&text.0);
            }
            TlsOp::Record { kind, len, body } => {
                self.honest = false;
                let [high, low] = if *len < 60_000 {
                    u16::try_from(body.0.len()).expect("short").to_be_bytes()
                } else {
                    len.to_be_bytes()
                };
                self.receive(&[&[kind.0, 3, 3, high, low][..], &body.0].concat());
            }
            TlsOp::Sealed { kind, body } => {
                self.peer = self.peer.turn_bad();
                self.honest = false;
                self.peer.seal(kind.0, &body.0);
            }
            TlsOp::PeerWrites(_) if self.peer.written.len() > ENOUGH => {}
            TlsOp::PeerWrites(len) => self.peer.write(usize::from(*len)),
            TlsOp::PeerRenewsKeys => self.peer.renew_keys(),
            TlsOp::PeerCloses => self.peer.close(),
            TlsOp::Write(_) if self.side.pipe.is_close_notify_queued() => {}
            TlsOp::Write(_) if self.side.written.len() > ENOUGH => {}
            TlsOp::Write(len) => self.side.write(usize::from(*len), false),
            TlsOp::Flush(room) => self.flush(usize::from(*room)),
            TlsOp::CloseNotify => {
                self.flush(usize::MAX);
                // In the handshake it is one that the peer has not agreed to.
                self.honest &= !self.side.pipe.is_handshaking();
                self.side.pipe.close_notify();
            }
        }
        self
    }

    fn relay(&mut self, len: usize) {
        let len = len.min(self.peer.wire.len());
        let ciphertext: Vec<u8> = self.peer.wire.drain(..len).collect();
        self.receive(&ciphertext);
        self.last = ciphertext;
    }

    /// A failure is final: no driver feeds a pipe behind one.
    fn receive(&mut self, ciphertext: &[u8]) {
        if self.outcome.fault.is_some() {
            return;
        }
        self.received += ciphertext.len();
        if let Err(failure) = self.side.receive(ciphertext) {
            assert!(!self.honest, "an honest peer is told: {failure}");
            let fault = failure.tls().expect("a TLS failure");
            assert_eq!(fault.class(), ErrorClass::BrokenByPeer, "{failure}");
            self.outcome.fault = Some(fault);
        }
        self.outcome.read = self.side.read.len();
    }

    fn flush(&mut self, room: usize) {
        self.side.flush(room);
        self.seals += 1;
        let sent: Vec<u8> = self.side.wire.drain(..).collect();
        assert!(
            sent.len()
                <= self.side.written.len() + self.received + FLIGHT + OVERHEAD * (self.seals + RECORDS),
            "{} bytes sent",
            sent.len()
        );
        let content = self.peer.receive(&sent);
        assert!(content || !self.honest, "what an honest peer gets is in order");
    }

    /// What holds at any time.
    fn check(&mut self) {
        let (side, peer) = (&self.side, &self.peer);
        let (from, to) = (self.checked, side.read.len());
        assert_eq!(peer.written.get(from..to), side.read.get(from..), "bytes that the peer has not sealed");
        self.checked = to;
        assert!(side.read.is_empty() || !side.pipe.is_handshaking());
        if let Err(failure) = side.pipe.end() {
            assert!(failure.tls().is_some(), "{failure}");
        }
    }

    /// Everything is relayed; an honest conversation is complete then.
    fn finish(mut self) -> Outcome {
        for _ in 0..4 {
            self.flush(usize::MAX);
            self.relay(usize::MAX);
            self.check();
        }
        if self.honest {
            assert!(!self.side.pipe.is_handshaking() && self.side.read == self.peer.written);
            assert_eq!(self.side.pipe.peer_closed(), self.peer.has_closed);
            assert_eq!(self.side.queue.len(), 0);
        }
        self.outcome
    }
}

/// Lets the one panic pass without a word that the engine expects and catches: rustls asserts, in debug builds, that no
/// alert follows its own close_notify. A fuzzer would take it for a find.
pub(crate) fn expect_rustls_assertion() {
    static ONCE: LazyLock<()> = LazyLock::new(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.payload().downcast_ref::<&str>().copied().unwrap_or_default();
            let is_expected = text.contains("!self.sent_fatal_alert")
                && panic.location().is_some_and(|at| at.file().ends_with("/common_state.rs"));
            if !is_expected {
                others(panic);
            }
        }));
    });
    LazyLock::force(&ONCE);
}

/// A server's part of the handshake: certificates, signature, tickets.
const FLIGHT: usize = 4 * 1024;
/// What sealing adds to one record.
const OVERHEAD: usize = 64;
/// Full records in all that one run writes, and then some.
const RECORDS: usize = 100;
/// Neither side writes more than this and one message; no delivery is cut into more pieces.
const ENOUGH: usize = 200_000;
const MOST_PIECES: usize = 2_000;
