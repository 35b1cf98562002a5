//! The rows while the store is open: in sled, or in memory when sled cannot be used.

use std::path::Path;

use quell_engine::state::Table;

use super::super::{
    Error, Head, Record,
    recover::{self, Places},
    rows::{Held, Rows},
    view::View,
};
use super::Options;

/// Where rows are read.
#[derive(Debug)]
pub(super) enum Shelf {
    /// As it should be.
    Sled(View),
    /// Until the next start.
    Memory(Rows),
}

impl Shelf {
    /// Opens the view and makes it hold exactly these rows. One that lags behind is brought up to date; one that will not
    /// open, or differs, is moved aside and made anew.
    pub(super) fn restore(places: &Places, rows: &Rows, head: Head) -> Self {
        match open(places, rows, head) {
            Ok(view) => return Self::Sled(view),
            Err(error) => warn(&places.view, &error, "the view of the log cannot be used; it is made anew"),
        }
        match anew(places, rows, head) {
            Ok(view) => Self::Sled(view),
            Err(error) => {
                warn(&places.view, &error, "the view of the log cannot be made anew; rows are kept in memory");
                Self::Memory(rows.clone())
            }
        }
    }

    pub(super) fn get(&self, table: Table, key: &str) -> Result<Option<Held>, Error> {
        match self {
            Self::Sled(view) => view.get(table, key),
            Self::Memory(rows) => Ok(rows.get(table, key).cloned()),
        }
    }

    pub(super) fn rows(&self) -> Result<Rows, Error> {
        match self {
            Self::Sled(view) => Ok(view.contents()?.1),
            Self::Memory(rows) => Ok(rows.clone()),
        }
    }

    /// Makes the writes of records that are durable in the log. It cannot fail: when the view does, the log serves.
    pub(super) fn apply(&mut self, places: &Places, records: &[Record], head: Head) {
        match self {
            Self::Memory(rows) => records.iter().for_each(|record| rows.apply(record)),
            Self::Sled(view) => {
                if let Err(error) = view.apply(records.iter(), head) {
                    self.give_up(places, &error);
                }
            }
        }
    }

    /// Checks that rows can be read, and goes back to the log when they cannot.
    pub(super) fn make_sure(&mut self, places: &Places) {
        if let Self::Sled(view) = self
            && let Err(error) = view.get(Table::Meta, "meta")
        {
            self.give_up(places, &error);
        }
    }

    pub(super) fn sync(&mut self) -> Result<(), Error> {
        match self {
            Self::Sled(view) => view.sync(),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Keeps rows in memory from now on: the disk is full.
    pub(super) fn rest(&mut self, places: &Places) {
        if let Self::Sled(view) = self {
            match view.contents() {
                Ok((_, rows)) => *self = Self::Memory(rows),
                Err(error) => self.give_up(places, &error),
            }
        }
    }

    fn give_up(&mut self, places: &Places, error: &Error) {
        warn(&places.view, error, "the view of the log has failed; rows are kept in memory until the next start");
        match recover::recover(places, &Options { check_bytes: 0, ..Options::default() }) {
            Ok(recovered) => *self = Self::Memory(recovered.known.rows),
            // Rows are read at the start and for guards only, and say so themselves; the log goes on.
            Err(error) => warn(&places.log, &error, "the rows cannot be made from the log"),
        }
    }
}

fn open(places: &Places, rows: &Rows, head: Head) -> Result<View, Error> {
    let view = View::open(&places.view)?;
    let (view_head, view_rows) = view.contents()?;
    if view_head == head {
        return if view_rows == *rows { Ok(view) } else { Err(differs("it differs from the log")) };
    }
    if view_head.sequence >= head.sequence {
        return Err(differs("it is ahead of the log"));
    }
    tracing::warn!(
        view = view_head.sequence,
        log = head.sequence,
        "the view lags behind the log, as after a kill, and is brought up to date"
    );
    view.catch_up(&view_rows, rows, head)?;
    Ok(view)
}

fn anew(places: &Places, rows: &Rows, head: Head) -> Result<View, Error> {
    if places.view.exists() {
        if places.old_view.exists() {
            std::fs::remove_dir_all(&places.old_view).map_err(Error::io("remove", &places.old_view))?;
        }
        std::fs::rename(&places.view, &places.old_view).map_err(Error::io("move aside", &places.view))?;
    }
    let view = View::open(&places.view)?;
    view.catch_up(&Rows::default(), rows, head)?;
    Ok(view)
}

fn differs(reason: &str) -> Error {
    Error::View(reason.to_owned())
}

fn warn(path: &Path, error: &Error, message: &'static str) {
    tracing::warn!(path = %path.display(), error = error as &dyn std::error::Error, "{message}");
}
