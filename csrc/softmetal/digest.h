/* SHA-256, for names of cached files. */
#ifndef SM_DIGEST_H
#define SM_DIGEST_H

#include <stddef.h>
#include <stdint.h>

typedef struct sm_digest {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[64];
} sm_digest;

void sm_digest_begin(sm_digest *d);
void sm_digest_add(sm_digest *d, const void *data, size_t n);
void sm_digest_text(sm_digest *d, const char *text); /* with its terminating 0, so that parts do not run together */
void sm_digest_end(sm_digest *d, char hex[33]);      /* the first 128 bits */

#endif
