//! What a row of the fault table is, and what comes of running it.

use crate::Result;
use crate::context::Context;

/// One row of the fault table.
pub(crate) struct Row {
    /// As in the table, such as `R1`.
    pub(crate) id: &'static str,
    /// The fault in a few words.
    pub(crate) title: &'static str,
    pub(crate) place: Place,
    pub(crate) run: fn(&Context) -> Result<Outcome>,
}

/// Where a row's process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// As the rig itself.
    Here,
    /// In a network and mount namespace of its own, with loopback up.
    Namespaces,
}

/// How often something was tried, and how often it was not as promised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) runs: u64,
    pub(crate) failures: u64,
    /// The first failures in words.
    pub(crate) trouble: Vec<String>,
}

impl Tally {
    /// Counts one run, and a failure if the promise was not kept.
    pub(crate) fn check(&mut self, kept: bool, what: impl FnOnce() -> String) -> bool {
        self.runs += 1;
        if !kept {
            self.fail(what());
        }
        kept
    }

    /// Counts runs that were as promised.
    pub(crate) fn passed(&mut self, runs: u64) {
        self.runs += runs;
    }

    /// A failure of a run that was counted already.
    pub(crate) fn fail(&mut self, what: String) {
        self.failures += 1;
        if self.trouble.len() < MOST_TROUBLE {
            self.trouble.push(what);
        }
    }

    /// Counts one run that either came to a value or to an error that must not be.
    pub(crate) fn value<T>(&mut self, result: Result<T>, what: &str) -> Option<T> {
        self.runs += 1;
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(format!("{what}: {error}"));
                None
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.failures += other.failures;
        self.trouble.extend(other.trouble);
        self.trouble.truncate(MOST_TROUBLE);
    }
}

/// What came of a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// The figure of the Rust face.
    pub(crate) ours: String,
    /// The same figure for the Python face, stock asyncio and plain tokio; empty where there is none.
    pub(crate) python: String,
    pub(crate) asyncio: String,
    pub(crate) tokio: String,
    /// Why nothing was run.
    pub(crate) not_run: Option<String>,
}

impl Outcome {
    /// A row of which only our own figure exists.
    pub(crate) fn ours(tally: Tally, figure: impl Into<String>) -> Self {
        Self { tally, ours: figure.into(), ..Self::default() }
    }

    pub(crate) fn not_run(reason: impl Into<String>) -> Self {
        Self { not_run: Some(reason.into()), ..Self::default() }
    }

    /// The same with a figure for stock asyncio.
    pub(crate) fn asyncio(mut self, figure: impl Into<String>) -> Self {
        self.asyncio = figure.into();
        self
    }

    /// The same with a figure for plain tokio.
    pub(crate) fn tokio(mut self, figure: impl Into<String>) -> Self {
        self.tokio = figure.into();
        self
    }

    /// One line for the process that started the row.
    pub(crate) fn to_line(&self) -> String {
        let clean = |text: &str| text.replace(['\t', '\n'], " ");
        let mut fields = vec![
            MARK.to_owned(),
            self.tally.runs.to_string(),
            self.tally.failures.to_string(),
            clean(&self.ours),
            clean(&self.python),
            clean(&self.asyncio),
            clean(&self.tokio),
            clean(self.not_run.as_deref().unwrap_or_default()),
        ];
        fields.extend(self.tally.trouble.iter().map(|text| clean(text)));
        fields.join("\t")
    }

    /// What [`to_line`](Self::to_line) made, if that is such a line.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let mut fields = line.trim_end_matches('\n').split('\t').map(str::to_owned);
        if fields.next()? != MARK {
            return None;
        }
        let (runs, failures) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (ours, python, asyncio, tokio) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let not_run = fields.next().filter(|reason| !reason.is_empty());
        let tally = Tally { runs, failures, trouble: fields.collect() };
        Some(Self { tally, ours, python, asyncio, tokio, not_run })
    }
}

/// Begins the line of an outcome.
const MARK: &str = "outcome:";
/// What is kept of many failures.
const MOST_TROUBLE: usize = 5;
