//! Names that come from the target, made safe to show: one line stays one line, and no terminal obeys them.

use std::fmt::{self, Write as _};

/// Shows a text with every character that could end the line, drive a terminal or reorder the line written as an escape
/// (`\n`, `\x1b`, `\u{202e}`). Everything else, backslashes and all other scripts, is shown as it is.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, tail) = rest.split_at(at);
            f.write_str(plain)?;
            let mut characters = tail.chars();
            match characters.next() {
                Some('\n') => f.write_str("\\n")?,
                Some('\r') => f.write_str("\\r")?,
                Some('\t') => f.write_str("\\t")?,
                Some(character) if u32::from(character) < 0x100 => write!(f, "\\x{:02x}", u32::from(character))?,
                Some(character) => write!(f, "\\u{{{:x}}}", u32::from(character))?,
                None => f.write_char('\\')?,
            }
            rest = characters.as_str();
        }
        f.write_str(rest)
    }
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and the invisible characters that reorder or hide
/// text (Unicode Standard Annex 9; "Trojan Source", CVE-2021-42574).
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_break_the_line_or_drive_a_terminal_is_escaped() {
        for (name, shown) in [
            ("plain::name<T>(int)", "plain::name<T>(int)"),
            ("a\nentry:1 address:0x0", "a\\nentry:1 address:0x0"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("\u{9b}31m", "\\x9b31m"),
            ("tab\tcr\rdel\x7f\0", "tab\\tcr\\rdel\\x7f\\x00"),
            ("evil\u{202e}c.exe", "evil\\u{202e}c.exe"),
            ("a\u{2028}b\u{200b}", "a\\u{2028}b\\u{200b}"),
            ("größe\\漢字", "größe\\漢字"),
            ("", ""),
        ] {
            assert_eq!(Escaped(name).to_string(), shown);
        }
    }
}
