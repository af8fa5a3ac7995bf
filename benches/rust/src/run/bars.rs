//! The bars millstream has to clear, and whether it does.

use super::stats::{self, Figure, Spread};
use super::{Sample, Settings};

/// Which side of the bar is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The ratio has to reach the bound.
    AtLeast,
    /// The ratio must not pass the bound.
    AtMost,
}

/// One bar: the median of a paired ratio against a bound.
#[derive(Debug)]
pub(super) struct Bar {
    /// What is compared, in words.
    pub(super) title: &'static str,
    scenario: &'static str,
    peer: &'static str,
    base: &'static str,
    figure: Figure,
    /// Which side is good.
    pub(super) side: Side,
    /// The bound itself.
    pub(super) bound: f64,
}

/// What became of a bar.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The bar.
    pub(super) bar: &'static Bar,
    /// The paired ratio, when both peers were measured.
    pub(super) ratio: Option<Spread>,
    /// Whether its median is on the good side; `None` when it was not measured.
    pub(super) reached: Option<bool>,
}

const BARS: &[Bar] = &[
    Bar {
        title: "100 connections, depth 1: CPU per request against epoll",
        scenario: "depth1",
        peer: "millstream",
        base: "epoll",
        figure: stats::cpu,
        side: Side::AtMost,
        bound: 1.05,
    },
    Bar {
        title: "50 connections x 100 outstanding: lines/s against tokio-flush",
        scenario: "pipelined",
        peer: "millstream",
        base: "tokio-flush",
        figure: stats::rate,
        side: Side::AtLeast,
        bound: 0.9,
    },
    Bar {
        title: "50 connections x 100 outstanding: lines/s against tokio-naive",
        scenario: "pipelined",
        peer: "millstream",
        base: "tokio-naive",
        figure: stats::rate,
        side: Side::AtLeast,
        bound: 30.0,
    },
    Bar {
        title: "bulk: bytes/s against hand-written",
        scenario: "bulk",
        peer: "bulk-millstream",
        base: "bulk-epoll",
        figure: stats::rate,
        side: Side::AtLeast,
        bound: 0.95,
    },
    Bar {
        title: "bulk: CPU per byte against hand-written",
        scenario: "bulk",
        peer: "bulk-millstream",
        base: "bulk-epoll",
        figure: stats::cpu,
        side: Side::AtMost,
        bound: 1.0 / 0.95,
    },
    Bar {
        title: "TLS, 16 KiB messages: CPU per message against tokio-rustls, bare",
        scenario: "tls-messages",
        peer: "tls-messages-millstream",
        base: "tls-messages-naive",
        figure: stats::cpu,
        side: Side::AtMost,
        bound: 0.83,
    },
    Bar {
        title: "TLS, 16 KiB messages: CPU per message against tokio-rustls, buffered",
        scenario: "tls-messages",
        peer: "tls-messages-millstream",
        base: "tls-messages-flush",
        figure: stats::cpu,
        side: Side::AtMost,
        bound: 0.83,
    },
    Bar {
        title: "TLS, 50 connections x 100 outstanding: lines per CPU second against tokio-rustls, naive",
        scenario: "tls-pipelined",
        peer: "tls-millstream",
        base: "tls-tokio-naive",
        figure: stats::capacity,
        side: Side::AtLeast,
        bound: 20.0,
    },
    Bar {
        title: "TLS, 5000 idle connections: memory against tokio-rustls, naive",
        scenario: "tls-memory",
        peer: "tls-millstream",
        base: "tls-tokio-naive",
        figure: stats::memory,
        side: Side::AtMost,
        bound: 1.0,
    },
    Bar {
        title: "TLS, 5000 idle connections: memory against tokio-rustls, flushed by hand",
        scenario: "tls-memory",
        peer: "tls-millstream",
        base: "tls-tokio-flush",
        figure: stats::memory,
        side: Side::AtMost,
        bound: 1.0,
    },
];

/// Judges the bars of the scenarios that were run.
pub(super) fn judge(settings: &Settings, samples: &[Sample]) -> Vec<Verdict> {
    let was_run = |bar: &&Bar| settings.scenarios.iter().any(|scenario| scenario.name == bar.scenario);
    let verdict = |bar: &'static Bar| {
        let ratio = stats::ratio(samples, bar.scenario, bar.peer, bar.base, bar.figure);
        let reached = ratio.map(|ratio| match bar.side {
            Side::AtLeast => ratio.median >= bar.bound,
            Side::AtMost => ratio.median <= bar.bound,
        });
        Verdict { bar, ratio, reached }
    };
    BARS.iter().filter(was_run).map(verdict).collect()
}
