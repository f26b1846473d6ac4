//! The id of a site: the same stack has the same id on every host, in every run, wherever its modules were loaded.
//!
//! The algorithm is part of the data format. Bytes: `memscope.site/v1`, then for the allocator function and each frame,
//! innermost first, one of
//! - `0x01`, length of the build id (one byte), its bytes, file offset (8 bytes, little endian);
//! - `0x02`, length of the module's file name (8 bytes, little endian), its bytes, file offset: a module without build id;
//! - `0x00`: an address in no module and in memory without a file, where nothing but the runtime address tells frames
//!   apart.
//!
//! Their FNV-1a hash of 64 bits goes through MurmurHash3's 64-bit finalizer, because FNV alone mixes the last bytes badly
//! into the low half, and that is the cookie.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::report::model::SiteId;
use crate::target::address::{BuildId, FileOffset};

/// What a frame is, whatever its address in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameIdentity<'a> {
    /// In a module with a build id.
    Build(&'a BuildId, FileOffset),
    /// In a module without: its file name (the last component) has to do.
    Named(&'a OsStr, FileOffset),
    /// In no module.
    Nowhere,
}

/// The id of the stack whose allocator function is `call` and whose frames, innermost first, are `frames`.
#[must_use]
pub fn site_id<'a>(call: FrameIdentity<'_>, frames: impl IntoIterator<Item = FrameIdentity<'a>>) -> SiteId {
    let mut hash = Fnv1a::new();
    hash.bytes(b"memscope.site/v1");
    hash.frame(call);
    for frame in frames {
        hash.frame(frame);
    }
    SiteId(finalize(hash.0))
}

/// Nobody's choice of bytes is kept apart by it: only for what is ours to choose, or where a collision does no harm.
pub(crate) struct Fnv1a(pub(crate) u64);

impl Fnv1a {
    /// Offset basis and prime: RFC 9923.
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn frame(&mut self, frame: FrameIdentity<'_>) {
        match frame {
            FrameIdentity::Build(id, offset) => {
                // A build id is lower-case hex of whole bytes, at most 64 of them.
                let hex = id.as_hex().as_bytes();
                self.bytes(&[1, (hex.len() / 2) as u8]);
                for pair in hex.chunks(2) {
                    self.bytes(&[pair.iter().fold(0, |byte, digit| byte << 4 | digit_value(*digit))]);
                }
                self.bytes(&offset.0.to_le_bytes());
            }
            FrameIdentity::Named(name, offset) => {
                self.bytes(&[2]);
                self.bytes(&(name.len() as u64).to_le_bytes());
                self.bytes(name.as_bytes());
                self.bytes(&offset.0.to_le_bytes());
            }
            FrameIdentity::Nowhere => self.bytes(&[0]),
        }
    }
}

const fn digit_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10) & 0xf,
    }
}

/// MurmurHash3's `fmix64`: every bit of the input changes every bit of the output with probability one half.
const fn finalize(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> BuildId {
        BuildId::from_bytes(&[0xab, 0xcd]).unwrap()
    }

    /// Computed apart from this code, from the algorithm as documented.
    #[test]
    fn the_algorithm_is_the_documented_one() {
        let id = id();
        let malloc = FrameIdentity::Build(&id, FileOffset(0x9a0f0));
        assert_eq!(site_id(malloc, []), SiteId(0x6ab5_c5a8_052a_570a));
        let frames = [
            FrameIdentity::Named(OsStr::new("gateway"), FileOffset(0x1234)),
            FrameIdentity::Nowhere,
        ];
        assert_eq!(site_id(malloc, frames), SiteId(0xee00_d46f_892d_0b5c));
    }

    #[test]
    fn every_part_of_a_stack_counts() {
        let (id, other) = (id(), BuildId::from_bytes(&[0xab, 0xce]).unwrap());
        let call = FrameIdentity::Build(&id, FileOffset(1));
        let stacks = [
            vec![],
            vec![FrameIdentity::Nowhere],
            vec![FrameIdentity::Nowhere, FrameIdentity::Nowhere],
            vec![FrameIdentity::Build(&id, FileOffset(2))],
            vec![FrameIdentity::Build(&other, FileOffset(2))],
            vec![FrameIdentity::Build(&id, FileOffset(3))],
            vec![FrameIdentity::Named(OsStr::new("a"), FileOffset(2))],
            vec![FrameIdentity::Named(OsStr::new("b"), FileOffset(2))],
            vec![
                FrameIdentity::Build(&id, FileOffset(2)),
                FrameIdentity::Build(&id, FileOffset(3)),
            ],
            vec![
                FrameIdentity::Build(&id, FileOffset(3)),
                FrameIdentity::Build(&id, FileOffset(2)),
            ],
        ];
        let mut ids: Vec<SiteId> = stacks
            .iter()
            .map(|frames| site_id(call, frames.iter().copied()))
            .collect();
        ids.push(site_id(FrameIdentity::Build(&id, FileOffset(9)), []));
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        ids.sort_unstable_by_key(|id| id.cookie());
        ids.dedup_by_key(|id| id.cookie());
        assert_eq!(ids.len(), count, "cookies differ too");
    }
}
