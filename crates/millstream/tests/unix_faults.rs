//! Unix sockets and the paths they live at: whose path it is, who may connect, and who is there. Fault row A4.

mod support;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use millstream::{
    Address, ConnectError, ErrorClass, ServeError, Server, ServerOptions, StreamReader, StreamWriter,
};
use support::run;

#[test]
fn a4_a_stale_path_is_taken_over_and_removed_at_the_end() {
    run(async {
        let folder = Folder::new();
        drop(UnixListener::bind(folder.path("s")).unwrap());
        assert!(folder.path("s").exists(), "stale: a socket nobody listens on");
        let server = serve(&folder.path("s"));
        answers(&folder.path("s"), "millstream").await;
        end(server).await;
        assert!(!folder.path("s").exists());
    });
}

#[test]
fn a4_a_living_path_is_in_use_and_stays_as_it_is() {
    run(async {
        let folder = Folder::new();
        let server = serve(&folder.path("s"));
        let before = identity(&folder.path("s"));
        let error = start(&folder.path("s")).unwrap_err();
        assert_eq!(error, ServeError::PathInUse { path: folder.path("s") });
        assert_eq!((error.kind(), error.class()), (ErrorKind::AddrInUse, ErrorClass::BadCall));
        assert_eq!(identity(&folder.path("s")), before);
        answers(&folder.path("s"), "millstream").await;
        end(server).await;
    });
}

#[test]
fn a4_a_living_path_with_a_full_backlog_is_in_use_too() {
    run(async {
        let folder = Folder::new();
        let busy = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        busy.bind(&socket2::SockAddr::unix(folder.path("s")).unwrap()).unwrap();
        busy.listen(0).unwrap();
        let _filler = UnixStream::connect(folder.path("s")).unwrap();
        let error = start(&folder.path("s")).unwrap_err();
        assert_eq!(error, ServeError::PathInUse { path: folder.path("s") });
        assert!(folder.path("s").exists());
    });
}

#[test]
fn a4_whatever_is_no_socket_is_refused_and_left_alone() {
    run(async {
        let folder = Folder::new();
        let _living = UnixListener::bind(folder.path("living")).unwrap();
        std::fs::write(folder.path("file"), "precious").unwrap();
        std::fs::create_dir(folder.path("folder")).unwrap();
        symlink(folder.path("living"), folder.path("link")).unwrap();
        for name in ["file", "folder", "link"] {
            let before = identity(&folder.path(name));
            let error = start(&folder.path(name)).unwrap_err();
            assert_eq!(error, ServeError::NotASocket { path: folder.path(name) });
            assert_eq!((error.kind(), error.class()), (ErrorKind::AlreadyExists, ErrorClass::BadCall));
            assert_eq!(identity(&folder.path(name)), before);
        }
        assert_eq!(std::fs::read_to_string(folder.path("file")).unwrap(), "precious");
    });
}

#[test]
fn a4_paths_that_cannot_be_are_bad_calls_with_the_numbers() {
    run(async {
        let long = format!("/tmp/{}", "x".repeat(103));
        let table = [
            (long.as_str(), "has 108 bytes; a Unix socket's address holds 107"),
            ("", "empty"),
            ("a\0b", "zero byte"),
        ];
        for (path, text) in table {
            let serve = start(Path::new(path)).unwrap_err();
            assert!(
                matches!(serve, ServeError::BadPath { .. }) && serve.to_string().contains(text),
                "{serve}"
            );
            assert_eq!((serve.kind(), serve.class()), (ErrorKind::InvalidInput, ErrorClass::BadCall));
            let connect = millstream::open_unix_connection(path).await.unwrap_err();
            assert!(matches!(connect, ConnectError::BadPath { .. }) && connect.to_string().contains(text));
            assert_eq!((connect.kind(), connect.class()), (ErrorKind::InvalidInput, ErrorClass::BadCall));
        }
        let folder = Folder::new();
        let fits = folder.path(&"x".repeat(107 - folder.0.path().as_os_str().len() - 1));
        assert_eq!(fits.as_os_str().len(), 107);
        let server = serve(&fits);
        answers(&fits, "millstream").await;
        end(server).await;
    });
}

#[test]
fn a4_a_path_that_someone_else_has_taken_since_is_not_removed() {
    run(async {
        let folder = Folder::new();
        for by_rename in [false, true] {
            let server = serve(&folder.path("s"));
            let other = if by_rename {
                let other = UnixListener::bind(folder.path("new")).unwrap();
                std::fs::rename(folder.path("new"), folder.path("s")).unwrap();
                other
            } else {
                std::fs::remove_file(folder.path("s")).unwrap();
                UnixListener::bind(folder.path("s")).unwrap()
            };
            end(server).await;
            let connected = UnixStream::connect(folder.path("s"));
            assert!(connected.is_ok() && other.accept().is_ok(), "by rename: {by_rename}");
            std::fs::remove_file(folder.path("s")).unwrap();
        }
    });
}

#[test]
fn a4_nobody_connects_before_the_rights_are_set() {
    run(async {
        let folder = Folder::new();
        for (round, mode) in [0o600, 0o622, 0o777, 0o640].into_iter().cycle().take(200).enumerate() {
            let path = folder.path(&round.to_string());
            let (looking, gone) = (AtomicBool::new(false), AtomicBool::new(false));
            std::thread::scope(|scope| {
                let connector = scope.spawn(|| {
                    while !gone.load(Ordering::Relaxed) {
                        let connected = UnixStream::connect(&path);
                        looking.store(true, Ordering::Relaxed);
                        if connected.is_ok() {
                            return Some(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777);
                        }
                    }
                    None
                });
                while !looking.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                let server = ServerOptions::new().mode(mode).start_unix(&path, hello).unwrap();
                let seen = connector.join().unwrap();
                gone.store(true, Ordering::Relaxed);
                assert_eq!(seen, Some(mode), "round {round}");
                drop(server);
            });
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a4_a_server_that_does_not_serve_yet_holds_its_path_and_cleans_up() {
    run(async {
        let folder = Folder::new();
        let options = ServerOptions::new().start_serving(false).mode(0o600);
        let server = options.start_unix(folder.path("s"), hello).unwrap();
        let mode = std::fs::metadata(folder.path("s")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the rights are set while nobody can connect");
        let error = millstream::open_unix_connection(folder.path("s")).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (ErrorKind::ConnectionRefused, ErrorClass::BrokenByPeer));
        server.start_serving().unwrap();
        answers(&folder.path("s"), "millstream").await;
        end(server).await;
        drop(options.start_unix(folder.path("s"), hello).unwrap());
        let error = millstream::open_unix_connection(folder.path("s")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    });
}

#[test]
fn a_path_is_kept_if_asked_and_the_next_server_takes_it_over() {
    run(async {
        let folder = Folder::new();
        let options = ServerOptions::new().cleanup_socket(false);
        for _ in 0..2 {
            let server = options.start_unix(folder.path("s"), hello).unwrap();
            assert_eq!(server.sockets(), [Address::Path(folder.path("s"))]);
            answers(&folder.path("s"), "millstream").await;
            end(server).await;
            assert!(folder.path("s").exists());
        }
    });
}

#[test]
fn abstract_names_need_no_path_and_are_in_use_while_they_live() {
    run(async {
        let name = format!("millstream-test-{}", std::process::id());
        let path = PathBuf::from(format!("\0{name}"));
        let server = serve(&path);
        assert_eq!(server.sockets(), [Address::Abstract(name.clone().into_bytes())]);
        assert_eq!(server.sockets()[0].to_string(), format!("@{name}"));
        let (_reader, writer) = millstream::open_unix_connection(&path).await.unwrap();
        assert_eq!(writer.peer_address(), Some(Address::Abstract(name.into_bytes())));
        writer.abort();
        answers(&path, "millstream").await;
        assert_eq!(start(&path).unwrap_err(), ServeError::PathInUse { path: path.clone() });
        end(server).await;
        end(serve(&path)).await;
    });
}

#[test]
fn whatever_is_like_a_path_will_do() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("s");
        let text = path.to_str().unwrap();
        let servers = [
            millstream::start_unix_server(text, hello).await,
            millstream::start_unix_server(text.to_owned() + "1", hello).await,
            millstream::start_unix_server(folder.path("s2"), hello).await,
            millstream::start_unix_server(OsString::from(folder.path("s3")), hello).await,
        ];
        for (reader, writer) in [
            millstream::open_unix_connection(text).await.unwrap(),
            millstream::open_unix_connection(format!("{text}1")).await.unwrap(),
            millstream::open_unix_connection(&folder.path("s2")).await.unwrap(),
            millstream::open_unix_connection(folder.path("s3").as_os_str()).await.unwrap(),
        ] {
            drop((reader, writer));
        }
        for server in servers {
            end(server.unwrap()).await;
        }
    });
}

#[test]
fn both_ends_know_who_is_at_the_other() {
    run(async {
        let folder = Folder::new();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let server = ServerOptions::new()
            .start_unix(folder.path("s"), move |_reader, writer: StreamWriter| {
                tell.send((writer.peer_credentials(), writer.peer_address())).unwrap();
            })
            .unwrap();
        let (_reader, writer) = millstream::open_unix_connection(folder.path("s")).await.unwrap();
        let ours = writer.peer_credentials().unwrap();
        assert_eq!(writer.peer_address(), Some(Address::Path(folder.path("s"))));
        let (theirs, address) = told.recv().await.unwrap();
        assert_eq!(address, Some(Address::Unnamed));
        assert_eq!(theirs.unwrap(), ours, "this process talks to itself");
        assert_eq!(ours.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(ours.uid, rustix::process::getuid().as_raw());
        assert_eq!(ours.gid, rustix::process::getgid().as_raw());
        drop(writer);
        end(server).await;
        let ((_reader, writer), _peer) = support::tcp_pair(&millstream::ConnectOptions::new());
        assert_eq!(writer.peer_credentials().unwrap_err().kind(), ErrorKind::Unsupported);
        writer.abort();
    });
}

fn hello(_reader: StreamReader, writer: StreamWriter) {
    writer.write(b"millstream").expect("open");
}

fn start(path: &Path) -> Result<Server, ServeError> {
    ServerOptions::new().start_unix(path, hello)
}

fn serve(path: &Path) -> Server {
    start(path).expect("a free path")
}

async fn answers(path: &Path, expected: &str) {
    let (mut reader, _writer) = millstream::open_unix_connection(path).await.expect("a server");
    assert_eq!(reader.read_to_end(100).await.expect("a greeting"), expected);
}

async fn end(server: Server) {
    server.close();
    server.close_clients();
    server.wait_closed().await;
}

fn identity(path: &Path) -> (u64, u64, i64) {
    let metadata = std::fs::symlink_metadata(path).expect("it exists");
    (metadata.ino(), metadata.size(), metadata.ctime_nsec())
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
