//! Reading parameters strictly: an unknown key, a wrong type or a text outside its grammar is refused with its name.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::Refusal;
use crate::units;

/// Reads an action's parameters into their type.
pub(super) fn read<T: DeserializeOwned>(action: &str, parameters: &Map<String, Json>) -> Result<T, Refusal> {
    serde_json::from_value(Json::Object(parameters.clone()))
        .map_err(|error| Refusal::because(format!("the parameters of {action} are wrong: {error}")))
}

/// The name of a service, within its grammar.
pub(super) fn service_name(text: &str) -> Result<(), Refusal> {
    if units::is_service_name(text) {
        return Ok(());
    }
    let rule = "letters, digits and any of : - _ . \\ @, at most 255";
    Err(Refusal::because(format!("service {text:?} is not the name of a service: {rule}")))
}

/// An absolute path without `..`, `.`, empty parts or control characters.
pub(super) fn path(text: &str) -> Result<std::path::PathBuf, Refusal> {
    let plain = text.starts_with('/')
        && text.len() > 1
        && text.len() < 4096
        && !text.chars().any(char::is_control)
        && text[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
    if plain {
        Ok(text.into())
    } else {
        Err(Refusal::because(format!("path {text:?} is not absolute, or has empty, \".\" or \"..\" parts")))
    }
}

/// A program and its arguments: the program by its absolute path, no byte that the system could not pass.
pub(super) fn argv(name: &str, argv: &[String]) -> Result<(), Refusal> {
    let Some(program) = argv.first() else {
        return Err(Refusal::because(format!("{name} is empty: it needs a program and its arguments, as a list")));
    };
    path(program).map_err(|refusal| Refusal::because(format!("{name}: the program's {}", refusal.reason)))?;
    if argv.iter().any(|argument| argument.contains('\0')) {
        return Err(Refusal::because(format!("{name}: an argument holds a zero byte")));
    }
    if argv.iter().map(String::len).sum::<usize>() > 64 * 1024 {
        return Err(Refusal::because(format!("{name} is longer than 64 KiB")));
    }
    Ok(())
}

/// Whether the host allows a program.
pub(super) fn program_allowed(config: &crate::config::Config, argv: &[String]) -> Result<(), Refusal> {
    let program = argv.first().map(String::as_str).unwrap_or_default();
    if config.allow.programs.contains(std::path::Path::new(program)) {
        Ok(())
    } else {
        Err(Refusal::not_listed("programs", program))
    }
}

/// Whether the host allows a service to be touched.
pub(super) fn service_allowed(config: &crate::config::Config, service: &str) -> Result<(), Refusal> {
    let listed = config.allow.services.contains(service)
        || (config.service(service).is_none() && config.allow.services.contains(&units::unit_name(service)));
    if listed { Ok(()) } else { Err(Refusal::not_listed("services", service)) }
}

/// An argv on one line, for messages: arguments with unusual characters are quoted.
pub(super) fn shown(argv: &[String]) -> String {
    let usual = |argument: &String| {
        !argument.is_empty()
            && argument.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte))
    };
    let parts: Vec<String> =
        argv.iter().map(|argument| if usual(argument) { argument.clone() } else { format!("{argument:?}") }).collect();
    parts.join(" ")
}
