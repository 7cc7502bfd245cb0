//! Ends the servers and removes the folder when this process died without doing it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::Error;

/// A line on standard input means that all is well; its end without a line means that pgdrover
/// died. `$1` is the cluster's folder, `$2` says whether it stays. A process is signalled only
/// while its command line names its data folder: the number in a stale file may have been given
/// to a stranger. Rounds repeat because initdb or a starting server may still be at work.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
read -r line && exit 0
signal() {
    alive=
    for file in "$1"/*/postmaster.pid; do
        [ -f "$file" ] && read -r pid <"$file" || continue
        { tr '\0' ' ' <"/proc/$pid/cmdline" || ps -o args= -p "$pid"; } 2>/dev/null |
            grep -qF -- "${file%/postmaster.pid}" || continue
        kill "-$2" "$pid"
        alive=yes
    done
}
round=0
while [ $round -lt 100 ]; do
    if [ $round -lt 50 ]; then signal "$1" QUIT; else signal "$1" KILL; fi
    [ "$2" = remove ] && [ -z "$alive" ] && rm -rf "$1"
    [ -e "$1" ] || exit 0
    sleep 0.1
    round=$((round + 1))
done
"#;

/// The watching shell and our end of its pipe.
#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Watches over `dir`, which it removes unless `keep`.
    pub(super) fn start(dir: &Path, keep: bool) -> Result<Watchdog, Error> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "pgdrover-watchdog"])
            .arg(dir)
            .arg(if keep { "keep" } else { "remove" })
            .current_dir("/")
            .stdin(Stdio::piped())
            // Whoever reads our output would otherwise wait for the watchdog too.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("start the watchdog shell"))?;
        Ok(Watchdog { shell })
    }

    /// All has been done in order: the watchdog may go.
    pub(super) fn dismiss(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            // It can only fail if the shell is gone already.
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.shell.wait();
    }
}
