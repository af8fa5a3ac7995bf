//! On what a comparison ran: the machine, the compilers and the versions of everyone that took part.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// A machine and what is installed on it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Of frequency scaling; empty when the machine shows none, as virtual ones do.
    pub(crate) governor: String,
    pub(crate) memory_mib: u64,
    pub(crate) rustc: String,
    /// Of Rust crates, from the lock file that this binary was built with, and of Python packages.
    pub(crate) versions: BTreeMap<String, String>,
}

/// Crates whose version is worth a word.
const CRATES: &[&str] = &[
    "millstream",
    "tokio",
    "tokio-util",
    "smol",
    "async-io",
    "monoio",
    "compio",
    "rustls",
    "tokio-rustls",
    "ring",
];

/// Prints the interpreter and its packages, a line each.
const PYTHON: &str = "
import importlib.metadata, platform, ssl
print('CPython', platform.python_version())
print('OpenSSL', ssl.OPENSSL_VERSION.split()[1])
for name in ('uvloop', 'rloop', 'rsloop'):
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        pass
";

impl Machine {
    /// This one.
    pub(crate) fn look(python: Option<&Path>) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let mut versions = locked(include_str!("../../../../Cargo.lock"));
        if let Some(python) = python {
            let said = output(Command::new(python).args(["-c", PYTHON]));
            let pairs = said.lines().filter_map(|line| line.split_once(' '));
            versions.extend(pairs.map(|(name, version)| (name.to_owned(), version.to_owned())));
        }
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim().to_owned(),
            memory_mib: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
            rustc: output(Command::new("rustc").arg("--version")),
            versions,
        }
    }
}

/// What a command prints; nothing if it cannot be run.
fn output(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// The versions of [`CRATES`] in a lock file, where there is one of each; of several, the newest.
fn locked(lock: &str) -> BTreeMap<String, String> {
    let value = |line: &str, key: &str| {
        line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"').map(str::to_owned)
    };
    let mut versions = BTreeMap::new();
    let mut name = String::new();
    for line in lock.lines() {
        if let Some(found) = value(line, "name") {
            name = found;
        } else if let Some(version) = value(line, "version")
            && CRATES.contains(&name.as_str())
        {
            versions.insert(name.clone(), version);
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file_of_this_build() {
        let versions = locked(include_str!("../../../../Cargo.lock"));
        for name in CRATES {
            assert!(versions.contains_key(*name), "{name} is not in the lock file");
        }
        assert_eq!(locked("name = \"tokio\"\nversion = \"1.2.3\"\n")["tokio"], "1.2.3");
    }
}
