//! The stress half of K1: halves of connections on two threads, whose reads and drains are dropped while wake-ups are on their
//! way, and which end in every order.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use millstream::{ConnectOptions, StreamReader, StreamWriter};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Result;
use crate::context::Context;
use crate::figures::grouped;
use crate::peer::PATIENCE;
use crate::process::Process;
use crate::random::Random;
use crate::row::Tally;

/// So many connections, some at once. A wait that does not end is a wake-up that was lost; a descriptor too many is a socket
/// whose last owner did not close it.
pub(super) fn stress(context: &Context, tally: &mut Tally) -> Result<String> {
    let connections = context.scaled(50_000, 1_000);
    let mut random = Random::new(context.seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let before = Process::own().descriptors()?;
        let mut dropped = 0;
        let mut conversations = JoinSet::new();
        for number in 0..connections {
            conversations.spawn(conversation(Random::new(random.next())));
            if conversations.len() == AT_ONCE || number + 1 == connections {
                let all = number + 1 == connections;
                while let Some(done) = conversations.join_next().await {
                    dropped += tally.value(done?, "a conversation").unwrap_or(0);
                    if !all {
                        break;
                    }
                }
            }
        }
        let mut left = Process::own().descriptors()?.saturating_sub(before);
        for _ in 0..PATIENCE.as_millis() / 10 {
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            left = Process::own().descriptors()?.saturating_sub(before);
        }
        tally.check(left == 0, || format!("{left} descriptors left"));
        Ok(format!(
            "{} connections on two threads, {} waits dropped: 0 wake-ups lost, {left} sockets left",
            grouped(connections as u64),
            grouped(dropped)
        ))
    })
}

/// Lines one way, an end, and how many waits were dropped on the way.
async fn conversation(mut random: Random) -> Result<u64> {
    let (ours, theirs) = crate::peer::tcp_pair()?;
    let ((_back, writer), (reader, other)) =
        (ConnectOptions::new().adopt_tcp(ours)?, ConnectOptions::new().adopt_tcp(theirs)?);
    let (lines, ending) = (1 + random.below(20), random.below(4));
    // Longer ones wait for the peer.
    let len = [1, 100, 50_000][random.below(3)];
    let writer = Arc::new(writer);
    let mut tasks = JoinSet::new();
    tasks.spawn(write(Arc::clone(&writer), lines, len, ending, Random::new(random.next())));
    // Others wait in the same drain, and may be the last who hold the writer.
    for _ in 0..random.below(3) {
        let (writer, mut random) = (Arc::clone(&writer), Random::new(random.next()));
        tasks.spawn(async move {
            let mut dropped = 0;
            for _ in 0..lines {
                // What the writer's own task is told is judged there.
                dropped += u64::from(polled(writer.drain(), random.below(4)).await.is_none());
                tokio::task::yield_now().await;
            }
            Ok(dropped)
        });
    }
    drop(writer);
    tasks.spawn(read(reader, lines, len, ending, Random::new(random.next())));
    let mut dropped = 0;
    while let Some(task) = timeout(PATIENCE * 3, tasks.join_next()).await.map_err(|_| "a wake-up was lost")? {
        dropped += task??;
    }
    drop(other);
    Ok(dropped)
}

async fn write(
    writer: Arc<StreamWriter>,
    lines: usize,
    len: usize,
    ending: usize,
    mut random: Random,
) -> Result<u64> {
    let mut dropped = 0;
    for number in 0..lines {
        writer.write(&line(number, len))?;
        match random.below(4) {
            0 => writer.drain().await?,
            1 => tokio::task::yield_now().await,
            2 => dropped += u64::from(polled(writer.drain(), random.below(4)).await.is_none()),
            _ => {}
        }
    }
    match ending {
        0 => {
            writer.close();
            writer.wait_closed().await?;
        }
        1 => writer.write_eof()?,
        2 => writer.close(),
        // The last owner closes it, be that this task or another.
        _ => {}
    }
    Ok(dropped)
}

async fn read(
    mut reader: StreamReader,
    lines: usize,
    len: usize,
    ending: usize,
    mut random: Random,
) -> Result<u64> {
    let (mut number, mut dropped) = (0, 0);
    loop {
        let polls = random.below(6);
        let answer = if polls < 4 {
            polled(reader.read_line(), polls).await
        } else {
            Some(timeout(PATIENCE, reader.read_line()).await.map_err(|_| "a wake-up of a read was lost")?)
        };
        let Some(answer) = answer else {
            dropped += 1;
            tokio::task::yield_now().await;
            continue;
        };
        match answer? {
            Some(came) if number < lines && came == line(number, len) => number += 1,
            None if number == lines => return Ok(dropped),
            other => {
                let what = other.map(|bytes| bytes.len());
                return Err(format!("{number} of {lines} lines, ending {ending}, then {what:?}").into());
            }
        }
    }
}

fn line(number: usize, len: usize) -> Vec<u8> {
    let mut line = vec![b'l'; len];
    line.extend(format!("{number}\n").into_bytes());
    line
}

/// Polls so many times more than once, whether it was woken or not, and drops it.
async fn polled<F: Future>(future: F, more: usize) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), more);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

const AT_ONCE: usize = 32;
