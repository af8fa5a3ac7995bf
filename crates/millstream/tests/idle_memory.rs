//! A connection that waits holds no memory of what it has received and sent: not of a line, and not of a large item, in the
//! clear and over TLS.
#![cfg(feature = "tls")]

mod support;

use millstream::tls::TlsVersion;
use millstream::{ConnectOptions, Server, ServerOptions, StreamReader, StreamWriter};
use support::tls::Realm;
use support::{unix_pair, until_it_waits};

const CONNECTIONS: i64 = 10;
const ITEM: usize = 1024 * 1024;
/// What a connection may hold: its state, TLS's, and room for a receive.
const EACH: i64 = 128 * 1024;
/// What a connection of small messages may hold, its driver's task included, in bytes.
const STATE: i64 = 2 * 1024;
static MESSAGE: [u8; 20_000] = [1; 20_000];
/// What the thread keeps for the next large item, and of what is received over TLS.
const THREAD: i64 = 5 * 1024 * 1024;

#[test]
fn a_connection_that_waits_holds_nothing_of_the_large_item_before() {
    for options in every_server() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tls = options.1.is_some();
        // Ends with the test, not with what is measured.
        let mut kept = Vec::new();
        let held = allocation_counter::measure(|| runtime.block_on(hold(options, &mut kept)));
        assert!(
            held.bytes_current < CONNECTIONS * EACH + THREAD,
            "{} bytes are held by {CONNECTIONS} connections, TLS: {tls}",
            held.bytes_current
        );
        runtime.block_on(async { drop(kept) });
    }
}

#[test]
fn a_connection_that_has_spoken_and_waits_holds_its_state_and_no_memory_for_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    // The first takes what the thread keeps for all of them.
    let mut pairs = Vec::with_capacity(21);
    pairs.push(runtime.block_on(a_conversation()));
    for _ in 0..20 {
        let held = allocation_counter::measure(|| pairs.push(runtime.block_on(a_conversation())));
        let each = held.bytes_current / 2;
        assert!(each < STATE, "{each} bytes are held by a connection that waits");
    }
}

#[test]
fn a_connection_whose_message_left_at_once_holds_no_memory_for_messages() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut pairs: Vec<_> = (0..21).map(|_| unix_pair()).collect();
    for (corked, len) in [(false, 64), (true, 20_000), (true, 0)] {
        for (nth, [(_, writer), (reader, _)]) in pairs.iter_mut().enumerate() {
            let held = allocation_counter::measure(|| {
                runtime.block_on(async {
                    writer.cork(corked);
                    writer.write(&MESSAGE[..len]).expect("it is open");
                    writer.flush().expect("it is open");
                    assert_eq!(reader.read_exactly_borrowed(len).await.expect("it arrives").len(), len);
                    until_it_waits(reader).await;
                });
            });
            // The first takes what the thread keeps for all of them.
            assert!(
                nth == 0 || held.bytes_current < 1024,
                "{} bytes are held after {len}",
                held.bytes_current
            );
        }
    }
}

/// One line there and back over a Unix socket, until both ends wait for more.
async fn a_conversation() -> [(StreamReader, StreamWriter); 2] {
    let [mut asks, mut answers] = unix_pair();
    asks.1.write(b"ping\n").expect("it is open");
    asks.1.flush().expect("it is open");
    let line = answers.0.read_line_borrowed().await.expect("it arrives").expect("a line");
    answers.1.write(line).expect("it is open");
    until_it_waits(&mut answers.0).await;
    assert_eq!(asks.0.read_line_borrowed().await.expect("it arrives"), Some(&b"ping\n"[..]));
    until_it_waits(&mut asks.0).await;
    [asks, answers]
}

/// In the clear and over TLS, with what the client needs.
fn every_server() -> [(ServerOptions, Option<ConnectOptions>); 2] {
    let realm = Realm::new();
    let over_tls = ServerOptions::new().tls(realm.server(TlsVersion::V1_3));
    let client = ConnectOptions::new().tls(realm.client(TlsVersion::V1_3));
    [(ServerOptions::new(), None), (over_tls, Some(client))]
}

/// Connects, has every client read an item from the server, and lets it wait.
async fn hold(
    (server, client): (ServerOptions, Option<ConnectOptions>),
    kept: &mut Vec<(Server, tokio::task::JoinHandle<()>)>,
) {
    let server = server.start("127.0.0.1", 0, one_item).await.expect("a free port");
    let port = server.sockets()[0].port().expect("TCP");
    let client = client.unwrap_or_default();
    let (ready, mut all) = tokio::sync::mpsc::channel(1);
    let mut waiting = Vec::new();
    for _ in 0..CONNECTIONS {
        let pair = client.open("127.0.0.1", port).await.expect("the server is there");
        let ready = ready.clone();
        waiting.push(tokio::spawn(async move {
            let (mut reader, _writer) = pair;
            let item = reader.read_exactly_borrowed(ITEM).await.expect("the server sends it");
            assert!(item.iter().all(|&byte| byte == 7));
            until_it_waits(&mut reader).await;
            ready.send(()).await.expect("the test waits for it");
            let _ = reader.read(1).await;
        }));
        all.recv().await.expect("the client waits");
    }
    kept.push((
        server,
        tokio::spawn(async move {
            for task in waiting {
                let _ = task.await;
            }
        }),
    ));
}

/// Sends an item, and keeps the connection.
async fn one_item(mut reader: StreamReader, writer: StreamWriter) {
    writer.write(&vec![7; ITEM]).expect("the client is there");
    let _ = writer.drain().await;
    let _ = reader.read(1).await;
}
