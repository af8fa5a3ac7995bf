//! Python's asyncio streams, the model of ours, at the other end: connections, servers, and upgrades in
//! place.

use millstream::tls::{TlsClient, TlsInfo, TlsServer};
use millstream::{ConnectOptions, Error, ServerOptions, StreamReader, StreamWriter};

use crate::fixture::{MEGABYTE, Papers, Serving, close, open, pattern, turn_round, with};
use crate::support::programs::Program;

#[test]
fn open_connection_talks_to_our_server_and_ends_cleanly() {
    with(&["python3"], async {
        let papers = Papers::new();
        let mut serving = Serving::start(papers.server().build().unwrap(), turn_round).await;
        let script = "
async def main():
    reader, writer = await asyncio.open_connection(
        '127.0.0.1', int(sys.argv[1]), ssl=client_context(), server_hostname='localhost')
    data = bytes(range(256)) * 4096
    writer.write(data)
    await writer.drain()
    assert await reader.readexactly(len(data)) == data[::-1]
    writer.close()
    await writer.wait_closed()
";
        let mut client = asyncio(&papers, script, &[&serving.port.to_string()]);
        assert_eq!(serving.outcome().await.unwrap().server_name.as_deref(), Some("localhost"));
        client.succeeds().await;
        serving.close().await;
    });
}

#[test]
fn start_server_serves_our_client_and_ends_cleanly() {
    with(&["python3"], async {
        let papers = Papers::new();
        let script = "
async def main():
    over = asyncio.Event()
    async def handle(reader, writer):
        data = await reader.readexactly(1 << 20)
        writer.write(data[::-1])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        over.set()
    await serve(handle, ssl=server_context())
    await over.wait()
";
        let mut server = asyncio(&papers, script, &[]);
        let port = server.port_after("listens at ").await;
        let (mut reader, writer) = open(port, &papers.client().build().unwrap()).await.unwrap();
        writer.write_bytes(pattern(MEGABYTE)).unwrap();
        let answer = reader.read_to_end(MEGABYTE).await.unwrap();
        assert!(answer.iter().rev().copied().eq(pattern(MEGABYTE)));
        close(&writer).await;
        server.succeeds().await;
    });
}

#[test]
fn our_close_is_a_clean_end_for_an_asyncio_reader() {
    with(&["python3"], async {
        let papers = Papers::new();
        let script = "
async def main():
    over = asyncio.Event()
    async def handle(reader, writer):
        print('read', await reader.read(), flush=True)
        writer.close()
        over.set()
    await serve(handle, ssl=server_context())
    await over.wait()
";
        let mut server = asyncio(&papers, script, &[]);
        let port = server.port_after("listens at ").await;
        let (_reader, writer) = open(port, &papers.client().build().unwrap()).await.unwrap();
        writer.write(b"all of it").unwrap();
        close(&writer).await;
        assert_eq!(server.says("read ").await, "b'all of it'");
        server.succeeds().await;
    });
}

#[test]
fn an_asyncio_client_upgrades_its_connection_to_our_server() {
    with(&["python3"], async {
        let papers = Papers::new();
        let tls = papers.server().build().unwrap();
        let handler = move |reader, writer| upgrade_when_asked(reader, writer, tls.clone());
        let mut serving = Serving::start_with(ServerOptions::new(), handler).await;
        let script = "
async def main():
    reader, writer = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]))
    writer.write(b'STARTTLS\\n')
    assert await reader.readline() == b'go\\n'
    await writer.start_tls(client_context(), server_hostname='localhost')
    writer.write(b'secret\\n')
    assert await reader.readline() == b'secret\\n'
    writer.close()
    await writer.wait_closed()
";
        let script = format!("{UPGRADES}{script}");
        let mut client = asyncio(&papers, &script, &[&serving.port.to_string()]);
        if is_too_old(&mut client).await {
            return serving.close().await;
        }
        assert_eq!(serving.outcome().await.unwrap().server_name.as_deref(), Some("localhost"));
        client.succeeds().await;
        serving.close().await;
    });
}

/// Speaks plaintext until it is asked for TLS, then sends back lines.
async fn upgrade_when_asked(
    mut reader: StreamReader,
    writer: StreamWriter,
    tls: TlsServer,
) -> Result<TlsInfo, Error> {
    assert_eq!(reader.read_line().await?.as_deref(), Some(&b"STARTTLS\n"[..]));
    writer.write(b"go\n")?;
    writer.start_tls(&mut reader, &tls).await?;
    crate::fixture::echo(reader, writer).await
}

#[test]
fn we_upgrade_our_connection_to_an_asyncio_server() {
    with(&["python3"], async {
        let papers = Papers::new();
        let script = "
async def main():
    over = asyncio.Event()
    async def handle(reader, writer):
        assert await reader.readline() == b'STARTTLS\\n'
        writer.write(b'go\\n')
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        over.set()
    await serve(handle)
    await over.wait()
";
        let mut server = asyncio(&papers, &format!("{UPGRADES}{script}"), &[]);
        if is_too_old(&mut server).await {
            return;
        }
        let port = server.port_after("listens at ").await;
        let (mut reader, writer) = ConnectOptions::new().open("127.0.0.1", port).await.unwrap();
        writer.write(b"STARTTLS\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"go\n"[..]));
        let tls: TlsClient = papers.client().build().unwrap().server_name("localhost").unwrap();
        writer.start_tls(&mut reader, &tls).await.unwrap();
        writer.write(b"secret\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"secret\n"[..]));
        assert_eq!(reader.read_line().await.unwrap(), None);
        close(&writer).await;
        server.succeeds().await;
    });
}

/// Runs the script's `main`.
fn asyncio(papers: &Papers, script: &str, arguments: &[&str]) -> Program {
    let script = format!("{COMMON}{script}\nasyncio.run(asyncio.wait_for(main(), 60))\n");
    let mut all = vec!["-c", &script];
    all.extend(arguments);
    papers.start("python3", &all)
}

/// Whether this Python's streams cannot upgrade yet, so that a test skips.
async fn is_too_old(python: &mut Program) -> bool {
    let old = python.says("start_tls: ").await == "no";
    if old {
        eprintln!("skipped: python3 is older than 3.11, its streams have no start_tls");
    }
    old
}

/// Ends before it does anything where streams cannot upgrade.
const UPGRADES: &str = "
import asyncio, sys
able = hasattr(asyncio.StreamWriter, 'start_tls')
print('start_tls:', 'yes' if able else 'no', flush=True)
if not able:
    sys.exit()
";

const COMMON: &str = "
import asyncio, ssl, sys
def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations('root.pem')
    return context
def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain('server.pem', 'server.key')
    return context
async def serve(handle, **options):
    server = await asyncio.start_server(handle, '127.0.0.1', 0, **options)
    print('listens at 127.0.0.1:%d' % server.sockets[0].getsockname()[1], flush=True)
    return server
";
