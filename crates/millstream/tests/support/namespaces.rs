//! Runs a test in a network and mount namespace of its own, where routes and host names can be made up.

use std::process::Command;

use super::run;

/// Runs `body` in a process with a network and a file system view of its own: this test binary again, for one test.
pub fn in_namespaces(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return body();
    }
    // In turn with the tests that count descriptors.
    run(async {
        let usable = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        if !usable("unshare", &["-n", "-m", "true"]) || !usable("ip", &["-V"]) {
            eprintln!("SKIPPED {test}: needs root, unshare (util-linux) and ip (iproute2)");
            return;
        }
        let binary = std::env::current_exe().expect("this test binary");
        let mut inside = Command::new("unshare");
        inside.args(["-n", "-m"]).arg(binary).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        let output = inside.output().expect("unshare was there a moment ago");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && stdout.contains("1 passed"), "in namespaces:\n{stdout}\n{stderr}");
    });
}

/// Runs the program `ip`, inside the namespaces.
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes these the names that the resolver of this process knows.
pub fn hosts(lines: &str) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), lines).expect("writing it");
    let status = Command::new("mount").arg("--bind").arg(file.path()).arg("/etc/hosts").status();
    assert!(status.expect("mount").success(), "mount --bind over /etc/hosts");
}

/// Marks the process that was started inside the namespaces.
const INSIDE: &str = "MILLSTREAM_TEST_IN_NAMESPACES";
