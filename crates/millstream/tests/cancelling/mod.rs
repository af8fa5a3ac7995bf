//! Futures that are given up after so many polls. Not a test itself.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod reads;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Polls up to `k` times, each time followed by a `step` of the world. `None`: it was dropped after that.
pub async fn poll_times<F: Future>(k: usize, future: F, mut step: impl AsyncFnMut()) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..k {
        if let Poll::Ready(output) = poll_once(&mut future).await {
            return Some(output);
        }
        step().await;
    }
    None
}

pub async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Polls when woken, up to `k` times. `None`: it was still waiting after the last.
pub async fn drop_after<F: Future>(k: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == k {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == k => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
