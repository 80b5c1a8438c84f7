/* Memory for results: blocks carved out of large buffers of the device.
 *
 * A block belongs to the ml_buffer that stands for it: when the buffer's last reference goes, from whatever thread, the
 * block returns to the pool, and the pool itself lives until its owner has closed it and its last block is back.
 *
 * Three kinds of blocks. Small (up to 8 KiB) ones are 64-byte aligned and come from slabs of equal blocks, as do medium
 * ones (up to 1 MiB), which start on a page (16 KiB, the largest page of the supported platforms). A large block is a
 * device allocation of its own, kept for reuse when freed: a request takes the smallest idle one that is less than a
 * quarter too large, and the oldest idle ones go back to the system when more than ML_POOL_IDLE_MAX bytes are idle.
 * Small and medium blocks live in shards, each with a lock of its own, chosen by the thread that asks.
 */
#ifndef ML_RUNTIME_MEMPOOL_H
#define ML_RUNTIME_MEMPOOL_H

#include "device/device.h"

#define ML_PAGE_BYTES ((size_t)16 << 10)
#define ML_POOL_IDLE_MAX ((int64_t)256 << 20)

typedef struct ml_mempool ml_mempool;

/* poison: what is handed out is filled with 0xff bytes first (NaN in every float dtype), so that a result that depends
 * on what the allocator left behind shows. device_only: memory that the host cannot reach (GPU devices). */
ml_status ml_mempool_create(ml_device *dev, bool poison, bool device_only, ml_mempool **out);
void ml_mempool_close(ml_mempool *pool);

/* A buffer of size bytes (0 counts as 1). page_aligned: starts on a page and is the only one there; else results under
 * 8 KiB are 64-byte aligned only. Errors: ML_ERR_MEMORY. */
ml_status ml_mempool_alloc(ml_mempool *pool, size_t size, bool page_aligned, ml_buffer **out);

/* Returns every buffer without a block in use to the device. */
void ml_mempool_trim(ml_mempool *pool);
void ml_mempool_stats(ml_mempool *pool, ml_memory_stats *out);

#endif
