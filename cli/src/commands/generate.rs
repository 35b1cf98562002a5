//! `quell completions` and `quell man`: made from the same definitions as the commands.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{error::Error, exit::Exit, output};

/// For which shell.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Where to.
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// The directory; made if it is missing.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Prints a shell's completions.
///
/// # Errors
/// Standard output is closed.
pub fn completions(arguments: &Completions) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::arguments::Arguments::command(), "quell", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Writes a man page for every command.
///
/// # Errors
/// The directory cannot be written.
pub fn man(arguments: &Man) -> Result<Exit, Error> {
    let directory = &arguments.directory;
    let failed = |source| Error::File { action: "write", path: directory.display().to_string(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let count = write(directory).map_err(failed)?;
    output::line(&format!("{count} man pages are in {}", directory.display()))?;
    Ok(Exit::Done)
}

fn write(directory: &Path) -> std::io::Result<usize> {
    clap_mangen::generate_to(crate::arguments::Arguments::command(), directory)?;
    Ok(std::fs::read_dir(directory)?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_man_page() {
        let directory = tempfile::tempdir().unwrap();
        assert!(write(directory.path()).unwrap() > 20);
        let page = std::fs::read_to_string(directory.path().join("quell-apply.1")).unwrap();
        assert!(page.contains("all of them or none"), "{page}");
        let first = std::fs::read_to_string(directory.path().join("quell.1")).unwrap();
        assert!(first.contains("held or awaiting approval"), "exit codes are documented");
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut crate::arguments::Arguments::command(), "quell", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("approvals") && script.contains("freeze"), "{shell}");
        }
    }
}
