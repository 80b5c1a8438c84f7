/* What this machine's CPU offers. Immutable after the first call. */
#ifndef ML_CORE_CPUINFO_H
#define ML_CORE_CPUINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ISA features; a kernel names all that it needs and runs when (needs & have) == needs. */
enum {
    ML_ISA_SCALAR = 0,
    ML_ISA_AVX2 = 1 << 0,   /* AVX2 + FMA + F16C */
    ML_ISA_AVX512 = 1 << 1, /* F, BW, DQ, VL; implies AVX2 */
    ML_ISA_AVX512_BF16 = 1 << 2,
    ML_ISA_AVX512_FP16 = 1 << 3,
    ML_ISA_AMX_BF16 = 1 << 4, /* tiles usable: permission granted */
    ML_ISA_NEON = 1 << 5,
    ML_ISA_NEON_FP16 = 1 << 6, /* FP16 and FHM: arithmetic of f16, and its products added to f32 */
    ML_ISA_NEON_BF16 = 1 << 7
};

typedef struct ml_cpu_info {
    uint32_t isa;                /* features usable now (CPU and OS) */
    int64_t l1d_bytes, l2_bytes; /* per core */
    int64_t l3_bytes;            /* shared; 0 when there is none */
    int64_t page_bytes;
    char brand[64];
} ml_cpu_info;

const ml_cpu_info *ml_cpu_info_get(void);

/* Accepted spellings of METALLIC_ISA, lowest first: "scalar", "avx2", "avx512", "avx512_bf16", "avx512_fp16", "amx",
 * "neon", "neon_fp16", "neon_bf16", "auto". A name masks every tier above it. Returns false for an unknown name. */
bool ml_isa_mask_from_name(const char *name, uint32_t *mask);
/* "avx512_bf16 avx512 avx2" (best first) or "scalar"; into buf. */
char *ml_isa_format(uint32_t isa, char *buf, unsigned size);

/* The first line of a file, cut at size - 1 bytes, its newline kept; false when there is none. For what the system
 * tells of itself in files. */
bool ml_read_line(const char *path, char *text, size_t size);

#endif
