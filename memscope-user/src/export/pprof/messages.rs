//! The messages of `profile.proto` (google/pprof, `proto/profile.proto`), as far as memscope writes them.
//!
//! Every `i64` that is said to be a string is an index of the string table, whose first string is empty.

use prost::Message;

/// A profile.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// What the values of a sample are, in order.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Mappings; the first is the program itself.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Code addresses.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All strings, each once.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// When it was taken: nanoseconds since the Unix epoch.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// Over how long, nanoseconds.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What stands between two samples.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// How much of it.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Free text: strings.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The sample type to show first: a string.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// A kind of value and its unit.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ValueType {
    /// A string.
    #[prost(int64, tag = "1")]
    pub kind: i64,
    /// A string.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// One stack's values.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// Location ids, innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One value for each sample type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// What else is known of it.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A name and a text.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Label {
    /// A string.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// A string.
    #[prost(int64, tag = "2")]
    pub text: i64,
}

/// A mapped file.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Mapping {
    /// From 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// One past the last address.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Where in the file it begins.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// Path: a string.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Build id in hex: a string.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Its locations are named.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Their files are known.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Their lines are known.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Functions inlined into others are told.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// A code address.
#[derive(Clone, PartialEq, Message)]
pub struct Location {
    /// From 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The mapping it is in; 0 for none.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// Runtime address.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// Functions there: the innermost inlined one first. Empty without a name.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A place in a function.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Line {
    /// Which function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// Line of its file; 0 for none.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Function {
    /// From 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name as people read it: a string.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Source file: a string.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}
