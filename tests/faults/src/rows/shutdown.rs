//! Ends (S1, S2): closing while the peer still sends, and one direction that ends long before the other.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Result;
use crate::context::Context;
use crate::figures::size;
use crate::peer::half_close_and_read;
use crate::row::Outcome;
use crate::server::{Server, Setup};
use crate::tls_peer;

/// S1: the server writes its last words and closes while the peer goes on sending and reads slowly.
pub(super) fn s1(context: &Context) -> Result<Outcome> {
    let (runs, len) = (context.scaled(100, 3), 1_usize << 20);
    Ok(context.compare_rust(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("last-words"))?;
        let (mut received, mut cut) = (0, 0);
        for _ in 0..runs {
            let mut socket = server.connect()?;
            socket.write_all(format!("{len}\n").as_bytes())?;
            let over = Arc::new(AtomicBool::new(false));
            let chatting = std::thread::spawn({
                let (mut socket, over) = (socket.try_clone()?, Arc::clone(&over));
                // Chatter that nobody reads, until the server has said its end.
                move || {
                    while !over.load(Ordering::Relaxed) && socket.write_all(&[b'c'; 100]).is_ok() {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            });
            let (mut came, mut block) = (0, vec![0; 32 * 1024]);
            let end = loop {
                match socket.read(&mut block) {
                    Ok(0) => break "end",
                    Ok(n) => came += n,
                    Err(_) => break "reset",
                }
                std::thread::sleep(Duration::from_micros(500));
            };
            over.store(true, Ordering::Relaxed);
            drop(chatting.join());
            tally.check(came == len && end == "end", || format!("{came} of {len} bytes, then {end}"));
            received += came as u64;
            cut += u64::from(came < len);
        }
        let written = (runs * len) as u64;
        let share = received as f64 * 100.0 / written as f64;
        Ok(format!("{} of {} ({share:.1} %), {cut} of {runs} cut short", size(received), size(written)))
    }))
}

/// S2: the peer ends its direction and reads on; what it gets is as long as what it sent. Plain, and over TLS.
pub(super) fn s2(context: &Context) -> Result<Outcome> {
    let runs = context.scaled(200, 3);
    Ok(context.compare_rust(|subject, tally| {
        let mut figures = Vec::new();
        for is_tls in [false, true] {
            let server = Server::start(context, subject, &Setup::work("tail").tls(is_tls))?;
            let mut whole = 0;
            for number in 0..runs {
                let sent = vec![b's'; 1 + number * 3_001];
                let mut socket = server.connect()?;
                let came = if is_tls {
                    let mut stream = tls_peer::on(context, socket)?;
                    stream.write_all(&sent)?;
                    tls_peer::say_end(&mut stream)?;
                    std::io::copy(&mut stream, &mut std::io::sink())
                } else {
                    socket.write_all(&sent)?;
                    half_close_and_read(&mut socket)
                };
                let right = came.as_ref().is_ok_and(|&came| came == sent.len() as u64);
                whole +=
                    u64::from(tally.check(right, || format!("TLS {is_tls}: {came:?} of {}", sent.len())));
            }
            figures
                .push(format!("{} {whole} of {runs} answers whole", if is_tls { "TLS:" } else { "plain:" }));
        }
        Ok(figures.join(", "))
    }))
}
