//! Call frame information into the compact rows that the BPF unwinder walks. Pure: bytes in, rows out.
