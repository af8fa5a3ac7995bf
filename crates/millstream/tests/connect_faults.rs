//! Connecting when the network says no, says nothing, or is not asked at all: fault rows C1 to C4, and every option.

mod support;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::time::{Duration, Instant};

use millstream::{
    Attempt, ConnectError, ConnectOptions, ErrorClass, Family, HostError, StreamReader, StreamWriter,
};
use socket2::{Domain, SockRef, Socket, Type};
use support::namespaces::{hosts, in_namespaces, ip};
use support::{Held, run};

type Opened = Result<(StreamReader, StreamWriter), ConnectError>;

#[test]
fn c1_a_refused_address_is_named_with_its_errno() {
    run(async {
        let address = refused_port();
        let error = millstream::open_connection("127.0.0.1", address.port()).await.unwrap_err();
        assert_eq!(errnos(&error), BTreeMap::from([(address, Some(libc::ECONNREFUSED))]));
        assert_eq!((error.kind(), error.class()), (ErrorKind::ConnectionRefused, ErrorClass::BrokenByPeer));
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    });
}

#[test]
fn c1_route_failures_are_named_address_by_address_with_their_errnos() {
    in_namespaces("c1_route_failures_are_named_address_by_address_with_their_errnos", || {
        ip("route add unreachable 10.1.0.0/16");
        ip("route add prohibit 10.2.0.0/16");
        let port = refused_port().port();
        hosts("10.1.0.1 all.test\n10.2.0.1 all.test\n10.3.0.1 all.test\n127.0.0.7 all.test\n");
        run(async {
            let error = millstream::open_connection("all.test", port).await.unwrap_err();
            let at = |ip: [u8; 4]| SocketAddr::from((ip, port));
            let expected = [
                (at([10, 1, 0, 1]), Some(libc::EHOSTUNREACH)),
                (at([10, 2, 0, 1]), Some(libc::EACCES)),
                (at([10, 3, 0, 1]), Some(libc::ENETUNREACH)),
                (at([127, 0, 0, 7]), Some(libc::ECONNREFUSED)),
            ];
            assert_eq!(errnos(&error), BTreeMap::from(expected));
            assert_eq!(error.kind(), ErrorKind::Other, "the attempts do not agree");
        });
    });
}

#[test]
fn c1_failures_are_listed_in_the_order_of_the_attempts_even_if_the_first_fails_last() {
    in_namespaces("c1_failures_are_listed_in_the_order_of_the_attempts_even_if_the_first_fails_last", || {
        // A neighbour that nobody answers for fails late, an unreachable route at once.
        ip("link add v0 type veth peer name v1");
        ip("addr add 10.9.0.1/24 dev v0");
        ip("link set v0 up");
        ip("link set v1 up");
        std::fs::write("/proc/sys/net/ipv4/neigh/v0/retrans_time_ms", "100").unwrap();
        ip("route add unreachable 10.1.0.0/16");
        hosts("10.9.0.2 late.test\n10.1.0.1 late.test\n");
        run(async {
            let options = ConnectOptions::new().happy_eyeballs_delay(Some(Duration::from_millis(10)));
            let error = options.open("late.test", 9).await.unwrap_err();
            let tried: Vec<SocketAddr> = ("late.test", 9).to_socket_addrs().unwrap().collect();
            assert_eq!(tried[0].ip(), Ipv4Addr::new(10, 9, 0, 2), "usable addresses come first (RFC 6724)");
            assert_eq!(attempts(&error).iter().map(|attempt| attempt.address).collect::<Vec<_>>(), tried);
        });
    });
}

#[test]
fn c2_the_next_address_starts_after_the_delay_and_wins_over_a_black_hole() {
    in_namespaces("c2_the_next_address_starts_after_the_delay_and_wins_over_a_black_hole", || {
        hosts("127.0.0.2 two.test\n127.0.0.3 two.test\n");
        let order: Vec<SocketAddr> = ("two.test", 4000).to_socket_addrs().unwrap().collect();
        let [first, second] = order[..] else { panic!("two addresses, not {order:?}") };
        let hole = BlackHole::at(first);
        let good = TcpListener::bind(second).unwrap();
        run(async {
            let delay = Duration::from_millis(300);
            let before = Held::now().descriptors;
            let started = Instant::now();
            let options = ConnectOptions::new().happy_eyeballs_delay(Some(delay));
            let (reader, writer) = options.open("two.test", 4000).await.unwrap();
            let took = started.elapsed();
            assert_eq!(writer.peer_address(), Some(second.into()));
            assert!(took >= delay, "the second address was tried after {took:?}, within the delay");
            assert!(took < SYN_GIVE_UP, "the second address waited for the first to fail: {took:?}");
            let (accepted, _) = good.accept().unwrap();
            assert_eq!(Some(accepted.peer_addr().unwrap().into()), writer.local_address());
            assert_eq!(Held::now().descriptors, before + 2, "only the winner and its peer are open");
            assert_eq!(
                hole.attempts(),
                1,
                "the kernel knows of no other attempt than the one that filled the hole"
            );
            writer.abort();
            drop((reader, writer));
        });
    });
}

#[test]
fn c2_without_a_delay_the_second_address_waits_for_the_first_and_the_timeout_names_no_failure() {
    in_namespaces(
        "c2_without_a_delay_the_second_address_waits_for_the_first_and_the_timeout_names_no_failure",
        || {
            hosts("127.0.0.2 two.test\n127.0.0.3 two.test\n");
            let order: Vec<SocketAddr> = ("two.test", 4000).to_socket_addrs().unwrap().collect();
            let _hole = BlackHole::at(order[0]);
            let good = TcpListener::bind(order[1]).unwrap();
            good.set_nonblocking(true).unwrap();
            run(async {
                let timeout = Duration::from_millis(400);
                let options = ConnectOptions::new().happy_eyeballs_delay(None).timeout(timeout);
                let error = options.open("two.test", 4000).await.unwrap_err();
                let expected =
                    ConnectError::TimedOut { host: "two.test".into(), timeout, attempts: Vec::new() };
                assert_eq!(error, expected);
                assert_eq!(good.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "it was never tried");
            });
        },
    );
}

#[test]
fn c2_families_are_interleaved_as_asked_and_a_timeout_names_what_had_failed() {
    in_namespaces("c2_families_are_interleaved_as_asked_and_a_timeout_names_what_had_failed", || {
        // Not ::1, which the resolver's hosts file also takes for 127.0.0.1.
        ip("-6 addr add fd00::1/128 dev lo nodad");
        ip("-6 addr add fd00::2/128 dev lo nodad");
        hosts("fd00::1 mixed.test\nfd00::2 mixed.test\n127.0.0.2 mixed.test\n127.0.0.3 mixed.test\n");
        let resolved: Vec<SocketAddr> = ("mixed.test", 4000).to_socket_addrs().unwrap().collect();
        let of = |v6: bool| resolved.iter().copied().filter(move |address| address.is_ipv6() == v6);
        let (leading, other): (Vec<_>, Vec<_>) =
            (of(resolved[0].is_ipv6()).collect(), of(!resolved[0].is_ipv6()).collect());
        run(async {
            let one_by_one = ConnectOptions::new().happy_eyeballs_delay(None);
            let expected = [
                (0, resolved.clone()),
                (1, vec![leading[0], other[0], leading[1], other[1]]),
                (2, vec![leading[0], leading[1], other[0], other[1]]),
            ];
            for (count, expected) in expected {
                let error = one_by_one.clone().interleave(count).open("mixed.test", 4000).await.unwrap_err();
                let tried: Vec<_> = attempts(&error).iter().map(|attempt| attempt.address).collect();
                assert_eq!(tried, expected, "interleave({count})");
            }
            let only_v4 = one_by_one.clone().family(Family::V4).open("mixed.test", 4000).await.unwrap_err();
            assert!(attempts(&only_v4).iter().all(|attempt| attempt.address.is_ipv4()));
            assert_eq!(attempts(&only_v4).len(), 2);

            let _hole = BlackHole::at(resolved[3]);
            let late = one_by_one.interleave(0).timeout(Duration::from_millis(400));
            let error = late.open("mixed.test", 4000).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Deadline);
            let failed: Vec<_> = attempts(&error).iter().map(|attempt| attempt.address).collect();
            assert_eq!(failed, resolved[..3]);
        });
    });
}

#[test]
fn c3_ten_thousand_cancelled_or_timed_out_connects_leave_no_descriptor() {
    run(async {
        let hole = BlackHole::at("127.0.0.1:0".parse().unwrap());
        let before = Held::now();
        for _ in 0..9_000 {
            let cancelled = polled_once(millstream::open_connection("127.0.0.1", hole.address.port())).await;
            assert!(cancelled.is_none(), "a black hole answered: {cancelled:?}");
        }
        assert_eq!(Held::now(), before, "a cancelled connect is closed at once");
        for _ in 0..10 {
            let port = hole.address.port();
            let tasks: Vec<_> = (0..100).map(|_| tokio::spawn(timed_out_connect(port))).collect();
            for task in tasks {
                let error = task.await.unwrap().unwrap_err();
                assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
                assert_eq!((error.kind(), error.class()), (ErrorKind::TimedOut, ErrorClass::Deadline));
            }
        }
        assert_eq!(Held::now(), before, "a timed-out connect is closed at once");
        assert_eq!(hole.attempts(), 1);
    });
}

async fn timed_out_connect(port: u16) -> Opened {
    ConnectOptions::new().timeout(Duration::from_millis(5)).open("127.0.0.1", port).await
}

/// A port beyond 65,535 needs no row: the type of the argument cannot hold it.
#[test]
fn c4_hosts_that_cannot_be_are_refused_at_the_call_without_a_lookup() {
    run(async {
        let too_long = "a".repeat(254);
        let table = [
            ("", HostError::Empty),
            ("127.0.0.1\0.evil.example", HostError::Nul { at: 9 }),
            (too_long.as_str(), HostError::TooLong { len: 254 }),
        ];
        for (host, expected) in table {
            // A lookup needs another thread, so an answer at the first poll came without one.
            let answer = polled_once(millstream::open_connection(host, 1)).await.expect("an answer at once");
            let error = answer.unwrap_err();
            assert_eq!(error, ConnectError::BadHost(expected));
            assert_eq!((error.kind(), error.class()), (ErrorKind::InvalidInput, ErrorClass::BadCall));
        }
    });
}

#[test]
fn c4_a_scope_is_part_of_the_address_and_never_cut() {
    run(async {
        let error = millstream::open_connection("fe80::1%lo", 9).await.unwrap_err();
        let [Attempt { address: SocketAddr::V6(address), .. }] = attempts(&error) else { panic!("{error}") };
        assert_eq!(address.scope_id(), 1, "lo is the first interface of every Linux");
        let unknown = millstream::open_connection("fe80::1%no-such-interface", 9).await.unwrap_err();
        assert!(matches!(unknown, ConnectError::Lookup { .. }), "{unknown}");
    });
}

#[test]
fn a_connection_comes_from_the_local_address_and_peers_of_the_other_family_fail() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = ConnectOptions::new().local_address("127.0.0.5:0".parse().unwrap());
        let (_reader, writer) = options.open("127.0.0.1", port).await.unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), Ipv4Addr::new(127, 0, 0, 5));
        assert_eq!(writer.local_address(), Some(peer.into()));
        writer.abort();
        let error = options.open("::1", port).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");
    });
}

#[test]
fn the_family_and_the_numeric_flag_bound_what_a_host_may_be() {
    run(async {
        let error = ConnectOptions::new().family(Family::V6).open("127.0.0.1", 1).await.unwrap_err();
        assert_eq!(error, ConnectError::NoAddress { host: "127.0.0.1".into() });
        let numeric = ConnectOptions::new().flags(libc::AI_NUMERICHOST);
        let error = numeric.open("localhost", 1).await.unwrap_err();
        assert!(matches!(error, ConnectError::Lookup { .. }), "{error}");
        let error = numeric.open("127.0.0.1", refused_port().port()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = ConnectOptions::new().limit(0).open("127.0.0.1", 1).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadCall, "{error}");
    });
}

#[test]
fn an_open_socket_is_adopted_and_one_that_is_not_connected_is_refused() {
    let unconnected =
        || -> std::net::TcpStream { Socket::new(Domain::IPV4, Type::STREAM, None).unwrap().into() };
    let unconnected_unix = || -> std::os::unix::net::UnixStream {
        Socket::new(Domain::UNIX, Type::STREAM, None).unwrap().into()
    };
    run(async {
        let ((mut reader, writer), peer) = support::tcp_pair(&ConnectOptions::new().nodelay(false));
        assert_eq!(writer.with_socket(|socket| SockRef::from(&socket).tcp_nodelay().unwrap()), Some(false));
        echo_once(peer, (&mut reader, &writer)).await;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (mut unix_reader, unix_writer) = ConnectOptions::new().adopt_unix(ours).unwrap();
        echo_once(theirs, (&mut unix_reader, &unix_writer)).await;

        let errors = [
            ConnectOptions::new().adopt_tcp(unconnected()).unwrap_err(),
            ConnectOptions::new().adopt_unix(unconnected_unix()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(
                (error.kind(), error.class()),
                (ErrorKind::NotConnected, ErrorClass::BadCall),
                "{error}"
            );
        }
        writer.abort();
        unix_writer.abort();
    });
    let outside = ConnectOptions::new().adopt_tcp(unconnected()).unwrap_err();
    assert!(outside.to_string().contains("runtime"), "{outside}");
}

/// One line there and back again, through a blocking peer on a thread of its own.
async fn echo_once(
    mut peer: impl std::io::Read + std::io::Write + Send + 'static,
    (reader, writer): (&mut StreamReader, &StreamWriter),
) {
    let peer = std::thread::spawn(move || {
        let mut seen = [0; 10];
        peer.read_exact(&mut seen).and_then(|()| peer.write_all(&seen))
    });
    writer.write(b"over here\n").expect("open");
    let line = reader.read_line().await.expect("an echo");
    assert_eq!(line.as_deref(), Some(&b"over here\n"[..]));
    peer.join().expect("no panic").expect("no error");
}

/// A listener whose backlog is full: the kernel drops every further SYN.
struct BlackHole {
    listener: Socket,
    address: SocketAddr,
    _filler: std::net::TcpStream,
}

impl BlackHole {
    fn at(address: SocketAddr) -> Self {
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        listener.set_reuse_address(true).expect("an option");
        listener.bind(&address.into()).expect("a free address");
        listener.listen(0).expect("listening");
        let address = listener.local_addr().expect("bound").as_socket().expect("TCP");
        Self { listener, address, _filler: std::net::TcpStream::connect(address).expect("the one that fits") }
    }

    /// How many connections the kernel holds for it.
    fn attempts(&self) -> usize {
        self.listener.set_nonblocking(true).expect("an option");
        let mut held = Vec::new();
        while let Ok(accepted) = self.listener.accept() {
            held.push(accepted);
        }
        held.len()
    }
}

/// The future's answer to one poll; it is dropped after that.
async fn polled_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

fn refused_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound")
}

fn attempts(error: &ConnectError) -> &[Attempt] {
    match error {
        ConnectError::AllFailed { attempts, .. } | ConnectError::TimedOut { attempts, .. } => attempts,
        other => panic!("an error without attempts: {other}"),
    }
}

fn errnos(error: &ConnectError) -> BTreeMap<SocketAddr, Option<i32>> {
    attempts(error).iter().map(|attempt| (attempt.address, attempt.failure.raw_os_error())).collect()
}

/// The kernel repeats a SYN after one second and gives up after two minutes: far from both.
const SYN_GIVE_UP: Duration = Duration::from_secs(60);
