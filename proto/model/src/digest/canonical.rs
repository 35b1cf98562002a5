//! Canonical JSON straight from what a type says about itself, without a tree in between: a plan for thousands of hosts
//! is written to be hashed, and again on each host to see that it was written so.

use std::{
    cmp::Ordering,
    fmt::{self, Write as _},
    ops::Range,
};

use serde::{Serialize, Serializer, ser};

use super::number_text;

/// Whole numbers up to this one are doubles, all of them.
const LARGEST_WHOLE: u64 = 1 << 53;

/// The canonical text of a value, as RFC 8785 has it.
///
/// # Errors
/// The type refuses to be written.
pub(super) fn text<T: Serialize + ?Sized>(value: &T) -> Result<String, fmt::Error> {
    let mut writer = Writer::default();
    value.serialize(&mut writer)?;
    Ok(writer.text)
}

#[derive(Default)]
struct Writer {
    text: String,
    /// The members so far of all objects around the present place, the innermost last.
    members: Vec<Member>,
}

/// Where a member of an object stands in the text.
#[derive(Clone)]
struct Member {
    /// What is in the quotes of its key.
    key: Range<usize>,
    /// Key and value.
    whole: Range<usize>,
}

/// An array or an object under way.
struct Open<'w> {
    writer: &'w mut Writer,
    /// Where its first item or member begins.
    start: usize,
    /// Members of the objects around it.
    outer: usize,
    closing: &'static str,
}

impl Writer {
    fn number(&mut self, number: f64) {
        if number.is_finite() {
            self.text.push_str(&number_text(number));
        } else {
            // As `serde_json` has it.
            self.text.push_str("null");
        }
    }

    fn whole(&mut self, number: u64) -> fmt::Result {
        if number > LARGEST_WHOLE {
            self.number(number as f64);
            return Ok(());
        }
        write!(self.text, "{number}")
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        let mut rest = string;
        while let Some(place) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
            self.text.push_str(&rest[..place]);
            match rest.as_bytes()[place] {
                b'"' => self.text.push_str("\\\""),
                b'\\' => self.text.push_str("\\\\"),
                8 => self.text.push_str("\\b"),
                b'\t' => self.text.push_str("\\t"),
                b'\n' => self.text.push_str("\\n"),
                12 => self.text.push_str("\\f"),
                b'\r' => self.text.push_str("\\r"),
                control => self.text.push_str(&format!("\\u{control:04x}")),
            }
            rest = &rest[place + 1..];
        }
        self.text.push_str(rest);
        self.text.push('"');
    }

    fn open(&mut self, opening: &str, closing: &'static str) -> Open<'_> {
        self.text.push_str(opening);
        Open { start: self.text.len(), outer: self.members.len(), closing, writer: self }
    }

    /// An object of one member, whose value follows: a variant with content.
    fn variant(&mut self, variant: &str) {
        self.text.push('{');
        self.string(variant);
        self.text.push(':');
    }
}

impl Open<'_> {
    fn comma(&mut self) {
        if self.writer.text.len() > self.start {
            self.writer.text.push(',');
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> fmt::Result {
        self.comma();
        item.serialize(&mut *self.writer)
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> fmt::Result {
        self.comma();
        let start = self.writer.text.len();
        key.serialize(&mut *self.writer)?;
        // Numbers and truth values are keys as texts.
        if self.writer.text.as_bytes().get(start) != Some(&b'"') {
            self.writer.text.insert(start, '"');
            self.writer.text.push('"');
        }
        let end = self.writer.text.len();
        self.writer.members.push(Member { key: start + 1..end - 1, whole: start..end });
        self.writer.text.push(':');
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> fmt::Result {
        let place = self.writer.members.len().checked_sub(1).ok_or(fmt::Error)?;
        value.serialize(&mut *self.writer)?;
        self.writer.members[place].whole.end = self.writer.text.len();
        Ok(())
    }

    fn close(self) {
        let Self { writer, start, outer, closing } = self;
        let (text, members) = (&mut writer.text, &mut writer.members[outer..]);
        let order = |one: &Member, other: &Member| order(&text[one.key.clone()], &text[other.key.clone()]);
        if !members.is_sorted_by(|one, other| order(one, other).is_le()) {
            members.sort_by(order);
            let sorted: Vec<&str> = members.iter().map(|member| &text[member.whole.clone()]).collect();
            let sorted = sorted.join(",");
            text.truncate(start);
            text.push_str(&sorted);
        }
        writer.members.truncate(outer);
        writer.text.push_str(closing);
    }
}

/// The order of two keys, by their UTF-16 code units.
fn order(one: &str, other: &str) -> Ordering {
    // Up to U+DFFF bytes are in the order of code units, and what has no escape stands as it is.
    let is_plain = |key: &str| key.bytes().all(|byte| byte < 0xee && byte != b'\\');
    if is_plain(one) && is_plain(other) {
        return one.cmp(other);
    }
    // What was just written can be read.
    let read = |key: &str| serde_json::from_str::<String>(&format!("\"{key}\"")).unwrap_or_default();
    read(one).encode_utf16().cmp(read(other).encode_utf16())
}

impl<'w> Serializer for &'w mut Writer {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Open<'w>;
    type SerializeTuple = Open<'w>;
    type SerializeTupleStruct = Open<'w>;
    type SerializeTupleVariant = Open<'w>;
    type SerializeMap = Open<'w>;
    type SerializeStruct = Open<'w>;
    type SerializeStructVariant = Open<'w>;

    fn serialize_bool(self, flag: bool) -> fmt::Result {
        self.text.push_str(if flag { "true" } else { "false" });
        Ok(())
    }

    fn serialize_i8(self, number: i8) -> fmt::Result {
        self.serialize_i64(number.into())
    }

    fn serialize_i16(self, number: i16) -> fmt::Result {
        self.serialize_i64(number.into())
    }

    fn serialize_i32(self, number: i32) -> fmt::Result {
        self.serialize_i64(number.into())
    }

    fn serialize_i64(self, number: i64) -> fmt::Result {
        if number < 0 {
            self.text.push('-');
        }
        self.whole(number.unsigned_abs())
    }

    fn serialize_u8(self, number: u8) -> fmt::Result {
        self.whole(number.into())
    }

    fn serialize_u16(self, number: u16) -> fmt::Result {
        self.whole(number.into())
    }

    fn serialize_u32(self, number: u32) -> fmt::Result {
        self.whole(number.into())
    }

    fn serialize_u64(self, number: u64) -> fmt::Result {
        self.whole(number)
    }

    fn serialize_f32(self, number: f32) -> fmt::Result {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> fmt::Result {
        self.number(number);
        Ok(())
    }

    fn serialize_char(self, character: char) -> fmt::Result {
        self.serialize_str(character.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, string: &str) -> fmt::Result {
        self.string(string);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> fmt::Result {
        self.collect_seq(bytes)
    }

    fn serialize_none(self) -> fmt::Result {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> fmt::Result {
        value.serialize(self)
    }

    fn serialize_unit(self) -> fmt::Result {
        self.text.push_str("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> fmt::Result {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> fmt::Result {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> fmt::Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> fmt::Result {
        self.variant(variant);
        value.serialize(&mut *self)?;
        self.text.push('}');
        Ok(())
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple(self, _length: usize) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Open<'w>, fmt::Error> {
        self.variant(variant);
        Ok(self.open("[", "]}"))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Open<'w>, fmt::Error> {
        self.variant(variant);
        Ok(self.open("{", "}}"))
    }
}

/// What has items: each kind of array calls them by another name.
macro_rules! items {
    ($($kind:ident $add:ident)*) => {
        $(impl ser::$kind for Open<'_> {
            type Ok = ();
            type Error = fmt::Error;

            fn $add<T: Serialize + ?Sized>(&mut self, item: &T) -> fmt::Result {
                self.item(item)
            }

            fn end(self) -> fmt::Result {
                self.close();
                Ok(())
            }
        })*
    };
}
items!(SerializeSeq serialize_element SerializeTuple serialize_element);
items!(SerializeTupleStruct serialize_field SerializeTupleVariant serialize_field);

/// What has fields.
macro_rules! fields {
    ($($kind:ident)*) => {
        $(impl ser::$kind for Open<'_> {
            type Ok = ();
            type Error = fmt::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> fmt::Result {
                self.key(key)?;
                self.value(value)
            }

            fn end(self) -> fmt::Result {
                self.close();
                Ok(())
            }
        })*
    };
}
fields!(SerializeStruct SerializeStructVariant);

impl ser::SerializeMap for Open<'_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> fmt::Result {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> fmt::Result {
        self.value(value)
    }

    fn end(self) -> fmt::Result {
        self.close();
        Ok(())
    }
}
