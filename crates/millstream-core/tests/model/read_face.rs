//! The read buffer driven as an asyncio face drives it, step by step beside the model.

use millstream_core::{Answer, ErrorClass, Failure, Flow, ReadBuffer, Request, Separators};

use super::letters::Size;
use super::read::{Ask, AsyncioReader, Outcome, ReadOp, Tail};

/// The core with as much of a face around it as reads need.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) buffer: ReadBuffer,
    pub(crate) paused: bool,
    pending: Option<Ask>,
    /// Goes through the ways in which bytes can be handed out.
    handed_out: usize,
}

impl Face {
    pub(crate) fn new(limit: usize) -> Self {
        let buffer = ReadBuffer::new(limit).expect("the limit is at least 1");
        Self { buffer, paused: false, pending: None, handed_out: 0 }
    }

    pub(crate) fn step(&mut self, op: &ReadOp) -> Outcome {
        match op {
            ReadOp::Feed(text) => self.fill(|buffer| buffer.feed(&text.0)),
            ReadOp::Dribble(text) => self.fill(|buffer| {
                for &byte in &text.0 {
                    buffer.spare()[0] = byte;
                    buffer.commit(1);
                }
            }),
            ReadOp::FeedRun { letter, len } => {
                self.fill(|buffer| buffer.feed(&vec![letter.0; usize::from(*len)]));
            }
            ReadOp::Ask(ask) | ReadOp::AskAgain(ask) => self.pending = Some(ask.clone()),
            ReadOp::Cancel => self.pending = None,
            ReadOp::Eof => self.buffer.feed_eof(),
            ReadOp::Fail => self.buffer.fail(failure()),
            ReadOp::Reconnect { limit } => *self = Self::new(limit.0.max(1)),
        }
        let Some(ask) = self.pending.take() else { return Outcome::Idle };
        let outcome = self.go_on(&ask);
        let waits = outcome == Outcome::Waits;
        self.follow_flow(waits);
        if waits {
            self.pending = Some(ask);
        }
        outcome
    }

    fn fill(&mut self, fill: impl FnOnce(&mut ReadBuffer)) {
        if !self.buffer.is_ended() {
            fill(&mut self.buffer);
            self.follow_flow(false);
        }
    }

    fn follow_flow(&mut self, waits: bool) {
        if let Some(flow) = self.buffer.flow(waits) {
            assert_ne!(self.paused, flow == Flow::Pause, "{flow:?} twice");
            self.paused = flow == Flow::Pause;
        }
    }

    fn go_on(&mut self, ask: &Ask) -> Outcome {
        let limit = self.buffer.limit();
        match ask {
            Ask::Some(Size(max)) => self.answer(ask, &Request::Some { max: *max }),
            Ask::Exactly(Size(n)) => self.answer(ask, &Request::Exactly(*n)),
            Ask::Line => self.answer(ask, &Request::Line { limit }),
            Ask::All => self.answer(ask, &Request::All { max: usize::MAX }),
            Ask::Until(list) => {
                let list: Vec<&[u8]> = list.0.iter().map(Vec::as_slice).collect();
                let separators = match list.as_slice() {
                    [separator] => Separators::One(separator),
                    several => Separators::Any(several),
                };
                if !separators.is_valid() {
                    return Outcome::BadCall;
                }
                self.answer(ask, &Request::Until { separators, limit })
            }
        }
    }

    fn answer(&mut self, ask: &Ask, request: &Request<'_>) -> Outcome {
        let answer = self.buffer.poll(request);
        assert_eq!(self.buffer.poll(request), answer, "asking twice changes the answer to {request:?}");
        match (answer, ask) {
            (Answer::Need, _) => Outcome::Waits,
            (Answer::Ready { len }, _) => Outcome::Bytes(self.hand_out(len)),
            (Answer::End, Ask::Until(_)) => Outcome::Incomplete { partial: Vec::new(), expected: None },
            (Answer::End, _) => Outcome::Bytes(Vec::new()),
            (Answer::Incomplete { len }, Ask::Exactly(Size(n))) => {
                Outcome::Incomplete { partial: self.hand_out(len), expected: Some(*n) }
            }
            (Answer::Incomplete { len }, _) => {
                Outcome::Incomplete { partial: self.hand_out(len), expected: None }
            }
            (Answer::Overrun { consumed, found }, Ask::Line) => {
                let dropped = if found { consumed + 1 } else { self.buffer.len() };
                self.buffer.consume(dropped);
                Outcome::LineTooLong
            }
            (Answer::Overrun { consumed, .. }, _) => Outcome::Overrun { consumed },
            (Answer::Failed(cause), _) => {
                assert_eq!(cause, failure());
                Outcome::Failed
            }
        }
    }

    fn hand_out(&mut self, len: usize) -> Vec<u8> {
        self.handed_out += 1;
        match self.handed_out % 3 {
            0 => self.buffer.lend(len).to_vec(),
            1 => self.buffer.take(len).to_vec(),
            _ => {
                let bytes = self.buffer.unread()[..len].to_vec();
                self.buffer.consume(len);
                bytes
            }
        }
    }
}

/// Runs the operations on both and compares after each.
///
/// # Panics
/// Where they differ, or where the core breaks its contract.
pub(crate) fn run(ops: &[ReadOp]) {
    let (mut face, mut model) = (Face::new(FIRST_LIMIT), AsyncioReader::new(FIRST_LIMIT));
    let mut peak_len = 0;
    for (at, op) in ops.iter().enumerate() {
        if matches!(op, ReadOp::FeedRun { .. }) && model.buffer.len() > ENOUGH {
            continue;
        }
        let held_len = match op {
            ReadOp::Feed(text) | ReadOp::Dribble(text) => model.buffer.len() + text.0.len(),
            ReadOp::FeedRun { len, .. } => model.buffer.len() + usize::from(*len),
            _ => 0,
        };
        peak_len = match op {
            ReadOp::Reconnect { .. } => 0,
            _ if model.tail == Tail::Open => peak_len.max(held_len),
            _ => peak_len,
        };
        let (got, wanted) = (face.step(op), model.step(op));
        assert_eq!(got, wanted, "operation {at}, {op:?}");
        assert_eq!(face.buffer.unread(), model.buffer, "operation {at}, {op:?}");
        check_state(&face, &model);
        assert_eq!(face.buffer.peak_len(), peak_len, "operation {at}, {op:?}");
    }
}

/// What must hold between any two operations.
pub(crate) fn check_state(face: &Face, model: &AsyncioReader) {
    let (buffer, limit) = (&face.buffer, model.limit);
    assert_eq!((buffer.len(), buffer.is_empty()), (model.buffer.len(), model.buffer.is_empty()));
    assert_eq!(buffer.at_eof(), model.tail == Tail::Ended && model.buffer.is_empty());
    assert_eq!(buffer.is_ended(), model.tail != Tail::Open);
    assert_eq!(buffer.failure().is_some(), model.tail == Tail::Failed);
    if model.tail == Tail::Open {
        // After a wait was cancelled the core pauses at the next read already, asyncio at the next segment.
        assert!(face.paused || !model.paused, "asyncio has paused the transport, the core has not");
        assert!(!face.paused || buffer.len() > limit, "paused with {} bytes of {limit}", buffer.len());
    }
}

fn failure() -> Failure {
    Failure::new(std::io::ErrorKind::ConnectionReset, "reset", ErrorClass::BrokenByPeer)
}

const FIRST_LIMIT: usize = 8;
/// Runs of bytes stop above this, so that the slow model stays quick enough.
const ENOUGH: usize = 200_000;
