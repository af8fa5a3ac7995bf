//! The servers under test, each a process of its own: ours from Rust, ours from Python, stock asyncio, plain tokio. All do
//! the same works, in the plainest way each library offers.

mod extras;
mod ours;
mod ours_works;
mod plain_tokio;
mod plain_tokio_works;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use crate::Result;
use crate::args::Args;

pub(crate) use extras::FAREWELL;
pub(crate) use ours_works::{MUCH, PIECE_LEN, PIECES};

/// Who is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Ours,
    /// Our Python face on the stock loop.
    OursPython,
    Asyncio,
    Tokio,
}

impl Subject {
    pub(crate) const ALL: [Self; 4] = [Self::Ours, Self::OursPython, Self::Asyncio, Self::Tokio];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursPython => "millstream",
            Self::Asyncio => "asyncio",
            Self::Tokio => "tokio",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursPython)
    }

    pub(crate) fn is_python(self) -> bool {
        matches!(self, Self::OursPython | Self::Asyncio)
    }
}

/// How a server is to be.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) work: String,
    /// The folder with its certificate, if it speaks TLS.
    pub(crate) tls: Option<PathBuf>,
    /// As `tls`, for works that begin it later.
    pub(crate) papers: Option<PathBuf>,
    pub(crate) handshake: Duration,
    pub(crate) close: Duration,
    /// For a server of ours.
    pub(crate) extras: extras::Extras,
}

/// `serve SUBJECT --work WORK ...`: says `port N pid N`, serves until its standard input ends, and reports in lines.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let subject = args.word().ok_or(crate::USAGE)?;
    let order = Order {
        work: args.value_or("--work", "echo".to_owned())?,
        tls: args.value("--tls")?,
        papers: args.value("--papers")?,
        handshake: Duration::from_millis(args.value_or("--handshake-ms", 10_000)?),
        close: Duration::from_millis(args.value_or("--close-ms", 30_000)?),
        extras: extras::Extras::of(&mut args)?,
    };
    args.finish()?;
    crate::process::raise_descriptor_limit()?;
    let words = words::of_standard_input();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match subject.as_str() {
        "ours" => runtime.block_on(ours::serve(order, words)),
        "tokio" => runtime.block_on(plain_tokio::serve(order)),
        other => Err(format!("no subject {other}").into()),
    }
}

/// Ends this process when its standard input ends, as it does when whoever started it is gone.
pub(crate) fn end_with_standard_input() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// Says where a server listens.
fn announce(port: u16) {
    say(format!("port {port} pid {}", std::process::id()));
}

/// One line to the row that started this server.
fn say(line: impl std::fmt::Display) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    // The row may be gone.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// One message of the work `fill`.
const FILL_LEN: usize = 16 * 1024;
/// More than the kernel takes for a peer that does not read.
const FILLER_LEN: usize = 8 << 20;
/// A drain that waits for so long has met a peer that does not read.
const STALL: Duration = Duration::from_millis(500);
