//! Accepting when the system has run out of descriptors: it pauses, says so once, and recovers alone, without losing
//! anyone. Fault row A1.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream::{Server, ServerOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::programs::have;
use support::{echo, in_child, run};

#[test]
fn a1_without_descriptors_it_pauses_reports_once_and_serves_everyone_as_descriptors_come_back() {
    if !in_child("a1_without_descriptors_it_pauses_reports_once_and_serves_everyone_as_descriptors_come_back")
    {
        return;
    }
    run(async {
        let (server, reports) = server().await;
        let address = server.sockets()[0].ip().unwrap();
        let limit = getrlimit(Resource::Nofile);
        let held = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        setrlimit(Resource::Nofile, Rlimit { current: Some(held + 60), ..limit }).unwrap();
        let mut clients: Vec<_> = (0..20).map(|_| client(address)).collect();
        // Nothing is accepted before this thread is given back; then nothing can be.
        let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        paused(&server, 3).await;
        assert_eq!((server.stats().accepted, reports.load(Ordering::Relaxed)), (0, 1));
        // At the limit: each descriptor that comes back lets one in, and accepting fails again right behind it.
        for n in 1..=5 {
            let pauses = server.stats().accept_pauses;
            hoard.pop();
            accepted(&server, n).await;
            paused(&server, pauses + 1).await;
            assert_eq!(reports.load(Ordering::Relaxed), 1, "one outage, one report");
        }
        hoard.clear();
        let began = Instant::now();
        accepted(&server, 20).await;
        assert!(
            began.elapsed() < Duration::from_millis(1500),
            "a pause is 1 s at most: {:?}",
            began.elapsed()
        );
        let answers = tokio::task::spawn_blocking(move || clients.iter_mut().for_each(answered));
        answers.await.unwrap();
        let stats = server.stats();
        assert_eq!((stats.accept_pauses, stats.accepted), (stats.accept_errors, 20));
        assert_eq!(reports.load(Ordering::Relaxed), 1);
        end(&server).await;
        setrlimit(Resource::Nofile, limit).unwrap();
    });
}

#[test]
fn a1_a_server_without_descriptors_can_be_stopped_in_its_pause() {
    if !in_child("a1_a_server_without_descriptors_can_be_stopped_in_its_pause") {
        return;
    }
    run(async {
        let (server, _) = server().await;
        let address = server.sockets()[0].ip().unwrap();
        let limit = getrlimit(Resource::Nofile);
        let held = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        setrlimit(Resource::Nofile, Rlimit { current: Some(held + 20), ..limit }).unwrap();
        let client = client(address);
        let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        // Eight pauses: the next ones are half a second and more.
        paused(&server, 8).await;
        let began = Instant::now();
        server.stop(Duration::from_secs(10)).await;
        assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
        drop((hoard, client));
        setrlimit(Resource::Nofile, limit).unwrap();
    });
}

/// Each error is given to accept4 in turn by strace, several times in a row, before it is let through.
#[test]
fn a1_each_error_of_accept_is_survived_and_only_those_of_this_machine_make_a_pause() {
    if !have(&["strace"]) {
        return;
    }
    for (errors, pauses) in [
        (["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"].as_slice(), true),
        (["ECONNABORTED", "EINTR", "EPROTO", "ENETDOWN", "EPERM"].as_slice(), false),
    ] {
        for error in errors {
            let output = Command::new("strace")
                .args(["-f", "-qq", "-e", "trace=accept4", "-o", "/dev/null"])
                .arg(format!("--inject=accept4:error={error}:when=1..5"))
                .arg(std::env::current_exe().unwrap())
                .args(["the_server_under_strace", "--exact", "--ignored", "--nocapture"])
                .env(UNDER_STRACE, "1")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{error}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
            let expected = if pauses { "errors 5 pauses 5 reports 1" } else { "errors 5 pauses 0 reports 0" };
            assert!(said.contains(expected), "{error}: {said}");
            assert!(said.contains("answered 3 of 3"), "{error}: {said}");
        }
    }
}

/// Does nothing unless it was started by the test above.
#[test]
#[ignore = "the server of the test above"]
fn the_server_under_strace() {
    if std::env::var_os(UNDER_STRACE).is_none() {
        return;
    }
    run(async {
        let (server, reports) = server().await;
        let address = server.sockets()[0].ip().unwrap();
        let mut clients: Vec<_> = (0..3).map(|_| client(address)).collect();
        accepted(&server, 3).await;
        let answers = tokio::task::spawn_blocking(move || clients.iter_mut().map(answered).count());
        let answers = answers.await.unwrap();
        let stats = server.stats();
        let reports = reports.load(Ordering::Relaxed);
        println!("errors {} pauses {} reports {reports}", stats.accept_errors, stats.accept_pauses);
        println!("answered {answers} of 3");
        end(&server).await;
    });
}

/// An echo, and how often it has said that accepting pauses.
async fn server() -> (Server, Arc<AtomicUsize>) {
    let reports = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reports);
    let options = ServerOptions::new().on_failure(move |failure| {
        assert!(failure.is_accept(), "{failure}");
        count.fetch_add(1, Ordering::Relaxed);
    });
    (options.start("127.0.0.1", 0, echo).await.expect("a port"), reports)
}

/// Has sent its request already; the kernel keeps it.
fn client(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).expect("a listening socket");
    client.write_all(b"ping\n").expect("an open socket");
    client
}

fn answered(client: &mut TcpStream) {
    let mut answer = [0; 5];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"ping\n");
}

async fn accepted(server: &Server, connections: u64) {
    while server.stats().accepted < connections {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn paused(server: &Server, times: u64) {
    while server.stats().accept_pauses < times {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn end(server: &Server) {
    server.close();
    server.close_clients();
    server.wait_closed().await;
}

/// Set for the server that strace runs.
const UNDER_STRACE: &str = "MILLSTREAM_TEST_UNDER_STRACE";
