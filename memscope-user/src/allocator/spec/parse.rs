//! The grammar of a specification: `[MODULE:]NAME(ARG=POSITION,…) [-> RESULT]`, or `MODULE+0xOFFSET(…)`.

use memscope_ebpf::call::{Argument, CallKind, CallResult};

use super::{CustomSpec, Place, SpecError, SpecKind};
use crate::allocator::catalogue::Role;
use crate::target::address::FileOffset;

/// Longer than any mangled name that a linker accepts without complaint.
const MAX_TEXT: usize = 4096;

pub(super) fn parse(kind: SpecKind, text: &str) -> Result<CustomSpec, SpecError> {
    let mut reader = Reader { text, at: 0 };
    if text.len() > MAX_TEXT {
        return Err(reader.error(format!("a specification of more than {MAX_TEXT} bytes")));
    }
    let place = place(&mut reader)?;
    let arguments = arguments(&mut reader, kind)?;
    let result = result(&mut reader, kind)?;
    reader.spaces();
    if !reader.rest().is_empty() {
        return Err(reader.error("nothing may follow here"));
    }
    Ok(CustomSpec {
        kind,
        text: text.to_owned(),
        place,
        role: Role {
            kind: match kind {
                SpecKind::Alloc => CallKind::Alloc,
                SpecKind::Free => CallKind::Free,
                SpecKind::Realloc => CallKind::Realloc,
            },
            size: arguments.size,
            count: arguments.count,
            pointer: arguments.pointer,
            result,
            failure_frees: false,
            flags: None,
            rounds: false,
        },
    })
}

/// The text and how far it has been read, in bytes.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, message: impl Into<String>) -> SpecError {
        self.error_at(self.at, message)
    }

    fn error_at(&self, byte: usize, message: impl Into<String>) -> SpecError {
        SpecError::at(self.text, byte, message)
    }

    fn spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes `token`, after spaces.
    fn take(&mut self, token: &str) -> bool {
        self.spaces();
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    /// Takes characters as long as they fit, after spaces.
    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        self.spaces();
        let rest = self.rest();
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
}

fn place(reader: &mut Reader<'_>) -> Result<Place, SpecError> {
    reader.spaces();
    let start = reader.at;
    let Some(length) = reader.rest().rfind('(') else {
        let end = reader.text.trim_end().len();
        return Err(reader.error_at(end, "an argument list is missing, as in NAME(size=0)"));
    };
    let whole = reader.rest().get(..length).unwrap_or_default().trim_end();
    reader.at += length;
    if whole.is_empty() {
        return Err(reader.error_at(start, "a function name is missing"));
    }
    if let Some(double) = whole.find("::") {
        let message = "a C++ or Rust function goes by its linker name (as `nm` prints it), without `::`";
        return Err(reader.error_at(start + double, message));
    }
    if let Some((module, function)) = whole.rsplit_once(':') {
        if module.is_empty() {
            return Err(reader.error_at(start, "a module name is missing before `:`"));
        }
        let function_at = start + module.len() + 1;
        return Ok(Place::Name {
            module: Some(module.to_owned()),
            function: function_name(reader, function_at, function)?,
        });
    }
    // A `+` can be part of a module's name, as in libstdc++: the last one counts, and only before a number.
    if let Some((module, digits)) = whole.rsplit_once('+') {
        let digits_at = start + module.len() + 1;
        if module.is_empty() {
            return Err(reader.error_at(start, "a module name is missing before `+`"));
        }
        let Some(hex) = digits.trim().strip_prefix("0x") else {
            return Err(reader.error_at(digits_at, "a file offset in hexadecimal, 0x…, is missing after `+`"));
        };
        let offset = u64::from_str_radix(hex, 16)
            .map_err(|_| reader.error_at(digits_at, "this is no hexadecimal number of 64 bits"))?;
        return Ok(Place::Offset {
            module: module.trim_end().to_owned(),
            offset: FileOffset(offset),
        });
    }
    Ok(Place::Name {
        module: None,
        function: function_name(reader, start, whole)?,
    })
}

fn function_name(reader: &Reader<'_>, at: usize, name: &str) -> Result<String, SpecError> {
    if name.is_empty() {
        return Err(reader.error_at(at, "a function name is missing"));
    }
    let fits = |c: char| c.is_alphanumeric() || "_$.".contains(c);
    if let Some((wrong, c)) = name.char_indices().find(|(_, c)| !fits(*c)) {
        return Err(reader.error_at(
            at + wrong,
            format!("`{}` cannot be part of a function name", c.escape_debug()),
        ));
    }
    Ok(name.to_owned())
}

#[derive(Default)]
struct Arguments {
    size: Option<Argument>,
    count: Option<Argument>,
    pointer: Option<Argument>,
}

fn arguments(reader: &mut Reader<'_>, kind: SpecKind) -> Result<Arguments, SpecError> {
    let allowed: &[&str] = match kind {
        SpecKind::Alloc => &["size", "count"],
        SpecKind::Free => &["ptr"],
        SpecKind::Realloc => &["ptr", "size", "count"],
    };
    if !reader.take("(") {
        return Err(reader.error("`(` is missing"));
    }
    let mut found = Arguments::default();
    if reader.take(")") {
        return check(reader, kind, found);
    }
    loop {
        reader.spaces();
        let at = reader.at;
        let name = reader.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        if !allowed.contains(&name) {
            let message = format!("here one of {} is needed", allowed.join(", "));
            return Err(reader.error_at(at, message));
        }
        if !reader.take("=") {
            return Err(reader.error(format!("`=` and the position of {name} are missing")));
        }
        let position = position(reader)?;
        let place = match name {
            "size" => &mut found.size,
            "count" => &mut found.count,
            _ => &mut found.pointer,
        };
        if place.replace(position).is_some() {
            return Err(reader.error_at(at, format!("{name} is given twice")));
        }
        if reader.take(")") {
            return check(reader, kind, found);
        }
        if !reader.take(",") {
            return Err(reader.error("`,` or `)` is missing"));
        }
    }
}

/// Whether the arguments say enough; the reader stands after the closing parenthesis.
fn check(reader: &Reader<'_>, kind: SpecKind, found: Arguments) -> Result<Arguments, SpecError> {
    let end = reader.at - 1;
    match kind {
        SpecKind::Free | SpecKind::Realloc if found.pointer.is_none() => {
            Err(reader.error_at(end, "the position of the block that ends is missing: ptr=…"))
        }
        _ if found.count.is_some() && found.size.is_none() => Err(reader.error_at(end, "a count needs a size: size=…")),
        _ => Ok(found),
    }
}

fn position(reader: &mut Reader<'_>) -> Result<Argument, SpecError> {
    reader.spaces();
    let at = reader.at;
    let digits = reader.take_while(|c| c.is_ascii_digit());
    if digits.is_empty() {
        return Err(reader.error_at(at, "an argument's position is missing: 0 is the first"));
    }
    let argument = digits.parse().ok().and_then(Argument::new);
    argument.ok_or_else(|| {
        reader.error_at(
            at,
            "only the first six arguments, 0 to 5, are in registers and can be read",
        )
    })
}

fn result(reader: &mut Reader<'_>, kind: SpecKind) -> Result<CallResult, SpecError> {
    if !reader.take("->") {
        return match kind {
            SpecKind::Free => Ok(CallResult::Nothing),
            SpecKind::Alloc | SpecKind::Realloc => {
                let message =
                    "how the block comes back is missing: `-> ret`, or `-> *N` when stored through argument N";
                Err(reader.error(message))
            }
        };
    }
    reader.spaces();
    let at = reader.at;
    if kind == SpecKind::Free {
        return Err(reader.error_at(at, "no block comes back from a free"));
    }
    if reader.take("*") {
        if kind == SpecKind::Realloc {
            return Err(reader.error_at(at, "only `-> ret` can be followed for a realloc"));
        }
        return position(reader).map(CallResult::Stored);
    }
    match reader.take_while(|c| c.is_ascii_alphanumeric() || c == '_') {
        "ret" => Ok(CallResult::Returned),
        _ => Err(reader.error_at(at, "`ret`, or `*N` when stored through argument N, is needed here")),
    }
}
