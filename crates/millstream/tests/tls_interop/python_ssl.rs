//! Python's `ssl` module over blocking sockets, as a client and as a server.

use millstream::tls::{CertificateFault, TlsFault, TlsInfo, TlsVersion};
use millstream::{Error, StreamReader, StreamWriter};

use crate::fixture::{
    BOTH_VERSIONS, MEGABYTE, OneVersion, Papers, Serving, close, echo, fault, open, pattern, turn_round, with,
};
use crate::support::programs::Program;

#[test]
fn a_python_client_sends_a_megabyte_gets_it_back_and_unwraps() {
    with(&["python3"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).alpn(&["turn"]).build().unwrap();
            let mut serving = Serving::start(tls, turn_round).await;
            let script = "
context.set_alpn_protocols(['other', 'turn'])
tls = connect()
data = bytes(range(256)) * 4096
tls.sendall(data)
assert exactly(tls, len(data)) == data[::-1]
assert tls.selected_alpn_protocol() == 'turn'
plain = tls.unwrap()
assert plain.recv(1) == b''
";
            let mut client = python(&papers, version, serving.port, script);
            let info = serving.outcome().await.unwrap();
            assert_eq!((info.version, info.alpn.as_deref()), (version, Some(&b"turn"[..])));
            assert_eq!(info.server_name.as_deref(), Some("localhost"));
            client.succeeds().await;
            serving.close().await;
        }
    });
}

#[test]
fn a_python_server_answers_a_megabyte_after_our_end() {
    with(&["python3"], async {
        let papers = Papers::new();
        let script = "
tls = accept()
data = exactly(tls, 1 << 20)
if tls.version() == 'TLSv1.3':
    assert tls.recv(1) == b''
tls.sendall(data[::-1])
tls.unwrap()
";
        for version in BOTH_VERSIONS {
            let (mut server, port) = python_server(&papers, version, script).await;
            let (mut reader, writer) = open(port, &papers.client().build().unwrap()).await.unwrap();
            assert_eq!(writer.tls_info().unwrap().version, version);
            writer.write_bytes(pattern(MEGABYTE)).unwrap();
            if writer.can_write_eof() {
                writer.write_eof().unwrap();
            }
            let answer = reader.read_to_end(MEGABYTE).await.unwrap();
            assert!(answer.iter().rev().copied().eq(pattern(MEGABYTE)));
            close(&writer).await;
            server.succeeds().await;
        }
    });
}

#[test]
fn each_side_shows_the_other_its_certificate() {
    with(&["python3"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.strict_server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            let script = "
context.load_cert_chain('client.pem', 'client.key')
ping(connect()).unwrap()
";
            let mut client = python(&papers, version, serving.port, script);
            assert!(!serving.outcome().await.unwrap().peer_certificates.is_empty());
            client.succeeds().await;
            serving.close().await;

            let script = "
context.verify_mode = ssl.CERT_REQUIRED
context.load_verify_locations('root.pem')
tls = accept()
assert dict(part[0] for part in tls.getpeercert()['subject']) == {'commonName': 'visitor'}
pong(tls).unwrap()
";
            let (mut server, port) = python_server(&papers, version, script).await;
            let (mut reader, writer) = open(port, &papers.known_client().build().unwrap()).await.unwrap();
            crate::support::ping(&mut reader, &writer).await;
            close(&writer).await;
            server.succeeds().await;
        }
    });
}

#[test]
fn a_lacking_client_certificate_is_an_error_on_both_sides() {
    with(&["python3"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.strict_server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            let script = "
try:
    ping(connect())
except ssl.SSLError as error:
    assert 'CERTIFICATE_REQUIRED' in str(error), error
else:
    raise SystemExit('let in')
";
            let mut client = python(&papers, version, serving.port, script);
            let missing = TlsFault::BadCertificate(CertificateFault::Missing);
            assert_eq!(serving.refused().await, Some(missing));
            client.succeeds().await;
            serving.close().await;
        }
    });
}

#[test]
fn sessions_are_resumed_in_both_directions() {
    with(&["python3"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            let script = "
def once(session):
    tls = ping(connect(session=session))
    assert tls.session_reused == (session is not None)
    session = tls.session
    tls.unwrap()
    return session
once(once(None))
";
            let mut client = python(&papers, version, serving.port, script);
            for resumed in [false, true] {
                assert_eq!(serving.outcome().await.unwrap().resumed, resumed, "{version}");
            }
            client.succeeds().await;
            serving.close().await;

            let script = "
for reused in False, True:
    tls = pong(accept())
    assert tls.session_reused == reused
    tls.unwrap().close()
";
            let (mut server, port) = python_server(&papers, version, script).await;
            let tls = papers.client().build().unwrap();
            for resumed in [false, true] {
                let (mut reader, writer) = open(port, &tls).await.unwrap();
                crate::support::ping(&mut reader, &writer).await;
                assert_eq!(writer.tls_info().unwrap().resumed, resumed, "{version}");
                close(&writer).await;
            }
            server.succeeds().await;
        }
    });
}

#[test]
fn a_python_socket_closed_without_unwrap_is_truncation_unless_that_is_allowed() {
    with(&["python3"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            for allowed in [false, true] {
                let tls = papers.server().only(version).build().unwrap().allow_truncation(allowed);
                let mut serving = Serving::start(tls, lines_then_rest).await;
                // It has read everything, so the system does not make its end a reset.
                let script = "
tls = ping(connect())
tls.sendall(b'the first half')
tls.close()
";
                let mut client = python(&papers, version, serving.port, script);
                let (rest, end) = serving.outcome().await.unwrap();
                assert_eq!(rest, "the first half", "what arrived is delivered first");
                match end {
                    Ok(()) => assert!(allowed, "{version}: a cut stream ended cleanly"),
                    Err(error) => assert_eq!((fault(error), allowed), (Some(TlsFault::Truncated), false)),
                }
                client.succeeds().await;
                serving.close().await;
            }
        }
    });
}

/// Sends back one line; then tells what followed, and how it ended.
async fn lines_then_rest(
    mut reader: StreamReader,
    writer: StreamWriter,
) -> Result<(bytes::Bytes, Result<(), Error>), Error> {
    let line = reader.read_line().await?.expect("a line");
    writer.write(&line)?;
    let rest = reader.read_exactly(14).await?;
    let end = reader.read(1).await.map(|more| assert!(more.is_empty())).map_err(Error::from);
    Ok((rest, end))
}

#[test]
fn what_a_python_client_does_not_accept_reaches_us_as_an_alert() {
    with(&["python3"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let mut serving =
                Serving::<TlsInfo>::start(papers.server().only(version).build().unwrap(), echo).await;
            let script = "
def refuses(reason, **options):
    try:
        connect(**options)
    except ssl.SSLCertVerificationError as error:
        assert reason in str(error), error
    else:
        raise SystemExit('accepted')
refuses('Hostname mismatch', server_hostname='wrong.test')
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations('stranger.pem')
refuses('unable to get local issuer')
";
            let mut client = python(&papers, version, serving.port, script);
            for alert in [42, 48] {
                assert_eq!(serving.refused().await, Some(TlsFault::Refused { alert }), "{version}");
            }
            client.succeeds().await;
            serving.close().await;
        }
    });
}

/// A client's script: `context` trusts the authority.
fn python(papers: &Papers, version: TlsVersion, port: u16, script: &str) -> Program {
    let (script, port) = (format!("{COMMON}{CLIENT}{script}"), port.to_string());
    papers.start("python3", &["-c", &script, minor(version), &port])
}

/// A server's script: `context` is for localhost.
async fn python_server(papers: &Papers, version: TlsVersion, script: &str) -> (Program, u16) {
    let script = format!("{COMMON}{SERVER}{script}");
    let mut server = papers.start("python3", &["-c", &script, minor(version)]);
    let port = server.port_after("listens at ").await;
    (server, port)
}

fn minor(version: TlsVersion) -> &'static str {
    if version == TlsVersion::V1_3 { "TLSv1_3" } else { "TLSv1_2" }
}

const COMMON: &str = "
import socket, ssl, sys
def exactly(tls, n):
    data = b''
    while len(data) < n:
        chunk = tls.recv(n - len(data))
        assert chunk, 'ended after %d of %d bytes' % (len(data), n)
        data += chunk
    return data
def only(context):
    context.minimum_version = context.maximum_version = ssl.TLSVersion[sys.argv[1]]
    return context
";

const CLIENT: &str = "
context = only(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
context.load_verify_locations('root.pem')
def connect(server_hostname='localhost', **options):
    plain = socket.create_connection(('127.0.0.1', int(sys.argv[2])))
    return context.wrap_socket(plain, server_hostname=server_hostname, **options)
def ping(tls):
    tls.sendall(b'ping\\n')
    assert exactly(tls, 5) == b'ping\\n'
    return tls
";

const SERVER: &str = "
context = only(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
context.load_cert_chain('server.pem', 'server.key')
listener = socket.create_server(('127.0.0.1', 0))
print('listens at 127.0.0.1:%d' % listener.getsockname()[1], flush=True)
def accept():
    return context.wrap_socket(listener.accept()[0], server_side=True)
def pong(tls):
    tls.sendall(exactly(tls, 5))
    return tls
";
