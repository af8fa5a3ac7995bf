//! What a row says to a server of ours while it runs: for its numbers, or to stop it.

use std::io::BufRead as _;
use std::time::{Duration, Instant};

use millstream::Server;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::say;
use crate::Result;

/// The lines of standard input, one by one. Their end ends this process.
pub(super) fn of_standard_input() -> UnboundedReceiver<String> {
    let (tell, words) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            // Only a server that has failed does not listen any more.
            let _ = tell.send(line);
        }
        std::process::exit(0);
    });
    words
}

/// Does what the row says, until it is gone.
pub(super) async fn follow(server: &Server, mut words: UnboundedReceiver<String>) -> Result<()> {
    while let Some(line) = words.recv().await {
        match line.split_once(' ') {
            Some(("stop", millis)) => stop(server, Duration::from_millis(millis.parse()?)).await,
            None if line == "stats" => tell_stats(server),
            _ => return Err(format!("no word `{line}`").into()),
        }
    }
    std::future::pending().await
}

fn tell_stats(server: &Server) {
    let stats = server.stats();
    say(format_args!(
        "stats accepted {} connections {} peak {} refused_full {} refused_headers {}",
        stats.accepted, stats.connections, stats.peak_connections, stats.refused_full, stats.refused_headers,
    ));
}

async fn stop(server: &Server, deadline: Duration) {
    let began = Instant::now();
    let stopped = server.stop(deadline).await;
    server.wait_closed().await;
    say(format_args!(
        "stopped finished {} idle {} aborted {} connections {} ms {}",
        stopped.finished,
        stopped.idle,
        stopped.aborted,
        server.connections(),
        began.elapsed().as_millis(),
    ));
}
