//! The sweep's client side: a process of ours under strace that holds the conversation with an untouched server, and says
//! what became of each connection.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use millstream::{ConnectOptions, StreamReader, StreamWriter};

use super::{CONNECTIONS, Kind, QUESTIONS, Run};
use crate::Result;
use crate::args::Args;
use crate::context::Context;
use crate::process::Process;
use crate::row::Tally;
use crate::server::{Server, Setup, number_after};
use crate::strace;
use crate::subjects::Subject;

const fn kind(call: &'static str, errno: &'static str, text: &'static str) -> Kind {
    Kind { call, errno, text, is_harmless: false }
}

pub(super) const KINDS: &[Kind] = &[
    kind("socket", "EMFILE", "open files"),
    kind("connect", "ECONNREFUSED", "refused"),
    kind("connect", "ENETUNREACH", "unreachable"),
    kind("connect", "EADDRNOTAVAIL", "assign requested address"),
    kind("getsockopt", "ENOBUFS", "buffer"),
    kind("recvfrom", "ECONNRESET", "reset"),
    kind("recvfrom", "ENOMEM", "memory"),
    kind("sendto", "EPIPE", "pipe"),
    kind("sendto", "ENOBUFS", "buffer"),
    kind("sendmsg", "EPIPE", "pipe"),
    kind("shutdown", "ENOTCONN", "connected"),
    kind("epoll_ctl", "ENOMEM", "memory"),
];

/// One conversation with the k-th call failing.
pub(super) fn run(context: &Context, kind: &Kind, k: usize, log: &Path, tally: &mut Tally) -> Result<Run> {
    let server = Server::start(context, Subject::Ours, &Setup::work("echo"))?;
    let before = server.process.descriptors()?;
    let wrapper = strace::inject(kind.call, kind.errno, &k.to_string(), log);
    let (program, args) = wrapper.split_first().ok_or("no strace")?;
    let output = Command::new(program)
        .args(args)
        .arg(std::env::current_exe()?)
        .args(["converse", "--port", &server.port.to_string()])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error ")).collect();
    let started = said.lines().any(|line| line == "started");
    if !started {
        // A call of the runtime's own start failed, which says so.
        let named = complaints.to_lowercase().contains(kind.text) && !complaints.contains("panicked");
        tally.check(named, || format!("{}: {complaints}", output.status));
        return Ok(Run { hurt: 0, untouched: false });
    }
    tally.check(output.status.success(), || format!("{}: {complaints}", output.status));
    tally.check(errors.len() <= 1, || format!("{} connections hurt: {errors:?}", errors.len()));
    let named = errors.iter().all(|line| line.to_lowercase().contains(kind.text));
    tally.check(named, || format!("the error does not name {}: {errors:?}", kind.errno));
    tally.check(!said.contains("hangs") && !said.contains("wrong"), || said.clone());
    let left = said.lines().find_map(|line| number_after(line, "left"));
    tally.check(left == Some(0), || format!("{left:?} descriptors left in the client"));
    let left = server.settles_at(before, Duration::from_secs(5))?.saturating_sub(before);
    tally.check(left == 0, || format!("{left} descriptors left in the server"));
    Ok(Run { hurt: errors.len() as u64, untouched: strace::injected(log) == 0 })
}

/// `converse`: the conversation of a client, each connection's fate in a line.
pub(crate) fn converse(mut args: Args) -> Result<()> {
    let port = args.value_or("--port", 0_u16)?;
    args.finish()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        println!("started");
        let before = Process::own().descriptors()?;
        for _ in 0..CONNECTIONS / 2 {
            tell(tokio::time::timeout(PATIENCE, talk(port)).await);
        }
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS / 2 {
            all.spawn(async move { tokio::time::timeout(PATIENCE, talk(port)).await });
        }
        while let Some(result) = all.join_next().await {
            tell(result?);
        }
        // What was dropped is closed in the background.
        for _ in 0..100 {
            if Process::own().descriptors()? <= before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("left {}", Process::own().descriptors()?.saturating_sub(before));
        Ok(())
    })
}

fn tell(result: std::result::Result<Result<()>, tokio::time::error::Elapsed>) {
    match result {
        Ok(Ok(())) => println!("ok"),
        Ok(Err(error)) => println!("error {error}"),
        Err(_) => println!("hangs"),
    }
}

async fn talk(port: u16) -> Result<()> {
    let (mut reader, writer) = ConnectOptions::new().open("127.0.0.1", port).await?;
    let asked = ask(&mut reader, &writer).await;
    writer.close();
    let closed = writer.wait_closed().await;
    asked.and(closed.map_err(Into::into))
}

async fn ask(reader: &mut StreamReader, writer: &StreamWriter) -> Result<()> {
    for question in 0..QUESTIONS {
        let line = format!("question {question}\n");
        writer.write(line.as_bytes())?;
        writer.drain().await?;
        match reader.read_line().await? {
            Some(echo) if echo == line.as_bytes() => {}
            other => return Err(format!("wrong: {other:?}").into()),
        }
    }
    Ok(())
}

/// Every wait ends before this, whatever failed.
const PATIENCE: Duration = Duration::from_secs(4);
