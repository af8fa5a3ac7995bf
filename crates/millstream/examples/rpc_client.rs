//! A client for many requests at once over one connection: one task reads the answers, any number of tasks write.
//!
//! A request is a line `number text`, an answer `number answer`, in any order. `cargo run --example rpc_client` asks a
//! server of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use millstream::{Error, Server, StreamReader, StreamWriter};
use tokio::sync::oneshot;

/// Who waits for which answer. `None` once the connection is over, so that nobody begins to wait then.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<String>>>>>;

/// A connection for many tasks. Dropping it closes the connection.
pub(crate) struct Client {
    writer: StreamWriter,
    waiting: Waiting,
    last: std::sync::atomic::AtomicU64,
}

impl Client {
    pub(crate) async fn connect(host: &str, port: u16) -> Result<Self, Error> {
        let (reader, writer) = millstream::open_connection(host, port).await?;
        let waiting = Waiting::new(Mutex::new(Some(HashMap::new())));
        // The two halves need not be in one task. This one ends with the connection.
        tokio::spawn(read_answers(reader, Arc::clone(&waiting)));
        Ok(Self { writer, waiting, last: 0.into() })
    }

    /// Asks, and waits for the answer. `None` if the connection ended first. Dropping the future forgets the question.
    pub(crate) async fn ask(&self, text: &str) -> Result<Option<String>, Error> {
        let number = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match self.waiting.lock().expect("no panic inside").as_mut() {
            Some(waiting) => waiting.insert(number, sender),
            None => return Ok(None),
        };
        // A guard, so that a question that is given up leaves nothing in the table.
        let _forget = Forget { waiting: &self.waiting, number };
        // `write` takes `&self` and is whole or nothing, so no lock is needed around it. The bytes leave when this task
        // waits for the answer, in one send with those of the other tasks that asked in the same turn.
        self.writer.write(format!("{number} {text}\n").as_bytes())?;
        self.writer.drain().await?;
        Ok(answer.await.ok())
    }

    /// How many questions wait for an answer.
    pub(crate) fn pending(&self) -> usize {
        self.waiting.lock().expect("no panic inside").as_ref().map_or(0, HashMap::len)
    }
}

async fn read_answers(mut reader: StreamReader, waiting: Waiting) {
    // An error and an end are the same here: whoever still waits is told that no answer will come.
    while let Ok(Some(line)) = reader.read_line().await {
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        let Some((number, answer)) = text.split_once(' ') else { break };
        let Ok(number) = number.parse() else { break };
        let asker = waiting.lock().expect("no panic inside").as_mut().and_then(|map| map.remove(&number));
        if let Some(asker) = asker {
            let _ = asker.send(answer.to_owned()); // fails if it has stopped waiting, which is its right
        }
    }
    // Drops the senders, which wakes everyone who waits.
    waiting.lock().expect("no panic inside").take();
}

struct Forget<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.lock().expect("no panic inside").as_mut() {
            waiting.remove(&self.number);
        }
    }
}

/// Answers each batch of requests in reverse, to show that the order does not matter.
async fn serve(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    while let Some(first) = reader.read_line().await? {
        let mut batch = vec![first];
        while reader.buffered().contains(&b'\n') {
            batch.extend(reader.read_line().await?);
        }
        for line in batch.iter().rev() {
            writer.write(&line.to_ascii_uppercase())?;
        }
        writer.drain().await?;
    }
    Ok(())
}

pub(crate) async fn start(host: &str, port: u16) -> Result<Server, Error> {
    Ok(millstream::start_server(host, port, serve).await?)
}

#[tokio::main]
#[allow(dead_code, reason = "the tests include this file as a module")]
async fn main() -> Result<(), Error> {
    let server = start("127.0.0.1", 0).await?;
    let client = Client::connect("127.0.0.1", server.sockets()[0].port().expect("TCP")).await?;
    let (one, two, three) = tokio::join!(client.ask("one"), client.ask("two"), client.ask("three"));
    println!("Answers: {:?} {:?} {:?}; {} questions left", one?, two?, three?, client.pending());
    Ok(())
}
