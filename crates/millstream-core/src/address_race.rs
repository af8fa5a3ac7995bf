//! Decides which address of a host to try next, and when: the order and the timing of Happy
//! Eyeballs v2 (RFC 8305). Resolving the name, opening and closing sockets and keeping the clock
//! are left to the driver.
//!
//! The loop a driver runs:
//!
//! ```text
//!            +--------- Start: begin that attempt, poll again
//!            v               |
//! new ---> poll(now) --------+--- Wait: sleep until `until` or until an attempt reports;
//!            ^               |          pass each report to succeeded / failed
//!            +---------------+
//!                            +--- Won:    keep that connection, close the losers
//!                            +--- Failed: into_failures() has one error for each address
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A race between connection attempts to the addresses of one host; the first success wins.
///
/// The rules (RFC 8305 section 5):
///
/// - Attempts start in list order, each address once, one stagger apart.
/// - A failure, of whichever attempt, makes the next address due at once; several failures between
///   two polls bring one start forward, not several.
/// - A later start never cancels an earlier attempt.
/// - Nothing starts after the win.
///
/// `E` is the driver's error for one failed attempt; the race only keeps it. There is no deadline:
/// an attempt that never reports keeps the race waiting, so the driver bounds each attempt or the
/// whole race.
///
/// # Examples
///
/// ```
/// use millstream_core::{AddressRace, DEFAULT_STAGGER, RaceStep, interleave};
/// use std::time::Instant;
///
/// let resolved = ["[2001:db8::1]:80".parse()?, "192.0.2.1:80".parse()?];
/// let mut race = AddressRace::<&str>::new(interleave(&resolved, 1), Some(DEFAULT_STAGGER));
/// let now = Instant::now(); // the driver's clock: the race has none
///
/// let RaceStep::Start { attempt: v6, .. } = race.poll(now) else { unreachable!() };
/// assert_eq!(race.poll(now), RaceStep::Wait { until: Some(now + DEFAULT_STAGGER) });
///
/// // IPv6 stays silent for 250 ms, so IPv4 starts beside it, and answers first.
/// let later = now + DEFAULT_STAGGER;
/// let RaceStep::Start { attempt: v4, address } = race.poll(later) else { unreachable!() };
/// assert!(race.succeeded(v4));
/// assert_eq!(race.poll(later), RaceStep::Won { attempt: v4, address });
/// assert_eq!(race.losers().collect::<Vec<_>>(), [v6]);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug)]
pub struct AddressRace<E> {
    /// In the order to try. The first `started` are past `Waiting`, the rest are `Waiting`.
    entries: Vec<Entry<E>>,
    /// At most `entries.len()`; never grows once `winner` is set.
    started: usize,
    /// `None`: one after another. Otherwise at least [`MIN_STAGGER`].
    stagger: Option<Duration>,
    /// When the next entry may start. `Now` whenever nothing is pending, so a race never stalls.
    next_start: NextStart,
    /// Set once, to the first attempt reported as succeeded.
    winner: Option<AttemptId>,
}

impl<E> AddressRace<E> {
    /// Prepares a race over `addresses`, tried in this order (see [`interleave`]), as listed: an
    /// address listed twice is tried twice.
    ///
    /// `stagger` is the time between two starts, "Connection Attempt Delay" in RFC 8305 section 5;
    /// below [`MIN_STAGGER`] it is raised to it, and there is no upper bound. `None` tries strictly
    /// one after another, each address only when the one before has failed.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, stagger: Option<Duration>) -> Self {
        Self {
            entries: addresses.into_iter().map(|address| Entry { address, state: State::Waiting }).collect(),
            started: 0,
            stagger: stagger.map(|stagger| stagger.max(MIN_STAGGER)),
            next_start: NextStart::Now,
            winner: None,
        }
    }

    /// Says what to do at `now`; after [`RaceStep::Start`], call again.
    ///
    /// A late call is harmless: at most one start is overdue, and the stagger counts from the `now`
    /// at which an attempt really started. Times that run backwards only delay the next start.
    pub fn poll(&mut self, now: Instant) -> RaceStep {
        if let Some(attempt) = self.winner {
            return RaceStep::Won { attempt, address: self.entries[attempt.0].address };
        }
        if self.started == self.entries.len() {
            let all_failed = self.entries.iter().all(|entry| matches!(entry.state, State::Failed(_)));
            return if all_failed { RaceStep::Failed } else { RaceStep::Wait { until: None } };
        }
        match self.next_start {
            NextStart::At(due) if now < due => RaceStep::Wait { until: Some(due) },
            NextStart::AfterFailure => RaceStep::Wait { until: None },
            NextStart::Now | NextStart::At(_) => self.start_next(now),
        }
    }

    /// Reports that `attempt` has connected; returns whether its connection is the one to keep.
    ///
    /// On `false` close the connection: another attempt has won before, or the report is misuse (an
    /// attempt this race has not started, or one that has failed) and changes nothing. Reporting
    /// the winner again is `true` again.
    #[must_use = "a connection that did not win must be closed"]
    pub fn succeeded(&mut self, attempt: AttemptId) -> bool {
        if let Some(entry) = self.pending_entry(attempt) {
            entry.state = State::Succeeded;
            self.winner.get_or_insert(attempt);
        }
        self.winner == Some(attempt)
    }

    /// Reports that `attempt` has failed with `error`; returns whether the report counted.
    ///
    /// On `false` the report was misuse (an attempt this race has not started, or one that has
    /// reported before): `error` is dropped and nothing changes. Before the win, a failure makes the
    /// next address due at the next [`poll`](Self::poll).
    pub fn failed(&mut self, attempt: AttemptId, error: E) -> bool {
        let Some(entry) = self.pending_entry(attempt) else { return false };
        entry.state = State::Failed(error);
        self.next_start = NextStart::Now;
        true
    }

    /// The attempts the driver has still to close after the win, in address order: those started
    /// and not yet reported. Before the win there are none.
    ///
    /// A loser that reports late drops out of the list; its [`succeeded`](Self::succeeded) is
    /// `false`, which asks for the same.
    pub fn losers(&self) -> impl Iterator<Item = AttemptId> {
        let started = if self.winner.is_some() { self.started } else { 0 };
        (0..started).filter(|&at| matches!(self.entries[at].state, State::Pending)).map(AttemptId)
    }

    /// The failures reported so far, in address order. After [`RaceStep::Failed`] that is every
    /// address once; the list is empty only if the list of addresses was.
    #[must_use]
    pub fn into_failures(self) -> Vec<(SocketAddr, E)> {
        let failure = |entry: Entry<E>| match entry.state {
            State::Failed(error) => Some((entry.address, error)),
            State::Waiting | State::Pending | State::Succeeded => None,
        };
        self.entries.into_iter().filter_map(failure).collect()
    }

    fn start_next(&mut self, now: Instant) -> RaceStep {
        let attempt = AttemptId(self.started);
        let entry = &mut self.entries[attempt.0];
        entry.state = State::Pending;
        self.started += 1;
        // A stagger past the end of the clock is no timer at all.
        let due = self.stagger.and_then(|stagger| now.checked_add(stagger));
        self.next_start = due.map_or(NextStart::AfterFailure, NextStart::At);
        RaceStep::Start { attempt, address: entry.address }
    }

    fn pending_entry(&mut self, attempt: AttemptId) -> Option<&mut Entry<E>> {
        self.entries.get_mut(attempt.0).filter(|entry| matches!(entry.state, State::Pending))
    }
}

/// What a driver does next; returned by [`AddressRace::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an attempt that is not started stalls the race"]
pub enum RaceStep {
    /// Begin this attempt now, then poll again. Said once for each attempt.
    Start {
        /// The name under which the attempt reports.
        attempt: AttemptId,
        /// Where to connect to.
        address: SocketAddr,
    },
    /// Nothing to do before `until`, or before an attempt reports, whichever comes first.
    Wait {
        /// When the next address is due; `None` if only a report can change anything.
        until: Option<Instant>,
    },
    /// Over: keep the connection of `attempt`, close [`AddressRace::losers`].
    Won {
        /// The first attempt that was reported as succeeded.
        attempt: AttemptId,
        /// The address it is connected to.
        address: SocketAddr,
    },
    /// Over: every address has failed, or there was none; see [`AddressRace::into_failures`].
    Failed,
}

/// Names one attempt within the race that started it; it means nothing to another race, which
/// cannot tell it from its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(usize);

impl AttemptId {
    /// The position of the attempt's address in the list given to [`AddressRace::new`], from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// Orders resolved addresses so that the families alternate, beginning with the family of the
/// first one (RFC 8305 section 4).
///
/// `first_family_count` is how many addresses of that family lead ("First Address Family Count",
/// default [`DEFAULT_FIRST_FAMILY_COUNT`]); 0 does not interleave. A family that runs out leaves the
/// rest to the other. Within a family the resolver's order stays (it has sorted by RFC 6724
/// already), and exact duplicates, flow label and scope included, are dropped in every case.
/// An IPv4-mapped IPv6 address counts as IPv6.
///
/// ```
/// # use millstream_core::interleave;
/// # use std::net::SocketAddr;
/// let resolved: Vec<SocketAddr> =
///     ["[::1]:80", "[::2]:80", "[::3]:80", "10.0.0.1:80"].iter().map(|s| s.parse().unwrap()).collect();
/// assert_eq!(interleave(&resolved, 1), [resolved[0], resolved[3], resolved[1], resolved[2]]);
/// assert_eq!(interleave(&resolved, 0), resolved);
/// ```
#[must_use]
pub fn interleave(addresses: &[SocketAddr], first_family_count: usize) -> Vec<SocketAddr> {
    let mut seen = BTreeSet::new();
    let mut unique: Vec<_> = addresses.iter().copied().filter(|address| seen.insert(*address)).collect();
    if first_family_count == 0 || unique.is_empty() {
        return unique;
    }
    let leads_v6 = unique[0].is_ipv6();
    let (leading, other): (Vec<_>, Vec<_>) =
        unique.drain(..).partition(|address| address.is_ipv6() == leads_v6);
    let mut leading = leading.into_iter();
    unique.extend(leading.by_ref().take(first_family_count));
    for address in other {
        unique.push(address);
        unique.extend(leading.next());
    }
    unique.extend(leading);
    unique
}

#[derive(Debug)]
struct Entry<E> {
    address: SocketAddr,
    state: State<E>,
}

/// Only moves down this list, and leaves `Pending` at most once.
#[derive(Debug)]
enum State<E> {
    Waiting,
    Pending,
    /// The winner, or a loser that was late.
    Succeeded,
    Failed(E),
}

#[derive(Debug)]
enum NextStart {
    /// Nothing has started yet, or something failed since the last start.
    Now,
    At(Instant),
    AfterFailure,
}

/// The stagger to use when the user names none: 250 ms (RFC 8305 sections 5 and 8).
pub const DEFAULT_STAGGER: Duration = Duration::from_millis(250);

/// The least stagger a race uses: 10 ms, the hard floor of RFC 8305 section 8, so that a host with
/// many addresses is not flooded. It has no upper twin: patience is the user's choice.
pub const MIN_STAGGER: Duration = Duration::from_millis(10);

/// How many addresses of the first family lead in [`interleave`] by default: 1 (RFC 8305 section 8).
pub const DEFAULT_FIRST_FAMILY_COUNT: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_second_report_changes_nothing() {
        let mut race = AddressRace::new(addresses(&["[::1]:1", "1.1.1.1:1"]), Some(DEFAULT_STAGGER));
        let now = Instant::now();
        let (first, second) = (AttemptId(0), AttemptId(1));
        assert!(!race.failed(first, "not started"));
        assert!(!race.succeeded(AttemptId(usize::MAX)));
        assert!(matches!(race.poll(now), RaceStep::Start { .. }));
        assert!(!race.succeeded(second), "not started");
        assert!(race.failed(first, "refused"));
        assert!(!race.failed(first, "again"));
        assert!(!race.succeeded(first), "it has failed");
        assert!(matches!(race.poll(now), RaceStep::Start { .. }));
        assert!(race.succeeded(second) && race.succeeded(second), "the winner stays the winner");
        assert!(!race.failed(second, "too late"));
        assert_eq!(race.losers().count(), 0);
        assert_eq!(race.into_failures(), [("[::1]:1".parse().unwrap(), "refused")]);
    }

    #[test]
    fn a_stagger_past_the_end_of_the_clock_is_no_timer() {
        let mut race = AddressRace::<()>::new(addresses(&["1.1.1.1:1", "1.1.1.2:1"]), Some(Duration::MAX));
        let now = Instant::now();
        assert!(matches!(race.poll(now), RaceStep::Start { .. }));
        assert_eq!(race.poll(now), RaceStep::Wait { until: None });
    }

    #[test]
    fn interleave_keeps_order_within_families_and_drops_duplicates() {
        let list =
            addresses(&["1.1.1.1:1", "1.1.1.2:1", "1.1.1.1:1", "[::1]:1", "1.1.1.3:1", "[::2]:1", "[::1]:2"]);
        let pick = |order: &[usize]| order.iter().map(|&at| list[at]).collect::<Vec<_>>();
        assert_eq!(interleave(&list, 0), pick(&[0, 1, 3, 4, 5, 6]));
        assert_eq!(interleave(&list, 1), pick(&[0, 3, 1, 5, 4, 6]));
        assert_eq!(interleave(&list, 2), pick(&[0, 1, 3, 4, 5, 6]));
        assert_eq!(interleave(&list, usize::MAX), pick(&[0, 1, 4, 3, 5, 6]));
        assert_eq!(interleave(&[], 1), []);
    }
}
