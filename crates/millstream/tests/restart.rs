//! Servers in processes of their own: stopped by signals, started on inherited sockets, replaced without refusing anyone.
//!
//! The processes are this test binary, run again; each does what `ROLE` says.

mod support;

#[allow(dead_code, reason = "its own `main` is for cargo")]
#[path = "../examples/graceful_server.rs"]
mod graceful_server;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use millstream::{Error, ServeError, Server, ServerOptions, StreamReader, StreamWriter};
use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "MILLSTREAM_TEST_ROLE";

#[test]
fn sigterm_and_sigint_stop_a_server_which_says_by_which() {
    for (signal, name) in [(Signal::TERM, "Terminate"), (Signal::INT, "Interrupt")] {
        let mut server = Process::start("example");
        let port = server.port();
        let mut idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(answer(&mut idle, "hello\n"), "6\n");
        let mut busy = TcpStream::connect(("127.0.0.1", port)).unwrap();
        busy.write_all(b"hi\nslow work\n").unwrap();
        let mut busy = BufReader::new(busy);
        let mut line = String::new();
        busy.read_line(&mut line).unwrap();
        server.signal(signal);
        assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "a clean end");
        line.clear();
        busy.read_to_string(&mut line).unwrap();
        assert_eq!(line, "in short: 10\n");
        drop((idle, busy));
        let stopped = server.says("Stopped by ");
        assert_eq!(stopped, format!("Some({name}): Stopped {{ finished: 0, idle: 2, aborted: 0 }}"));
        assert!(server.says("ServerStats ").contains("accepted: 2, connections: 0, peak_connections: 2"));
        server.ends_well();
    }
}

#[test]
fn a_second_signal_cuts_off_at_once_who_will_not_end() {
    let mut server = Process::start("hang");
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    server.says("called");
    let began = Instant::now();
    server.signal(Signal::TERM);
    server.says("told");
    server.signal(Signal::INT);
    assert_eq!(server.says("stopped "), "Some(Terminate) 0 0 1");
    assert!(client.read(&mut [0; 1]).is_err(), "a reset");
    assert!(began.elapsed() < Duration::from_secs(10));
    server.ends_well();
}

#[test]
fn inherited_sockets_are_served_all_together_or_by_name_each_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let ports = [&tcp, &other].map(|listener| listener.local_addr().unwrap().port());
    let sockets: Vec<OwnedFd> = vec![tcp.into(), unix.into(), other.into()];
    let mut server = Process::start_with("inherit", sockets, &[("LISTEN_FDNAMES", "web:web:admin")], true);
    assert_eq!(server.says("first, a child has "), "3");
    assert_eq!(
        server.says("missing "),
        "start_inherited: this process has no inherited listening socket named \"nobody\""
    );
    assert_eq!(server.says("admin "), format!("[Ip(127.0.0.1:{})]", ports[1]));
    assert_eq!(server.says("rest "), format!("[Ip(127.0.0.1:{}), Path({path:?})]", ports[0]));
    assert_eq!(server.says("again "), "start_inherited: this process has no inherited listening socket");
    assert_eq!(server.says("environment "), "None None");
    assert_eq!(server.says("then, a child has "), "0", "they are closed when a child is run");
    for (port, name) in [(ports[0], "rest"), (ports[1], "admin")] {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(answer(&mut client, "who\n"), format!("{name}\n"));
    }
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"who\n").unwrap();
    let mut said = [0; 5];
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"rest\n");
    drop(client);
    server.signal(Signal::TERM);
    server.ends_well();
    assert!(path.exists(), "the path belongs to whoever made it");
}

#[test]
fn without_sockets_for_this_very_process_or_with_wrong_ones_there_is_a_typed_error() {
    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut none = Process::start_with("inherit nothing", vec![], &[], false);
    assert!(none.says("error ").starts_with("NoInherited { name: None }"));
    none.ends_well();
    let mut anothers =
        Process::start_with("inherit nothing", vec![listener()], &[("LISTEN_PID", "1")], false);
    assert!(anothers.says("error ").starts_with("NoInherited { name: None }"));
    anothers.ends_well();
    let connected = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(connected.local_addr().unwrap()).unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for wrong in [OwnedFd::from(connected), OwnedFd::from(datagrams)] {
        let mut server = Process::start_with("inherit nothing", vec![listener(), wrong], &[], false);
        assert!(server.says("error ").starts_with("BadInherited { index: 1, "));
        server.ends_well();
    }
}

#[test]
fn a_unix_path_that_was_handed_over_outlives_its_first_server() {
    support::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = millstream::start_unix_server(&path, support::echo).await.unwrap();
        let mut sockets = first.listeners().unwrap();
        assert_eq!(sockets[0].address.path(), Some(&*path));
        let socket = UnixListener::from(sockets.remove(0).socket);
        let second = ServerOptions::new().start_on_unix(socket, support::echo).unwrap();
        first.stop(Duration::ZERO).await;
        assert!(first.listeners().unwrap().is_empty());
        let (mut reader, writer) = millstream::open_unix_connection(&path).await.unwrap();
        support::ping(&mut reader, &writer).await;
        drop((reader, writer));
        second.stop(PATIENCE).await;
    });
}

#[test]
fn a_restart_under_load_refuses_nobody_and_loses_no_answer() {
    let mut old = Process::start("hand over");
    let address = SocketAddr::from(([127, 0, 0, 1], old.port()));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut answered = std::collections::BTreeMap::<String, u32>::new();
                while !over.load(Ordering::Relaxed) {
                    let mut client = TcpStream::connect(address).expect("nobody is refused");
                    *answered.entry(answer(&mut client, "who\n")).or_default() += 1;
                    std::thread::sleep(Duration::from_micros(200));
                }
                answered
            })
        })
        .collect();
    let moment = || std::thread::sleep(Duration::from_millis(300));
    moment();
    old.say("hand over\n");
    let new = Successor(old.says("successor "));
    moment();
    old.signal(Signal::TERM);
    let stopped = old.says("stopped ");
    assert!(stopped.ends_with(" 0"), "aborted: {stopped}");
    moment();
    over.store(true, Ordering::Relaxed);
    let mut answered = std::collections::BTreeMap::new();
    for client in clients {
        for (who, count) in client.join().expect("nobody is refused, no answer is lost") {
            *answered.entry(who).or_insert(0) += count;
        }
    }
    assert_eq!(new.signal(Signal::TERM), Ok(()));
    assert_eq!(old.says("stopped ").rsplit(' ').next(), Some("0"), "the successor's");
    old.ends_well();
    let counts: Vec<u32> = answered.values().copied().collect();
    assert!(answered.contains_key(&format!("{}\n", new.0)), "{answered:?}");
    assert!(counts.len() == 2 && counts.iter().all(|&count| count > 50), "{answered:?}");
    eprintln!("answers by process: {answered:?}");
}

/// What the processes do. Does nothing unless it was started by one of the tests above.
#[test]
#[ignore = "the servers of the other tests"]
fn the_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let result = match &role[..] {
            "example" => graceful_server::serve("127.0.0.1", 0).await,
            "hang" => hang().await,
            "inherit" => inherit().await,
            "inherit nothing" => {
                println!(
                    "error {:?}",
                    ServerOptions::new().start_inherited(hello).expect_err("nothing to inherit")
                );
                Ok(())
            }
            "hand over" => hand_over().await,
            role => panic!("no such role: {role}"),
        };
        result.expect("no failure");
    });
}

async fn hang() -> Result<(), Error> {
    async fn handler(_reader: StreamReader, writer: StreamWriter) {
        println!("called");
        writer.stopping().requested().await;
        println!("told");
        std::future::pending().await
    }
    let server = millstream::start_server("127.0.0.1", 0, handler).await?;
    println!("Serving on {}", server.sockets()[0]);
    report(&server).await
}

async fn inherit() -> Result<(), Error> {
    let options = ServerOptions::new();
    println!("first, a child has {}", sockets_of_a_child());
    println!("missing {}", options.start_inherited_named("nobody", hello).expect_err("no such name"));
    let admin = options.start_inherited_named("admin", |r, w| named(r, w, "admin"))?;
    println!("admin {:?}", admin.sockets());
    let rest = options.start_inherited(|r, w| named(r, w, "rest"))?;
    println!("rest {:?}", rest.sockets());
    println!("again {}", options.start_inherited(hello).expect_err("all are taken"));
    println!("environment {:?} {:?}", std::env::var("LISTEN_FDS").ok(), std::env::var("LISTEN_PID").ok());
    println!("then, a child has {}", sockets_of_a_child());
    report(&rest).await?;
    admin.stop(PATIENCE).await;
    Ok(())
}

/// How many sockets a child of this process gets from it.
fn sockets_of_a_child() -> usize {
    let listing = Command::new("/bin/ls").args(["-l", "/proc/self/fd"]).output().expect("a child");
    String::from_utf8_lossy(&listing.stdout).matches("socket:[").count()
}

/// Serves, and on demand starts a successor on the same sockets, as the documentation of `Server::listeners` says.
async fn hand_over() -> Result<(), Error> {
    let who: &'static str = std::process::id().to_string().leak();
    let handler = move |r, w| named(r, w, who);
    let server = match ServerOptions::new().start_inherited(handler) {
        Err(ServeError::NoInherited { .. }) => millstream::start_server("127.0.0.1", 0, handler).await?,
        server => {
            println!("successor {who}");
            server?
        }
    };
    println!("Serving on {}", server.sockets()[0]);
    let sockets = server.listeners()?;
    // On a thread of its own: it waits for a word that may never come.
    std::thread::spawn(move || {
        let mut order = String::new();
        if std::io::stdin().read_line(&mut order).is_ok_and(|len| len > 0) {
            let mut command = again("hand over");
            command.env("LISTEN_FDS", sockets.len().to_string()).env_remove("LISTEN_PID");
            let numbered = sockets.into_iter().zip(3..);
            let numbered = numbered.map(|(it, child_fd)| FdMapping { parent_fd: it.socket, child_fd });
            command.fd_mappings(numbered.collect()).expect("no number twice");
            // It outlives this process; the test ends it.
            let _ = command.stdin(Stdio::null()).spawn().expect("a successor").wait();
        }
    });
    report(&server).await
}

async fn report(server: &Server) -> Result<(), Error> {
    let (signal, stopped) = server.serve_until_terminated(PATIENCE).await?;
    println!("stopped {signal:?} {} {} {}", stopped.finished, stopped.idle, stopped.aborted);
    Ok(())
}

async fn named(mut reader: StreamReader, writer: StreamWriter, name: &str) -> Result<(), Error> {
    while reader.read_line().await?.is_some() {
        writer.write(format!("{name}\n").as_bytes())?;
    }
    Ok(())
}

async fn hello(_reader: StreamReader, _writer: StreamWriter) {}

/// One line to a server, and one back.
fn answer(client: &mut TcpStream, line: &str) -> String {
    client.write_all(line.as_bytes()).expect("an open connection");
    let mut said = String::new();
    BufReader::new(client).read_line(&mut said).expect("an answer");
    assert!(said.ends_with('\n'), "an answer was lost: {said:?}");
    said
}

/// This test binary again, in this role.
fn again(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["the_process", "--exact", "--ignored", "--nocapture"]).env(ROLE, role);
    command
}

/// The id of the process that took over, which is nobody's child any more; ended when dropped, if it still runs.
struct Successor(String);

impl Successor {
    fn signal(&self, signal: Signal) -> Result<(), rustix::io::Errno> {
        let pid = self.0.parse().ok().and_then(Pid::from_raw).expect("the id of a process");
        kill_process(pid, signal)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.signal(Signal::KILL);
        }
    }
}

/// A process of ours, ended by its id when dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    fn start(role: &str) -> Self {
        Self::spawn(again(role))
    }

    /// With these sockets as descriptors 3 and up. `with_pid`: the process is named as the one they are for.
    fn start_with(role: &str, sockets: Vec<OwnedFd>, environment: &[(&str, &str)], with_pid: bool) -> Self {
        let mut command = again(role);
        if with_pid {
            // Only the process itself knows its id before it is run; a shell that becomes it can say it.
            let plain = std::mem::replace(&mut command, Command::new("/bin/sh"));
            command
                .args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"])
                .arg(plain.get_program())
                .args(plain.get_args());
            command.env(ROLE, role);
        }
        if !sockets.is_empty() {
            command.env("LISTEN_FDS", sockets.len().to_string());
        }
        command.envs(environment.iter().copied());
        let numbered = sockets.into_iter().zip(3..);
        let numbered = numbered.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(numbered).expect("no number twice");
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Self { child, input, lines }
    }

    /// What comes behind this text in a line that it says, from now on.
    fn says(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("it does not say {text:?}"));
            // The test runner's own words stand before the first.
            if let Some((_, rest)) = line.split_once(text) {
                return rest.trim().to_owned();
            }
        }
    }

    fn port(&mut self) -> u16 {
        let address: SocketAddr = self.says("Serving on ").parse().expect("an address");
        address.port()
    }

    fn say(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).expect("it listens");
    }

    /// Sends it, once it is caught: before, it ends any process.
    fn signal(&self, signal: Signal) {
        let deadline = Instant::now() + PATIENCE;
        while !self.catches(signal) {
            assert!(Instant::now() < deadline, "{signal:?} is never caught");
            std::thread::sleep(Duration::from_millis(1));
        }
        kill_process(Pid::from_child(&self.child), signal).expect("our own child");
    }

    fn catches(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("procfs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a known line");
        let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
        caught >> (signal.as_raw() - 1) & 1 == 1
    }

    fn ends_well(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                assert!(status.success(), "{status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        panic!("it does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long anything may take, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);
