//! The accept loop of one listener: it never dies of an error, and pauses when the machine has run out of something.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use millstream_core::Failure;

use tokio::time::Instant;

use crate::address::Address;
use crate::admission::{Entrance, Permit};
use crate::listen::Listener;
use crate::report::{Report, ServerFailure, tell};
use crate::server_stats::Counters;
use crate::transport::Transport;

/// Accepts until `stop` completes and hands every connection to `serve`, with the permit that was there before it.
pub(crate) async fn accept_until(
    stop: impl Future<Output = ()>,
    listener: &Listener,
    mut entrance: Entrance,
    report: Report,
    counters: &Counters,
    mut serve: impl FnMut(Transport, Address, Permit),
) {
    let mut stop = pin!(stop);
    let mut pause = FIRST_PAUSE;
    let mut last_failure: Option<Instant> = None;
    loop {
        let accepted = poll_fn(|cx| match stop.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            // Without a permit nothing is accepted, and the kernel holds back who comes.
            Poll::Pending => {
                let permit = ready!(entrance.poll_permit(cx));
                listener.poll_accept(cx).map(|accepted| Some(accepted.map(|accepted| (accepted, permit))))
            }
        });
        match accepted.await {
            None => return,
            Some(Ok(((transport, peer), permit))) => {
                pause = FIRST_PAUSE;
                serve(transport, peer, permit);
            }
            Some(Err(error)) if is_peers_doing(&error) => counters.accept_failed(false),
            Some(Err(error)) => {
                counters.accept_failed(true);
                // One report a burst. At the limit every connection that ends lets one in before accepting fails again,
                // so a burst is over only after a time without failures, however many were accepted meanwhile.
                let now = Instant::now();
                if last_failure.is_none_or(|last| now.duration_since(last) > BURST_GAP) {
                    tell(&report, ServerFailure::accept(listener.address.clone(), Failure::from(&error)));
                }
                if sleep_unless(stop.as_mut(), pause).await {
                    return;
                }
                last_failure = Some(now);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Sleeps; true if `stop` came first.
async fn sleep_unless(mut stop: Pin<&mut impl Future<Output = ()>>, pause: Duration) -> bool {
    let mut sleep = pin!(tokio::time::sleep(pause));
    poll_fn(|cx| match stop.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| false),
    })
    .await
}

/// Errors that Linux passes on from the connection that would have been accepted (accept(2)): the next one is fine.
fn is_peers_doing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::ECONNRESET
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::EPERM
                | libc::ETIMEDOUT
        )
    )
}

/// Pauses double from here after every failure without a success between.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Failures that are no further apart than this belong to one burst.
const BURST_GAP: Duration = Duration::from_secs(10);
