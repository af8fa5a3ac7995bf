//! With the feature `tracing`, every served connection has a span, and what happens to it are events in that span.
#![cfg(feature = "tracing")]

mod support;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use millstream::proxy::ProxyProtocol;
use millstream::{Error, ServerOptions, StreamReader, StreamWriter, open_connection};
use support::run;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down what it is told, a line each: the span's fields, a colon, the event's.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    lines: Vec<String>,
    /// The living spans, with how many handles there are.
    spans: HashMap<u64, (String, usize)>,
    entered: Vec<u64>,
    next: u64,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a string takes all");
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "millstream" || metadata.target() == "handler"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut line = Line(attributes.metadata().name().to_owned());
        attributes.record(&mut line);
        let mut book = self.0.lock().expect("no panic under it");
        book.next += 1;
        let id = book.next;
        book.spans.insert(id, (line.0, 1));
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut book = self.0.lock().expect("no panic under it");
        let mut line = Line(String::new());
        values.record(&mut line);
        book.spans.get_mut(&id.into_u64()).expect("a living span").0 += &line.0;
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        let mut book = self.0.lock().expect("no panic under it");
        let current = event.parent().map(Id::into_u64).or(book.entered.last().copied());
        let span = current.map_or("none", |id| &book.spans[&id].0).to_owned();
        book.lines.push(format!("{span}: {}", line.0));
    }

    fn enter(&self, id: &Id) {
        self.0.lock().expect("no panic under it").entered.push(id.into_u64());
    }

    fn exit(&self, id: &Id) {
        assert_eq!(self.0.lock().expect("no panic under it").entered.pop(), Some(id.into_u64()));
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.0.lock().expect("no panic under it").spans.get_mut(&id.into_u64()).expect("a living span").1 +=
            1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut book = self.0.lock().expect("no panic under it");
        let count = &mut book.spans.get_mut(&id.into_u64()).expect("a living span").1;
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            book.spans.remove(&id.into_u64());
        }
        is_last
    }
}

/// What is told while this server meets this client.
fn told<C>(options: ServerOptions, client: C) -> (Vec<String>, String)
where
    C: AsyncFnOnce(StreamReader, StreamWriter),
{
    let notes = Notes::default();
    let _guard = tracing::subscriber::set_default(notes.clone());
    let peer = run(async {
        let handler = |mut reader: StreamReader, writer: StreamWriter| async move {
            while let Some(line) = reader.read_line().await? {
                tracing::info!(target: "handler", "got a line");
                match &line[..] {
                    b"panic\n" => panic!("as it was told"),
                    b"fail\n" => return Err(Error::from(std::io::Error::other("as it was told"))),
                    _ => writer.write(&line)?,
                }
            }
            Ok(())
        };
        let server = options.on_failure(drop).start("127.0.0.1", 0, handler).await.expect("a free port");
        let port = server.sockets()[0].port().expect("TCP");
        let (reader, writer) = open_connection("127.0.0.1", port).await.expect("a server that listens");
        let peer = writer.local_address().expect("TCP").to_string();
        client(reader, writer).await;
        while server.connections() > 0 {
            tokio::task::yield_now().await;
        }
        server.close();
        server.wait_closed().await;
        format!("connection peer={peer} local=127.0.0.1:{port}")
    });
    let book = notes.0.lock().expect("no panic under it");
    assert!(book.spans.is_empty() && book.entered.is_empty(), "a span is left");
    (book.lines.clone(), peer)
}

#[test]
fn a_connection_is_accepted_served_in_its_span_and_closed_with_its_counters() {
    let (lines, span) = told(ServerOptions::new(), async |mut reader, writer| {
        writer.write(b"hello\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"hello\n"[..]));
    });
    let expected = [
        format!("{span}: DEBUG message=accepted"),
        format!("{span}: INFO message=got a line"),
        format!(
            "{span}: DEBUG message=closed cause=closed bytes_read=6 reads=2 bytes_written=6 writes=1 flushes=1 \
             stalls=0 peak_queued=6 peak_buffered=6"
        ),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn what_fails_is_told_once_in_the_span_of_its_connection() {
    for (line, text) in [("panic", "panicked: as it was told"), ("fail", "failed: as it was told")] {
        let (lines, span) = told(ServerOptions::new(), async |mut reader, writer| {
            writer.write(format!("{line}\n").as_bytes()).unwrap();
            assert!(reader.read(10).await.unwrap().is_empty());
        });
        let failures: Vec<_> = lines.iter().filter(|line| line.contains("ERROR")).collect();
        let [failure] = &failures[..] else { panic!("{lines:?}") };
        assert!(failure.starts_with(&span) && failure.contains(text), "{failure}");
        assert!(lines.last().unwrap().contains("message=closed cause=closed"), "{lines:?}");
    }
}

#[test]
fn a_reset_is_told_as_the_cause() {
    let (lines, _) = told(ServerOptions::new(), async |mut reader, writer| {
        writer.write(b"hello\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"hello\n"[..]));
        writer.abort();
        writer.wait_closed().await.unwrap();
    });
    let last = lines.last().unwrap();
    assert!(last.contains("message=closed cause=") && last.contains("reset"), "{lines:?}");
}

#[cfg(feature = "tls")]
#[test]
fn handshakes_are_told_when_they_are_over_or_failed() {
    use millstream::tls::TlsVersion;

    let realm = support::tls::Realm::new();
    let options = ServerOptions::new().tls(realm.server(TlsVersion::V1_3));
    let (lines, span) = told(options.clone(), async |mut reader, writer| {
        writer.start_tls(&mut reader, &realm.client(TlsVersion::V1_3)).await.unwrap();
        writer.write(b"hello\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"hello\n"[..]));
    });
    assert_eq!(lines[1], format!("{span}: DEBUG message=TLS handshake over"), "{lines:?}");

    let (lines, span) = told(options, async |mut reader, writer| {
        writer.write(b"this is no ClientHello\n").unwrap();
        while reader.read(100).await.is_ok_and(|bytes| !bytes.is_empty()) {}
    });
    let warning = &lines[1];
    assert!(warning.starts_with(&format!("{span}: WARN")) && warning.contains("TLS handshake"), "{lines:?}");
}

fn behind_a_proxy() -> ServerOptions {
    let proxies = ProxyProtocol::required().trust("127.0.0.1").expect("a network");
    ServerOptions::new().proxy_protocol(proxies)
}

#[test]
fn a_refused_header_is_a_warning_for_it_is_the_peers_doing() {
    let (lines, _) = told(behind_a_proxy(), async |mut reader, writer| {
        writer.write(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let _ = reader.read(10).await;
    });
    assert!(lines.iter().any(|line| line.contains(": WARN ")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains(": ERROR ")), "{lines:#?}");
}

#[test]
fn behind_a_proxy_the_span_names_the_client_as_soon_as_the_header_has() {
    let (lines, span) = told(behind_a_proxy(), async |mut reader, writer| {
        writer.write(&support::proxy::tcp_header().encode().unwrap()).unwrap();
        writer.write(b"hello\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"hello\n"[..]));
    });
    let named = format!("{span} client=192.0.2.1:5000: INFO message=got a line");
    assert!(lines.contains(&named), "{named:?} in {lines:#?}");
}

#[test]
fn a_flood_of_failures_is_a_bounded_number_of_warnings_and_the_rest_is_for_who_debugs() {
    let start = std::time::Instant::now();
    let (lines, _) = told(behind_a_proxy(), async |mut reader, writer| {
        let port = writer.peer_address().and_then(|peer| peer.port()).expect("TCP");
        for _ in 0..40 {
            let (mut reader, writer) = open_connection("127.0.0.1", port).await.unwrap();
            writer.write(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let _ = reader.read(10).await;
        }
        writer.write(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let _ = reader.read(10).await;
    });
    let count = |level: &str| {
        lines.iter().filter(|line| line.contains(level) && line.contains("PROXY header: ")).count()
    };
    let later = usize::try_from(start.elapsed().as_secs()).expect("not that long");
    assert!((10..=10 + later).contains(&count(": WARN ")), "{lines:#?}");
    assert_eq!(count(": WARN ") + count(": DEBUG "), 41, "{lines:#?}");
}

#[test]
fn a_failure_that_cannot_be_put_into_words_is_told_to_the_callback_all_the_same() {
    #[derive(Debug)]
    struct Unspeakable;

    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("as it was told")
        }
    }

    impl std::error::Error for Unspeakable {}

    let _guard = tracing::subscriber::set_default(Notes::default());
    run(async {
        let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let options = ServerOptions::new().on_failure(move |_| tell.send(()).expect("the test waits"));
        let fail = |_, _| async { Err::<(), _>(Unspeakable) };
        let server = options.start("127.0.0.1", 0, fail).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        drop(open_connection("127.0.0.1", port).await.unwrap());
        heard.recv().await.unwrap();
        server.close();
        server.wait_closed().await;
    });
}
