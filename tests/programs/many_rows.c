/* A library of calls alone, each with another unwind rule than the one before: as many rows as so much code can have. */
__asm__(".text\n"
        ".globl rows\n"
        ".type rows, @function\n"
        "rows: .cfi_startproc\n"
        ".rept 200000\n"
        "call *%rax\n"
        ".cfi_def_cfa_offset 24\n"
        "call *%rax\n"
        ".cfi_def_cfa_offset 16\n"
        ".endr\n"
        ".cfi_endproc\n"
        ".size rows, . - rows\n");
