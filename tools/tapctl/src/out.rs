// SPDX-License-Identifier: GPL-2.0-only

//! The only printer: a command hands over records, and here they become text or JSON.
//!
//! A [`Record`] says for each of its fields whether people, programs or both see it, so that the two
//! forms cannot tell different stories. A command prints one document and no more: with `--json` the
//! output is one JSON object that begins with the number of its schema, failures included. Only a
//! command that does not end by itself prints one for each line.

use crate::failure::Failure;
use anstyle::{AnsiColor, Style};
use comfy_table::{presets, CellAlignment, ContentArrangement, Table};
use serde_json::{json, Map, Value as Json};
use std::fmt::{self, Write as _};
use std::io::{self, Write};

/// Number of the JSON schema. Fields are added under the same number; a field that goes, or changes
/// its type or meaning, raises it. tests/json.rs pins the shape.
pub const SCHEMA: u32 = 1;

const HEADING: Style = Style::new().bold();
const WRONG: Style = AnsiColor::Red.on_default().bold();
const ADVICE: Style = AnsiColor::Yellow.on_default();

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// There is none.
    Nothing,
    /// Yes or no.
    Flag(bool),
    /// A number.
    Number(u64),
    /// A number of bytes; people see it in a larger unit.
    Bytes(u64),
    /// Words.
    Text(String),
    /// Several of one kind.
    List(Vec<Value>),
    /// Fields of their own.
    Record(Record),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Number(u64::from(value))
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(String::from(value))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Record> for Value {
    fn from(value: Record) -> Self {
        Self::Record(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(value: Vec<T>) -> Self {
        Self::List(value.into_iter().map(Into::into).collect())
    }
}

impl Value {
    fn json(&self) -> Json {
        match self {
            Self::Nothing => Json::Null,
            Self::Flag(flag) => json!(flag),
            Self::Number(number) | Self::Bytes(number) => json!(number),
            Self::Text(text) => json!(text),
            Self::List(values) => values.iter().map(Self::json).collect(),
            Self::Record(record) => record.json(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("-"),
            Self::Flag(flag) => f.write_str(if *flag { "yes" } else { "no" }),
            Self::Number(number) => number.fmt(f),
            Self::Bytes(number) => bytes(*number, f),
            Self::Text(text) => f.write_str(text),
            Self::List(values) if values.is_empty() => f.write_str("-"),
            Self::List(values) => {
                let words: Vec<String> = values.iter().map(Self::to_string).collect();
                f.write_str(&words.join(", "))
            }
            Self::Record(record) => {
                let mut words = record
                    .plain()
                    .map(|(title, value)| format!("{title} {value}"));
                f.write_str(&words.by_ref().collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn bytes(number: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let (mut whole, mut tenth, mut unit) = (number, 0, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        tenth = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    let unit = UNITS[unit];
    if tenth == 0 {
        write!(f, "{whole} {unit}")
    } else {
        write!(f, "{whole}.{tenth} {unit}")
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    /// Name for programs.
    key: Option<&'static str>,
    /// Name for people.
    title: Option<&'static str>,
    value: Value,
}

/// Fields in order, each for people, for programs, or for both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record(Vec<Field>);

impl Record {
    /// A record without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// A field that everybody sees: under `key` in JSON, and in text under the same words.
    #[must_use]
    pub fn both(self, key: &'static str, title: &'static str, value: impl Into<Value>) -> Self {
        self.field(Some(key), Some(title), value.into())
    }

    /// A field for programs.
    #[must_use]
    pub fn json_only(self, key: &'static str, value: impl Into<Value>) -> Self {
        self.field(Some(key), None, value.into())
    }

    /// A field for people: what programs find in other fields, put in words.
    #[must_use]
    pub fn plain_only(self, title: &'static str, value: impl Into<Value>) -> Self {
        self.field(None, Some(title), value.into())
    }

    fn field(
        mut self,
        key: Option<&'static str>,
        title: Option<&'static str>,
        value: Value,
    ) -> Self {
        self.0.push(Field { key, title, value });
        self
    }

    fn plain(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0
            .iter()
            .filter_map(|field| Some((field.title?, &field.value)))
    }

    fn json(&self) -> Json {
        let fields = self
            .0
            .iter()
            .filter_map(|field| Some((String::from(field.key?), field.value.json())));
        Json::Object(fields.collect::<Map<_, _>>())
    }

    /// `title: value` lines; a record within is a paragraph under its title, indented.
    fn paragraph(&self, indent: usize, text: &mut String) {
        let width = self
            .plain()
            .filter(|(_, value)| !matches!(value, Value::Record(_)))
            .map(|(title, _)| title.len())
            .max()
            .unwrap_or(0);
        for (title, value) in self.plain() {
            // Writing to a string cannot fail.
            let _ = match value {
                Value::Record(record) => {
                    let _ = writeln!(text, "{:indent$}{HEADING}{title}{HEADING:#}", "");
                    record.paragraph(indent + 2, text);
                    Ok(())
                }
                Value::List(values) if matches!(values.first(), Some(Value::Text(_))) => {
                    let _ = writeln!(text, "{:indent$}{HEADING}{title}{HEADING:#}", "");
                    values
                        .iter()
                        .try_for_each(|value| writeln!(text, "{:indent$}  {value}", ""))
                }
                value if title.is_empty() => writeln!(text, "{:indent$}{value}", ""),
                value => writeln!(text, "{:indent$}{title:width$}  {value}", ""),
            };
        }
    }
}

/// Where a command's document goes, and in which form.
pub struct Out<'a> {
    json: bool,
    quiet: bool,
    to: &'a mut dyn Write,
}

impl fmt::Debug for Out<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out")
            .field("json", &self.json)
            .field("quiet", &self.quiet)
            .finish_non_exhaustive()
    }
}

impl<'a> Out<'a> {
    /// A printer.
    pub fn new(json: bool, quiet: bool, to: &'a mut dyn Write) -> Self {
        Self { json, quiet, to }
    }

    /// Whether only what a script needs is wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether the document is JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Records of one kind: a table, or an array under `key`. `none` is said when there are none.
    pub fn table(&mut self, key: &str, records: &[Record], none: &str) -> Result<(), Failure> {
        if self.json {
            return self.document(key, records.iter().map(Record::json).collect());
        }
        let Some(first) = records.first() else {
            return if self.quiet {
                Ok(())
            } else {
                self.text(&format!("{none}\n"))
            };
        };
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if !self.quiet {
            table.set_header(first.plain().map(|(title, _)| title));
        }
        for record in records {
            table.add_row(record.plain().map(|(_, value)| value.to_string()));
        }
        for (nth, (_, value)) in first.plain().enumerate() {
            if let Some(column) = table.column_mut(nth) {
                column.set_padding((0, 2));
                if matches!(value, Value::Number(_) | Value::Bytes(_)) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let mut text = String::new();
        for (nth, line) in table.lines().enumerate() {
            let line = line.trim_end();
            let _ = if nth == 0 && !self.quiet {
                writeln!(text, "{HEADING}{line}{HEADING:#}")
            } else {
                writeln!(text, "{line}")
            };
        }
        self.text(&text)
    }

    /// One record: lines, or an object under `key`.
    pub fn sheet(&mut self, key: &str, record: &Record) -> Result<(), Failure> {
        if self.json {
            return self.document(key, record.json());
        }
        let mut text = String::new();
        record.paragraph(0, &mut text);
        self.text(&text)
    }

    /// Records that are too wide for a table: a paragraph each under its `heading`, or an array.
    pub fn sheets(
        &mut self,
        key: &str,
        records: &[(String, Record)],
        none: &str,
    ) -> Result<(), Failure> {
        if self.json {
            let all = records.iter().map(|(_, record)| record.json()).collect();
            return self.document(key, all);
        }
        let mut text = String::new();
        if records.is_empty() && !self.quiet {
            let _ = writeln!(text, "{none}");
        }
        for (heading, record) in records {
            if !self.quiet {
                let _ = writeln!(text, "{HEADING}{heading}{HEADING:#}");
            }
            record.paragraph(2, &mut text);
        }
        self.text(&text)
    }

    /// What was done: `said` for people, the record under `key` for programs, and with `--quiet`
    /// only `brief`, if there is something that a script needs.
    pub fn done(
        &mut self,
        key: &str,
        record: impl Into<Value>,
        said: &str,
        brief: Option<String>,
    ) -> Result<(), Failure> {
        if self.json {
            return self.document(key, record.into().json());
        }
        match (self.quiet, brief) {
            (false, _) => self.text(&format!("{said}\n")),
            (true, Some(brief)) => self.text(&format!("{brief}\n")),
            (true, None) => Ok(()),
        }
    }

    /// One of many records that come one after the other: a line each, of words or a JSON object. False:
    /// the reader has gone.
    pub fn line(&mut self, key: &str, record: &Record, said: &str) -> Result<bool, Failure> {
        let line = if self.json {
            let mut document = Map::new();
            document.insert(String::from("schema"), json!(SCHEMA));
            document.insert(String::from(key), record.json());
            format!("{}\n", Json::Object(document))
        } else {
            format!("{said}\n")
        };
        let written = self.to.write_all(line.as_bytes());
        match written.and_then(|()| self.to.flush()) {
            Ok(()) => Ok(true),
            Err(error) => closed(error).map(|()| false),
        }
    }

    /// Bytes that have a form of their own: a completion script, a man page.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to
            .write_all(bytes)
            .and_then(|()| self.to.flush())
            .or_else(closed)
    }

    /// Why the command failed.
    pub fn failure(&mut self, failure: &Failure) -> Result<(), Failure> {
        if self.json {
            let error = json!({
                "message": failure.message,
                "errno": failure.errno,
                "hint": failure.hint,
                "exit": failure.exit,
            });
            return self.document("error", error);
        }
        let mut text = format!("{WRONG}tapctl: {failure}{WRONG:#}\n");
        if let Some(hint) = &failure.hint {
            let _ = writeln!(text, "{ADVICE}  {hint}{ADVICE:#}");
        }
        self.text(&text)
    }

    fn document(&mut self, key: &str, value: Json) -> Result<(), Failure> {
        let mut document = Map::new();
        document.insert(String::from("schema"), json!(SCHEMA));
        document.insert(String::from(key), value);
        self.text(&format!("{:#}\n", Json::Object(document)))
    }

    fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.raw(text.as_bytes())
    }
}

/// A reader that has seen enough (`tapctl … | head`) is no failure.
fn closed(error: io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::io("write the output", &error))
}
