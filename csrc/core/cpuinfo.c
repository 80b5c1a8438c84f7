/* CPU features, cache sizes and name. x86: CPUID and XGETBV (Intel SDM vol. 1, 13.2 to 13.4; vol. 2A CPUID); AArch64:
 * the kernel's HWCAP words or sysctl. */
#include "core/cpuinfo.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

static ml_cpu_info info;
static pthread_once_t info_once = PTHREAD_ONCE_INIT;

static void set_brand(const char *text) {
    while (*text == ' ' || *text == '\t')
        text++;
    snprintf(info.brand, sizeof info.brand, "%s", text);
    info.brand[strcspn(info.brand, "\n")] = '\0';
    for (size_t n = strlen(info.brand); n > 0 && info.brand[n - 1] == ' '; n--)
        info.brand[n - 1] = '\0';
}

/* ---- x86 ---- */

#if defined(__x86_64__) || defined(__i386__)
enum {
    XCR0_SSE = 1 << 1,
    XCR0_AVX = 1 << 2,
    XCR0_AVX512 = 7 << 5, /* opmask, upper halves of zmm0-15, zmm16-31 */
    XCR0_AMX = 3 << 17    /* tile configuration, tile data */
};

static uint32_t bit(uint32_t word, int n) {
    return word >> n & 1;
}

/* Palette 1 as the kernels configure it: eight tiles of 16 rows of 64 bytes (CPUID leaf 1DH). */
static bool amx_has_palette(void) {
    uint32_t most, a, b, c, d;
    return __get_cpuid_count(0x1d, 0, &most, &b, &c, &d) && most >= 1 && __get_cpuid_count(0x1d, 1, &a, &b, &c, &d) &&
           (b & 0xffff) >= 64 && b >> 16 >= 8 && (c & 0xffff) >= 16;
}

/* Linux keeps the tile data state off until a process asks for it (Documentation/arch/x86/xstate.rst); all threads of
 * the process then have it, those that are there already and those of forked children included. Refused, for instance,
 * when a thread has an alternate signal stack too small for the tiles; from then on sigaltstack refuses such stacks. */
static bool amx_permitted(void) {
#if defined(__linux__) && defined(__x86_64__)
    enum { REQUEST_XCOMP_PERMISSION = 0x1023, XFEATURE_TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_XCOMP_PERMISSION, XFEATURE_TILE_DATA) == 0;
#else
    return false;
#endif
}

static void detect_isa(void) {
    uint32_t a, b, c, d, b7, c7, d7, a71 = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return;
    bool osxsave = bit(c, 27), avx = bit(c, 28), fma = bit(c, 12), f16c = bit(c, 29);
    if (!osxsave || !avx)
        return;
    uint32_t xcr0, xcr0_high;
    __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(xcr0_high) : "c"(0));
    if ((xcr0 & (XCR0_SSE | XCR0_AVX)) != (XCR0_SSE | XCR0_AVX))
        return;
    uint32_t max_subleaf;
    if (!__get_cpuid_count(7, 0, &max_subleaf, &b7, &c7, &d7))
        return;
    if (max_subleaf >= 1)
        __get_cpuid_count(7, 1, &a71, &b, &c, &d);
    if (!bit(b7, 5) || !fma || !f16c)
        return;
    info.isa |= ML_ISA_AVX2;
    if ((xcr0 & XCR0_AVX512) != XCR0_AVX512)
        return;
    if (!bit(b7, 16) || !bit(b7, 17) || !bit(b7, 30) || !bit(b7, 31)) /* F, DQ, BW, VL */
        return;
    info.isa |= ML_ISA_AVX512;
    if (bit(a71, 5))
        info.isa |= ML_ISA_AVX512_BF16;
    if (bit(d7, 23))
        info.isa |= ML_ISA_AVX512_FP16;
    if (bit(d7, 22) && bit(d7, 24) && (xcr0 & XCR0_AMX) == XCR0_AMX && amx_has_palette() && /* AMX-BF16, AMX-TILE */
        amx_permitted())
        info.isa |= ML_ISA_AMX_BF16;
}

static void detect_brand(void) {
    uint32_t words[13] = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(0x80000000u, &a, &b, &c, &d) || a < 0x80000004u)
        return;
    for (uint32_t i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
    set_brand((const char *)words);
}

/* Deterministic cache parameters: leaf 4 (Intel) or 0x8000001d (AMD), one cache per subleaf. */
static void cpuid_caches(void) {
    uint32_t a, b, c, d;
    uint32_t leaf = 4;
    if (__get_cpuid(0x80000000u, &a, &b, &c, &d) && a >= 0x8000001du && __get_cpuid(0x80000001u, &a, &b, &c, &d) &&
        bit(c, 22))
        leaf = 0x8000001du;
    for (uint32_t i = 0; i < 8 && __get_cpuid_count(leaf, i, &a, &b, &c, &d) && (a & 31) != 0; i++) {
        uint32_t type = a & 31, level = a >> 5 & 7; /* type 1: data, 2: instruction, 3: unified */
        int64_t size = (int64_t)((b >> 22) + 1) * ((b >> 12 & 0x3ff) + 1) * ((b & 0xfff) + 1) * ((int64_t)c + 1);
        if (level == 1 && type == 1)
            info.l1d_bytes = size;
        else if (level == 2 && type != 2)
            info.l2_bytes = size;
        else if (level == 3 && type != 2)
            info.l3_bytes = size;
    }
}

/* ---- AArch64 ---- */

#elif defined(__aarch64__)
#if defined(__APPLE__)
static int64_t sysctl_number(const char *name) {
    int64_t value = 0; /* a 4-byte answer fills the low half (little endian) */
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

static void detect_isa(void) {
    info.isa |= ML_ISA_NEON;
    if (sysctl_number("hw.optional.arm.FEAT_FP16") && sysctl_number("hw.optional.arm.FEAT_FHM"))
        info.isa |= ML_ISA_NEON_FP16;
    if (sysctl_number("hw.optional.arm.FEAT_BF16"))
        info.isa |= ML_ISA_NEON_BF16;
}

static void detect_brand(void) {
    char text[128] = "";
    size_t size = sizeof text - 1;
    if (sysctlbyname("machdep.cpu.brand_string", text, &size, NULL, 0) == 0)
        set_brand(text);
}

static void cpuid_caches(void) {
    info.l1d_bytes = sysctl_number("hw.perflevel0.l1dcachesize");
    info.l2_bytes = sysctl_number("hw.perflevel0.l2cachesize");
}
#else
static void detect_isa(void) {
#if defined(__linux__)
    enum {
        HWCAP_ASIMD_BIT = 1,
        HWCAP_ASIMDHP_BIT = 10,
        HWCAP_ASIMDFHM_BIT = 23,
        HWCAP2_BF16_BIT = 14
    }; /* asm/hwcap.h */
    unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
    if (caps >> HWCAP_ASIMD_BIT & 1)
        info.isa |= ML_ISA_NEON;
    if ((caps >> HWCAP_ASIMDHP_BIT & 1) && (caps >> HWCAP_ASIMDFHM_BIT & 1))
        info.isa |= ML_ISA_NEON_FP16;
    if (caps2 >> HWCAP2_BF16_BIT & 1)
        info.isa |= ML_ISA_NEON_BF16;
#else
    info.isa |= ML_ISA_NEON;
#endif
}

static void detect_brand(void) {
}

static void cpuid_caches(void) {
}
#endif
#else
static void detect_isa(void) {
}

static void detect_brand(void) {
}

static void cpuid_caches(void) {
}
#endif

/* ---- files ---- */

bool ml_read_line(const char *path, char *text, size_t size) {
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(text, (int)size, f) != NULL;
    fclose(f);
    return ok;
}

#if defined(__linux__)
/* CPU 0's caches from sysfs, e.g. index2/{level,type,size} = "2", "Unified", "1024K". On machines with two kinds of
 * cores that is one of them. */
static void sysfs_caches(void) {
    for (int i = 0; i < 8; i++) {
        char path[96], text[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        if (!ml_read_line(path, text, sizeof text))
            return;
        long level = strtol(text, NULL, 10);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        if (!ml_read_line(path, text, sizeof text) || text[0] == 'I')
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (!ml_read_line(path, text, sizeof text))
            continue;
        char *unit;
        int64_t size = strtoll(text, &unit, 10);
        size *= *unit == 'K' ? 1024 : *unit == 'M' ? 1024 * 1024 : *unit == 'G' ? 1024 * 1024 * 1024 : 1;
        if (size <= 0)
            continue;
        if (level == 1)
            info.l1d_bytes = size;
        else if (level == 2)
            info.l2_bytes = size;
        else if (level == 3)
            info.l3_bytes = size;
    }
}

static void cpuinfo_brand(void) {
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f)
        return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (colon && (strncmp(line, "model name", 10) == 0 || strncmp(line, "Model", 5) == 0)) {
            set_brand(colon + 1);
            break;
        }
    }
    fclose(f);
}
#endif

static void sysconf_caches(void) {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    if (info.l1d_bytes <= 0)
        info.l1d_bytes = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    if (info.l2_bytes <= 0)
        info.l2_bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (info.l3_bytes <= 0)
        info.l3_bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
}

static void detect(void) {
    detect_isa();
    detect_brand();
    info.page_bytes = sysconf(_SC_PAGESIZE);
    if (info.page_bytes <= 0)
        info.page_bytes = 4096;
#if defined(__linux__)
    sysfs_caches();
    if (!info.brand[0])
        cpuinfo_brand();
#endif
    if (info.l1d_bytes <= 0 || info.l2_bytes <= 0)
        cpuid_caches();
    sysconf_caches();
    /* What a small core of the last decade has, where nobody says. */
    if (info.l1d_bytes <= 0)
        info.l1d_bytes = 32 * 1024;
    if (info.l2_bytes <= 0)
        info.l2_bytes = 512 * 1024;
    if (info.l3_bytes < 0)
        info.l3_bytes = 0;
    if (!info.brand[0])
        set_brand("unknown CPU");
}

const ml_cpu_info *ml_cpu_info_get(void) {
    pthread_once(&info_once, detect);
    return &info;
}

/* ---- names ---- */

static const struct {
    const char *name;
    uint32_t isa;  /* the tier's own bit */
    uint32_t mask; /* the tier and what lies below it */
} tiers[] = {
    {"scalar", 0, 0},
    {"avx2", ML_ISA_AVX2, ML_ISA_AVX2},
    {"avx512", ML_ISA_AVX512, ML_ISA_AVX2 | ML_ISA_AVX512},
    {"avx512_bf16", ML_ISA_AVX512_BF16, ML_ISA_AVX2 | ML_ISA_AVX512 | ML_ISA_AVX512_BF16},
    {"avx512_fp16", ML_ISA_AVX512_FP16, ML_ISA_AVX2 | ML_ISA_AVX512 | ML_ISA_AVX512_BF16 | ML_ISA_AVX512_FP16},
    {"amx", ML_ISA_AMX_BF16, ML_ISA_AVX2 | ML_ISA_AVX512 | ML_ISA_AVX512_BF16 | ML_ISA_AVX512_FP16 | ML_ISA_AMX_BF16},
    {"neon", ML_ISA_NEON, ML_ISA_NEON},
    {"neon_fp16", ML_ISA_NEON_FP16, ML_ISA_NEON | ML_ISA_NEON_FP16},
    {"neon_bf16", ML_ISA_NEON_BF16, ML_ISA_NEON | ML_ISA_NEON_FP16 | ML_ISA_NEON_BF16},
    {"auto", 0, UINT32_MAX},
};

bool ml_isa_mask_from_name(const char *name, uint32_t *mask) {
    for (size_t i = 0; i < sizeof tiers / sizeof tiers[0]; i++) {
        if (strcmp(name, tiers[i].name) == 0) {
            *mask = tiers[i].mask;
            return true;
        }
    }
    return false;
}

char *ml_isa_format(uint32_t isa, char *buf, unsigned size) {
    unsigned used = 0;
    if (size)
        buf[0] = '\0';
    for (size_t i = sizeof tiers / sizeof tiers[0]; i-- > 0;) {
        if ((isa & tiers[i].isa) == 0 || used >= size)
            continue;
        int n = snprintf(buf + used, size - used, "%s%s", used ? " " : "", tiers[i].name);
        used += n > 0 ? (unsigned)n : 0;
    }
    if (used == 0)
        snprintf(buf, size, "scalar");
    return buf;
}
