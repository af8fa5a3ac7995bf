//! Reads that are given up (X1, X2): dropped after every number of polls, and under timeouts of which half expire.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use millstream::testing::pair_with_capacity;
use millstream::{ConnectOptions, StreamReader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Result;
use crate::context::Context;
use crate::figures::{grouped, size};
use crate::load::block_on;
use crate::process::Process;
use crate::random::Random;
use crate::row::{Outcome, Tally};
use crate::scripts::script;
use crate::subjects::Subject;

/// X1: every kind of read, dropped after k polls for every k up to its end, then asked again. Plain tokio's `read_exact`
/// is asked the same.
pub(super) fn x1(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let rounds = context.scaled(2_000, 30);
    let mut random = Random::new(context.seed);
    let (mut covered, mut dropped) = (0, 0);
    for round in 0..rounds {
        let capacity = 1 + random.below(9);
        let items: Vec<usize> = (0..20).map(|_| 2 + random.below(40)).collect();
        let result = block_on(given_up(capacity, &items, Random::new(random.next())));
        if let Some((deepest, drops, right)) = tally.value(result, &format!("round {round}")) {
            (covered, dropped) = (deepest.max(covered), dropped + drops);
            if !right {
                tally.fail(format!("round {round}: another stream was read"));
            }
        }
    }
    let wrong = block_on(read_exact_given_up(rounds, Random::new(context.seed)))?;
    let figure = format!("{} mismatches; {} drops, k to {covered}", tally.failures, grouped(dropped));
    let mut outcome =
        Outcome::ours(tally, figure).tokio(format!("read_exact: {wrong} of {rounds} streams wrong"));
    for subject in [Subject::OursPython, Subject::Asyncio] {
        if context.has(subject) {
            let told = script(context, subject, "thrown", &[&context.scaled(500, 20).to_string()]);
            if subject == Subject::Asyncio {
                outcome.asyncio = told.unwrap_or_else(|error| error.to_string());
            } else if let Some(told) = outcome.tally.value(told, "Python") {
                outcome.python = told;
            }
        }
    }
    Ok(outcome)
}

/// Items of these lengths through a pipe of this capacity, each read given up after 0, 1, 2... polls until it ends.
/// Returns the most polls of one read, how many were given up, and whether every byte was right.
async fn given_up(capacity: usize, items: &[usize], mut random: Random) -> Result<(usize, u64, bool)> {
    let ((mut reader, _w), (_r, writer)) = pair_with_capacity(capacity);
    let sent: Vec<Vec<u8>> = items
        .iter()
        .map(|&len| {
            (0..len).map(|at| if at + 1 == len { b'\n' } else { b'a' + random.byte() % 26 }).collect()
        })
        .collect();
    let feed = sent.clone();
    let feeding = tokio::spawn(async move {
        for item in feed {
            writer.write(&item)?;
            writer.flush()?;
            tokio::task::yield_now().await;
        }
        writer.close();
        writer.wait_closed().await.map_err(millstream::Error::from)
    });
    let (mut deepest, mut drops, mut right) = (0, 0, true);
    for item in &sent {
        let mut k = 0;
        let got = loop {
            match polled(&mut reader, random.below(4), item.len(), k).await? {
                Some(got) => break got,
                None => drops += 1,
            }
            k += 1;
            deepest = deepest.max(k);
        };
        right &= got == *item;
    }
    right &= reader.read(1).await?.is_empty();
    feeding.await??;
    Ok((deepest, drops, right))
}

/// One read, dropped if it has no answer after `k` polls.
async fn polled(reader: &mut StreamReader, kind: usize, len: usize, k: usize) -> Result<Option<Vec<u8>>> {
    let read = async {
        Ok::<_, millstream::Error>(match kind {
            0 => reader.read_line().await?.unwrap_or_default().to_vec(),
            1 => reader.read_exactly(len).await?.to_vec(),
            2 => reader.read_until_any(&[b"\n", b"\n\n"]).await?.unwrap_or_default().to_vec(),
            _ => reader.read_until_borrowed(b"\n").await?.unwrap_or_default().to_vec(),
        })
    };
    Ok(after_polls(read, k).await.transpose()?)
}

/// The future's answer if it comes within so many polls; it is dropped otherwise.
async fn after_polls<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// How many streams come out wrong if tokio's `read_exact` is given up once and asked again.
async fn read_exact_given_up(rounds: usize, mut random: Random) -> Result<usize> {
    let mut wrong = 0;
    for _ in 0..rounds {
        let (mut reader, mut writer) = tokio::io::duplex(1 + random.below(9));
        let sent = random.bytes(100);
        let feed = sent.clone();
        let feeding = tokio::spawn(async move { writer.write_all(&feed).await });
        let (mut got, mut item) = (Vec::new(), [0; 10]);
        while got.len() < sent.len() {
            let polls = random.below(4);
            match after_polls(reader.read_exact(&mut item), polls).await {
                Some(Ok(_)) => got.extend_from_slice(&item),
                Some(Err(_)) => break,
                None => tokio::task::yield_now().await,
            }
        }
        drop(reader);
        let _ = feeding.await?;
        wrong += usize::from(got != sent);
    }
    Ok(wrong)
}

/// X2: reads under a timeout, about half of which expire, from a peer with jitter.
pub(super) fn x2(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let reads = context.scaled(100_000, 1_000);
    let seed = context.seed;
    let result = block_on(async {
        let ((mut reader, _w), (_r, writer)) = {
            let (ours, peer) = crate::peer::tcp_pair()?;
            (ConnectOptions::new().adopt_tcp(ours)?, ConnectOptions::new().adopt_tcp(peer)?)
        };
        let feeding = tokio::spawn(async move {
            let mut random = Random::new(seed);
            for number in 0_u64.. {
                if writer.write(&number.to_be_bytes()[..5]).is_err()
                    || writer.write(&number.to_be_bytes()[5..]).is_err()
                {
                    break;
                }
                writer.flush()?;
                tokio::time::sleep(Duration::from_micros(random.below(3_000) as u64)).await;
            }
            Ok::<_, millstream::Error>(())
        });
        let (mut expired, mut next, mut wrong, mut early) = (0, 0_u64, 0_u64, 0);
        for number in 0..reads {
            if number == reads / 10 {
                early = Process::own().resident()?;
            }
            match tokio::time::timeout(Duration::from_millis(1), reader.read_exactly(8)).await {
                Err(_) => expired += 1,
                Ok(bytes) => {
                    let number = u64::from_be_bytes(bytes?[..].try_into()?);
                    wrong += u64::from(number != next);
                    next = number + 1;
                }
            }
        }
        let grown = Process::own().resident()?.saturating_sub(early);
        drop((reader, _w));
        feeding.abort();
        Ok((expired, wrong, grown))
    });
    let (expired, wrong, grown) = tally.value(result, "the reads").unwrap_or_default();
    tally.passed(reads as u64);
    tally.check(wrong == 0, || format!("{wrong} wrong"));
    tally.check(grown < 1 << 20, || format!("memory grew by {}", size(grown)));
    let share = expired * 100 / reads;
    tally.check((10..=90).contains(&share), || format!("{share} % of the reads expired, which tests little"));
    let figure = format!("{wrong} mismatches, {share} % expired, RSS +{}", size(grown));
    Ok(Outcome::ours(tally, figure))
}
