//! The conversation of one soaked connection: a header, a stream of known bytes each way, ends. Every byte that is read is
//! compared with the one that was sent in its place.

use millstream::{Error, ReadExactlyError, StreamReader, StreamWriter};

use crate::support::Random;

/// What the client wants, and tells the server first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    pub(crate) seed: u64,
    /// The bytes that go to the server, and those that come back.
    pub(crate) lens: [usize; 2],
    /// Whether the client says its end before it has read everything.
    pub(crate) half_closes: bool,
    /// Whether the proxy lets every byte pass.
    pub(crate) is_kept: bool,
}

#[derive(Debug)]
pub(crate) enum Trouble {
    /// What the connection reported.
    Reported(Error),
    /// Something else came than was sent.
    Mismatch(String),
}

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Reported(error.into())
    }
}

impl Talk {
    const HEADER_LEN: usize = 18;

    pub(crate) fn choose(random: &mut Random) -> Self {
        let mut len = || [0, 100, 5_000, 60_000, 400_000][random.below(5)] + random.below(500);
        let lens = [len(), len()];
        Self { seed: random.next(), lens, half_closes: random.below(2) == 0, is_kept: false }
    }

    fn header(&self) -> Vec<u8> {
        let mut header = self.seed.to_be_bytes().to_vec();
        for len in self.lens {
            header.extend_from_slice(&u32::try_from(len).expect("short").to_be_bytes());
        }
        header.extend_from_slice(&[u8::from(self.half_closes), u8::from(self.is_kept)]);
        header
    }

    /// What the header says.
    fn of_header(header: &[u8]) -> Self {
        let number =
            |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes")) as usize;
        Self {
            seed: u64::from_be_bytes(header[..8].try_into().expect("eight bytes")),
            lens: [number(8), number(12)],
            half_closes: header[16] > 0,
            is_kept: header[17] > 0,
        }
    }

    /// The client's part, on a connection that is open.
    pub(crate) async fn ask(
        self,
        (mut reader, writer): (StreamReader, StreamWriter),
    ) -> Result<usize, Trouble> {
        writer.write(&self.header())?;
        let half_closes = self.half_closes && writer.can_write_eof();
        let sending = async {
            send(&writer, self.seed, self.lens[0]).await?;
            if half_closes {
                writer.write_eof()?;
            }
            Ok::<_, Trouble>(())
        };
        let receiving = receive(&mut reader, !self.seed, self.lens[1]);
        let (sent, received) = tokio::join!(sending, receiving);
        let received = received?;
        sent?;
        expect_end(&mut reader).await?;
        writer.close();
        writer.wait_closed().await?;
        Ok(received)
    }

    /// What the client wants.
    pub(crate) async fn asked(reader: &mut StreamReader) -> Result<Self, Trouble> {
        Ok(Self::of_header(&reader.read_exactly(Self::HEADER_LEN).await?))
    }

    /// The server's part.
    pub(crate) async fn answer(
        self,
        reader: &mut StreamReader,
        writer: &StreamWriter,
    ) -> Result<usize, Trouble> {
        let half_closes = self.half_closes && writer.can_write_eof();
        let sending = send(writer, !self.seed, self.lens[1]);
        let receiving = async {
            let received = receive(reader, self.seed, self.lens[0]).await?;
            if half_closes {
                expect_end(reader).await?;
            }
            Ok::<_, Trouble>(received)
        };
        let (sent, received) = tokio::join!(sending, receiving);
        let received = received?;
        sent?;
        writer.close();
        writer.wait_closed().await?;
        Ok(received)
    }
}

/// The byte in this place of the stream.
fn byte_at(seed: u64, at: usize) -> u8 {
    (seed.wrapping_add(at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]
}

/// Sends the stream in messages of any size, by every call there is for it.
async fn send(writer: &StreamWriter, seed: u64, len: usize) -> Result<(), Trouble> {
    let mut random = Random::new(seed ^ 1);
    let mut sent = 0;
    while sent < len {
        let most = [10, 1_000, 30_000][random.below(3)];
        let message: Vec<u8> =
            (sent..len.min(sent + 1 + random.below(most))).map(|at| byte_at(seed, at)).collect();
        sent += message.len();
        match random.below(4) {
            0 => writer.write_bytes(message)?,
            1 => writer.write_lines(&[&message[..message.len() / 2], &message[message.len() / 2..]])?,
            _ => writer.write(&message)?,
        }
        if random.below(10) == 0 {
            writer.flush()?;
        }
        writer.drain().await?;
    }
    Ok(())
}

/// Reads the stream, by several kinds of reads, and gives up on some of them.
async fn receive(reader: &mut StreamReader, seed: u64, len: usize) -> Result<usize, Trouble> {
    let mut random = Random::new(seed ^ 2);
    let mut received = 0;
    while received < len {
        let most = (1 + random.below(20_000)).min(len - received);
        let bytes = match random.below(4) {
            0 => match reader.read_exactly(most).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    // What came before an end is right as well.
                    if let ReadExactlyError::Incomplete { partial, .. } = &error {
                        check(seed, received, partial)?;
                    }
                    return Err(error.into());
                }
            },
            1 => {
                tokio::select! {
                    biased;
                    bytes = reader.read_exactly(most) => bytes?,
                    () = tokio::time::sleep(std::time::Duration::from_micros(500)) => continue,
                }
            }
            2 => bytes::Bytes::copy_from_slice(reader.read_borrowed(most).await?),
            _ => reader.read(most).await?,
        };
        if bytes.is_empty() {
            // An end before its time; `read_exactly` says that as an error.
            reader.read_exactly(1).await?;
        }
        check(seed, received, &bytes)?;
        received += bytes.len();
    }
    Ok(received)
}

fn check(seed: u64, from: usize, bytes: &[u8]) -> Result<(), Trouble> {
    let wrong = bytes.iter().zip(from..).find(|&(&byte, at)| byte != byte_at(seed, at));
    wrong.map_or(Ok(()), |(_, at)| Err(mismatch(format!("byte {at} of the stream with the seed {seed:#x}"))))
}

async fn expect_end(reader: &mut StreamReader) -> Result<(), Trouble> {
    let more = reader.read(10).await?;
    if more.is_empty() { Ok(()) } else { Err(mismatch(format!("{more:?} behind the end"))) }
}

fn mismatch(text: String) -> Trouble {
    Trouble::Mismatch(text)
}
