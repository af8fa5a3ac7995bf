//! The idle limit of a relay: looks four times in that time whether anything moved, so traffic costs no timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

pub(super) struct Idle {
    limit: Duration,
    /// Until the next look; made when the relay is first polled.
    sleep: Option<Pin<Box<Sleep>>>,
    /// What was seen at the last look, and how many looks in a row saw nothing else.
    seen: u64,
    quiet_looks: u32,
}

impl Idle {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, sleep: None, seen: 0, quiet_looks: 0 }
    }

    /// Ready when `moved` has stayed the same for the limit, or up to a quarter longer.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, moved: impl Fn() -> u64) -> Poll<Duration> {
        let tick = (self.limit / LOOKS).max(SHORTEST_TICK);
        let sleep = self.sleep.get_or_insert_with(|| {
            self.seen = moved();
            Box::pin(tokio::time::sleep(tick))
        });
        loop {
            ready!(sleep.as_mut().poll(cx));
            let moved = moved();
            self.quiet_looks = if moved == self.seen { self.quiet_looks + 1 } else { 0 };
            self.seen = moved;
            if self.quiet_looks >= LOOKS {
                return Poll::Ready(self.limit);
            }
            let next = Instant::now() + tick;
            sleep.as_mut().reset(next);
        }
    }
}

/// How often one limit's time is looked at.
const LOOKS: u32 = 4;
/// tokio's timers know nothing shorter.
const SHORTEST_TICK: Duration = Duration::from_millis(1);
