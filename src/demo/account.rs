//! Who the servers run as: PostgreSQL refuses to run as root.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::Error;

/// The account of the servers and of their files.
#[derive(Clone, Copy, Debug)]
pub(super) enum Account {
    /// Our own.
    Own,
    /// We are root: this one.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// Our own account, or that of the user `postgres` when we are root.
    pub(super) fn find() -> Result<Account, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account::Own);
        }
        // `id` asks every source of users that the system has, not only /etc/passwd.
        let ask = |flag: &str| {
            let output = Command::new("id").args([flag, "postgres"]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        match (ask("-u"), ask("-g")) {
            (Some(uid), Some(gid)) if uid != 0 => Ok(Account::Other { uid, gid }),
            _ => Err(Error::NoAccount),
        }
    }

    /// A command that will run under this account, in `dir`, without the caller's `PG…` variables:
    /// a stray `PGDATA` or `PGPORT` would lead PostgreSQL's programs astray.
    pub(super) fn command(self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Account::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Checks that the account can reach and fill a folder of ours.
    pub(super) fn check(self, dir: &Path) -> Result<(), Error> {
        let mut command = self.command(Path::new("test"), dir);
        match command.args(["-w", "."]).status() {
            Ok(status) if status.success() => Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
                Err(Error::io("run the program `test`")(error))
            }
            _ => Err(Error::Options(format!(
                "the user `postgres`, as whom the servers run, cannot work in {}: name a folder \
                 whose parents everybody may enter with --dir (or TMPDIR)",
                dir.display()
            ))),
        }
    }

    /// Gives a file or folder to the account.
    pub(super) fn own(self, path: &Path) -> Result<(), Error> {
        match self {
            Account::Own => Ok(()),
            Account::Other { uid, gid } => {
                chown(path, Some(uid), Some(gid)).map_err(Error::file("change the owner of", path))
            }
        }
    }

    /// Writes a file that only the account (and root) can read.
    pub(super) fn write(self, path: &Path, text: &str) -> Result<(), Error> {
        std::fs::write(path, text).map_err(Error::file("write", path))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(Error::file("change the mode of", path))?;
        self.own(path)
    }
}
