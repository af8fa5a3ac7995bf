//! The command line: words, `--flag` and `--key value`, each taken by name, none left over.

use std::collections::VecDeque;
use std::fmt::Display;
use std::str::FromStr;

use crate::{Result, USAGE};

/// What is left of the command line.
#[derive(Debug)]
pub(crate) struct Args {
    left: VecDeque<String>,
}

impl Args {
    /// The arguments of this process, without its name.
    pub(crate) fn from_env() -> Self {
        Self { left: std::env::args().skip(1).collect() }
    }

    /// The next word, if it is not an option.
    pub(crate) fn word(&mut self) -> Option<String> {
        if self.left.front()?.starts_with("--") { None } else { self.left.pop_front() }
    }

    /// The value after `--name`, if `--name` is there.
    pub(crate) fn value<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(at) = self.left.iter().position(|arg| arg == name) else { return Ok(None) };
        self.left.remove(at);
        let text = self.left.remove(at).ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        text.parse().map(Some).map_err(|error| format!("{name} {text}: {error}").into())
    }

    /// The value after `--name`, or `default`.
    pub(crate) fn value_or<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T> {
        Ok(self.value(name)?.unwrap_or(default))
    }

    /// Fails if something was not taken: a misspelt option must not pass unseen.
    pub(crate) fn finish(self) -> Result<()> {
        match self.left.front() {
            None => Ok(()),
            Some(arg) => Err(format!("unexpected argument {arg}\n{USAGE}").into()),
        }
    }
}
