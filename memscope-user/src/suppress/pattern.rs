//! LeakSanitizer's own matching (`TemplateMatch` in compiler-rt's `sanitizer_common.cpp`): a pattern matches anywhere in a
//! name, `*` stands for anything, `^` at its beginning and `$` tie it to the name's ends.

/// Whether a pattern matches a name.
///
/// As the original does: a `$` is the name's end wherever it stands, and what follows it is not looked at; after a `*` it
/// is true of any rest; pieces are searched for from left to right, each at its first place, without going back.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    let (mut at_start, mut rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut name = name;
    let mut after_asterisk = false;
    while let Some(first) = rest.bytes().next() {
        match first {
            b'*' => {
                rest = &rest[1..];
                at_start = false;
                after_asterisk = true;
            }
            b'$' => return name.is_empty() || after_asterisk,
            _ if name.is_empty() => return false,
            _ => {
                let end = rest.find(['*', '$']).unwrap_or(rest.len());
                let (piece, after) = rest.split_at(end);
                let Some(found) = name.find(piece) else { return false };
                if at_start && found != 0 {
                    return false;
                }
                name = &name[found + piece.len()..];
                rest = after;
                at_start = false;
                after_asterisk = false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_leak_sanitizers_do() {
        for (pattern, name, expected) in [
            ("*foo*", "foobar", true),
            ("foobar", "foobar", true),
            ("foo*bar", "foobar", true),
            ("foo", "foobar", true),
            ("bar", "foobar", true),
            ("*bar", "foobar", true),
            ("fo*ar", "foobar", true),
            ("f*r", "foobar", true),
            ("foo$", "foobar", false),
            ("bar$", "foobar", true),
            ("^foo", "foobar", true),
            ("^bar", "foobar", false),
            ("^foobar$", "foobar", true),
            ("^foo$", "foobar", false),
            ("^*bar$", "foobar", true),
            ("^f*r$", "foobar", true),
            ("foo", "", false),
            ("", "anything", true),
            ("*", "", false),
            ("^$", "", false),
            ("^$", "x", false),
            ("*$", "x", true),
            ("a*b*c", "xaybzc", true),
            ("a*b*c", "xaycz", false),
            ("std::vector<*>::push_back", "std::vector<int>::push_back(int)", true),
            // Without going back: the first `bar` is taken, and it is not at the end.
            ("bar$", "barbar", false),
            ("größe", "die größe", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "`{pattern}` on `{name}`");
        }
    }
}
