//! Programs of others: found on this machine, run beside a test, and ended with it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

/// Whether this machine has all of these programs. If not, a test that needs them skips, and this says why.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
    if !missing.is_empty() {
        eprintln!("skipped: this machine has no {}", missing.join(", no "));
    }
    missing.is_empty()
}

/// Where a program is: on the path, or where only the administrator's path leads.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// A program that runs beside the test. It is ended, by its id, when this is dropped; so a test that panics
/// ends it too.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    /// Everything that it says, on both outputs, and how much of it was waited for already.
    output: NamedTempFile,
    heard: usize,
}

impl Program {
    /// Starts it in this folder.
    pub fn start(program: &str, arguments: &[&str], folder: &Path) -> Self {
        Self::start_with(program, arguments, folder, Stdio::piped())
    }

    /// Starts it with a file of this folder for its input: more than fits into a pipe.
    pub fn start_fed(program: &str, arguments: &[&str], folder: &Path, input: &str) -> Self {
        let input = File::open(folder.join(input)).expect("a file to read");
        Self::start_with(program, arguments, folder, input.into())
    }

    fn start_with(program: &str, arguments: &[&str], folder: &Path, input: Stdio) -> Self {
        let output = NamedTempFile::new().expect("a temporary file");
        // Each its own place in the file would overwrite the other's words.
        let append = || File::options().append(true).open(output.path()).expect("the file just made");
        let mut command = Command::new(find(program).expect("`have` was asked before"));
        command.args(arguments).current_dir(folder).env("LC_ALL", "C").stdin(input);
        let mut child = command.stdout(append()).stderr(append()).spawn().expect("the program starts");
        let input = child.stdin.take();
        Self {
            name: format!("{program} {}", arguments.first().unwrap_or(&"")),
            child,
            input,
            output,
            heard: 0,
        }
    }

    /// Types this into it. No more than fits into a pipe, for it may wait for what runs on this thread.
    pub fn say(&mut self, text: impl AsRef<[u8]>) {
        self.input.as_mut().expect("its input is open").write_all(text.as_ref()).expect("it listens");
    }

    /// Ends its input.
    pub fn end_of_input(&mut self) {
        self.input = None;
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.output.path()).expect("its output")).into_owned()
    }

    /// Waits until it says this, after what was waited for before, and returns the rest of that line.
    pub async fn says(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let over = self.is_over().is_some();
            let said = self.said();
            let news = said.get(self.heard..).unwrap_or_default();
            if let Some((line, after)) = news.split_once(text).and_then(|(_, rest)| rest.split_once('\n')) {
                self.heard = said.len() - after.len();
                return line.trim().to_owned();
            }
            assert!(!over, "{} ended without {text:?}:\n{said}", self.name);
            assert!(Instant::now() < deadline, "{} does not say {text:?}:\n{said}", self.name);
            tokio::time::sleep(A_MOMENT).await;
        }
    }

    /// Waits until it has said where it listens, and returns the port.
    pub async fn port_after(&mut self, text: &str) -> u16 {
        let line = self.says(text).await;
        let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        port.unwrap_or_else(|| panic!("{} said no port: {line:?}", self.name))
    }

    /// How it ended, if it did.
    pub fn is_over(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Waits until it ends by itself.
    pub async fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.is_over() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end:\n{}", self.name, self.said());
            tokio::time::sleep(A_MOMENT).await;
        }
    }

    /// Waits until it ends by itself, and well.
    pub async fn succeeds(&mut self) {
        let status = self.ends().await;
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.said());
    }

    /// Ends it at once; the system closes its sockets.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How long a program may be silent, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);
const A_MOMENT: Duration = Duration::from_millis(3);
