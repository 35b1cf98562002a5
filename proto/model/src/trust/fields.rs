//! Fields of SSH's binary formats, taken one after another from the front (RFC 4251, 5).

/// What has not been read yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// So many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of 32 bits.
    pub(super) fn number(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A length, and so many bytes.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    /// A string of readable characters.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// A positive number of any size, an `mpint`, without its leading zero.
    pub(super) fn positive(&mut self) -> Option<&'a [u8]> {
        match self.string()? {
            // The zero is there when, and only when, the next bit would make the number negative.
            [0, number @ ..] if number.first().is_some_and(|next| *next >= 0x80) => Some(number),
            number @ [first, ..] if *first != 0 && *first < 0x80 => Some(number),
            _ => None,
        }
    }

    /// Nothing, when something is left over.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
