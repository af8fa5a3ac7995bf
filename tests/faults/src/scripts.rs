//! Other programs as parts of a row: the Python scripts of this rig, and tests that exist elsewhere in the repository.

use std::process::Command;

use crate::Result;
use crate::context::{Context, root};
use crate::row::Tally;
use crate::subjects::Subject;

/// Runs `peers/NAME.py STREAMS ARGS...` and returns the last line it printed.
pub(crate) fn script(context: &Context, subject: Subject, name: &str, args: &[&str]) -> Result<String> {
    let python = if subject == Subject::OursPython { &context.python } else { &context.stock };
    let python = python.as_ref().ok_or("no Python")?;
    let file = format!("{}/peers/{name}.py", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python).arg(file).arg(subject.name()).args(args).output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default().to_owned();
    if output.status.success() {
        return Ok(last);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {} {}", output.status, last, stderr.lines().last().unwrap_or_default()).into())
}

/// Runs tests of this repository by cargo and counts what libtest says of them. The command is printed.
pub(crate) fn cargo_tests(tally: &mut Tally, env: &[(&str, &str)], args: &[&str]) -> Result<String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg("test").args(args).current_dir(root()).envs(env.iter().copied());
    eprintln!("{command:?}");
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut passed, mut failed) = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        passed += number_before(line, "passed");
        failed += number_before(line, "failed");
    }
    tally.passed(passed);
    for _ in 0..failed {
        tally.check(false, || text.lines().filter(|line| line.ends_with("FAILED")).collect());
    }
    if passed + failed == 0 || (failed == 0 && !output.status.success()) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}", stderr.lines().last().unwrap_or("no test was run")).into());
    }
    Ok(text)
}

/// Runs tests of the Python package by pytest, which do what chance decides so many times, and counts them. What pytest said
/// last, or nothing if there is none. The command is printed.
pub(crate) fn pytest(
    context: &Context,
    tally: &mut Tally,
    runs: u64,
    args: &[&str],
) -> Result<Option<String>> {
    let python = context.python.as_ref().ok_or("no Python with the package")?;
    if !Command::new(python).args(["-m", "pytest", "--version"]).output()?.status.success() {
        return Ok(None);
    }
    let mut command = Command::new(python);
    command.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]).args(args);
    command.current_dir(root());
    command.env("MILLSTREAM_RUNS", runs.to_string());
    eprintln!("{command:?}");
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    // What passes although it need not does pass.
    let passed = ["passed", "xpassed", "xfailed"].map(|word| number_before(last, word)).iter().sum();
    let failed = number_before(last, "failed");
    tally.passed(passed);
    for _ in 0..failed {
        tally.check(false, || text.lines().filter(|line| line.starts_with("FAILED")).collect());
    }
    if passed + failed == 0 || (failed == 0 && !output.status.success()) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {last} {}", stderr.lines().last().unwrap_or_default()).into());
    }
    Ok(Some(last.to_owned()))
}

/// The number in front of a word, such as 3 in `3 passed`.
pub(crate) fn number_before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line.split([' ', ',', ';']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|found| *found == word);
    at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
}
