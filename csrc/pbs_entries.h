/*
 * Entries of an index as the backup protocol wants them: which differ from another index's, and as
 * the JSON body of `PUT /fixed_index` and `PUT /dynamic_index` (protocol/backup.md, "Entry lists").
 * Pure functions over memory that the caller keeps unchanged during the call.
 */
#ifndef PBS_ENTRIES_H
#define PBS_ENTRIES_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_index.h"

/*
 * Positions at which a fixed index's entries differ from previous (digest, or bytes covered: a
 * resized last chunk counts, protocol/backup.md, "reuse-csum"), of the n from first on. Both are of
 * fixed indexes with as
 * many entries and the same chunk size, and have those asked for (PBS_E_INVALID otherwise); out has
 * room for n.
 */
int pbs_entries_changed(const struct pbs_index *index, const struct pbs_index *previous,
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
int pbs_entries_body(const struct pbs_index *index, const uint32_t *positions, size_t first,
                     size_t n, uint32_t writer_id, uint8_t *out, size_t limit, size_t *out_n,
                     size_t *out_len);

/* The decimal digits of value at out (20 at most); returns how many. */
size_t pbs_decimal(uint64_t value, char *out);

#endif
