//! Reads of every kind that are given up at any moment, over whatever pair they get.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use millstream::testing::Pair;
use millstream::{StreamReader, StreamWriter};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio_stream::StreamExt;

use super::poll_times;
use crate::support::Random;

/// One way to read. `n` is the count, where the read has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    ReadBorrowed,
    Exactly,
    ExactlyBorrowed,
    Line,
    LineBorrowed,
    Lines,
    Until,
    UntilBorrowed,
    UntilAny,
    UntilAnyBorrowed,
    ToEnd,
    Peek,
    Skip,
    SkipUntil,
    AsyncRead,
    FillBuf,
}

pub const KINDS: [Kind; 17] = [
    Kind::Read,
    Kind::ReadBorrowed,
    Kind::Exactly,
    Kind::ExactlyBorrowed,
    Kind::Line,
    Kind::LineBorrowed,
    Kind::Lines,
    Kind::Until,
    Kind::UntilBorrowed,
    Kind::UntilAny,
    Kind::UntilAnyBorrowed,
    Kind::ToEnd,
    Kind::Peek,
    Kind::Skip,
    Kind::SkipUntil,
    Kind::AsyncRead,
    Kind::FillBuf,
];

const LINE: &[&[u8]] = &[b"\n"];
/// Its first byte repeats, so that a search that forgets its place misses it.
const ONE: &[&[u8]] = &[b"\r\r\n;"];
const ANY: &[&[u8]] = &[b"\r\r\n;", b"\n\r", b";;;"];
/// Short and full of almost-separators.
pub const INPUT: &[u8] = b"ab\r\n;\r\r\r\n;cd\n\r;;\r\r\n;tail\nend";

/// What a read has handed out.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Bytes(Vec<u8>),
    Skipped(usize),
}

/// Does one read. At the end of the stream only its kinds that cannot fail there are used.
async fn perform(kind: Kind, n: usize, reader: &mut StreamReader) -> Got {
    Got::Bytes(match kind {
        Kind::Read => reader.read(n).await.unwrap().to_vec(),
        Kind::ReadBorrowed => reader.read_borrowed(n).await.unwrap().to_vec(),
        Kind::Exactly => reader.read_exactly(n).await.unwrap().to_vec(),
        Kind::ExactlyBorrowed => reader.read_exactly_borrowed(n).await.unwrap().to_vec(),
        Kind::Line => reader.read_line().await.unwrap().unwrap().to_vec(),
        Kind::LineBorrowed => reader.read_line_borrowed().await.unwrap().unwrap().to_vec(),
        Kind::Lines => reader.lines().next().await.unwrap().unwrap().to_vec(),
        Kind::Until => reader.read_until(ONE[0]).await.unwrap().unwrap().to_vec(),
        Kind::UntilBorrowed => reader.read_until_borrowed(ONE[0]).await.unwrap().unwrap().to_vec(),
        Kind::UntilAny => reader.read_until_any(ANY).await.unwrap().unwrap().to_vec(),
        Kind::UntilAnyBorrowed => reader.read_until_any_borrowed(ANY).await.unwrap().unwrap().to_vec(),
        Kind::ToEnd => reader.read_to_end(1 << 20).await.unwrap().to_vec(),
        Kind::Peek => reader.peek().await.unwrap().to_vec(),
        Kind::FillBuf => reader.fill_buf().await.unwrap().to_vec(),
        Kind::AsyncRead => {
            let mut bytes = vec![0; n];
            let len = AsyncReadExt::read(reader, &mut bytes).await.unwrap();
            bytes[..len].to_vec()
        }
        Kind::Skip => {
            reader.skip(n as u64).await.unwrap();
            return Got::Skipped(n);
        }
        Kind::SkipUntil => {
            let skipped = reader.skip_until(ONE[0]).await.unwrap();
            return Got::Skipped(usize::try_from(skipped).unwrap());
        }
    })
}

/// Where the first item ends, found the slow way.
fn end_of(unread: &[u8], separators: &[&[u8]]) -> Option<usize> {
    (1..=unread.len()).find(|&end| separators.iter().any(|separator| unread[..end].ends_with(separator)))
}

/// How many bytes a read hands out or drops, given everything that is unread; `None`: it has to wait for more. Reads
/// of "whatever is there" may bring less.
fn due(kind: Kind, n: usize, unread: &[u8], ended: bool) -> Option<usize> {
    match kind {
        Kind::Read | Kind::ReadBorrowed | Kind::AsyncRead => Some(n.min(unread.len())).filter(|&len| len > 0),
        Kind::Peek | Kind::FillBuf => Some(unread.len()).filter(|&len| len > 0),
        Kind::Exactly | Kind::ExactlyBorrowed | Kind::Skip => Some(n).filter(|&n| n <= unread.len()),
        Kind::Line | Kind::LineBorrowed | Kind::Lines => {
            end_of(unread, LINE).or(ended.then_some(unread.len()))
        }
        Kind::Until | Kind::UntilBorrowed | Kind::SkipUntil => end_of(unread, ONE),
        Kind::UntilAny | Kind::UntilAnyBorrowed => end_of(unread, ANY),
        Kind::ToEnd => ended.then_some(unread.len()),
    }
}

/// Checks what a read brought against what is unread; returns how many bytes it consumed.
fn check(kind: Kind, n: usize, got: &Got, unread: &[u8], ended: bool) -> usize {
    let due = due(kind, n, unread, ended).expect("a read that is due");
    match got {
        Got::Skipped(len) => assert_eq!(*len, due, "{kind:?} of {unread:?}"),
        Got::Bytes(bytes) => {
            let may_be_less = matches!(
                kind,
                Kind::Read | Kind::ReadBorrowed | Kind::AsyncRead | Kind::Peek | Kind::FillBuf
            );
            let len = if may_be_less { bytes.len().clamp(1, due) } else { due };
            assert_eq!(bytes, &unread[..len], "{kind:?}");
        }
    }
    match (kind, got) {
        (Kind::Peek | Kind::FillBuf, _) => 0,
        (_, Got::Bytes(bytes)) => bytes.len(),
        (_, Got::Skipped(len)) => *len,
    }
}

/// How many of the `unread` bytes, all of which it has seen, a read that was just cancelled has dropped: none, except
/// that a skip has dropped what it is sure of.
fn dropped_by(kind: Kind, unread: &[u8], reader: &StreamReader) -> usize {
    let kept = reader.buffered();
    assert!(unread.ends_with(kept), "{kind:?} left {kept:?} of {unread:?}");
    match kind {
        Kind::Skip => assert_eq!(kept, b""),
        Kind::SkipUntil => assert!(kept.is_empty() || ONE[0].starts_with(kept) || kept.len() < ONE[0].len()),
        _ => assert_eq!(kept, unread, "{kind:?}"),
    }
    unread.len() - kept.len()
}

/// Cancels `first` after `k` polls, with one more byte before each poll but the first, and goes on with `then`.
/// Returns whether `first` completed instead.
pub async fn completes(first: Kind, then: Kind, k: usize, pairs: (Pair, Pair)) -> bool {
    const N: usize = 5;
    let ((mut reader, _writer), (_reader, peer)) = pairs;
    let end = || {
        // TLS 1.2 cannot end one direction.
        if peer.can_write_eof() {
            peer.write_eof().unwrap();
        } else {
            peer.close();
        }
    };
    let feed = |bytes: &[u8]| {
        if bytes.is_empty() {
            return end();
        }
        peer.write(bytes).unwrap();
        peer.flush().unwrap();
    };
    let mut fed = 0;
    let got = poll_times(k, perform(first, N, &mut reader), async || {
        let more = INPUT.len().min(fed + 1);
        feed(&INPUT[fed..more]);
        fed = more;
    })
    .await;
    let consumed = match &got {
        Some(got) => check(first, N, got, INPUT, true),
        // The byte that came after the last poll is still on its way.
        None => dropped_by(first, &INPUT[..INPUT.len().min(k.saturating_sub(1))], &reader),
    };
    feed(&INPUT[fed..]);
    end();

    let mut rest = &INPUT[consumed..];
    if got.is_none() {
        let next = perform(then, N, &mut reader).await;
        rest = &rest[check(then, N, &next, rest, true)..];
    }
    assert_eq!(
        reader.read_to_end(1 << 20).await.unwrap(),
        rest,
        "{first:?} cancelled after {k}, then {then:?}"
    );
    assert!(reader.at_eof());
    got.is_some()
}

/// Random reads, each polled up to three times with bytes coming between, until `goal` of them were dropped while they
/// waited. Every byte is accounted for after every read. Returns how many were dropped, and how many bytes passed.
pub fn random_run(seed: u64, goal: usize, pairs: (Pair, Pair)) -> (usize, usize) {
    let mut random = Random::new(seed);
    let ((mut reader, _writer), (_reader, peer)) = pairs;
    let mut cx = Context::from_waker(Waker::noop());
    let (mut unread, mut cancelled, mut total) = (Vec::new(), 0, 0);
    while cancelled < goal {
        let (kind, n) = (KINDS[random.below(KINDS.len())], 1 + random.below(12));
        let mut got = None;
        let mut future = Box::pin(perform(kind, n, &mut reader));
        for _ in 0..=random.below(3) {
            if random.below(2) == 0 {
                let bytes: Vec<u8> =
                    (0..1 + random.below(3)).map(|_| b"\r\r\r\n;a"[random.below(6)]).collect();
                peer.write(&bytes).unwrap();
                peer.flush().unwrap();
                unread.extend_from_slice(&bytes);
                total += bytes.len();
            }
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                got = Some(output);
                break;
            }
            assert_eq!(due(kind, n, &unread, false), None, "{kind:?} waits, seed {seed:#x}");
        }
        drop(future);
        let consumed = match got {
            Some(got) => check(kind, n, &got, &unread, false),
            None => {
                cancelled += 1;
                dropped_by(kind, &unread, &reader)
            }
        };
        unread.drain(..consumed);
        // What was not received yet is still in the pipe.
        assert!(unread.starts_with(reader.buffered()), "{kind:?} lost bytes, seed {seed:#x}");
    }
    // One last receive brings the rest, and nothing else.
    assert!(pin!(reader.read_to_end(1 << 20)).poll(&mut cx).is_pending());
    assert_eq!(reader.buffered(), unread, "seed {seed:#x}");
    (cancelled, total)
}

/// tokio#6877: both sides give up on their operation whenever a timer is faster, and go on.
pub async fn give_up_and_go_on(mut reader: StreamReader, writer: StreamWriter, messages: usize) {
    const SEED: u64 = 6877;
    writer.set_watermarks(0, 0).unwrap();
    let sending = tokio::spawn(async move {
        let mut random = Random::new(SEED);
        let (mut sent, mut given_up) = (Vec::new(), 0);
        for _ in 0..messages {
            let message: Vec<u8> = (0..1 + random.below(300)).map(|_| random.byte()).collect();
            writer.write(&message).unwrap();
            sent.extend_from_slice(&message);
            tokio::select! {
                drained = writer.drain() => drained.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(1)) => given_up += 1,
            }
            if random.below(4) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        writer.close();
        writer.wait_closed().await.unwrap();
        (sent, given_up)
    });
    let mut random = Random::new(SEED + 1);
    let (mut received, mut given_up) = (Vec::new(), 0);
    loop {
        tokio::select! {
            result = reader.read_exactly(1 + random.below(1000)) => match result {
                Ok(bytes) => received.extend_from_slice(&bytes),
                Err(millstream::ReadExactlyError::Incomplete { partial, .. }) => {
                    received.extend_from_slice(&partial);
                    break;
                }
                Err(error) => panic!("{error}"),
            },
            () = tokio::time::sleep(Duration::from_millis(1)) => given_up += 1,
        }
    }
    drop(reader);
    let (sent, drains_given_up) = sending.await.unwrap();
    assert!(received == sent, "{} bytes received, {} sent", received.len(), sent.len());
    assert!(given_up > messages / 10, "{given_up} reads and {drains_given_up} drains given up");
}
