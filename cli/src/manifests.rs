//! Manifest files as an operator has them: found, read and filled, before anything is asked of the controller.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;
use quell_model::manifest::{self, File};
use quell_wire::v1::ManifestFile;

use crate::{error::Error, settings};

/// Largest file that is read, in bytes: manifests are written by people.
const LARGEST: u64 = 1024 * 1024;
/// Deepest directory below the one that was named.
const DEEPEST: usize = 8;

/// Which files, and what is filled into them.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// A file, a directory (all *.yaml and *.yml below it), or - for standard input; may be repeated.
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    pub files: Vec<PathBuf>,
    /// What ${NAME} in the files stands for; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = settings::pair)]
    pub set: Vec<(String, String)>,
    /// A file of NAME=VALUE lines; --set goes first. Empty lines and lines that begin with # do not count.
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
}

impl Source {
    /// The files, filled and checked.
    ///
    /// # Errors
    /// A file cannot be read, a value is for no file, or manifests are wrong: every error at once.
    pub fn read(&self) -> Result<Vec<File>, Error> {
        self.fill(self.find()?)
    }

    /// Fills in the values and checks.
    ///
    /// # Errors
    /// A value is for no file, or manifests are wrong: every error at once.
    pub fn fill(&self, files: Vec<File>) -> Result<Vec<File>, Error> {
        fill(files, &self.values()?)
    }

    /// The files as they are.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn find(&self) -> Result<Vec<File>, Error> {
        let mut paths = BTreeSet::new();
        let mut files = Vec::new();
        for path in &self.files {
            if path.as_os_str() == "-" {
                files.push(File {
                    name: "<standard input>".to_owned(),
                    text: read_to_end("standard input", std::io::stdin())?,
                });
            } else if path.is_dir() {
                let before = paths.len();
                collect(path, 0, &mut paths)?;
                if paths.len() == before {
                    return Err(Error::Usage(format!("{} holds no *.yaml or *.yml file", path.display())));
                }
            } else {
                paths.insert(path.clone());
            }
        }
        for path in paths {
            let name = path.display().to_string();
            let file = std::fs::File::open(&path).map_err(|source| unreadable(&name, source))?;
            files.push(File { text: read_to_end(&name, file)?, name });
        }
        Ok(files)
    }

    fn values(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut values = match &self.values {
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|source| unreadable(&name, source))?;
                values_in(&name, &text)?
            }
            None => BTreeMap::new(),
        };
        values.extend(settings::map(&self.set)?);
        Ok(values)
    }
}

fn unreadable(path: &str, source: std::io::Error) -> Error {
    Error::File { action: "read", path: path.to_owned(), source }
}

fn read_to_end(name: &str, reader: impl std::io::Read) -> Result<String, Error> {
    let mut text = String::new();
    reader.take(LARGEST + 1).read_to_string(&mut text).map_err(|source| unreadable(name, source))?;
    if text.len() as u64 > LARGEST {
        return Err(Error::Usage(format!("{name} is larger than 1 MiB: it is no manifest")));
    }
    Ok(text)
}

/// All manifest files below a directory, in the order of their paths; hidden ones are left out, links are not followed.
fn collect(directory: &Path, depth: usize, paths: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
    let name = directory.display().to_string();
    if depth > DEEPEST {
        return Err(Error::Usage(format!("{name} lies more than {DEEPEST} directories deep")));
    }
    for entry in std::fs::read_dir(directory).map_err(|source| unreadable(&name, source))? {
        let entry = entry.map_err(|source| unreadable(&name, source))?;
        let kind = entry.file_type().map_err(|source| unreadable(&name, source))?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() {
            collect(&path, depth + 1, paths)?;
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            paths.insert(path);
        }
    }
    Ok(())
}

/// Lines of `NAME=VALUE`.
fn values_in(name: &str, text: &str) -> Result<BTreeMap<String, String>, Error> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let wanted = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let pairs: Vec<_> = wanted
        .map(|(number, line)| settings::pair(line).map_err(|error| Error::Usage(format!("{name}:{number}: {error}"))))
        .collect::<Result<_, _>>()?;
    settings::map(&pairs)
}

/// Fills and checks; a value that no file asks for is a slip and an error.
fn fill(files: Vec<File>, values: &BTreeMap<String, String>) -> Result<Vec<File>, Error> {
    let wanted: BTreeSet<_> =
        files.iter().flat_map(|file| manifest::placeholders(&file.text)).map(|placeholder| placeholder.name).collect();
    if let Some(unused) = values.keys().find(|name| !wanted.contains(*name)) {
        let known = if wanted.is_empty() {
            "they have none".to_owned()
        } else {
            format!("they have {}", wanted.into_iter().collect::<Vec<_>>().join(", "))
        };
        return Err(Error::Usage(format!("no file has a place for {unused} (${{{unused}}}): {known}")));
    }
    let mut errors = Vec::new();
    let mut filled = Vec::new();
    for file in files {
        match manifest::fill(&file.name, &file.text, values) {
            Ok(text) => filled.push(File { name: file.name, text }),
            Err(faults) => errors.extend(faults),
        }
    }
    if let Err(faults) = manifest::parse(&filled) {
        errors.extend(faults);
    }
    if errors.is_empty() { Ok(filled) } else { Err(Error::Manifests(errors)) }
}

/// As the wire has them.
pub fn to_wire(files: Vec<File>) -> Vec<ManifestFile> {
    files.into_iter().map(|file| ManifestFile { name: file.name, text: file.text }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: &str = "apiVersion: quell/v1\nkind: Contact\nmetadata: { namespace: plants, name: on-call }\n\
                           spec:\n  via:\n    - webhook: { url: '${url:-http://192.0.2.1/}' }\n";

    fn source(path: &Path, set: &[&str]) -> Source {
        let set = set.iter().map(|text| settings::pair(text).unwrap()).collect();
        Source { files: vec![path.to_owned()], set, values: None }
    }

    #[test]
    fn directories_are_read_in_order_and_filled() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("sub")).unwrap();
        std::fs::write(scratch.path().join("sub/b.yaml"), CONTACT.replace("on-call", "other")).unwrap();
        std::fs::write(scratch.path().join("a.yml"), CONTACT).unwrap();
        std::fs::write(scratch.path().join(".hidden.yaml"), "nonsense: [").unwrap();
        std::fs::write(scratch.path().join("README.md"), "no manifest").unwrap();
        let files = source(scratch.path(), &["url=https://example.org/"]).read().unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.yml", "b.yaml"]);
        assert!(files.iter().all(|file| file.text.contains("https://example.org/")));
    }

    #[test]
    fn slips_are_told() {
        let scratch = tempfile::tempdir().unwrap();
        let empty = source(scratch.path(), &[]).read().unwrap_err();
        assert!(empty.to_string().contains("no *.yaml"), "{empty}");
        let file = scratch.path().join("a.yaml");
        let missing = source(&file, &[]).read().unwrap_err();
        assert!(missing.to_string().contains("a.yaml"), "{missing}");
        std::fs::write(&file, CONTACT).unwrap();
        let unused = source(&file, &["ulr=x"]).read().unwrap_err();
        assert!(unused.to_string().contains("ulr") && unused.to_string().contains("url"), "{unused}");
        std::fs::write(&file, CONTACT.replace("via", "vai")).unwrap();
        let wrong = source(&file, &[]).read().unwrap_err();
        assert!(matches!(&wrong, Error::Manifests(errors) if !errors.is_empty()), "{wrong}");
    }

    #[test]
    fn a_file_of_values() {
        let values = values_in("values", "# ports\nport=53\n\nname = x\n").unwrap();
        assert_eq!(values.get("port").map(String::as_str), Some("53"));
        assert!(values_in("values", "port=53\nport 54\n").unwrap_err().to_string().starts_with("values:2:"));
    }
}
