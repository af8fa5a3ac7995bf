//! Our server with `openssl s_client`.

use bytes::Bytes;
use millstream::tls::{CertificateFault, TlsFault, TlsInfo, TlsVersion};
use millstream::{Error, ServerOptions, StreamReader, StreamWriter};

use crate::fixture::{BOTH_VERSIONS, MEGABYTE, OneVersion, Papers, Serving, echo, is_cut, with};
use crate::support::programs::Program;

#[test]
fn a_line_comes_back_over_each_version() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            let mut client = s_client(&papers, serving.port, &[]);
            client.say("there and back\n");
            client.says("there and back").await;
            client.end_of_input();
            client.succeeds().await;
            let info = serving.outcome().await.unwrap();
            assert_eq!((info.version, info.resumed, info.alpn), (version, false, None));
            assert_eq!(info.server_name.as_deref(), Some("localhost"));
            assert!(client.said().contains("Verify return code: 0 (ok)"), "{}", client.said());
            serving.close().await;
        }
    });
}

#[test]
fn a_megabyte_arrives_whole() {
    with(&["openssl"], async {
        let papers = Papers::new();
        // It takes some capital letters for commands.
        let digits: Vec<u8> = (b'0'..=b'9').cycle().take(MEGABYTE).collect();
        papers.put("file", &digits);
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, all_of_it).await;
            let address = format!("127.0.0.1:{}", serving.port);
            let arguments = ["s_client", "-connect", &address, "-quiet", "-no_ign_eof"];
            let mut client = Program::start_fed("openssl", &arguments, papers.folder(), "file");
            assert!(serving.outcome().await.unwrap() == digits, "{version}");
            client.succeeds().await;
            serving.close().await;
        }
    });
}

async fn all_of_it(mut reader: StreamReader, writer: StreamWriter) -> Result<Bytes, Error> {
    let all = reader.read_to_end(2 * MEGABYTE).await?;
    // Over TLS 1.2 its end would have been that of both directions.
    drop(writer);
    Ok(all)
}

#[test]
fn a_client_certificate_lets_in_and_the_lack_of_one_keeps_out() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.strict_server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            let mut client = s_client(&papers, serving.port, &["-cert", "client.pem", "-key", "client.key"]);
            client.say("it is me\n");
            client.says("it is me").await;
            client.end_of_input();
            assert!(!serving.outcome().await.unwrap().peer_certificates.is_empty());
            client.succeeds().await;

            // It sends a line at once, which must not cost it the alert that says why.
            let mut client = s_client(&papers, serving.port, &[]);
            client.say("let me in\n");
            let missing = TlsFault::BadCertificate(CertificateFault::Missing);
            assert_eq!(serving.refused().await, Some(missing));
            assert!(!client.ends().await.success(), "{}", client.said());
            assert!(client.said().contains("alert certificate required"), "{}", client.said());
            serving.close().await;
        }
    });
}

#[test]
fn a_requested_certificate_may_be_missing() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let root = papers.read("root.pem");
        for version in BOTH_VERSIONS {
            let tls = papers.server().request_client_certificates(&root).only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            for (shown, certificate) in
                [(false, &[][..]), (true, &["-cert", "client.pem", "-key", "client.key"])]
            {
                let mut client = s_client(&papers, serving.port, certificate);
                client.say("who am i\n");
                client.says("who am i").await;
                client.end_of_input();
                assert_eq!(!serving.outcome().await.unwrap().peer_certificates.is_empty(), shown);
                client.succeeds().await;
            }
            serving.close().await;
        }
    });
}

#[test]
fn the_protocol_both_speak_is_agreed_on_and_none_is_an_error() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).alpn(&["http/1.1", "http/1.0"]).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            let mut client = s_client(&papers, serving.port, &["-alpn", "h2,http/1.0,http/1.1"]);
            assert_eq!(client.says("ALPN protocol: ").await, "http/1.1", "the server's choice counts");
            client.end_of_input();
            assert_eq!(serving.outcome().await.unwrap().alpn.as_deref(), Some(&b"http/1.1"[..]));
            client.succeeds().await;

            let mut client = s_client(&papers, serving.port, &["-alpn", "gopher"]);
            assert_eq!(serving.refused().await, Some(TlsFault::NoAgreement));
            assert!(!client.ends().await.success());
            assert!(client.said().contains("no application protocol"), "{}", client.said());
            serving.close().await;
        }
    });
}

#[test]
fn the_name_it_asks_for_chooses_the_certificate() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            for (name, expected) in
                [("localhost", "localhost"), ("other.test", "other.test"), ("OTHER.test", "other.test")]
            {
                let asks = ["-servername", name, "-verify_hostname", expected];
                let mut client = s_client_of(&papers, serving.port, &asks);
                assert_eq!(client.says("subject=CN = ").await, expected);
                client.end_of_input();
                let info = serving.outcome().await.unwrap();
                assert_eq!(info.server_name, Some(name.to_ascii_lowercase()));
                client.succeeds().await;
            }
            serving.close().await;
        }
    });
}

#[test]
fn a_second_connection_resumes_the_session_of_the_first() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.strict_server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            for (resumed, file, word) in
                [(false, "-sess_out", "New, TLSv1."), (true, "-sess_in", "Reused, TLSv1.")]
            {
                let more = ["-cert", "client.pem", "-key", "client.key", file, "session"];
                let mut client = s_client(&papers, serving.port, &more);
                client.says(word).await;
                client.say("again\n");
                client.says("again").await;
                client.end_of_input();
                let info = serving.outcome().await.unwrap();
                assert_eq!((info.resumed, info.peer_certificates.is_empty()), (resumed, false), "{version}");
                client.succeeds().await;
            }
            serving.close().await;
        }
    });
}

#[test]
fn five_reconnects_resume_five_times() {
    with(&["openssl"], async {
        let papers = Papers::new();
        // Over 1.3 it drops each connection before it has read its ticket.
        let tls = papers.server().only(TlsVersion::V1_2).build().unwrap();
        let mut serving = Serving::start(tls, echo).await;
        let mut client = s_client(&papers, serving.port, &["-reconnect"]);
        client.end_of_input();
        let mut resumed = Vec::new();
        for _ in 0..6 {
            resumed.push(serving.outcome().await.unwrap().resumed);
        }
        assert_eq!(resumed, [false, true, true, true, true, true]);
        client.succeeds().await;
        serving.close().await;
    });
}

#[test]
fn new_keys_in_the_middle_of_a_stream_disturb_nobody() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let mut serving = Serving::start(papers.server().only(TlsVersion::V1_3).build().unwrap(), echo).await;
        let mut client = s_client(&papers, serving.port, &[]);
        // Its own keys, then those of both sides.
        for (word, command) in [("one\n", "k\n"), ("two\n", "K\n"), ("three\n", "")] {
            client.say(word);
            client.says(word.trim()).await;
            client.say(command);
            if !command.is_empty() {
                client.says("KEYUPDATE").await;
            }
        }
        client.end_of_input();
        assert_eq!(serving.outcome().await.unwrap().version, TlsVersion::V1_3);
        client.succeeds().await;
        serving.close().await;
    });
}

#[test]
fn a_client_that_is_killed_in_the_middle_is_no_clean_end() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            let mut client = s_client(&papers, serving.port, &[]);
            client.say("the first half\n");
            client.says("the first half").await;
            client.kill();
            let error = serving.outcome().await.unwrap_err();
            assert!(is_cut(error.clone()), "{version}: {error:?}");
            serving.close().await;
        }
    });
}

#[test]
fn our_close_ends_its_connection_well_and_our_abort_does_not() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, leave_as_told).await;
            let mut client = s_client(&papers, serving.port, &[]);
            client.say("close\n");
            client.says("closed").await;
            client.succeeds().await;
            serving.outcome().await.unwrap();
            let mut client = s_client(&papers, serving.port, &[]);
            client.say("abort\n");
            serving.outcome().await.unwrap();
            assert!(!client.ends().await.success(), "{version}: {}", client.said());
            serving.close().await;
        }
    });
}

async fn leave_as_told(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    match reader.read_line().await?.as_deref() {
        Some(b"abort\n") => writer.abort(),
        _ => {
            writer.write(b"closed")?;
            writer.close();
            writer.wait_closed().await?;
        }
    }
    Ok(())
}

#[test]
fn its_refusals_reach_us_as_alerts() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            // 42 is bad_certificate, 48 unknown_ca.
            let wrong_name = ["-CAfile", "root.pem", "-verify_hostname", "wrong.test"];
            for (what, alert) in [(&wrong_name[..], 42), (&["-CAfile", "stranger.pem"], 48)] {
                let mut client = connect(&papers, serving.port, what);
                assert_eq!(serving.refused().await, Some(TlsFault::Refused { alert }), "{version}");
                assert!(!client.ends().await.success(), "{}", client.said());
            }
            serving.close().await;
        }
    });
}

#[test]
fn versions_without_overlap_are_refused() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for (version, only) in [(TlsVersion::V1_3, "-tls1_2"), (TlsVersion::V1_2, "-tls1_3")] {
            let tls = papers.server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, echo).await;
            let mut client = s_client(&papers, serving.port, &[only]);
            assert_eq!(serving.refused().await, Some(TlsFault::NoAgreement), "{version} with {only}");
            assert!(!client.ends().await.success());
            assert!(client.said().contains("alert protocol version"), "{}", client.said());
            serving.close().await;
        }
    });
}

#[test]
fn it_upgrades_a_mail_connection_in_place() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).build().unwrap();
            let handler = move |reader, writer| mail_server(reader, writer, tls.clone());
            let mut serving = Serving::start_with(ServerOptions::new(), handler).await;
            let mut client = s_client(&papers, serving.port, &["-starttls", "smtp", "-crlf"]);
            client.says("Verify return code: 0 (ok)").await;
            client.say("NOOP\n");
            client.says("250 ok NOOP").await;
            client.end_of_input();
            client.succeeds().await;
            let info = serving.outcome().await.unwrap();
            assert_eq!((info.version, info.server_name.as_deref()), (version, Some("localhost")));
            serving.close().await;
        }
    });
}

/// As much of RFC 3207 as it takes.
async fn mail_server(
    mut reader: StreamReader,
    writer: StreamWriter,
    tls: millstream::tls::TlsServer,
) -> Result<TlsInfo, Error> {
    writer.write(b"220 mail.test ESMTP\r\n")?;
    while let Some(line) = reader.read_line().await? {
        if line.starts_with(b"EHLO") {
            writer.write(b"250-mail.test\r\n250 STARTTLS\r\n")?;
        } else if line == "STARTTLS\r\n" {
            assert_eq!(writer.tls_info(), None);
            writer.write(b"220 go ahead\r\n")?;
            writer.start_tls(&mut reader, &tls).await?;
        } else {
            writer.write_lines(&[b"250 ok ", &line[..]])?;
        }
    }
    Ok(writer.tls_info().expect("upgraded"))
}

/// A client that trusts the authority and expects localhost.
fn s_client(papers: &Papers, port: u16, more: &[&str]) -> Program {
    let mut arguments = vec!["-servername", "localhost", "-verify_hostname", "localhost"];
    arguments.extend(more);
    s_client_of(papers, port, &arguments)
}

/// One that trusts the authority.
fn s_client_of(papers: &Papers, port: u16, more: &[&str]) -> Program {
    let mut arguments = vec!["-CAfile", "root.pem"];
    arguments.extend(more);
    connect(papers, port, &arguments)
}

fn connect(papers: &Papers, port: u16, more: &[&str]) -> Program {
    let address = format!("127.0.0.1:{port}");
    let mut arguments = vec!["s_client", "-connect", &address, "-verify_return_error"];
    arguments.extend(more);
    papers.start("openssl", &arguments)
}
