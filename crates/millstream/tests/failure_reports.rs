//! How failures are told: a callback hears of every one, and what a server writes by itself is bounded.

mod support;

use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream::proxy::ProxyProtocol;
use millstream::{ReportLimit, Server, ServerOptions};
use support::proxy::tick;
use support::{run, run_paused};

/// Refuses everybody, without a byte from them: no network is trusted.
fn refusing() -> ServerOptions {
    ServerOptions::new().proxy_protocol(ProxyProtocol::required())
}

async fn flood(server: &Server, number: u64) {
    let port = server.sockets()[0].port().expect("TCP");
    let before = server.stats().refused_headers;
    for _ in 0..number {
        drop(TcpStream::connect(("127.0.0.1", port)).expect("a living server"));
        // Each is refused before the backlog is full.
        tokio::task::yield_now().await;
    }
    while server.stats().refused_headers < before + number {
        tick().await;
    }
}

#[test]
fn by_default_a_flood_of_failures_is_a_bounded_number_of_lines_on_standard_error() {
    const TEST: &str = "by_default_a_flood_of_failures_is_a_bounded_number_of_lines_on_standard_error";
    const FLOODS: &str = "MILLSTREAM_TEST_FLOODS";
    const NUMBER: u64 = 1_000;
    if std::env::var_os(FLOODS).is_some() {
        return run(async {
            // A flood at one silences no other, though both have the same options.
            let options = refusing();
            for _ in 0..2 {
                let server = options.clone().start("127.0.0.1", 0, |_, _| ()).await.unwrap();
                flood(&server, NUMBER).await;
                server.close();
                server.wait_closed().await;
            }
        });
    }
    let start = Instant::now();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture"])
        .env(FLOODS, "1")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{errors}");
    let lines = errors.lines().filter(|line| line.starts_with("millstream: ")).count();
    let bound = 2 * (10 + usize::try_from(start.elapsed().as_secs()).unwrap());
    assert!((20..=bound).contains(&lines), "{lines} lines of twice {NUMBER} failures\n{errors}");
}

#[test]
fn a_callback_hears_of_every_failure_and_may_ask_which_to_write_down() {
    run_paused(async {
        let (heard, lines) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let options = {
            let (heard, lines, limit) = (Arc::clone(&heard), Arc::clone(&lines), ReportLimit::new().burst(3));
            refusing().on_failure(move |failure| {
                heard.fetch_add(1, Ordering::Relaxed);
                lines.lock().unwrap().extend(limit.admit(&failure));
            })
        };
        let server = options.start("127.0.0.1", 0, |_, _| ()).await.unwrap();
        flood(&server, 300).await;
        assert_eq!(heard.load(Ordering::Relaxed), 300);
        let first: Vec<u64> = lines.lock().unwrap().clone();
        // The clock stands still but for the waits of a millisecond for the last of them.
        assert_eq!(first, [0, 0, 0]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        flood(&server, 100).await;
        assert_eq!(heard.load(Ordering::Relaxed), 400);
        assert_eq!(*lines.lock().unwrap(), [0, 0, 0, 297]);
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn cores_share_the_bound_of_the_options_that_they_were_started_with() {
    run(async {
        let lines = Arc::new(AtomicUsize::new(0));
        let options = {
            let (lines, limit) = (Arc::clone(&lines), ReportLimit::new().every(Duration::from_secs(3600)));
            refusing().on_failure(move |failure| {
                lines.fetch_add(usize::from(limit.admit(&failure).is_some()), Ordering::Relaxed);
            })
        };
        let server = options.per_core().cores(2).start("127.0.0.1", 0, |_, _| ()).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        for _ in 0..100 {
            drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
        }
        while server.stats().refused_headers < 100 {
            tick().await;
        }
        assert_eq!(lines.load(Ordering::Relaxed), 10);
        server.close();
        server.wait_closed().await;
    });
}
