//! From text to CEL's syntax tree, with the place of every node.

use cel::{
    common::ast::{IdedExpr, SourceInfo},
    parser::Parser,
};

use super::{Error, limits};

/// Syntax errors after which the parser gives up: the first is the one that is told.
const ERROR_RECOVERY_LIMIT: u32 = 4;

/// The text of an expression, and where its nodes stand in it.
pub(super) struct Places<'t> {
    text: &'t str,
    source: SourceInfo,
}

impl Places<'_> {
    /// Offset of a node in bytes; 0 for one that has no place. A field begins after its dot.
    pub(super) fn offset(&self, node: &IdedExpr) -> usize {
        let offset = self.source.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        offset + usize::from(self.text.as_bytes().get(offset) == Some(&b'.'))
    }
}

/// Parses a text that is within the [`limits`].
pub(super) fn parse(text: &str) -> Result<(IdedExpr, Places<'_>), Error> {
    limits::check(text)?;
    let parser = Parser::new().error_recovery_limit(ERROR_RECOVERY_LIMIT);
    match parser.parse_with_source_info(text) {
        Ok((root, source)) => Ok((root, Places { text, source })),
        Err(errors) => Err(errors.errors.first().map_or_else(
            || Error::whole("not a CEL expression"),
            |error| {
                let offset = offset_of_position(text, error.pos);
                let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
                Error { offset, message: format!("not a CEL expression: {message}") }
            },
        )),
    }
}

/// Offset in bytes of a line and a column, both from 1, in characters, as the parser counts them.
fn offset_of_position(text: &str, (line, column): (isize, isize)) -> Option<usize> {
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let column = usize::try_from(column).ok()?.saturating_sub(1);
    let rest = text.get(start..)?;
    Some(start + rest.char_indices().nth(column).map_or(rest.len(), |(offset, _)| offset))
}
