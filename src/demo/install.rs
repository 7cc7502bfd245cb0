//! Finds PostgreSQL's programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;

/// Where Linux distributions and Homebrew put server programs outside `PATH`; the star stands
/// for the version.
const FOLDERS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"),
    ("/usr/local/pgsql", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
];

/// The folder of PostgreSQL's programs, proved to hold those that the demo needs.
#[derive(Clone, Debug)]
pub(super) struct Install {
    bin: PathBuf,
}

impl Install {
    /// Searches `folders`, or when `None`: what `pg_config` says, `PATH`, then the folders of
    /// the distributions, newest version first.
    ///
    /// # Errors
    /// [`Error::NotInstalled`], naming the folders.
    pub(super) fn find(folders: Option<&[PathBuf]>) -> Result<Install, Error> {
        let folders = match folders {
            Some(given) => given.to_vec(),
            None => usual_folders(),
        };
        folders
            .iter()
            .find_map(|folder| complete(folder))
            .map(|bin| Install { bin })
            .ok_or_else(|| Error::NotInstalled {
                looked_in: match folders.is_empty() {
                    true => "no folder at all".into(),
                    false => join(&folders),
                },
            })
    }

    /// As if PostgreSQL were there.
    #[cfg(test)]
    pub(super) fn at(bin: &Path) -> Install {
        Install { bin: bin.into() }
    }

    /// The path of one program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Whether servers can preload `pg_stat_statements`.
    pub(super) fn has_statement_statistics(&self) -> bool {
        ["../lib", "../lib/postgresql", "../lib64/pgsql"]
            .iter()
            .any(|lib| self.bin.join(lib).join("pg_stat_statements.so").exists())
    }
}

fn join(folders: &[PathBuf]) -> String {
    let names: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
    names.join(", ")
}

/// The folder in which `folder`'s `postgres` really lies (it may be a link, alone in
/// /usr/local/bin), if the other programs lie there too.
fn complete(folder: &Path) -> Option<PathBuf> {
    let real = folder.join("postgres").canonicalize().ok()?;
    let bin = real.parent()?;
    ["initdb", "pg_basebackup"]
        .iter()
        .all(|program| bin.join(program).is_file())
        .then(|| bin.to_path_buf())
}

fn usual_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output()
        && output.status.success()
    {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    for (root, leaf) in FOLDERS {
        folders.extend(versions(Path::new(root)).into_iter().map(|v| v.join(leaf)));
    }
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// The folders of single versions below `root` (`15`, `pgsql-17`, `postgresql@16`), newest first.
fn versions(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

fn version(folder: &str) -> Option<u32> {
    ["postgresql@", "pgsql-", ""]
        .iter()
        .find_map(|prefix| folder.strip_prefix(prefix)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_folders_of_distributions() {
        assert_eq!(version("15"), Some(15));
        assert_eq!(version("pgsql-17"), Some(17));
        assert_eq!(version("postgresql@16"), Some(16));
        assert_eq!(version("python3"), None);
    }

    #[test]
    fn the_newest_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9", "17", "15", "share"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let names: Vec<_> = versions(root.path())
            .iter()
            .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["17", "15", "9"]);
    }

    #[test]
    fn an_incomplete_folder_is_passed_over_and_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("postgres"), "").unwrap();
        let error = Install::find(Some(&[root.path().to_path_buf()])).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&root.path().display().to_string())
        );
        for name in ["initdb", "pg_basebackup"] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        assert!(Install::find(Some(&[root.path().to_path_buf()])).is_ok());
    }
}
