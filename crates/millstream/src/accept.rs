//! The accept loop of one listener: it never dies of an error, and pauses when the machine has run out of something.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use millstream_core::Failure;

use crate::address::Address;
use crate::listen::Listener;
use crate::report::{Report, ServerFailure, tell};
use crate::transport::Transport;

/// Accepts until `stop` completes and hands every connection to `serve`.
pub(crate) async fn accept_until(
    stop: impl Future<Output = ()>,
    listener: Listener,
    report: Report,
    mut serve: impl FnMut(Transport, Address),
) {
    let mut stop = pin!(stop);
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = poll_fn(|cx| match stop.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => listener.poll_accept(cx).map(Some),
        });
        match accepted.await {
            None => return,
            Some(Ok((transport, peer))) => {
                pause = FIRST_PAUSE;
                serve(transport, peer);
            }
            Some(Err(error)) if is_peers_doing(&error) => {}
            Some(Err(error)) => {
                // One report a burst: the first pause is the shortest.
                if pause == FIRST_PAUSE {
                    tell(&report, ServerFailure::accept(listener.address.clone(), Failure::from(&error)));
                }
                if sleep_unless(stop.as_mut(), pause).await {
                    return;
                }
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
