//! The write queue beside a plain vector of bytes, with asyncio's rule for its marks written out.

use arbitrary::Arbitrary;
use bytes::Bytes;
use millstream_core::{Urgency, Watermarks, WriteError, WriteQueue};

use super::letters::Size;

/// One event in the life of a writer.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum WriteOp {
    /// A message is admitted and copied.
    Push(Length),
    /// A message is admitted and given away.
    PushShared(Length),
    /// The transport took this many 255ths of the queue.
    Advance(u8),
    /// The transport took a few bytes.
    AdvanceBy(u8),
    /// A direct send of the queue and a message took this many 255ths of both.
    AdvanceThrough {
        data: Length,
        sent: u8,
    },
    SetWatermarks {
        high: Size,
        low: Size,
    },
    SetHardCap(Option<Size>),
    SetCorked(bool),
    SetCorkThreshold(Size),
    Admit(Size),
    Clear,
}

/// The length of a message: tiny, or around the sizes at which the queue changes its ways.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Length {
    Empty,
    Small(u8),
    About4Kib(u8),
    About64Kib(u8),
}

impl Length {
    fn bytes(self) -> usize {
        let about = |size: usize, offset: u8| size - 128 + usize::from(offset);
        match self {
            Self::Empty => 0,
            Self::Small(len) => usize::from(len),
            Self::About4Kib(offset) => about(4 * 1024, offset),
            Self::About64Kib(offset) => about(64 * 1024, offset),
        }
    }
}

/// The queue as anyone would write it down.
struct Model {
    bytes: Vec<u8>,
    high: usize,
    low: usize,
    paused: bool,
    hard_cap: Option<usize>,
    corked: bool,
    threshold: usize,
    peak_len: usize,
    /// How many bytes were ever queued; makes each byte of the stream tell its place.
    position: usize,
}

impl Model {
    fn message(&self, len: usize) -> Vec<u8> {
        // Not a multiple of any chunk size, so that a chunk out of order shows.
        (0..=250).cycle().skip(self.position % 251).take(len).collect()
    }

    /// Which of two ways to do the same is taken: a coin that the script tosses.
    fn is_even(&self) -> bool {
        self.position.is_multiple_of(2)
    }

    fn grow(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.position += data.len();
        self.peak_len = self.peak_len.max(self.bytes.len());
        self.paused |= self.bytes.len() > self.high;
    }

    fn shrink(&mut self, n: usize) {
        self.bytes.drain(..n);
        self.paused &= self.bytes.len() > self.low;
    }

    fn admit(&self, len: usize) -> Result<Urgency, WriteError> {
        let queued = self.bytes.len();
        match self.hard_cap {
            _ if len == 0 => Ok(Urgency::Corked),
            Some(hard_cap) if queued as u128 + len as u128 > hard_cap as u128 => {
                Err(WriteError::Full { len, queued, hard_cap })
            }
            _ if self.corked && (queued as u128 + len as u128) < self.threshold as u128 => {
                Ok(Urgency::Corked)
            }
            _ => Ok(Urgency::Now),
        }
    }
}

/// Runs the operations on both and compares after each.
///
/// # Panics
/// Where they differ, or where the queue breaks its contract.
pub(crate) fn run(ops: &[WriteOp]) {
    let marks = Watermarks::default();
    let mut queue = WriteQueue::default();
    let mut model = Model {
        bytes: Vec::new(),
        high: marks.high(),
        low: marks.low(),
        paused: false,
        hard_cap: None,
        corked: true,
        threshold: millstream_core::DEFAULT_CORK_THRESHOLD,
        peak_len: 0,
        position: 0,
    };
    for (at, op) in ops.iter().enumerate() {
        let was_paused = model.paused;
        if let Some(woken) = step(&mut queue, &mut model, op) {
            assert_eq!(woken, was_paused && !model.paused, "wake verdict of operation {at}, {op:?}");
        }
        compare(&queue, &model, &format!("operation {at}, {op:?}"));
    }
}

/// Does one operation on both; returns the verdict of those that give one.
fn step(queue: &mut WriteQueue, model: &mut Model, op: &WriteOp) -> Option<bool> {
    let share = |part: u8, whole: usize| whole * usize::from(part) / 255;
    match *op {
        WriteOp::Push(len) | WriteOp::PushShared(len) => {
            let data = model.message(len.bytes());
            let in_little_code = matches!(op, WriteOp::Push(_)) && model.is_even();
            if in_little_code && model.bytes.len() < ENOUGH && queue.push_easily(&data) {
                assert_eq!(model.admit(data.len()), Ok(Urgency::Corked));
                let was_paused = model.paused;
                model.grow(&data);
                assert!(!was_paused && !model.paused, "{} bytes passed a mark", data.len());
                return None;
            }
            let admitted = queue.admit(data.len());
            assert_eq!(admitted, model.admit(data.len()));
            if admitted.is_ok() && model.bytes.len() < ENOUGH {
                model.grow(&data);
                if matches!(op, WriteOp::Push(_)) {
                    queue.push(&data);
                } else {
                    queue.push_shared(Bytes::from(data));
                }
            }
            None
        }
        WriteOp::Advance(part) => Some(advance(queue, model, share(part, model.bytes.len()))),
        WriteOp::AdvanceBy(n) => Some(advance(queue, model, usize::from(n).min(model.bytes.len()))),
        WriteOp::AdvanceThrough { data, sent } => {
            let data = model.message(data.bytes());
            let sent = share(sent, model.bytes.len() + data.len());
            let of_queue = sent.min(model.bytes.len());
            model.shrink(of_queue);
            // What was sent directly was never queued, so it counts neither for the marks nor for the peak.
            model.grow(&data[sent - of_queue..]);
            Some(queue.advance_through(sent, &data))
        }
        WriteOp::SetWatermarks { high, low } => {
            let Ok(marks) = Watermarks::new(high.0, low.0) else {
                assert!(low.0 > high.0);
                return None;
            };
            (model.high, model.low) = (high.0, low.0);
            model.paused = model.bytes.len() > model.high;
            let woken = queue.set_watermarks(marks);
            assert_eq!(queue.watermarks(), marks);
            Some(woken)
        }
        WriteOp::SetHardCap(cap) => {
            model.hard_cap = cap.map(|cap| cap.0);
            queue.set_hard_cap(model.hard_cap);
            None
        }
        WriteOp::SetCorked(corked) => {
            model.corked = corked;
            queue.set_corked(corked);
            None
        }
        WriteOp::SetCorkThreshold(threshold) => {
            model.threshold = threshold.0;
            queue.set_cork_threshold(threshold.0);
            None
        }
        WriteOp::Admit(len) => {
            assert_eq!(queue.admit(len.0), model.admit(len.0));
            None
        }
        WriteOp::Clear => {
            assert_eq!(queue.clear(), model.bytes.len());
            model.bytes.clear();
            model.paused = false;
            None
        }
    }
}

fn advance(queue: &mut WriteQueue, model: &mut Model, n: usize) -> bool {
    let all_at_once =
        model.is_even() && queue.as_slice().is_some_and(|all| !all.is_empty() && all.len() == n);
    model.shrink(n);
    if all_at_once { queue.advance_all() } else { queue.advance(n) }
}

fn compare(queue: &WriteQueue, model: &Model, after: &str) {
    assert_eq!(queue.len(), model.bytes.len(), "{after}");
    assert_eq!(queue.is_empty(), model.bytes.is_empty(), "{after}");
    assert_eq!(queue.is_paused(), model.paused, "{after}");
    assert_eq!(queue.peak_len(), model.peak_len, "{after}");
    let mut rest = model.bytes.as_slice();
    for slice in queue.gather() {
        assert!(!slice.is_empty(), "an empty slice in a gathered send: {after}");
        assert_eq!(rest.get(..slice.len()), Some(slice), "{after}");
        rest = &rest[slice.len()..];
    }
    assert_eq!(rest, b"", "{after}");
}

/// Messages are refused above this, so that comparing whole queues stays quick.
const ENOUGH: usize = 400_000;
