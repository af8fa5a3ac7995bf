//! A server under test as its row sees it: a process with a port, the lines it reports, what it says on standard error.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, Signal, kill_process};

use crate::Result;
use crate::context::Context;
use crate::process::Process;
use crate::subjects::Subject;

/// What a server is to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    work: String,
    args: Vec<String>,
    tls: bool,
    papers: bool,
    /// Programs that run the server, such as strace with its arguments.
    wrapper: Vec<String>,
    /// The listening socket that it inherits.
    listener: Option<Arc<TcpListener>>,
}

impl Setup {
    pub(crate) fn work(work: &str) -> Self {
        Self { work: work.to_owned(), ..Self::default() }
    }

    /// Serves over TLS from the first byte.
    pub(crate) fn tls(mut self, on: bool) -> Self {
        self.tls = on;
        self
    }

    /// Has a certificate for an upgrade later.
    pub(crate) fn papers(mut self) -> Self {
        self.papers = true;
        self
    }

    pub(crate) fn handshake(self, deadline: Duration) -> Self {
        self.millis("--handshake-ms", deadline)
    }

    pub(crate) fn close(self, deadline: Duration) -> Self {
        self.millis("--close-ms", deadline)
    }

    /// Runs the server by this program.
    pub(crate) fn under(mut self, wrapper: Vec<String>) -> Self {
        self.wrapper = wrapper;
        self
    }

    /// Gives it another argument.
    pub(crate) fn option(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.args.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// Lets it inherit this listening socket, as a supervisor does, in the place of one of its own.
    pub(crate) fn inheriting(mut self, listener: &Arc<TcpListener>) -> Self {
        self.listener = Some(Arc::clone(listener));
        self.option("--inherits", true)
    }

    fn millis(mut self, name: &str, time: Duration) -> Self {
        self.args.extend([name.to_owned(), time.as_millis().to_string()]);
        self
    }
}

/// A running server; dropping it ends it.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) process: Process,
    reports: Receiver<String>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts the subject and waits until it says where it listens.
    pub(crate) fn start(context: &Context, subject: Subject, setup: &Setup) -> Result<Self> {
        let mut line: Vec<String> = setup.wrapper.clone();
        if subject.is_python() {
            let python = if subject == Subject::OursPython { &context.python } else { &context.stock };
            let python = python.as_ref().ok_or("no Python")?;
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/server.py");
            line.extend([python.display().to_string(), script.to_owned(), subject.name().to_owned()]);
        } else {
            let own = std::env::current_exe()?.display().to_string();
            line.extend([own, "serve".to_owned(), subject.name().to_owned()]);
        }
        line.extend(["--work".to_owned(), setup.work.clone()]);
        line.extend(setup.args.iter().cloned());
        for (wanted, name) in [(setup.tls, "--tls"), (setup.papers, "--papers")] {
            if wanted {
                line.extend([name.to_owned(), context.papers.folder.display().to_string()]);
            }
        }
        let (program, args) = line.split_first().ok_or("no program")?;
        let mut command = Command::new(program);
        if let Some(listener) = &setup.listener {
            let parent_fd = listener.try_clone()?.into();
            command.env("LISTEN_FDS", "1").env_remove("LISTEN_PID");
            command.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }])?;
        }
        let mut child = command
            .args(args)
            // What it says is counted in lines.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdout, stderr) = (child.stdout.take().ok_or("no pipe")?, child.stderr.take().ok_or("no pipe")?);
        let (tell, reports) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let process = Process(child.id());
        let mut server = Self { child, port: 0, process, reports, complaints: Arc::clone(&complaints) };
        let gatherer = std::thread::spawn(move || gather(stderr, &complaints));
        let announced = server.report(START).map_err(|error| {
            // The last words of a server that has ended may still be on their way.
            let until = Instant::now() + LAST_WORDS;
            while !gatherer.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            format!("{} did not start: {error}: {:?}", subject.name(), server.complaints())
        })?;
        let mut words = announced.split_whitespace().skip(1).step_by(2).map(str::parse::<u32>);
        let (Some(Ok(port)), Some(Ok(pid))) = (words.next(), words.next()) else {
            return Err(format!("{} says `{announced}`", subject.name()).into());
        };
        (server.port, server.process) = (u16::try_from(port)?, Process(pid));
        Ok(server)
    }

    /// Says a line to a server of ours: `stats`, or `stop` and a deadline in milliseconds.
    pub(crate) fn tell(&self, line: &str) -> Result<()> {
        let mut stdin = self.child.stdin.as_ref().ok_or("no pipe")?;
        Ok(writeln!(stdin, "{line}")?)
    }

    /// Says a line to a server of ours and returns the line that it answers with, which begins with `word`. Others are
    /// dropped.
    pub(crate) fn told(&self, line: &str, word: &str, patience: Duration) -> Result<String> {
        self.tell(line)?;
        loop {
            let answer = self.report(patience)?;
            if answer.split_whitespace().next() == Some(word) {
                return Ok(answer);
            }
        }
    }

    /// The next line that it reports.
    pub(crate) fn report(&self, patience: Duration) -> Result<String> {
        self.reports.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("no report within {patience:?}").into(),
            RecvTimeoutError::Disconnected => "the server has ended".into(),
        })
    }

    /// The number behind this word in the next line that it reports.
    pub(crate) fn reported(&self, word: &str, patience: Duration) -> Result<u64> {
        let line = self.report(patience)?;
        number_after(&line, word).ok_or_else(|| format!("`{line}` instead of {word}").into())
    }

    /// Lines that came and nobody asked for.
    pub(crate) fn reports(&self) -> Vec<String> {
        self.reports.try_iter().collect()
    }

    /// What it said on standard error so far.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new connection to it, with timeouts.
    pub(crate) fn connect(&self) -> Result<TcpStream> {
        crate::peer::connect(self.port)
    }

    /// Waits until it has no more descriptors than these.
    pub(crate) fn settles_at(&self, descriptors: usize, patience: Duration) -> Result<usize> {
        let until = Instant::now() + patience;
        loop {
            let now = self.process.descriptors()?;
            if now <= descriptors || Instant::now() > until {
                return Ok(now);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Each fails only if the process has ended already. The server may be a child of its wrapper.
        if let Some(pid) = i32::try_from(self.process.0).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number that follows a word in a line.
pub(crate) fn number_after(line: &str, word: &str) -> Option<u64> {
    let mut words = line.split_whitespace().skip_while(|&found| found != word);
    words.nth(1)?.parse().ok()
}

fn gather(stderr: impl Read, complaints: &Mutex<Vec<String>>) {
    for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
        let mut kept = complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_COMPLAINTS {
            kept.push(line);
        }
    }
}

/// A Python takes a while to import its library on a busy machine.
const START: Duration = Duration::from_secs(20);
/// How long the standard error of a server that did not start is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
const MOST_COMPLAINTS: usize = 20_000;
