//! The one module that reads YAML: text to documents, strictly.
//!
//! It is built on the event parser beneath serde-saphyr and not on serde: a deserializer stops at the first error of a
//! document and drops how a scalar was written, and both are needed here. Refused are tags, anchors, aliases, merges,
//! directives, duplicate keys, keys that are not plain text, values that a comment cuts short, and too much of anything.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::node::{Content, Key, Node, Place};

/// Largest file, in bytes.
pub(crate) const LARGEST: usize = 1 << 20;
/// Most documents in a file.
pub(crate) const MOST_DOCUMENTS: usize = 500;
/// Deepest nesting of lists and maps, in block and in flow notation each.
const DEEPEST: usize = 32;

/// What is wrong, and where.
pub(crate) type Fault = (Place, String);

/// Reads a file: the documents that could be read, and everything that is wrong.
pub(crate) fn read(text: &str) -> (Vec<Node>, Vec<Fault>) {
    if text.len() > LARGEST {
        return (
            Vec::new(),
            vec![(Place::START, format!("the file has {} bytes; at most {LARGEST} are read", text.len()))],
        );
    }
    let mut reader = Reader { text, parser: parser(text), faults: Vec::new() };
    let mut documents = Vec::new();
    while let Some(next) = reader.parser.next_event() {
        match next {
            Ok((Event::DocumentStart(..), span)) => {
                if documents.len() >= MOST_DOCUMENTS {
                    reader
                        .faults
                        .push((start(&span), format!("more than {MOST_DOCUMENTS} documents in a file: split it")));
                    break;
                }
                match reader.document() {
                    Ok(document) => documents.extend(document),
                    Err(error) => {
                        reader.syntax(&error);
                        if !reader.recover() {
                            break;
                        }
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                reader.syntax(&error);
                if !reader.recover() {
                    break;
                }
            }
        }
    }
    (documents, reader.faults)
}

/// A scalar of the file: where it stands, in bytes, and how it is written. For filling in values.
pub(crate) struct Scalar {
    pub(crate) range: std::ops::Range<usize>,
    pub(crate) style: Style,
    pub(crate) text: String,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
    Block,
}

/// The scalars of a text in their order, as far as it can be read.
pub(crate) fn scalars(text: &str) -> Vec<Scalar> {
    if text.len() > LARGEST {
        return Vec::new();
    }
    let mut parser = parser(text);
    let mut scalars = Vec::new();
    loop {
        match parser.next_event() {
            Some(Ok((Event::Scalar(content, style, ..), span))) => {
                if let (Some(from), Some(to)) = (span.start.byte_offset(), span.end.byte_offset()) {
                    let style = match style {
                        ScalarStyle::Plain => Style::Plain,
                        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                    };
                    scalars.push(Scalar { range: from..to, style, text: content.into_owned() });
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) if parser.proceed_next_document().unwrap_or(false) => {}
            Some(Err(_)) | None => return scalars,
        }
    }
}

fn parser(text: &str) -> Parser<'_, granit_parser::StrInput<'_>> {
    let options = granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    Parser::new_from_str_with_options(text, options)
}

fn start(span: &Span) -> Place {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: number(span.start.line()), column: number(span.start.col()).saturating_add(1) }
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    faults: Vec<Fault>,
}

/// An event and where it stands.
type Next<'a> = (Event<'a>, Span);

impl<'a> Reader<'a> {
    /// What is left of a document after its start; nothing when it is empty.
    fn document(&mut self) -> Result<Option<Node>, ScanError> {
        let Some(next) = self.next()? else { return Ok(None) };
        let node = self.node(next)?;
        // An empty document between two markers says nothing, and means nothing.
        Ok(Some(node).filter(|node| node.content != Content::Null))
    }

    fn next(&mut self) -> Result<Option<Next<'a>>, ScanError> {
        self.parser.next_event().transpose()
    }

    fn recover(&mut self) -> bool {
        self.parser.proceed_next_document().unwrap_or(false)
    }

    fn syntax(&mut self, error: &ScanError) {
        let span = Span::empty(*error.marker());
        let hint = match self.rest(&span).chars().next() {
            Some('!' | '&' | '*' | '%' | '@' | '`') => "; a value that begins so has to be quoted",
            _ => "",
        };
        self.faults.push((start(&span), format!("not YAML: {}{hint}", error.info())));
    }

    /// The text from the beginning of a span.
    fn rest(&self, span: &Span) -> &'a str {
        span.start.byte_offset().and_then(|offset| self.text.get(offset..)).unwrap_or("")
    }

    /// The node that begins with an event. Recursion is bounded by the parser's limits on nesting.
    fn node(&mut self, (event, span): Next<'a>) -> Result<Node, ScanError> {
        let place = start(&span);
        let content = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(&span, anchor, tag.is_some());
                self.scalar(&text, style, &span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_properties(&span, anchor, tag.is_some());
                let mut items = Vec::new();
                while let Some(next) = self.next()? {
                    if matches!(next.0, Event::SequenceEnd) {
                        break;
                    }
                    items.push(self.node(next)?);
                }
                Content::List(items)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_properties(&span, anchor, tag.is_some());
                self.map()?
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let message = "'*' begins an alias, which manifests do not have: quote the value, or write it out";
                self.faults.push((place, message.to_owned()));
                Content::Text { text: String::new(), column: None }
            }
            _ => Content::Null,
        };
        Ok(Node { place, content })
    }

    fn map(&mut self) -> Result<Content, ScanError> {
        let mut members: Vec<(Key, Node)> = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let place = start(&span);
            let text = match &event {
                Event::Scalar(text, style, ..) => {
                    if text.is_empty() && *style == ScalarStyle::Plain {
                        self.faults.push((place, "a key is missing before the ':'".to_owned()));
                    }
                    Some(text.to_string())
                }
                Event::Alias(_) | Event::UnresolvedAlias(_) => None,
                _ => {
                    self.faults.push((place, "a key has to be text".to_owned()));
                    None
                }
            };
            self.node((event, span))?;
            let Some(next) = self.next()? else { break };
            let value = self.node(next)?;
            let Some(text) = text else { continue };
            if text == "<<" {
                self.faults
                    .push((place, "'<<' begins a merge, which manifests do not have: write the fields out".to_owned()));
            } else if let Some((first, _)) = members.iter().find(|(key, _)| key.text == text) {
                let line = first.place.line;
                self.faults.push((place, format!("`{text}` is there twice; first in line {line}")));
            } else {
                members.push((Key { place, text }, value));
            }
        }
        Ok(Content::Map(members))
    }

    fn refuse_properties(&mut self, span: &Span, anchor: usize, tagged: bool) {
        if tagged {
            let place = span.tag_start.map_or_else(|| start(span), |marker| start(&Span::empty(marker)));
            self.faults.push((place, "'!' begins a tag, which manifests do not have: quote the value".to_owned()));
        }
        if anchor != 0 {
            self.faults
                .push((start(span), "'&' begins an anchor, which manifests do not have: quote the value".to_owned()));
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: &Span) -> Content {
        let place = start(span);
        if style != ScalarStyle::Plain {
            let source = span.slice(self.text).unwrap_or("");
            let as_is = source.get(1..source.len().saturating_sub(1)) == Some(text) && !text.contains('\n');
            return Content::Text { text: text.to_owned(), column: as_is.then_some(place.column + 1) };
        }
        let after = span.end.byte_offset().and_then(|offset| self.text.get(offset..)).unwrap_or("");
        if !text.is_empty() && after.starts_with(" #") {
            let message = "the value ends where ' #' begins a comment: quote it, or put two spaces before the comment";
            self.faults.push((place, message.to_owned()));
        }
        match text {
            "" | "~" | "null" => Content::Null,
            "true" => Content::Flag(true),
            "false" => Content::Flag(false),
            _ => match number(text) {
                Some(number) if number.is_finite() => Content::Number(number),
                Some(_) => {
                    self.faults.push((place, format!("{text} is too large for a number")));
                    Content::Number(0.0)
                }
                None => {
                    let as_is = span.slice(self.text) == Some(text);
                    Content::Text { text: text.to_owned(), column: as_is.then_some(place.column) }
                }
            },
        }
    }
}

/// A number as JSON writes it; `0644`, `1_000`, `0x10` and `.inf` are text.
fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
    let looks_so = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.ends_with(|last: char| last.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    if looks_so && !leading_zero { digits.parse::<f64>().ok().and_then(|_| text.parse().ok()) } else { None }
}
