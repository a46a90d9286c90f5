/*
 * Fixed (.fidx) and dynamic (.didx) index files in memory (protocol/datastore.md, "Index files").
 *
 * Both are a header of 4,096 bytes and entries of constant size; nothing is copied out of them, an
 * entry is reached by base and stride.  All bytes are hostile until pbs_index_parse() and
 * pbs_index_check() have accepted them, and the csum stays a claim after that: compute it over the
 * entries and compare.
 *
 * Functions are pure and thread-safe; the memory is borrowed and must outlive the struct's use.
 */
#ifndef PBS_INDEX_H
#define PBS_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_bytes.h"

#define PBS_INDEX_HEADER_SIZE 4096
#define PBS_FIXED_ENTRY_SIZE 32   /* digest */
#define PBS_DYNAMIC_ENTRY_SIZE 40 /* end offset (u64, little endian), digest */

enum pbs_index_kind { PBS_INDEX_FIXED = 1, PBS_INDEX_DYNAMIC = 2 };

struct pbs_index {
    enum pbs_index_kind kind;
    const uint8_t *digests; /* the first entry's digest; not to be read where n is 0 */
    size_t stride;          /* bytes from one digest to the next: 32 or 40 */
    size_t n;               /* entries */
    uint64_t size;          /* plain bytes of the archive */
    uint64_t chunk_size;    /* fixed: a power of two; dynamic: 0 */
    uint64_t largest;       /* plain bytes of the largest chunk; dynamic: of those checked so far */
    int64_t ctime;          /* seconds since 1970 */
    uint8_t uuid[16];
    uint8_t csum[PBS_DIGEST_SIZE]; /* as the header claims */
};

/*
 * Check header and length of the index file of `length` bytes at `base` (any alignment) and describe
 * it in *out.
 *
 * The end offsets of a dynamic index are not checked yet: pbs_index_check() must accept all entries
 * before the index is used.  One without entries is accepted (n = 0, size = 0).
 * Errors: PBS_E_TRUNCATED (shorter than the header), PBS_E_MAGIC, PBS_E_CHUNK_SIZE (fixed: no power
 * of two), PBS_E_EMPTY (fixed: size 0), PBS_E_LENGTH (the entries are not as many as the header says,
 * or the last is cut).
 */
int pbs_index_parse(const uint8_t *base, size_t length, struct pbs_index *out);

/*
 * Check the end offsets of n entries from `first` on, which must exist: in a dynamic index they
 * increase strictly, from 0.  A part at a time, so that it can be read while the cache holds it.
 * Error: PBS_E_ORDER (*out_pos is the first entry whose end is not above the one before).
 */
int pbs_index_check(struct pbs_index *index, size_t first, size_t n, size_t *out_pos);

/* Digest of entry `pos`, which must be below n. */
const uint8_t *pbs_index_digest(const struct pbs_index *index, size_t pos);

/* Where the chunk of entry `pos` (below n) begins and ends in the archive. */
uint64_t pbs_index_start_offset(const struct pbs_index *index, size_t pos);
uint64_t pbs_index_end_offset(const struct pbs_index *index, size_t pos);

/* Plain bytes of the chunk of entry `pos` (below n). */
uint64_t pbs_index_chunk_bytes(const struct pbs_index *index, size_t pos);

#endif
