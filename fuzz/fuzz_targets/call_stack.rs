//! Call frame information as the OS key `t` follows it, expressions and all, over a stack of any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::os::call_stack::{FrameInfo, Registers, StackCopy};
use memscope::target::address::ElfAddress;
use memscope::target::elf::ElfImage;
use memscope_fuzz::{elf, seeds};

const STACK: u64 = 0x7fff_0000_0000;

fuzz_target!(init: seeds::plant(inputs()), |data: &[u8]| {
    let mut rest = data;
    let [kind] = elf::take(&mut rest);
    let distance = i32::from_le_bytes(elf::take(&mut rest));
    let code = u64::from(u16::from_le_bytes(elf::take(&mut rest)));
    let header = usize::from(u16::from_le_bytes(elf::take(&mut rest)));
    let stack = usize::from(u16::from_le_bytes(elf::take(&mut rest)));
    let (stack, rest) = rest.split_at(stack.min(rest.len()));
    let (header, section) = rest.split_at(header.min(rest.len()));
    let address = elf::CODE.wrapping_add_signed(i64::from(distance));
    let parts = match kind & 3 {
        0 => vec![(".eh_frame", address, section)],
        1 => vec![(".debug_frame", 0, section)],
        _ => vec![(".eh_frame_hdr", address.wrapping_sub(header.len() as u64), header), (".eh_frame", address, section)],
    };
    let file = elf::with(&[0xc3; 64], &parts);
    let info = if kind & 4 == 0 {
        FrameInfo::of_image(&ElfImage::parse(file).expect("its headers are good"))
    } else {
        FrameInfo::of_file(&file)
    };
    let memory = StackCopy::new(STACK, stack.to_vec());
    let mut registers = Registers::new(elf::CODE + code, STACK);
    for number in 0..16 {
        registers.set(number, Some(STACK + u64::from(number) * 8));
    }
    for _ in 0..64 {
        let at = ElfAddress(registers.get(16).unwrap_or(0));
        match info.caller(&registers, at, 0x7f00_0000_0000, &memory) {
            Ok(Some(caller)) => registers = caller.registers,
            Ok(None) | Err(_) => break,
        }
    }
});

fn inputs() -> Vec<Vec<u8>> {
    let stack: Vec<u8> = (0..64u64)
        .flat_map(|frame| (elf::CODE + frame * 8).to_le_bytes())
        .collect();
    let mut inputs = Vec::new();
    let headers = seeds::sections(".eh_frame_hdr");
    for (kind, name) in [
        (0, ".eh_frame"),
        (1, ".debug_frame"),
        (2, ".eh_frame"),
        (4, ".eh_frame"),
    ] {
        for (index, (distance, bytes)) in seeds::sections(name).into_iter().enumerate() {
            let header = headers
                .get(index)
                .filter(|_| kind == 2)
                .map_or(&[][..], |(_, bytes)| bytes);
            let sizes = [16u16, header.len() as u16, stack.len() as u16]
                .map(u16::to_le_bytes)
                .concat();
            inputs.push([&[kind][..], &distance.to_le_bytes(), &sizes, &stack, header, &bytes].concat());
        }
    }
    inputs
}
