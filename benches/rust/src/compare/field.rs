//! Who takes part: the servers of each face, what each can do, and the command that starts it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Result;
use crate::certificate::Certificate;
use crate::peers::{MORE, PEERS};

/// Which of the two comparisons a server belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    Rust,
    Python,
}

/// What a server does with what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work {
    Lines,
    Counted,
    Bulk,
    TlsLines,
    TlsCounted,
    TlsBulk,
}

/// One server of the field.
#[derive(Debug)]
pub(super) struct Contender {
    /// Its name in the tables.
    pub(super) name: &'static str,
    pub(super) face: Face,
    /// In Python: whose streams, and on which loop.
    python: Option<(&'static str, &'static str)>,
}

/// Everyone.
pub(super) const FIELD: &[Contender] = &[
    rust("epoll"),
    rust("tokio-naive"),
    rust("tokio-flush"),
    rust("framed"),
    rust("smol"),
    rust("monoio"),
    rust("monoio-epoll"),
    rust("compio"),
    rust("millstream"),
    rust("millstream-owned"),
    python("asyncio", "stock", "asyncio"),
    python("uvloop", "stock", "uvloop"),
    python("rloop", "stock", "rloop"),
    python("rsloop", "stock", "rsloop"),
    python("uvloop-protocol", "protocol", "uvloop"),
    python("millstream/asyncio", "millstream", "asyncio"),
    python("millstream/uvloop", "millstream", "uvloop"),
];

const fn rust(name: &'static str) -> Contender {
    Contender { name, face: Face::Rust, python: None }
}

const fn python(name: &'static str, streams: &'static str, on: &'static str) -> Contender {
    Contender { name, face: Face::Python, python: Some((streams, on)) }
}

/// Where a server stands in the field; behind all others if it is unknown.
pub(crate) fn place(name: &str) -> usize {
    FIELD.iter().position(|server| server.name == name).unwrap_or(FIELD.len())
}

/// Which of these servers are set side by side to say where we lose: ours beside all others; on asyncio's own loop
/// only beside asyncio's own streams, because a loop's speed is not the streams'.
pub(crate) fn rivals<'a>(names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let ours = names
        .iter()
        .filter(|name| matches!(**name, "millstream" | "millstream/asyncio" | "millstream/uvloop"));
    let pairs = ours.flat_map(|ours| {
        let rival = move |theirs: &&&str| {
            !theirs.starts_with("millstream") && (*ours != "millstream/asyncio" || **theirs == "asyncio")
        };
        names.iter().filter(rival).map(move |theirs| (*ours, *theirs))
    });
    pairs.collect()
}

impl Work {
    /// Whether it is over TLS.
    pub(super) fn is_tls(self) -> bool {
        matches!(self, Self::TlsLines | Self::TlsCounted | Self::TlsBulk)
    }

    /// Its name for `serve.py`.
    fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Counted => "counted",
            Self::Bulk => "bulk",
            Self::TlsLines => "tls-lines",
            Self::TlsCounted => "tls-counted",
            Self::TlsBulk => "tls-bulk",
        }
    }
}

impl Contender {
    /// Whether it has a server for this work.
    pub(super) fn does(&self, work: Work) -> bool {
        match self.python {
            None => self.peer(work).is_some(),
            // The floor looks at nothing, so it has no messages; and rloop has no TLS.
            Some(("protocol", _)) => matches!(work, Work::Lines | Work::Bulk),
            Some((_, "rloop")) => !work.is_tls(),
            Some(_) => true,
        }
    }

    /// The server of this binary that does the work.
    fn peer(&self, work: Work) -> Option<&'static str> {
        let name = match (work, self.name) {
            (Work::Lines, name) => name.to_owned(),
            // One block loop for all of tokio's.
            (Work::Bulk, "tokio-naive") => "bulk-tokio".to_owned(),
            (Work::TlsBulk, "tokio-naive") => "tls-bulk-tokio".to_owned(),
            (Work::Bulk | Work::Counted | Work::TlsBulk | Work::TlsCounted, name) => {
                format!("{}-{name}", work.name())
            }
            (Work::TlsLines, name) => format!("tls-{name}"),
        };
        PEERS.iter().chain(MORE).map(|peer| peer.name).find(|peer| *peer == name)
    }
}

/// How the servers of this run are started.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) certificate: Certificate,
    pub(super) core: usize,
    /// The interpreter and `serve.py`, when the Python servers take part.
    pub(super) python: Option<(PathBuf, PathBuf)>,
}

impl Launch {
    /// Whether everything that `who` needs is installed.
    pub(super) fn can_start(&self, who: &Contender) -> bool {
        match (who.python, &self.python) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((_, on)), Some((interpreter, _))) => {
                let mut command = Command::new(interpreter);
                command.args(["-c", &format!("import {on}")]).stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success())
            }
        }
    }

    /// The command that starts `who` for `work`: it prints its port.
    pub(super) fn command(&self, who: &Contender, work: Work) -> Result<Command> {
        let core = self.core.to_string();
        if let Some((streams, on)) = who.python {
            let (interpreter, script) = self.python.as_ref().ok_or("no Python was named")?;
            let mut command = Command::new(interpreter);
            command.arg(script).args([streams, on, work.name(), &core]);
            return Ok(command);
        }
        let peer = who.peer(work).ok_or_else(|| format!("{} does not do {}", who.name, work.name()))?;
        let mut command = Command::new(std::env::current_exe()?);
        self.certificate.hand_to(&mut command).args(["serve", peer, "--core", &core]);
        Ok(command)
    }
}
