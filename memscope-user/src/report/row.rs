//! One entry put into words, in place: of a million each nanosecond is a millisecond.

/// Enough for every member of an entry's object with each number at its largest, 204 bytes.
const ROOM: usize = 256;

/// Digits of the numbers below a hundred.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// The text of one entry, growing. What is more than it has room for is a bug, and panics.
pub(super) struct Row {
    bytes: [u8; ROOM],
    length: usize,
}

impl Row {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; ROOM],
            length: 0,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn next(&mut self, length: usize) -> &mut [u8] {
        let from = self.length;
        self.length += length;
        &mut self.bytes[from..from + length]
    }

    /// Inlined, a text of known length is a few moves.
    #[inline(always)]
    pub(super) fn text(&mut self, text: &str) {
        self.next(text.len()).copy_from_slice(text.as_bytes());
    }

    /// The same of bytes that are text already.
    #[inline(always)]
    pub(super) fn bytes_of<const LENGTH: usize>(&mut self, text: &[u8; LENGTH]) {
        self.next(LENGTH).copy_from_slice(text);
    }

    pub(super) fn decimal(&mut self, mut number: u64) {
        let mut at = number.checked_ilog10().unwrap_or(0) as usize + 1;
        let place = self.next(at);
        while at >= 2 {
            at -= 2;
            place[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
            number /= 100;
        }
        if at == 1 {
            place[0] = b'0' + number as u8;
        }
    }

    /// `0x` and at least `width` digits, lower case; `width` is 1 to 16.
    pub(super) fn hex(&mut self, mut number: u64, width: usize) {
        self.text("0x");
        let digits = (64 - number.leading_zeros() as usize).div_ceil(4);
        for digit in self.next(digits.max(width.clamp(1, 16))).iter_mut().rev() {
            *digit = b"0123456789abcdef"[(number & 0xf) as usize];
            number >>= 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        let powers = (0..20).map(|power| 10u64.pow(power));
        let near = powers.flat_map(|power| [power - 1, power, power + 1]);
        let of_two = (0..64).map(|bit| 1u64 << bit);
        for number in near.chain(of_two).chain([79258, 0x1d49_6a80, u64::MAX - 1, u64::MAX]) {
            let mut row = Row::new();
            row.decimal(number);
            for width in [1, 8, 16] {
                row.text(" ");
                row.hex(number, width);
            }
            let expected = format!("{number} {number:#x} {number:#010x} {number:#018x}");
            assert_eq!(std::str::from_utf8(row.bytes()).unwrap(), expected);
        }
    }
}
