//! At most so many reports of failures: a burst, then one at a time, with a count of those between. It is decided when a
//! failure is reported; nothing runs in between.

use std::time::Duration;

use tokio::time::Instant;

use crate::report::{CAUSES, Report, ServerFailure};
use crate::sync::Mutex;

/// Which failures of a server to write down, where peers can cause as many as they like: of each cause (a handler's error, a
/// handler's panic, a pause in accepting, a TLS handshake, a PROXY header) the first ten at once, then one a second, which
/// says how many there were between.
///
/// A server's own lines on standard error and its `tracing` events are bounded like this. What is given to
/// [`on_failure`](crate::ServerOptions::on_failure) is not, so that it can count: it asks a limit of its own whether to
/// write.
///
/// A flood of one cause does not hide another. How many were held back since the last line, only the next one tells, when
/// there is one; [`Server::stats`](crate::Server::stats) counts them all, by cause.
///
/// ```
/// use millstream::{ReportLimit, ServerFailure, ServerOptions};
/// let limit = ReportLimit::new();
/// let options = ServerOptions::new().on_failure(move |failure: ServerFailure| {
///     match limit.admit(&failure) {
///         Some(0) => eprintln!("{failure}"),
///         Some(held_back) => eprintln!("{failure} (and {held_back} like it before)"),
///         None => {}
///     }
/// });
/// ```
#[derive(Debug)]
pub struct ReportLimit {
    /// At least 1.
    burst: u32,
    every: Duration,
    buckets: Mutex<[Bucket; CAUSES]>,
}

/// What one cause has used up of its burst.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// How long it takes until the burst is whole again, at the time of the last report that was let through.
    debt: Duration,
    last: Option<Instant>,
    held_back: u64,
}

impl Default for ReportLimit {
    fn default() -> Self {
        Self { burst: DEFAULT_BURST, every: DEFAULT_EVERY, buckets: Mutex::new(Default::default()) }
    }
}

impl ReportLimit {
    /// Ten of each cause at once, then one a second.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many of one cause may come at once (10 by default, at least 1). A burst is whole again after as many times
    /// [`every`](Self::every) without a failure.
    #[must_use]
    pub fn burst(mut self, burst: u32) -> Self {
        self.burst = burst.max(1);
        self
    }

    /// How long after each other those above the burst come (a second by default). Zero: nothing is held back.
    #[must_use]
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every.min(LONGEST);
        self
    }

    /// Whether to write this one down. If so, how many of its cause were held back since the last one. Takes a short lock;
    /// the clock is tokio's, as in everything a server does.
    pub fn admit(&self, failure: &ServerFailure) -> Option<u64> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        let bucket = buckets.get_mut(failure.cause_number())?;
        let passed = bucket.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let debt = bucket.debt.saturating_sub(passed);
        if debt > self.every.saturating_mul(self.burst - 1) {
            bucket.held_back += 1;
            return None;
        }
        bucket.debt = debt.saturating_add(self.every);
        bucket.last = Some(now);
        Some(std::mem::take(&mut bucket.held_back))
    }
}

/// A report that writes a bounded number of lines.
pub(crate) fn bounded(write: impl Fn(&str) + Send + Sync + 'static) -> Report {
    let limit = ReportLimit::new();
    std::sync::Arc::new(move |failure: ServerFailure| match limit.admit(&failure) {
        Some(0) => write(&format!("millstream: {failure}")),
        Some(held_back) => {
            write(&format!("millstream: {failure} ({held_back} more of this kind were held back)"));
        }
        None => {}
    })
}

/// As the kernel's `printk_ratelimit`: enough to see what goes on.
const DEFAULT_BURST: u32 = 10;
/// A line a second of each cause is read by people and fills no disk: less than 20 MB a day.
const DEFAULT_EVERY: Duration = Duration::from_secs(1);
/// A century, which times any burst is still a time.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_core::{ErrorClass, Failure};
    use tokio::time::advance;

    use super::*;
    use crate::proxy::ProxyRefusal;

    fn header() -> ServerFailure {
        ServerFailure::proxy_header_refused(None, ProxyRefusal::Missing)
    }

    fn one_of_each_cause() -> [ServerFailure; CAUSES] {
        let failure = Failure::new(std::io::ErrorKind::Other, "as ordered", ErrorClass::BrokenByPeer);
        [
            ServerFailure::error(None, "as ordered".into()),
            ServerFailure::panic(None, &"as ordered"),
            ServerFailure::accept(crate::Address::Unnamed, failure.clone()),
            ServerFailure::handshake(None, failure),
            header(),
        ]
    }

    fn paused<F: Future<Output = ()>>(test: F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(test);
    }

    #[test]
    fn a_flood_is_a_burst_and_then_one_a_second_that_tells_of_the_others() {
        paused(async {
            let limit = ReportLimit::new();
            let mut admitted = Vec::new();
            // A hundred a second for ten seconds.
            for n in 0..1_000 {
                if let Some(held_back) = limit.admit(&header()) {
                    admitted.push((n, held_back));
                }
                advance(Duration::from_millis(10)).await;
            }
            let burst: Vec<_> = (0..10).map(|n| (n, 0)).collect();
            let then: Vec<_> =
                (1..10).map(|second| (second * 100, if second == 1 { 90 } else { 99 })).collect();
            assert_eq!(admitted, [burst, then].concat());
            // What was held back at the end is told by the next.
            assert_eq!(limit.admit(&header()), Some(99));
        });
    }

    #[test]
    fn a_quiet_time_makes_the_burst_whole_again_and_no_larger() {
        paused(async {
            let limit = ReportLimit::new().burst(3).every(Duration::from_secs(10));
            let flood = || (0..100).filter(|_| limit.admit(&header()).is_some()).count();
            assert_eq!(flood(), 3);
            advance(Duration::from_secs(20)).await;
            assert_eq!(flood(), 2);
            advance(Duration::from_secs(86_400)).await;
            assert_eq!(flood(), 3);
            advance(Duration::from_millis(9_999)).await;
            assert_eq!(flood(), 0);
        });
    }

    #[test]
    fn a_flood_of_one_cause_hides_no_other() {
        paused(async {
            let limit = ReportLimit::new();
            for _ in 0..1_000 {
                limit.admit(&header());
            }
            let admitted = one_of_each_cause().map(|failure| limit.admit(&failure));
            assert_eq!(admitted, [Some(0), Some(0), Some(0), Some(0), None]);
            // Each has a place of its own.
            for failure in &one_of_each_cause()[..4] {
                assert_eq!((0..1_000).filter(|_| limit.admit(failure).is_some()).count(), 9);
            }
        });
    }

    #[test]
    fn extreme_settings_hold_back_nothing_or_all_and_overflow_nothing() {
        paused(async {
            let none = ReportLimit::new().burst(0).every(Duration::ZERO);
            assert!((0..1_000).all(|_| none.admit(&header()) == Some(0)));
            let all = ReportLimit::new().burst(0).every(Duration::MAX);
            assert_eq!((0..1_000).filter(|_| all.admit(&header()).is_some()).count(), 1);
            let burst = ReportLimit::new().every(Duration::MAX);
            assert_eq!((0..1_000).filter(|_| burst.admit(&header()).is_some()).count(), 10);
            let many = ReportLimit::new().burst(u32::MAX).every(Duration::MAX);
            assert!((0..1_000).all(|_| many.admit(&header()) == Some(0)));
        });
    }

    #[test]
    fn the_lines_of_a_server_are_bounded_and_count_what_they_leave_out() {
        paused(async {
            let lines = Arc::new(Mutex::new(Vec::new()));
            let report = {
                let lines = Arc::clone(&lines);
                bounded(move |line| lines.lock().push(line.to_owned()))
            };
            for _ in 0..50 {
                report(header());
            }
            advance(Duration::from_secs(1)).await;
            report(header());
            let lines = lines.lock();
            assert_eq!(lines.len(), 11);
            let text = "millstream: the connection from unknown was refused for its PROXY header: \
                        the connection begins with something else";
            assert!(lines[..10].iter().all(|line| line == text), "{lines:?}");
            assert_eq!(lines[10], format!("{text} (40 more of this kind were held back)"));
        });
    }
}
