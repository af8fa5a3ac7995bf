//! A peer that follows a script: chunks, delays, short writes, half-close, reset.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::time::Duration;

use crate::reader::StreamReader;
use crate::streams::default_pair;
use crate::transport::{MemoryEnd, Transport};
use crate::waiters::Wakes;
use crate::writer::StreamWriter;

/// A stream under test and the peer at its other end, in memory. The peer holds up to `capacity` unread bytes.
///
/// # Panics
/// Outside a tokio runtime.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// let ((mut reader, writer), peer) = millstream::testing::scripted_peer(1024);
/// let peer = peer
///     .expect(b"PING\n")
///     .wait(Duration::from_secs(3600)) // passes at once under the paused clock
///     .send_in_chunks(b"PONG\n", 1)
///     .reset();
/// let peer = tokio::spawn(peer.run());
///
/// writer.write(b"PING\n").unwrap();
/// assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"PONG\n"[..]));
/// let error = reader.read(10).await.unwrap_err();
/// assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::ConnectionReset);
/// peer.await.unwrap().unwrap();
/// # }
/// ```
pub fn scripted_peer(capacity: usize) -> ((StreamReader, StreamWriter), ScriptedPeer) {
    let (tested, peer) = MemoryEnd::pair(capacity);
    (
        default_pair(Transport::Memory(tested)),
        ScriptedPeer { end: peer, steps: Vec::new(), received: Vec::new() },
    )
}

/// The peer: its methods write the script, [`run`](Self::run) plays it.
#[derive(Debug)]
#[must_use = "a script does nothing until it is run"]
pub struct ScriptedPeer {
    end: MemoryEnd,
    steps: Vec<Step>,
    received: Vec<u8>,
}

#[derive(Debug)]
enum Step {
    Send(Vec<u8>),
    Expect(Vec<u8>),
    Discard(usize),
    Wait(Duration),
    TakeAtMost(usize),
    End,
    ExpectEnd,
    Reset,
}

/// A script that could not be played.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScriptError {
    /// Which step it was, counting from zero.
    pub step: usize,
    /// What happened instead.
    pub text: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} of the script: {}", self.step, self.text)
    }
}

impl std::error::Error for ScriptError {}

impl ScriptedPeer {
    /// Sends the bytes in one segment.
    pub fn send(self, data: &[u8]) -> Self {
        self.step(Step::Send(data.to_vec()))
    }

    /// Sends the bytes in segments of `chunk` bytes, each of which the stream under test can see alone.
    ///
    /// # Panics
    /// If `chunk` is zero.
    pub fn send_in_chunks(self, data: &[u8], chunk: usize) -> Self {
        assert!(chunk > 0, "a chunk has at least one byte");
        data.chunks(chunk).fold(self, |script, chunk| script.send(chunk))
    }

    /// Waits until exactly these bytes have come.
    pub fn expect(self, data: &[u8]) -> Self {
        self.step(Step::Expect(data.to_vec()))
    }

    /// Reads `n` bytes, whatever they are. Not reading is how a peer stalls.
    pub fn discard(self, n: usize) -> Self {
        self.step(Step::Discard(n))
    }

    /// Does nothing for a while, on tokio's clock.
    pub fn wait(self, time: Duration) -> Self {
        self.step(Step::Wait(time))
    }

    /// From here on, a send of the stream under test takes at most `n` bytes: a peer with a tiny window.
    pub fn take_at_most(self, n: usize) -> Self {
        self.step(Step::TakeAtMost(n))
    }

    /// Half-closes: the stream under test sees the end after what was sent.
    pub fn end(self) -> Self {
        self.step(Step::End)
    }

    /// Waits until the stream under test has ended its side, with nothing before it that was not expected.
    pub fn expect_end(self) -> Self {
        self.step(Step::ExpectEnd)
    }

    /// Resets the connection: what was sent still arrives, then the reset.
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Plays the script, then closes. Returns everything that was received, expected or not.
    ///
    /// # Errors
    /// [`ScriptError`] if the stream under test did something else than the script says.
    pub async fn run(mut self) -> Result<Vec<u8>, ScriptError> {
        let steps = std::mem::take(&mut self.steps);
        for (number, step) in steps.into_iter().enumerate() {
            self.play(step).await.map_err(|text| ScriptError { step: number, text })?;
        }
        Ok(std::mem::take(&mut self.received))
    }

    async fn play(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Send(data) => {
                // Others first, so that they can see the segments one by one.
                tokio::task::yield_now().await;
                return self.send_all(&data).await.map_err(|error| format!("sending failed: {error}"));
            }
            Step::Expect(expected) => {
                let got = self.receive(expected.len()).await?;
                if got != expected {
                    return Err(format!(
                        "expected {:?}, got {:?}",
                        expected.escape_ascii().to_string(),
                        got.escape_ascii().to_string()
                    ));
                }
            }
            Step::Discard(n) => drop(self.receive(n).await?),
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::TakeAtMost(n) => self.end.incoming.limit_writes(n, &mut Wakes::default()),
            Step::End => self.end.shutdown_write(&mut Wakes::default()),
            Step::ExpectEnd => {
                let mut byte = [0];
                match self.receive_some(&mut byte).await {
                    Ok(0) => {}
                    Ok(_) => {
                        return Err(format!("expected the end, got {:?}", byte.escape_ascii().to_string()));
                    }
                    Err(error) => return Err(format!("expected the end, got {error}")),
                }
            }
            Step::Reset => self.end.close(true, &mut Wakes::default()),
        }
        Ok(())
    }

    async fn send_all(&self, data: &[u8]) -> io::Result<()> {
        let mut left = data;
        while !left.is_empty() {
            poll_fn(|cx| self.end.poll_writable(cx)).await?;
            match self.end.try_write(&[IoSlice::new(left)], &mut Wakes::default()) {
                Ok(n) => left = &left[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn receive(&mut self, n: usize) -> Result<Vec<u8>, String> {
        let mut got = vec![0; n];
        let mut len = 0;
        while len < n {
            match self.receive_some(&mut got[len..]).await {
                Ok(0) => return Err(format!("the stream ended after {len} of {n} bytes")),
                Ok(more) => len += more,
                Err(error) => return Err(format!("{error} after {len} of {n} bytes")),
            }
        }
        self.received.extend_from_slice(&got);
        Ok(got)
    }

    async fn receive_some(&self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.end.poll_read(cx, buf)).await
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.end.close(false, &mut Wakes::default());
    }
}
