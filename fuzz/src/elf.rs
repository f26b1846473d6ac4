//! An ELF file around the part that a target is about, so that mutations are not spent on its headers.

/// Address of the code.
pub const CODE: u64 = 0x10000;

/// Where the file holds it.
pub const CODE_OFFSET: u64 = 0x1000;

/// A section that is not code: name, address, bytes.
pub type Part<'a> = (&'a str, u64, &'a [u8]);

/// A library with one executable segment at [`CODE`] and these sections, which no segment loads.
pub fn with(code: &[u8], parts: &[Part<'_>]) -> Vec<u8> {
    let mut names = b"\0.text\0.shstrtab\0".to_vec();
    let mut out = vec![0; CODE_OFFSET as usize];
    out.extend_from_slice(code);
    // Name, type, flags, address, offset, size.
    let mut headers = vec![[0; 6], [1, 1, 6, CODE, CODE_OFFSET, code.len() as u64]];
    for (name, address, bytes) in parts {
        out.resize(out.len().next_multiple_of(8), 0);
        headers.push([names.len() as u64, 1, 2, *address, out.len() as u64, bytes.len() as u64]);
        names.extend(name.bytes().chain([0]));
        out.extend_from_slice(bytes);
    }
    headers.push([7, 3, 0, 0, out.len() as u64, names.len() as u64]);
    out.extend_from_slice(&names);
    out.resize(out.len().next_multiple_of(8), 0);
    let table = out.len() as u64;
    for [name, kind, flags, address, offset, size] in &headers {
        out.extend([*name as u32, *kind as u32].iter().flat_map(|word| word.to_le_bytes()));
        let rest = [*flags, *address, *offset, *size, 0, 8, 0];
        out.extend(rest.iter().flat_map(|word| word.to_le_bytes()));
    }
    let (count, size) = (headers.len() as u16, code.len() as u64);
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend([3u16, 62].iter().flat_map(|half| half.to_le_bytes()));
    header.extend(1u32.to_le_bytes());
    header.extend([0, 64, table].iter().flat_map(|word| word.to_le_bytes()));
    header.extend(0u32.to_le_bytes());
    let sizes = [64u16, 56, 1, 64, count, count - 1];
    header.extend(sizes.iter().flat_map(|half| half.to_le_bytes()));
    // The one program header: loadable, readable and executable.
    header.extend([1u32, 5].iter().flat_map(|word| word.to_le_bytes()));
    let load = [CODE_OFFSET, CODE, CODE, size, size, 0x1000];
    header.extend(load.iter().flat_map(|word| word.to_le_bytes()));
    out[..header.len()].copy_from_slice(&header);
    out
}

/// 8 KiB in which nearly every address can be looked up: calls, system calls, and calls through registers.
pub fn calls() -> Vec<u8> {
    [0xe8, 0, 0, 0, 0, 0x0f, 0x05, 0xff, 0xd0].repeat(910)
}

/// Takes the first `N` bytes of an input; zeros past its end.
pub fn take<const N: usize>(input: &mut &[u8]) -> [u8; N] {
    let (head, tail) = input.split_at(input.len().min(N));
    *input = tail;
    let mut bytes = [0; N];
    bytes[..head.len()].copy_from_slice(head);
    bytes
}
