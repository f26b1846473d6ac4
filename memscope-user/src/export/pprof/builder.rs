//! From a database to pprof's tables: every string, function, location and mapping once, numbered as they come up.

use std::collections::HashMap;
use std::sync::Arc;

use memscope_ebpf::counter::Counter;
use memscope_ebpf::site::StackEnd;

use super::messages::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use crate::export::{Exported, label};
use crate::report::Escaped;
use crate::report::model::{BY_FRAME_POINTER, Frame, Stack};
use crate::report::sites::SiteFigures;
use crate::symbol::{SavedModule, SavedSegment};
use crate::target::address::RuntimeAddress;

/// The profile of a database. Sites that never allocated are left out.
pub(super) fn profile(database: Exported<'_>) -> Profile {
    let report = database.report;
    let mut builder = Builder::new(database);
    // The order of gperftools and of Go: what `pprof` shows without options is the last.
    let sample_type = [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ];
    builder.profile.sample_type = sample_type.map(|(kind, unit)| builder.value_type(kind, unit)).into();
    builder.profile.default_sample_type = builder.string("inuse_space");
    // Every block is counted: one byte a sample. Values of sampled blocks are estimates already.
    builder.profile.period_type = Some(builder.value_type("space", "bytes"));
    builder.profile.period = signed(report.sampling.map_or(1, |sampling| sampling.sample_bytes));
    builder.profile.time_nanos = nanoseconds(report.at_unix_s);
    builder.profile.duration_nanos = nanoseconds(report.collection.seconds);
    for line in comments(database) {
        let line = builder.string(&line);
        builder.profile.comment.push(line);
    }
    for site in &report.sites {
        builder.sample(site);
    }
    builder.profile
}

fn nanoseconds(seconds: u64) -> i64 {
    signed(seconds.saturating_mul(1_000_000_000))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whose memory it is, and what could not be seen of it: `pprof -comments` prints them.
fn comments(database: Exported<'_>) -> Vec<String> {
    let report = database.report;
    let target = &report.target;
    let mut lines = vec![format!(
        "memscope {}: {} (pid {}), {} for {} s",
        env!("CARGO_PKG_VERSION"),
        Escaped(&target.comm),
        target.id.pid,
        report.collection.state.text(),
        report.collection.seconds
    )];
    lines.extend(label::estimated(report));
    lines.extend(report.losses.iter().map(|(key, count)| {
        let known = Counter::ALL.iter().find(|counter| counter.key() == *key);
        format!("loss: {count} {}", known.map_or(*key, |counter| counter.text()))
    }));
    lines.extend(report.notes.iter().map(|note| Escaped(note).to_string()));
    lines
}

struct Builder<'a> {
    profile: Profile,
    modules: &'a [SavedModule],
    strings: HashMap<String, i64>,
    /// By name and source file.
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<LocationKey, u64>,
    mappings: HashMap<MappingKey, u64>,
}

/// Address, functions and lines there, module: inlined frames of one address belong to one location.
type LocationKey = (u64, Vec<(u64, i64)>, String);

#[derive(Clone, PartialEq, Eq, Hash)]
enum MappingKey {
    /// A mapping of the session: module and segment by number.
    Saved(usize, usize),
    /// A module of which only the name is known.
    Named(String),
}

impl<'a> Builder<'a> {
    fn new(database: Exported<'a>) -> Self {
        let mut builder = Self {
            profile: Profile::default(),
            modules: database.modules,
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            mappings: HashMap::new(),
        };
        builder.string("");
        builder.program(database);
        builder
    }

    /// The program itself is the first mapping, whatever the samples name first.
    fn program(&mut self, database: Exported<'_>) {
        let target = &database.report.target;
        let program = std::path::Path::new(&target.exe);
        let saved = self
            .modules
            .iter()
            .position(|module| module.path == program && !module.segments.is_empty());
        let build_id = target.build_id.as_ref().map_or("", |id| id.as_hex());
        match saved {
            Some(module) => self.saved_mapping(module, 0),
            None => {
                let name = target.exe.rsplit('/').next().unwrap_or(&target.exe).to_owned();
                self.mapping(MappingKey::Named(name), &target.exe, build_id, None)
            }
        };
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(number) = self.strings.get(text) {
            return *number;
        }
        let number = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), number);
        number
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> ValueType {
        ValueType {
            kind: self.string(kind),
            unit: self.string(unit),
        }
    }

    fn sample(&mut self, site: &SiteFigures) {
        let amounts = [
            site.allocated.blocks,
            site.allocated.bytes,
            site.live.blocks,
            site.live.bytes,
        ];
        if amounts == [0; 4] {
            return;
        }
        let location_id = self.stack(&site.stack);
        let mut label = vec![self.label("site", &format!("{:#018x}", site.id.0))];
        if site.stack.end != StackEnd::Outermost {
            label.push(self.label("stack_end", site.stack.end.text()));
        }
        if site.stack.by_frame_pointer {
            label.push(self.label("stack_guessed", BY_FRAME_POINTER));
        }
        self.profile.sample.push(Sample {
            location_id,
            value: amounts.map(signed).into(),
            label,
        });
    }

    fn label(&mut self, key: &str, text: &str) -> Label {
        Label {
            key: self.string(key),
            text: self.string(text),
        }
    }

    /// A stack's locations, innermost first. What is missing of it is its outermost location, in no mapping.
    fn stack(&mut self, stack: &Stack) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut rest = stack.frames.as_slice();
        while !rest.is_empty() {
            // Inlined frames, and the one whose code they are in.
            let length = rest.iter().take_while(|frame| frame.inlined).count() + 1;
            let (frames, after) = rest.split_at(length.min(rest.len()));
            ids.push(self.location(frames));
            rest = after;
        }
        if let Some(missing) = label::missing(stack) {
            let name = self.string(&missing);
            let function = self.function(name, 0);
            ids.push(self.numbered(0, String::new(), 0, vec![(function, 0)]));
        }
        ids
    }

    fn location(&mut self, frames: &[Arc<Frame>]) -> u64 {
        let mapping = self.mapping_of(&frames[0]);
        let mut lines = Vec::new();
        for frame in frames {
            let Some(function) = &frame.function else { continue };
            let name = self.string(&Escaped(function).to_string());
            let file = frame
                .source
                .as_ref()
                .map_or(String::new(), |source| Escaped(&source.file).to_string());
            let file = self.string(&file);
            let line = frame.source.as_ref().and_then(|source| source.line).unwrap_or(0);
            lines.push((self.function(name, file), i64::from(line)));
            if let Some(mapping) = mapping
                .checked_sub(1)
                .and_then(|at| self.profile.mapping.get_mut(at as usize))
            {
                mapping.has_functions = true;
                mapping.has_filenames |= file != 0;
                mapping.has_line_numbers |= line != 0;
                mapping.has_inline_frames |= frame.inlined;
            }
        }
        self.numbered(frames[0].address.0, frames[0].module.clone(), mapping, lines)
    }

    fn numbered(&mut self, address: u64, module: String, mapping_id: u64, lines: Vec<(u64, i64)>) -> u64 {
        let next = self.profile.location.len() as u64 + 1;
        let id = *self.locations.entry((address, lines.clone(), module)).or_insert(next);
        if id == next {
            let line = lines.into_iter().map(|(function_id, line)| Line { function_id, line });
            self.profile.location.push(Location {
                id,
                mapping_id,
                address,
                line: line.collect(),
            });
        }
        id
    }

    /// The system name stays empty: names are demangled already, and `pprof` must not try it again.
    fn function(&mut self, name: i64, filename: i64) -> u64 {
        let next = self.profile.function.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.profile.function.push(Function { id, name, filename });
        }
        id
    }

    fn mapping_of(&mut self, frame: &Frame) -> u64 {
        if let Some((module, segment)) = self.locate(frame.address)
            // Another module may have been mapped there before or since.
            && self.modules[module].name() == frame.module
        {
            return self.saved_mapping(module, segment);
        }
        if frame.module.is_empty() {
            return 0;
        }
        let build_id = frame.build_id.as_ref().map_or("", |id| id.as_hex());
        self.mapping(MappingKey::Named(frame.module.clone()), &frame.module, build_id, None)
    }

    fn locate(&self, address: RuntimeAddress) -> Option<(usize, usize)> {
        let find = |wanted: &dyn Fn(&SavedSegment) -> bool| {
            self.modules.iter().enumerate().find_map(|(number, module)| {
                let segment = module.segments.iter().position(wanted)?;
                Some((number, segment))
            })
        };
        // A return address may be one past the end: of a call that is a mapping's last instruction.
        find(&|segment| segment.start <= address && address < segment.end)
            .or_else(|| find(&|segment| address == segment.end))
    }

    fn saved_mapping(&mut self, module: usize, segment: usize) -> u64 {
        let modules = self.modules;
        let saved = &modules[module];
        let path = saved.path.to_string_lossy();
        let build_id = saved.build_id.as_ref().map_or("", |id| id.as_hex());
        let segment_number = segment;
        let segment = saved.segments.get(segment);
        self.mapping(MappingKey::Saved(module, segment_number), &path, build_id, segment)
    }

    fn mapping(&mut self, key: MappingKey, path: &str, build_id: &str, segment: Option<&SavedSegment>) -> u64 {
        let next = self.profile.mapping.len() as u64 + 1;
        let id = *self.mappings.entry(key).or_insert(next);
        if id == next {
            let filename = self.string(&Escaped(path).to_string());
            let build_id = self.string(build_id);
            self.profile.mapping.push(Mapping {
                id,
                memory_start: segment.map_or(0, |segment| segment.start.0),
                memory_limit: segment.map_or(0, |segment| segment.end.0),
                file_offset: segment.map_or(0, |segment| segment.offset.0),
                filename,
                build_id,
                ..Mapping::default()
            });
        }
        id
    }
}
