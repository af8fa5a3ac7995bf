//! A server on every core gets connections on each, hurts nobody by one's misfortune, and ends without a trace.

mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use millstream::{
    Error, ErrorClass, PerCoreServer, ServeError, ServerOptions, StreamReader, StreamWriter, open_connection,
    serve_per_core,
};
use support::{echo, ping, run};

fn port_of(server: &PerCoreServer) -> u16 {
    server.sockets()[0].port().expect("TCP")
}

/// The threads of cores that this process has now.
fn core_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("millstream-")).count()
}

/// Waits until no such thread is left, as after a handle that was dropped.
async fn threads_end() {
    for _ in 0..500 {
        if core_threads() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} threads are left", core_threads());
}

/// Waits until no core listens any more, which each sees to in its own time.
async fn refused(port: u16) {
    for _ in 0..500 {
        if open_connection("127.0.0.1", port).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a core still listens");
}

fn thread_name() -> String {
    std::thread::current().name().expect("a thread with a name").to_owned()
}

/// Says the name of its thread, then echoes.
async fn name_and_echo(reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    writer.write(format!("{}\n", thread_name()).as_bytes())?;
    echo(reader, writer).await
}

async fn open(server: &PerCoreServer) -> (StreamReader, StreamWriter) {
    open_connection("127.0.0.1", port_of(server)).await.expect("a server that listens")
}

/// Connects until every one of so many cores has answered; returns a connection of each. The kernel spreads by chance.
async fn one_of_each(server: &PerCoreServer, cores: usize) -> Vec<(StreamReader, StreamWriter)> {
    let (mut names, mut connections) = (HashSet::new(), Vec::new());
    for _ in 0..1_000 {
        let (mut reader, writer) = open(server).await;
        let name = reader.read_line().await.expect("a living core").expect("its name");
        if names.insert(name) {
            connections.push((reader, writer));
        }
        if names.len() == cores {
            return connections;
        }
    }
    panic!("a thousand connections came to {names:?} only");
}

#[test]
fn every_core_gets_connections_at_the_one_port_that_the_system_chose() {
    run(async {
        let server =
            ServerOptions::new().per_core().cores(3).start("127.0.0.1", 0, name_and_echo).await.unwrap();
        let addresses: HashSet<_> = server.cores().iter().map(|core| core.sockets()).collect();
        assert_eq!((server.cores().len(), addresses.len()), (3, 1));
        assert!(server.is_serving());
        let mut connections = one_of_each(&server, 3).await;
        for (reader, writer) in &mut connections {
            ping(reader, writer).await;
        }
        for core in server.cores() {
            assert!(core.connections() >= 1);
        }
        assert!(server.connections() >= 3);
        drop(connections);
        server.close();
        server.wait_closed().await;
        assert_eq!(core_threads(), 0);
    });
}

#[test]
fn as_many_cores_as_this_process_may_use_are_the_default() {
    run(async {
        let server = serve_per_core("127.0.0.1", 0, echo).await.unwrap();
        assert_eq!(server.cores().len(), std::thread::available_parallelism().unwrap().get());
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn closing_ends_all_of_it_in_order_and_leaves_no_thread() {
    run(async {
        let server =
            ServerOptions::new().per_core().cores(2).start("127.0.0.1", 0, name_and_echo).await.unwrap();
        let port = port_of(&server);
        let mut connections = one_of_each(&server, 2).await;
        server.close();
        assert!(!server.is_serving() && server.sockets().is_empty());
        // Connections go on, and are waited for.
        let waiting = tokio::time::timeout(Duration::from_millis(50), server.wait_closed());
        assert!(waiting.await.is_err());
        for (reader, writer) in &mut connections {
            ping(reader, writer).await;
        }
        refused(port).await;

        server.close_clients();
        for (reader, _) in &mut connections {
            assert!(reader.read(10).await.unwrap().is_empty());
        }
        drop(connections);
        server.wait_closed().await;
        assert_eq!((server.connections(), core_threads()), (0, 0));
        // Once more is no harm.
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn aborting_ends_handlers_that_never_would() {
    run(async {
        let stuck = |_reader: StreamReader, writer: StreamWriter| async move {
            writer.write(format!("{}\n", thread_name()).as_bytes())?;
            std::future::pending::<Result<(), Error>>().await
        };
        let server = ServerOptions::new().per_core().cores(2).start("127.0.0.1", 0, stuck).await.unwrap();
        let connections = one_of_each(&server, 2).await;
        server.close();
        server.abort_clients();
        server.wait_closed().await;
        assert_eq!(core_threads(), 0);
        for (mut reader, _) in connections {
            assert!(reader.read(10).await.is_err(), "that was no reset");
        }
    });
}

#[test]
fn a_handler_that_panics_hurts_nobody_not_even_on_its_core() {
    run(async {
        let failures = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&failures);
        let options = ServerOptions::new().on_failure(move |failure| heard.lock().unwrap().push(failure));
        let handler = |mut reader: StreamReader, writer: StreamWriter| async move {
            if reader.read_line().await?.as_deref() == Some(b"panic\n") {
                panic!("as it was told");
            }
            echo(reader, writer).await
        };
        let server = options.per_core().cores(1).start("127.0.0.1", 0, handler).await.unwrap();
        let (mut reader, writer) = open(&server).await;
        writer.write(b"be nice\n").unwrap();
        ping(&mut reader, &writer).await;
        let (mut victim, says) = open(&server).await;
        says.write(b"panic\n").unwrap();
        assert!(victim.read(10).await.unwrap().is_empty());
        ping(&mut reader, &writer).await;
        drop((reader, writer));
        server.close();
        server.wait_closed().await;
        let failures = failures.lock().unwrap();
        assert!(failures.len() == 1 && failures[0].is_panic(), "{failures:?}");
    });
}

#[test]
fn each_core_makes_its_handler_on_its_own_thread() {
    run(async {
        let options = ServerOptions::new().per_core().cores(2);
        let made = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&made);
        let make = move |core: usize| {
            seen.lock().unwrap().push((core, thread_name()));
            move |_reader, writer: StreamWriter| {
                writer.write(format!("{core} {}\n", thread_name()).as_bytes()).expect("a fresh connection");
            }
        };
        let server = options.start_each("127.0.0.1", 0, make).await.unwrap();
        let expected = [(0, "millstream-0".to_owned()), (1, "millstream-1".to_owned())];
        assert_eq!(*made.lock().unwrap(), expected);
        for _ in 0..20 {
            let (mut reader, _writer) = open(&server).await;
            let line = reader.read_line().await.unwrap().unwrap();
            assert!([&b"0 millstream-0\n"[..], b"1 millstream-1\n"].contains(&&line[..]), "{line:?}");
        }
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn a_core_that_cannot_start_closes_the_others_and_leaves_nothing() {
    run(async {
        let port = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&port);
        let options = ServerOptions::new().per_core().cores(3);
        // The port is free again afterwards, even for one who would not share it.
        let make = move |core: usize| {
            assert!(core < 2, "no room for core {core}");
            *seen.lock().unwrap() = listening_port();
            echo
        };
        let error = options.start_each("127.0.0.1", 0, make).await.unwrap_err();
        let ServeError::Core { core: 2, failure } = &error else { panic!("{error:?}") };
        assert!(failure.to_string().contains("no room for core 2"), "{failure}");
        assert_eq!(error.class(), ErrorClass::BadCall);
        assert_eq!(core_threads(), 0);
        let port = port.lock().unwrap().expect("core 0 was listening when core 1 started");
        std::net::TcpListener::bind(("127.0.0.1", port)).expect("nothing is bound any more");
    });
}

/// The port of a listening socket of this process, if there is one.
fn listening_port() -> Option<u16> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("procfs");
    let ours: HashSet<String> = std::fs::read_dir("/proc/self/fd")
        .expect("procfs")
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()?.into_os_string().into_string().ok())
        .collect();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = fields[3] == "0A" && ours.contains(&format!("socket:[{}]", fields[9]));
        is_ours.then(|| u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok()).flatten()
    })
}

#[test]
fn a_port_that_someone_else_has_is_an_error() {
    run(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = serve_per_core("127.0.0.1", port, echo).await.unwrap_err();
        assert!(matches!(error, ServeError::Listen { .. }), "{error:?}");
        assert_eq!((error.class(), core_threads()), (ErrorClass::BadCall, 0));
    });
}

#[test]
fn dropping_the_server_closes_it_and_threads_end_with_their_last_connections() {
    run(async {
        let server = ServerOptions::new().per_core().cores(2).start("127.0.0.1", 0, echo).await.unwrap();
        let port = port_of(&server);
        let (mut reader, writer) = open(&server).await;
        ping(&mut reader, &writer).await;
        drop(server);
        ping(&mut reader, &writer).await;
        refused(port).await;
        assert!(core_threads() >= 1);
        drop((reader, writer));
        threads_end().await;
    });
}

#[test]
fn a_start_that_is_cancelled_leaves_nothing() {
    run(async {
        let (begun, began) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let goes = Mutex::new(goes);
        let make = move |core: usize| {
            if core == 1 {
                begun.send(()).expect("the test waits");
                let _ = goes.lock().expect("nobody else").recv();
            }
            echo
        };
        let start = tokio::spawn(async move {
            ServerOptions::new().per_core().cores(2).start_each("127.0.0.1", 0, make).await.map(drop)
        });
        tokio::task::spawn_blocking(move || began.recv()).await.unwrap().unwrap();
        start.abort();
        assert!(start.await.unwrap_err().is_cancelled());
        go.send(()).unwrap();
        threads_end().await;
    });
}

#[test]
fn a_stop_ends_the_idle_and_finishes_the_busy_on_every_core() {
    run(async {
        let server =
            ServerOptions::new().per_core().cores(2).start("127.0.0.1", 0, name_and_echo).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..40 {
            let (mut reader, writer) = open(&server).await;
            reader.read_line().await.unwrap();
            ping(&mut reader, &writer).await;
            clients.push((reader, writer));
        }
        assert_eq!((server.stats().accepted, server.stats().connections), (40, 40));
        // One of them is in the middle of a request, whose rest comes when the stop has begun.
        let (mut busy, busy_says) = clients.pop().unwrap();
        busy_says.write(b"half a ").unwrap();
        busy_says.flush().unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let client = async {
            for (reader, _writer) in &mut clients {
                assert_eq!(reader.read_line().await.unwrap(), None);
            }
            busy_says.write(b"line\n").unwrap();
            assert_eq!(busy.read_line().await.unwrap().as_deref(), Some(&b"half a line\n"[..]));
            drop((busy, busy_says, clients));
        };
        let (stopped, ()) = tokio::join!(server.stop(Duration::from_secs(20)), client);
        assert_eq!((stopped.idle + stopped.finished, stopped.aborted), (40, 0));
        server.wait_closed().await;
        assert_eq!(core_threads(), 0);
    });
}
