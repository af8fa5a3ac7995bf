//! System calls made to fail by strace: the k-th, or a range of them.

use std::path::Path;
use std::process::Command;

/// Whether strace is here and may trace.
pub(crate) fn usable() -> bool {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    traced.is_ok_and(|output| output.status.success())
}

/// The wrapper that makes calls of this name fail: `which` is as strace's `when`, such as `3`, `1..20` or `5+`.
pub(crate) fn inject(call: &str, errno: &str, which: &str, log: &Path) -> Vec<String> {
    let mut words: Vec<String> = ["strace", "-f", "-qq", "--seccomp-bpf", "-o"].map(str::to_owned).into();
    words.push(log.display().to_string());
    words.extend(["-e".to_owned(), format!("trace={call}")]);
    words.extend(["-e".to_owned(), format!("inject={call}:error={errno}:when={which}")]);
    words
}

/// How many calls strace made to fail, by its log.
pub(crate) fn injected(log: &Path) -> usize {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|line| line.ends_with("(INJECTED)")).count()
}
