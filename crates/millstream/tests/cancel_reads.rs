//! Row X1 for readers: every read, dropped after k polls for each k until it completes, has lost no byte.
//!
//! Writers, connecting and serving are in `cancel_writes.rs`, TLS in `tls_cancel.rs`.
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod cancelling;
mod support;

use cancelling::reads::{INPUT, KINDS, completes, give_up_and_go_on, random_run};
use millstream::ConnectOptions;
use millstream::testing::{pair, pair_with_capacity};

#[test]
fn x1_every_read_can_be_dropped_after_any_poll_and_any_read_goes_on() {
    support::run(async {
        let mut cancelled = 0;
        for first in KINDS {
            for then in KINDS {
                let mut k = 0;
                while !completes(first, then, k, pair()).await {
                    k += 1;
                    assert!(k <= INPUT.len() + 2, "{first:?} never completes");
                }
                // A read that waits for nothing completes with its second poll, once there is a byte.
                assert!(k >= 2, "{first:?} was never left waiting");
                cancelled += k;
            }
        }
        assert!(cancelled >= 1000, "only {cancelled} cancellations");
    });
}

#[test]
fn x1_a_million_cancelled_reads_lose_no_byte() {
    support::run(async {
        let (mut cancelled, mut passed) = (0, 0);
        for seed in [0x5eed_1234_5678_9abc, support::fresh_seed()] {
            println!("seed {seed:#x}");
            let (reads, bytes) = random_run(seed, 500_000, pair());
            cancelled += reads;
            passed += bytes;
        }
        assert!(cancelled >= 1_000_000 && passed > 1_000_000, "{cancelled} reads, {passed} bytes");
    });
}

#[test]
fn x1_a_select_with_a_timer_loses_no_byte_in_memory() {
    support::run_paused(async {
        let ((reader, _writer), (_reader, writer)) = pair_with_capacity(64);
        give_up_and_go_on(reader, writer, 2000).await;
    });
}

#[test]
fn x1_a_select_with_a_timer_loses_no_byte_over_tcp() {
    support::run_on_threads(async {
        let options = ConnectOptions::new();
        let ((reader, _writer), peer) = support::tcp_pair(&options);
        let (_reader, writer) = options.adopt_tcp(peer).unwrap();
        give_up_and_go_on(reader, writer, 300).await;
    });
}
