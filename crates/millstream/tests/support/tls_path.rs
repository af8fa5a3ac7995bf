//! The path between two sides of TLS: it cuts, changes, ends and records what passes. And the records that it sees.

use std::ops::Range;
use std::time::Duration;

use millstream::testing::{Pair, pair};
use millstream::{StreamReader, StreamWriter};
use tokio::task::JoinHandle;

/// Content types of records (RFC 8446, section 5.1).
pub const CHANGE_CIPHER_SPEC: u8 = 20;
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

/// What a path does to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lane {
    /// The bytes before this offset are delivered first; the others when nobody can do any more with those.
    pub cut: Option<usize>,
    /// Every byte is delivered alone.
    pub crumbs: bool,
    /// These bits of the byte at this offset are flipped.
    pub flip: Option<(usize, u8)>,
    /// Nothing from this offset on is delivered, but an end.
    pub end: Option<usize>,
}

/// Two ends with a path between them, the client's lane first. At its end the path tells what was sent into each lane.
/// For the paused clock, where it passes bytes on when nobody has anything else to do.
pub fn path(lanes: [Lane; 2]) -> (Pair, Pair, JoinHandle<[Vec<u8>; 2]>) {
    let (client, (from_client, to_client)) = pair();
    let (server, (from_server, to_server)) = pair();
    let carried = async move {
        let (there, back) =
            tokio::join!(carry(from_client, to_server, lanes[0]), carry(from_server, to_client, lanes[1]));
        [there, back]
    };
    (client, server, tokio::spawn(carried))
}

async fn carry(mut from: StreamReader, to: StreamWriter, lane: Lane) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        // All that the sender says before it waits.
        let mut batch = match from.read(usize::MAX).await {
            Ok(bytes) if !bytes.is_empty() => bytes.to_vec(),
            _ => break,
        };
        while let Ok(Ok(more)) = tokio::time::timeout(TICK, from.read(usize::MAX)).await
            && !more.is_empty()
        {
            batch.extend(more);
        }
        let offset = sent.len();
        sent.extend_from_slice(&batch);
        if let Some((at, bits)) = lane.flip
            && let Some(byte) = at.checked_sub(offset).and_then(|at| batch.get_mut(at))
        {
            *byte ^= bits;
        }
        batch.truncate(lane.end.map_or(usize::MAX, |end| end.saturating_sub(offset)));
        let first = lane.cut.and_then(|cut| cut.checked_sub(offset)).unwrap_or(0).min(batch.len());
        let rest = batch[first..].chunks(if lane.crumbs { 1 } else { usize::MAX });
        for segment in [&batch[..first]].into_iter().chain(rest).filter(|segment| !segment.is_empty()) {
            if to.write(segment).is_err() || to.flush().is_err() {
                return sent;
            }
            tokio::time::sleep(TICK).await;
        }
        if lane.end.is_some_and(|end| end <= sent.len()) {
            break;
        }
    }
    sent
}

/// The clock moves on only when nobody has anything to do.
const TICK: Duration = Duration::from_millis(1);

/// The records of a stretch of ciphertext, each with its content type and where it stands; `None` if it is something else.
/// The last record may be incomplete.
pub fn records(bytes: &[u8]) -> Option<Vec<(u8, Range<usize>)>> {
    let mut records = Vec::new();
    let mut at = 0;
    while let [kind, 3, _, high, low, ..] = bytes[at..] {
        let end = at + 5 + usize::from(u16::from_be_bytes([high, low]));
        if !(CHANGE_CIPHER_SPEC..=DATA).contains(&kind) {
            return None;
        }
        records.push((kind, at..end.min(bytes.len())));
        at = end.min(bytes.len());
    }
    (bytes.len() - at < 5).then_some(records)
}

/// A record with this content type.
pub fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(body.len()).expect("a short body").to_be_bytes();
    [&[kind, 3, 3, high, low], body].concat()
}
