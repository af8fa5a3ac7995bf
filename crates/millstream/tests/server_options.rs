//! The options of a server, each with what it changes: hosts, ports, the backlog, adopted sockets, kinds of handlers.

mod support;

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use millstream::{ErrorClass, ServeError, Server, ServerOptions, StreamReader, StreamWriter};
use socket2::SockRef;
use support::{echo, ping, run};
use tokio::sync::mpsc;

#[test]
fn each_host_gets_a_listener_and_with_port_zero_a_port_of_its_own() {
    run(async {
        let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1"];
        let server = ServerOptions::new().start(hosts, 0, echo).await.unwrap();
        let sockets: Vec<_> = server.sockets().iter().map(|address| address.ip().unwrap()).collect();
        let ips: Vec<IpAddr> = sockets.iter().map(|address| address.ip()).collect();
        assert_eq!(
            ips,
            ["127.0.0.1".parse::<IpAddr>().unwrap(), "127.0.0.2".parse().unwrap()],
            "no host twice"
        );
        for address in sockets {
            let (mut reader, writer) =
                millstream::open_connection(&address.ip().to_string(), address.port()).await.unwrap();
            ping(&mut reader, &writer).await;
        }
        end(server).await;
        let no_hosts: [&str; 0] = [];
        let error = ServerOptions::new().start(no_hosts, 0, echo).await.unwrap_err();
        assert_eq!(error, ServeError::NoAddress);
        let error = ServerOptions::new().start(["127.0.0.1", "a\0b"], 0, echo).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadCall, "{error}");
    });
}

#[test]
fn two_servers_share_a_port_only_if_both_ask_for_it() {
    run(async {
        let shared = ServerOptions::new().reuse_port(true);
        let one = shared.start("127.0.0.1", 0, echo).await.unwrap();
        let two = shared.start("127.0.0.1", port(&one), echo).await.unwrap();
        let error = ServerOptions::new().start("127.0.0.1", port(&one), echo).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
        end(one).await;
        served(port(&two)).await;
        end(two).await;
    });
}

#[test]
fn the_backlog_bounds_what_the_kernel_holds() {
    run(async {
        // Joining blocks the only thread of this runtime, so nobody accepts meanwhile.
        let server = ServerOptions::new().backlog(2).start("127.0.0.1", 0, echo).await.unwrap();
        let port = port(&server);
        let established = std::thread::spawn(move || {
            let connect = || std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), SHORT);
            let held: Vec<_> = (0..10).map_while(|_| connect().ok()).collect();
            held.len()
        });
        assert_eq!(established.join().unwrap(), 3, "Linux holds one more than the backlog");
        end(server).await;
    });
}

#[test]
fn accepted_sockets_have_nodelay_unless_it_was_declined_on_adopted_listeners_too() {
    run(async {
        for nodelay in [true, false] {
            let (tell, mut told) = mpsc::unbounded_channel();
            let handler = move |_reader: StreamReader, writer: StreamWriter| {
                tell.send(writer.with_socket(|socket| SockRef::from(&socket).tcp_nodelay().unwrap()))
                    .unwrap();
            };
            let options = ServerOptions::new().nodelay(nodelay);
            let own = options.start("127.0.0.1", 0, handler.clone()).await.unwrap();
            let adopted = options.start_on_tcp(TcpListener::bind("127.0.0.1:0").unwrap(), handler).unwrap();
            for server in [own, adopted] {
                let client = millstream::open_connection("127.0.0.1", port(&server)).await.unwrap();
                assert_eq!(told.recv().await.unwrap(), Some(nodelay), "{server:?}");
                client.1.abort();
                end(server).await;
            }
        }
    });
}

#[test]
fn adopted_listeners_are_served_and_the_path_of_one_stays() {
    run(async {
        let tcp = ServerOptions::new().start_on_tcp(TcpListener::bind("127.0.0.1:0").unwrap(), echo).unwrap();
        served(port(&tcp)).await;
        end(tcp).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adopted");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let unix = ServerOptions::new().start_on_unix(listener, echo).unwrap();
        assert_eq!(unix.sockets()[0].path(), Some(&*path));
        let (mut reader, writer) = millstream::open_unix_connection(&path).await.unwrap();
        ping(&mut reader, &writer).await;
        drop((reader, writer));
        end(unix).await;
        assert!(path.exists());
    });
}

/// The compiler is the better half of this test: four kinds of handler, no type to name.
#[test]
fn handlers_may_be_plain_or_async_with_or_without_a_result() {
    run(async {
        let hello = |writer: &StreamWriter| writer.write(b"hello");
        let servers = [
            millstream::start_server("127.0.0.1", 0, move |_r, w| drop(hello(&w))).await,
            millstream::start_server("127.0.0.1", 0, move |_r, w| hello(&w)).await,
            millstream::start_server("127.0.0.1", 0, move |_r, w| async move { drop(hello(&w)) }).await,
            millstream::start_server("127.0.0.1", 0, move |_r, w| async move { hello(&w) }).await,
        ];
        for server in servers {
            let server = server.unwrap();
            let (mut reader, writer) = millstream::open_connection("127.0.0.1", port(&server)).await.unwrap();
            assert_eq!(reader.read_to_end(10).await.unwrap(), "hello");
            drop((reader, writer));
            end(server).await;
        }
    });
}

async fn served(port: u16) {
    let (mut reader, writer) = millstream::open_connection("127.0.0.1", port).await.expect("a server");
    ping(&mut reader, &writer).await;
}

fn port(server: &Server) -> u16 {
    server.sockets()[0].port().expect("TCP")
}

async fn end(server: Server) {
    server.close();
    server.close_clients();
    server.wait_closed().await;
}

/// Long enough for what should not happen to happen.
const SHORT: Duration = Duration::from_millis(50);
