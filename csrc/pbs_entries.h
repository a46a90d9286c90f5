/*
 * Entries of an index as the backup protocol wants them: which differ from another index's, and as
 * the JSON body of `PUT /fixed_index` and `PUT /dynamic_index` (spec 03).
 * Pure functions over memory that the caller keeps unchanged during the call.
 */
#ifndef PBS_ENTRIES_H
#define PBS_ENTRIES_H

#include <stddef.h>
#include <stdint.h>

/*
 * The rows of a checked index (see pbs_index.h), wherever they lie. In a dynamic index
 * (chunk_size 0) each digest is preceded by its u64 end offset, little endian.
 */
struct pbs_entries {
    const uint8_t *digests; /* the first digest */
    size_t stride;          /* bytes from digest to digest: 32 or 40 */
    size_t n;
    uint64_t chunk_size; /* fixed: bytes of an entry; dynamic: 0 */
    uint64_t size;       /* of the archive in bytes */
};

/* Where entry pos (< n) starts in the archive, and how many bytes it covers. */
uint64_t pbs_entry_start(const struct pbs_entries *entries, size_t pos);
uint64_t pbs_entry_size(const struct pbs_entries *entries, size_t pos);

/*
 * Positions at which a fixed index's entries differ from previous (digest, or bytes covered: a
 * resized last chunk counts, spec 03), of the n from first on. Both are of fixed indexes with as
 * many entries and the same chunk size, and have those asked for (PBS_E_INVALID otherwise); out has
 * room for n.
 */
int pbs_entries_changed(const struct pbs_entries *entries, const struct pbs_entries *previous,
                        size_t first, size_t n, uint32_t *out, size_t *out_n);

/* Longest text of one entry, and of all that stands around the entries. */
#define PBS_ENTRY_TEXT_MAX (68u + 20u)
#define PBS_ENTRIES_TEXT_AROUND 64u

/*
 * Write the JSON of as many entries as fit into limit bytes, and say how many those are and how long
 * it is. positions: the entries to send, in order; NULL: those from first on. n: how many there are
 * to send (> 0). out: of at least limit bytes. PBS_E_INVALID: limit does not hold even one entry, or
 * a position is not in the index.
 */
int pbs_entries_body(const struct pbs_entries *entries, const uint32_t *positions, size_t first,
                     size_t n, uint32_t writer_id, uint8_t *out, size_t limit, size_t *out_n,
                     size_t *out_len);

/* The decimal digits of value at out (20 at most); returns how many. */
size_t pbs_decimal(uint64_t value, char *out);

#endif
