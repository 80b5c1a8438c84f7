/* The pack of compiled kernels as read-only data; nothing where the build made none. */
#if __has_include("sm_kernel_pack.h")
#include "sm_kernel_pack.h"

__asm__("    .pushsection .rodata.sm_builtin_pack, \"a\"\n"
        "    .balign 64\n"
        "    .globl sm_builtin_pack\n"
        "    .hidden sm_builtin_pack\n"
        "    .type sm_builtin_pack, %object\n"
        "sm_builtin_pack:\n"
        "    .incbin \"" SM_PACK_FILE "\"\n"
        "    .size sm_builtin_pack, . - sm_builtin_pack\n"
        "    .popsection\n");
#endif
