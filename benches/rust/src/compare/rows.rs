//! The rows of the comparison: what load each one is, who takes part, and whose figure is 1.

use super::field::{Face, Work};

/// One row: a load that every server of a face meets.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Its name on the command line and of its chart.
    pub(super) name: &'static str,
    /// Whose servers take part.
    pub(super) face: Face,
    /// What they do.
    pub(super) work: Work,
    pub(super) load: Load,
    pub(super) connections: usize,
    /// Requests outstanding on each connection.
    pub(super) depth: usize,
    /// Bytes of a request, without the length before a counted one.
    pub(super) size: usize,
    /// Each measurement is of a server that has just started.
    pub(super) fresh: bool,
}

/// How a row loads its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// As soon as a batch is back, the next is sent.
    Closed,
    /// At a fixed rate: a share of what the slowest server reached in the closed row of this name.
    Open(&'static str),
    /// One stream of bytes.
    Bulk,
    /// Connect, one line (or, over TLS, the handshake), close.
    Connects,
    /// Connections that had one line answered and keep quiet.
    Idle,
}

/// Share of the slowest server's closed-loop peak that an open loop asks of every server.
pub(super) const OPEN_SHARE: f64 = 0.6;

const fn row(name: &'static str, face: Face, work: Work, load: Load, shape: [usize; 3]) -> Row {
    let [connections, depth, size] = shape;
    // What a thousand connections leave behind is another row's burden.
    Row { name, face, work, load, connections, depth, size, fresh: connections >= 1_000 }
}

/// The same row, of servers that have just started.
const fn fresh(row: Row) -> Row {
    Row { fresh: true, ..row }
}

/// All rows, in the order of a round.
pub(super) const ROWS: &[Row] = &[
    row("lines-1", Face::Rust, Work::Lines, Load::Closed, [1, 1, 64]),
    row("lines-100", Face::Rust, Work::Lines, Load::Closed, [100, 1, 64]),
    row("lines-1000", Face::Rust, Work::Lines, Load::Closed, [1_000, 1, 64]),
    row("lines-10000", Face::Rust, Work::Lines, Load::Closed, [10_000, 1, 64]),
    row("lines-100x10", Face::Rust, Work::Lines, Load::Closed, [100, 10, 64]),
    row("lines-50x100", Face::Rust, Work::Lines, Load::Closed, [50, 100, 64]),
    row("open-100", Face::Rust, Work::Lines, Load::Open("lines-100"), [100, 1, 64]),
    row("counted-1k", Face::Rust, Work::Counted, Load::Closed, [20, 1, 1 << 10]),
    row("counted-16k", Face::Rust, Work::Counted, Load::Closed, [20, 1, 16 << 10]),
    row("counted-256k", Face::Rust, Work::Counted, Load::Closed, [4, 1, 256 << 10]),
    row("counted-1m", Face::Rust, Work::Counted, Load::Closed, [1, 1, 1 << 20]),
    row("bulk", Face::Rust, Work::Bulk, Load::Bulk, [1, 1, 0]),
    row("connects", Face::Rust, Work::Lines, Load::Connects, [20, 1, 64]),
    row("idle", Face::Rust, Work::Lines, Load::Idle, [5_000, 1, 64]),
    row("tls-lines-100", Face::Rust, Work::TlsLines, Load::Closed, [100, 1, 64]),
    row("tls-lines-50x100", Face::Rust, Work::TlsLines, Load::Closed, [50, 100, 64]),
    row("tls-open-100", Face::Rust, Work::TlsLines, Load::Open("tls-lines-100"), [100, 1, 64]),
    row("tls-counted-16k", Face::Rust, Work::TlsCounted, Load::Closed, [20, 1, 16_000]),
    row("tls-counted-256k", Face::Rust, Work::TlsCounted, Load::Closed, [4, 1, 256 << 10]),
    row("tls-bulk", Face::Rust, Work::TlsBulk, Load::Bulk, [1, 1, 0]),
    row("tls-connects", Face::Rust, Work::TlsLines, Load::Connects, [20, 1, 64]),
    row("tls-idle", Face::Rust, Work::TlsLines, Load::Idle, [5_000, 1, 64]),
    row("py-lines-1", Face::Python, Work::Lines, Load::Closed, [1, 1, 64]),
    row("py-lines-100", Face::Python, Work::Lines, Load::Closed, [100, 1, 64]),
    // asyncio's transports allocate 256 KiB for every receive. The C library maps that anew each time until a connection
    // has ended for the first time, and the same server takes half as long from then on.
    fresh(row("py-lines-100-first", Face::Python, Work::Lines, Load::Closed, [100, 1, 64])),
    row("py-lines-1000", Face::Python, Work::Lines, Load::Closed, [1_000, 1, 64]),
    row("py-lines-100x10", Face::Python, Work::Lines, Load::Closed, [100, 10, 64]),
    row("py-lines-50x100", Face::Python, Work::Lines, Load::Closed, [50, 100, 64]),
    row("py-open-100", Face::Python, Work::Lines, Load::Open("py-lines-100"), [100, 1, 64]),
    row("py-counted-1k", Face::Python, Work::Counted, Load::Closed, [20, 1, 1 << 10]),
    row("py-counted-16k", Face::Python, Work::Counted, Load::Closed, [20, 1, 16 << 10]),
    row("py-counted-256k", Face::Python, Work::Counted, Load::Closed, [4, 1, 256 << 10]),
    row("py-bulk", Face::Python, Work::Bulk, Load::Bulk, [1, 1, 0]),
    row("py-connects", Face::Python, Work::Lines, Load::Connects, [20, 1, 64]),
    row("py-idle", Face::Python, Work::Lines, Load::Idle, [1_000, 1, 64]),
    row("py-tls-lines-100", Face::Python, Work::TlsLines, Load::Closed, [100, 1, 64]),
    row("py-tls-lines-50x100", Face::Python, Work::TlsLines, Load::Closed, [50, 100, 64]),
    row("py-tls-bulk", Face::Python, Work::TlsBulk, Load::Bulk, [1, 1, 0]),
];

impl Row {
    /// The heading over its table.
    pub(super) fn title(&self) -> String {
        let kind = match (self.face, self.work.is_tls()) {
            (Face::Rust, false) => "",
            (Face::Rust, true) => "TLS, ",
            (Face::Python, false) => "Python, ",
            (Face::Python, true) => "Python, TLS, ",
        };
        let size = match self.size {
            n if n % (1 << 20) == 0 => format!("{}-MiB", n >> 20),
            n if n % 1024 == 0 => format!("{}-KiB", n >> 10),
            n => format!("{n}-byte"),
        };
        let what = match self.work {
            Work::Lines | Work::TlsLines => format!("{size} lines"),
            _ => format!("{size} messages behind their length"),
        };
        let connections = match self.connections {
            1 => "1 connection".to_owned(),
            n => format!("{n} connections"),
        };
        match self.load {
            Load::Closed => {
                let first = if self.fresh { ", the first of their server" } else { "" };
                format!("{kind}{connections}{first}, {} outstanding on each, {what}", self.depth)
            }
            Load::Open(_) => format!("{kind}{connections}, {what} arriving at one fixed rate (open loop)"),
            Load::Bulk => format!("{kind}bulk, {connections}, every byte sent back"),
            Load::Connects if self.work.is_tls() => {
                format!("{kind}connect, full handshake, close, {} at once", self.connections)
            }
            Load::Connects => {
                format!("connect, one line there and back, close, {} at once", self.connections)
            }
            Load::Idle => format!("{kind}memory of {connections} that are idle after one line"),
        }
    }

    /// What is counted.
    pub(super) fn unit(&self) -> &'static str {
        match self.load {
            Load::Closed | Load::Open(_) => "request",
            Load::Bulk => "MiB",
            Load::Connects => "connection",
            Load::Idle => "idle connection",
        }
    }

    /// Whose figures are 1.
    pub(super) fn base(&self) -> &'static str {
        match self.face {
            Face::Rust if self.work.is_tls() => "tokio-naive",
            Face::Rust => "epoll",
            Face::Python => "asyncio",
        }
    }

    /// In how many rounds it is measured: memory repeats within one percent, and a machine copies at one of several speeds,
    /// whoever asks, which takes longer to average out.
    pub(super) fn rounds(&self, rounds: usize) -> usize {
        match self.load {
            Load::Idle => rounds.min(3),
            Load::Bulk => 2 * rounds,
            _ => rounds,
        }
    }

    /// The arguments of the load process beside those that name the server.
    pub(super) fn load_args(&self, effort: &Effort, rate: f64) -> Vec<String> {
        let tls = if self.work.is_tls() { "tls-" } else { "" };
        let mode = match self.load {
            Load::Closed => format!("{tls}closed"),
            Load::Open(_) => format!("{tls}open"),
            Load::Bulk => format!("{tls}bulk"),
            Load::Connects if self.work.is_tls() => "tls-handshakes".to_owned(),
            Load::Connects => "connects".to_owned(),
            Load::Idle => format!("{tls}memory"),
        };
        let format = if matches!(self.work, Work::Counted | Work::TlsCounted) { "counted" } else { "lines" };
        let mut args = vec![mode, "--connections".to_owned(), self.connections.to_string()];
        let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
        add("--window-ms", effort.window_ms.to_string());
        add("--warm-ms", effort.warm_ms.to_string());
        if self.load == Load::Bulk {
            // TLS costs several times as much a byte, and Python no less.
            let share = if self.work.is_tls() || self.face == Face::Python { 4 } else { 1 };
            add("--bytes", ((effort.bulk_mib << 20) / share).to_string());
        } else {
            add("--depth", self.depth.to_string());
            add("--line", self.size.to_string());
            add("--format", format.to_owned());
            add("--rate", rate.to_string());
        }
        args
    }
}

/// How long each measurement takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) window_ms: u64,
    pub(super) warm_ms: u64,
    pub(super) bulk_mib: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_a_base_that_takes_part() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..at].iter().all(|other| other.name != row.name), "{} is there twice", row.name);
            let found = super::super::field::FIELD.iter().find(|server| server.name == row.base());
            assert!(
                found.is_some_and(|server| server.face == row.face && server.does(row.work)),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn an_open_row_follows_the_closed_one_that_finds_its_rate() {
        for (at, row) in ROWS.iter().enumerate() {
            if let Load::Open(closed) = row.load {
                assert!(ROWS[..at].iter().any(|other| other.name == closed && other.face == row.face));
            }
        }
    }
}
