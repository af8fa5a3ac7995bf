//! Scenarios and properties of the address race, under a simulated driver with a clock of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use millstream_core::{
    AddressRace, AttemptId, DEFAULT_FIRST_FAMILY_COUNT, DEFAULT_STAGGER, MIN_STAGGER, RaceStep, interleave,
};
use proptest::prelude::*;

use Outcome::{FailsAfter, NeverAnswers, SucceedsAfter};

/// What becomes of an attempt, in milliseconds after its start.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    FailsAfter(u64),
    SucceedsAfter(u64),
    NeverAnswers,
}

impl Outcome {
    fn delay(self) -> Option<u64> {
        match self {
            FailsAfter(delay) | SucceedsAfter(delay) => Some(delay),
            NeverAnswers => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum End {
    /// Won by this address, at this time; the losers are those of that moment.
    Won { winner: usize, at: u64, losers: Vec<usize> },
    /// The failed addresses in the order the race lists them, with the error: the time of failure.
    Failed(Vec<(SocketAddr, u64)>),
    /// No timer and no report to come: some attempt never answers.
    WaitsForEver,
}

/// One race as a driver saw it: `starts[i]` is when address `i` was started.
#[derive(Debug)]
struct Run {
    starts: Vec<u64>,
    end: End,
}

/// Drives one race to its end; reports due at the same moment are all passed in before the poll.
fn run(outcomes: &[Outcome], stagger: Option<Duration>) -> Run {
    let origin = Instant::now();
    let mut race = AddressRace::<u64>::new((0..outcomes.len()).map(address).collect(), stagger);
    let mut starts = Vec::new();
    let mut reports: Vec<(u64, AttemptId)> = Vec::new();
    let mut now = 0;
    let end = loop {
        match race.poll(origin + Duration::from_millis(now)) {
            RaceStep::Start { attempt, address: to } => {
                assert_eq!(attempt.index(), starts.len(), "started in list order, each once");
                assert_eq!(to, address(attempt.index()));
                starts.push(now);
                reports.extend(outcomes[attempt.index()].delay().map(|delay| (now + delay, attempt)));
                assert_eq!(race.losers().count(), 0, "no losers before the win");
            }
            RaceStep::Wait { until } => {
                let timer = until.map(|until| {
                    u64::try_from((until - origin).as_millis()).expect("a test's clock is short")
                });
                assert!(timer.is_none_or(|timer| timer > now), "a wait lies ahead");
                let report = reports.iter().map(|&(at, _)| at).min();
                let Some(next) = timer.into_iter().chain(report).min() else { break End::WaitsForEver };
                now = next;
                reports.sort();
                while reports.first().is_some_and(|&(at, _)| at == now) {
                    let (_, attempt) = reports.remove(0);
                    match outcomes[attempt.index()] {
                        FailsAfter(_) => assert!(race.failed(attempt, now)),
                        SucceedsAfter(_) => _ = race.succeeded(attempt),
                        NeverAnswers => unreachable!("it has no report"),
                    }
                }
            }
            RaceStep::Won { attempt, address: to } => {
                assert_eq!(to, address(attempt.index()));
                let losers = race.losers().map(AttemptId::index).collect();
                break End::Won { winner: attempt.index(), at: now, losers };
            }
            RaceStep::Failed => break End::Failed(race.into_failures()),
        }
    };
    Run { starts, end }
}

fn address(index: usize) -> SocketAddr {
    let port = 1000 + u16::try_from(index).expect("a test's list is short");
    if index.is_multiple_of(2) {
        ([0, 0, 0, 0, 0, 0, 0, 1], port).into()
    } else {
        ([127, 0, 0, 1], port).into()
    }
}

fn started(race: &mut AddressRace<&str>, now: Instant) -> AttemptId {
    match race.poll(now) {
        RaceStep::Start { attempt, .. } => attempt,
        other => panic!("expected a start, got {other:?}"),
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_fast_first_address_wins_alone() {
    let run = run(&[SucceedsAfter(20), SucceedsAfter(1)], Some(DEFAULT_STAGGER));
    assert_eq!(run.starts, [0]);
    assert_eq!(run.end, End::Won { winner: 0, at: 20, losers: vec![] });
}

#[test]
fn a_silent_address_gets_company_after_the_stagger() {
    let run = run(&[NeverAnswers, NeverAnswers, SucceedsAfter(30)], Some(DEFAULT_STAGGER));
    assert_eq!(run.starts, [0, 250, 500]);
    assert_eq!(run.end, End::Won { winner: 2, at: 530, losers: vec![0, 1] });
}

#[test]
fn a_slow_first_address_still_wins_over_a_slower_second() {
    let run = run(&[SucceedsAfter(300), SucceedsAfter(100)], Some(DEFAULT_STAGGER));
    assert_eq!(run.starts, [0, 250]);
    assert_eq!(run.end, End::Won { winner: 0, at: 300, losers: vec![1] });
}

#[test]
fn a_failure_starts_the_next_address_at_once() {
    let run = run(&[FailsAfter(7), FailsAfter(5), SucceedsAfter(1)], Some(DEFAULT_STAGGER));
    assert_eq!(run.starts, [0, 7, 12]);
    assert_eq!(run.end, End::Won { winner: 2, at: 13, losers: vec![] });
}

#[test]
fn a_failure_of_an_older_attempt_also_starts_the_next_address_at_once() {
    let run = run(&[FailsAfter(300), NeverAnswers, NeverAnswers, SucceedsAfter(1)], Some(DEFAULT_STAGGER));
    assert_eq!(run.starts, [0, 250, 300, 550], "and the stagger counts anew from there");
}

#[test]
fn two_failures_at_one_moment_bring_one_start_forward() {
    let outcomes = [FailsAfter(260), FailsAfter(10), NeverAnswers, SucceedsAfter(1)];
    assert_eq!(run(&outcomes, Some(DEFAULT_STAGGER)).starts, [0, 250, 260, 510]);
}

#[test]
fn without_a_stagger_addresses_are_tried_strictly_one_after_another() {
    let run = run(&[FailsAfter(60_000), FailsAfter(3), SucceedsAfter(9_000), SucceedsAfter(1)], None);
    assert_eq!(run.starts, [0, 60_000, 60_003]);
    assert_eq!(run.end, End::Won { winner: 2, at: 69_003, losers: vec![] });
}

#[test]
fn without_a_stagger_a_silent_address_waits_for_the_driver_to_give_up_on_it() {
    let run = run(&[NeverAnswers, SucceedsAfter(1)], None);
    assert_eq!(run.starts, [0]);
    assert_eq!(run.end, End::WaitsForEver);
}

#[test]
fn when_all_fail_every_address_is_listed_in_address_order() {
    let run = run(&[FailsAfter(900), FailsAfter(1), FailsAfter(400)], Some(DEFAULT_STAGGER));
    assert_eq!(run.starts, [0, 250, 251]);
    assert_eq!(run.end, End::Failed(vec![(address(0), 900), (address(1), 251), (address(2), 651)]));
}

#[test]
fn no_addresses_fail_at_once_with_an_empty_list() {
    for stagger in [None, Some(DEFAULT_STAGGER)] {
        assert_eq!(run(&[], stagger).end, End::Failed(vec![]));
    }
}

#[test]
fn a_tiny_stagger_is_raised_to_the_floor() {
    let outcomes = [NeverAnswers, NeverAnswers, SucceedsAfter(1)];
    let floor = [0, 10, 20];
    assert_eq!(MIN_STAGGER, ms(10));
    assert_eq!(run(&outcomes, Some(Duration::ZERO)).starts, floor);
    assert_eq!(run(&outcomes, Some(ms(9))).starts, floor);
    assert_eq!(run(&outcomes, Some(ms(11))).starts, [0, 11, 22]);
}

#[test]
fn a_late_success_is_a_loser() {
    let now = Instant::now();
    let mut race = AddressRace::new(vec![address(0), address(1), address(2)], Some(DEFAULT_STAGGER));
    let first = started(&mut race, now);
    let second = started(&mut race, now + DEFAULT_STAGGER);
    assert!(race.succeeded(second));
    assert_eq!(race.losers().collect::<Vec<_>>(), [first]);
    assert!(!race.succeeded(first), "the driver closes it");
    assert_eq!(race.losers().count(), 0, "and need not be told twice");
    assert_eq!(race.poll(now + ms(9_999)), RaceStep::Won { attempt: second, address: address(1) });
}

#[test]
fn a_late_driver_does_not_start_a_burst() {
    let now = Instant::now();
    let mut race = AddressRace::new((0..4).map(address).collect(), Some(DEFAULT_STAGGER));
    started(&mut race, now);
    let late = now + ms(10_000);
    started(&mut race, late);
    assert_eq!(race.poll(late), RaceStep::Wait { until: Some(late + DEFAULT_STAGGER) });
    assert_eq!(race.poll(now), RaceStep::Wait { until: Some(late + DEFAULT_STAGGER) }, "a clock set back");
}

#[test]
fn asking_again_gives_the_same_answer() {
    let now = Instant::now();
    let mut race = AddressRace::new(vec![address(0)], Some(DEFAULT_STAGGER));
    let only = started(&mut race, now);
    assert_eq!(race.poll(now), RaceStep::Wait { until: None }, "no address left to time");
    assert_eq!(race.poll(now), RaceStep::Wait { until: None });
    assert!(race.failed(only, "refused"));
    assert_eq!(race.poll(now), RaceStep::Failed);
    assert_eq!(race.poll(now), RaceStep::Failed);
}

/// The rules written down a second time, for any outcome that takes at least 1 ms: when each address
/// starts, up to the first success.
fn expected_starts(outcomes: &[Outcome], stagger: Option<u64>) -> Vec<u64> {
    let mut starts = Vec::new();
    let mut next = (!outcomes.is_empty()).then_some(0);
    while let Some(now) = next {
        starts.push(now);
        let reports = |wanted: fn(&Outcome) -> bool| {
            let started = starts.iter().zip(outcomes).filter(move |(_, outcome)| wanted(outcome));
            started.filter_map(|(start, outcome)| Some(start + outcome.delay()?))
        };
        let failure = reports(|outcome| matches!(outcome, FailsAfter(_))).filter(|&at| at > now).min();
        let success = reports(|outcome| matches!(outcome, SucceedsAfter(_))).min();
        next = failure.into_iter().chain(stagger.map(|stagger| now + stagger)).min();
        next = next.filter(|&next| starts.len() < outcomes.len() && success.is_none_or(|won| next < won));
    }
    starts
}

fn outcome() -> impl Strategy<Value = Outcome> {
    // Few distinct delays, so that reports and timers often meet at one moment.
    let delay = || prop_oneof![1u64..=4, (1u64..=60).prop_map(|tens| tens * 10)];
    prop_oneof![
        4 => delay().prop_map(FailsAfter),
        1 => delay().prop_map(SucceedsAfter),
        1 => Just(NeverAnswers),
    ]
}

/// One careless thing a driver does; attempts are named by index, started or not.
#[derive(Debug, Clone)]
enum Op {
    Poll { later: u64 },
    Succeeded(usize),
    Failed(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0u64..=400).prop_map(|later| Op::Poll { later }),
        1 => (0usize..8).prop_map(Op::Succeeded),
        3 => (0usize..8).prop_map(Op::Failed),
    ]
}

/// Valid-looking names from another race, to report attempts this race has not started.
fn foreign_attempts() -> Vec<AttemptId> {
    let mut other = AddressRace::new((0..8).map(address).collect(), Some(MIN_STAGGER));
    let now = Instant::now();
    (0..8).map(|at| started(&mut other, now + MIN_STAGGER * at)).collect()
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_race_keeps_the_rules(
        outcomes in prop::collection::vec(outcome(), 0..8),
        stagger in prop::option::of(prop_oneof![Just(10u64), 1u64..=40, Just(250)]),
    ) {
        let run = run(&outcomes, stagger.map(ms));
        let stagger = stagger.map(|stagger| stagger.max(10));
        let starts = &run.starts;
        let report = |(start, &outcome): (&u64, &Outcome)| (outcome, outcome.delay().map(|d| start + d));
        let reports: Vec<_> = starts.iter().zip(&outcomes).map(report).collect();

        prop_assert_eq!(starts, &expected_starts(&outcomes, stagger));
        for pair in starts.windows(2) {
            let failed_between = reports.iter().any(|&(outcome, at)| {
                matches!(outcome, FailsAfter(_)) && at.is_some_and(|at| pair[0] < at && at <= pair[1])
            });
            prop_assert!(failed_between || stagger.is_some_and(|stagger| pair[1] - pair[0] >= stagger));
        }

        let successes = reports.iter().filter(|(outcome, _)| matches!(outcome, SucceedsAfter(_)));
        let first_success = successes.filter_map(|&(_, at)| at).min();
        match run.end {
            End::Won { winner, at, losers } => {
                prop_assert_eq!(reports[winner], (outcomes[winner], Some(at)));
                prop_assert_eq!(first_success, Some(at));
                prop_assert!(starts.iter().all(|&start| start < at), "nothing starts after the win");
                let open = |&i: &usize| i != winner && reports[i].1.is_none_or(|report| report > at);
                prop_assert_eq!(losers, (0..starts.len()).filter(open).collect::<Vec<_>>());
            }
            End::Failed(failures) => {
                prop_assert_eq!(first_success, None);
                prop_assert_eq!(starts.len(), outcomes.len());
                let expected = reports.iter().enumerate().map(|(i, &(_, at))| (address(i), at.unwrap()));
                prop_assert_eq!(failures, expected.collect::<Vec<_>>());
            }
            End::WaitsForEver => {
                prop_assert_eq!(first_success, None);
                prop_assert!(reports.iter().any(|&(outcome, _)| outcome == NeverAnswers));
                prop_assert!(stagger.is_none() || starts.len() == outcomes.len(), "all were tried");
            }
        }
    }

    #[test]
    fn a_careless_driver_breaks_nothing(len in 0usize..8, ops in prop::collection::vec(op(), 0..60)) {
        let ids = foreign_attempts();
        let mut race = AddressRace::<usize>::new((0..len).map(address).collect(), Some(DEFAULT_STAGGER));
        let mut now = Instant::now();
        let (mut started, mut reported, mut winner) = (0, BTreeSet::new(), None);
        let mut failures = Vec::new();
        for op in ops {
            match op {
                Op::Poll { later } => {
                    now += ms(later);
                    match race.poll(now) {
                        RaceStep::Start { attempt, .. } => {
                            prop_assert!(winner.is_none() && attempt == ids[started]);
                            started += 1;
                        }
                        RaceStep::Wait { .. } => prop_assert!(winner.is_none() && failures.len() < started),
                        RaceStep::Won { attempt, .. } => prop_assert_eq!(winner, Some(attempt)),
                        RaceStep::Failed => prop_assert!(winner.is_none() && failures.len() == len),
                    }
                }
                Op::Succeeded(i) => {
                    let counts = i < started && reported.insert(i);
                    if counts && winner.is_none() {
                        winner = Some(ids[i]);
                    }
                    prop_assert_eq!(race.succeeded(ids[i]), winner == Some(ids[i]));
                }
                Op::Failed(i) => {
                    let counts = i < started && reported.insert(i);
                    prop_assert_eq!(race.failed(ids[i], i), counts);
                    if counts {
                        failures.push((address(i), i));
                    }
                }
            }
        }
        failures.sort_by_key(|&(_, i)| i);
        prop_assert_eq!(race.into_failures(), failures);
    }

    #[test]
    fn interleaving_is_a_permutation_that_alternates_while_it_can(
        picks in prop::collection::vec(0usize..12, 0..16),
        count in 0usize..5,
    ) {
        let resolved: Vec<_> = picks.into_iter().map(address).collect();
        let kept = interleave(&resolved, 0);
        let order = interleave(&resolved, count);
        for v6 in [true, false] {
            let of_family = |a: &SocketAddr| a.is_ipv6() == v6;
            let family = |list: &[SocketAddr]| list.iter().copied().filter(of_family).collect::<Vec<_>>();
            prop_assert_eq!(family(&order), family(&kept), "the resolver's order within a family");
        }
        prop_assert!(kept.iter().enumerate().all(|(i, a)| !kept[..i].contains(a)), "each address once");
        prop_assert_eq!(order.first(), resolved.first());
        if count >= DEFAULT_FIRST_FAMILY_COUNT {
            // Past the leading run, equal neighbours mean that the other family has run out.
            for i in count..order.len() {
                if order[i].is_ipv6() == order[i - 1].is_ipv6() {
                    prop_assert!(order[i..].iter().all(|a| a.is_ipv6() == order[i].is_ipv6()));
                }
            }
            let leading = order.iter().take(count).take_while(|a| a.is_ipv6() == order[0].is_ipv6()).count();
            let family_len = order.iter().filter(|a| a.is_ipv6() == order[0].is_ipv6()).count();
            prop_assert_eq!(leading, count.min(family_len));
        }
    }
}
