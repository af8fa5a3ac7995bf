//! What a row knows of the run it belongs to: size, seed, certificates, and which Pythons there are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::papers::Papers;
use crate::row::{Outcome, Tally};
use crate::subjects::Subject;

/// How much of a row is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// A hundredth, for every change.
    Small,
    Full,
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "small" => Ok(Self::Small),
            "full" => Ok(Self::Full),
            _ => Err("a size is small or full".to_owned()),
        }
    }
}

/// The run that a row belongs to.
pub(crate) struct Context {
    pub(crate) size: Size,
    pub(crate) seed: u64,
    pub(crate) papers: Papers,
    /// A folder that goes away with the row.
    pub(crate) folder: tempfile::TempDir,
    /// A Python that has the package.
    pub(crate) python: Option<PathBuf>,
    /// The same one, or any other, for stock asyncio.
    pub(crate) stock: Option<PathBuf>,
}

impl Context {
    pub(crate) fn new(size: Size, seed: u64) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let papers = Papers::make(folder.path())?;
        let python = python_with_the_package();
        let any = || works(Path::new("python3"), "import asyncio").then(|| PathBuf::from("python3"));
        let stock = if size == Size::Full { python.clone().or_else(any) } else { None };
        Ok(Self { size, seed, papers, folder, python, stock })
    }

    /// So many at full size; a hundredth of it, but not less than the second number, at small.
    pub(crate) fn scaled(&self, full: usize, least: usize) -> usize {
        match self.size {
            Size::Full => full,
            Size::Small => (full / 100).max(least),
        }
    }

    /// How long a thing may take that has to be done within `bar`. At small size the machine may be busy with anything, and
    /// only what hangs is judged.
    pub(crate) fn within(&self, bar: Duration) -> Duration {
        match self.size {
            Size::Full => bar,
            Size::Small => bar.max(BUSY),
        }
    }

    /// Measures every subject that there is, at small size every one that is judged, and puts the figures in their columns.
    /// What a stranger does not do as we promise is a figure, not a failure.
    pub(crate) fn compare(&self, measure: impl FnMut(Subject, &mut Tally) -> Result<String>) -> Outcome {
        self.compare_judging(Subject::is_ours, measure)
    }

    /// The same where the Python face stands on what its loop does (accepting, connecting, TLS): only the Rust face is
    /// judged.
    pub(crate) fn compare_rust(&self, measure: impl FnMut(Subject, &mut Tally) -> Result<String>) -> Outcome {
        self.compare_judging(|subject| subject == Subject::Ours, measure)
    }

    fn compare_judging(
        &self,
        is_judged: impl Fn(Subject) -> bool,
        mut measure: impl FnMut(Subject, &mut Tally) -> Result<String>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for subject in Subject::ALL {
            if self.size == Size::Small && !is_judged(subject) {
                continue;
            }
            if !self.has(subject) {
                if subject == Subject::OursPython {
                    outcome.python = NO_PACKAGE.to_owned();
                }
                continue;
            }
            let mut tally = Tally::default();
            let figure = measure(subject, &mut tally);
            let figure = if is_judged(subject) {
                let figure = tally.value(figure, subject.name()).unwrap_or_default();
                outcome.tally.add(tally);
                figure
            } else {
                let figure = figure.unwrap_or_else(|error| format!("failed: {error}"));
                match tally.failures {
                    0 => figure,
                    failures => format!("{figure}; not as promised {failures} of {} times", tally.runs),
                }
            };
            match subject {
                Subject::Ours => outcome.ours = figure,
                Subject::OursPython => outcome.python = figure,
                Subject::Asyncio => outcome.asyncio = figure,
                Subject::Tokio => outcome.tokio = figure,
            }
        }
        outcome
    }

    /// Whether this subject is measured: it can be started here, and it is one of ours or the size is full. At small size
    /// there are promises to be checked, and strangers promise nothing.
    pub(crate) fn has(&self, subject: Subject) -> bool {
        let is_full = self.size == Size::Full;
        match subject {
            Subject::Ours => true,
            Subject::OursPython => self.python.is_some(),
            Subject::Asyncio => self.stock.is_some() && is_full,
            Subject::Tokio => is_full,
        }
    }
}

/// `MILLSTREAM_PYTHON`, or the newest one that `.ci/python` has built the package for.
fn python_with_the_package() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = env::var_os("MILLSTREAM_PYTHON").map(PathBuf::from).into_iter().collect();
    if found.is_empty() {
        let venvs = fs::read_dir(root().join(".venv")).into_iter().flatten().flatten();
        found = venvs.map(|venv| venv.path().join("bin/python")).filter(|path| path.exists()).collect();
        // `3.9` before `3.10`: the shorter name is the older one.
        found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    }
    found.into_iter().rev().find(|python| works(python, "import millstream"))
}

fn works(python: &Path, program: &str) -> bool {
    Command::new(python).args(["-c", program]).output().is_ok_and(|output| output.status.success())
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// What a busy machine may make of something that is done at once. Less than any wait of a peer, which is what it is told
/// from.
const BUSY: Duration = Duration::from_secs(5);
/// What the column of the Python face says without a package.
pub(crate) const NO_PACKAGE: &str = "not run: build the Python package first (.ci/python build)";
