/*
 * A set of 32-byte digests that refers to its members where they lie and copies none.
 *
 * Members are rows of the caller's memory (mapped index files, mostly), so a slot of the table is
 * 8 bytes: 32 bits of a keyed hash and a 32-bit row number.  At the highest load, 3/4, a million
 * digests take 10.2 MiB; a table that had to grow may be 1.5 times that.  Digests come from files that
 * an attacker may have written: the hash mixes all 32 bytes with a secret key, so that nobody can
 * choose digests that collide.
 *
 * Rows that brought a new member must stay where they are, unchanged, as long as the set lives.
 * Changing them makes the set's answers wrong, but never its memory accesses.
 * Thread-safety: one thread at a time, look-ups included (they count their probes).
 */
#ifndef PBS_DIGESTS_H
#define PBS_DIGESTS_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_bytes.h"
#include "pbs_hash.h"

/* Bytes of the secret hash key. */
#define PBS_DIGESTS_KEY_SIZE PBS_HASH_KEY_SIZE

/* Most rows that a set can refer to, counting every row of a batch that brought a new member. */
#define PBS_DIGESTS_MAX_ROWS (UINT32_MAX - 1)

struct pbs_digests;

/* n digests, the first at base, each next one stride bytes (of either sign) further. */
struct pbs_rows {
    const uint8_t *base;
    ptrdiff_t stride;
    size_t n;
};

/* The rows that a call is about: those at the n positions `at` points to, or all where that is NULL. */
struct pbs_batch {
    struct pbs_rows rows;
    const uint32_t *at;
    size_t n;
};

static inline struct pbs_batch pbs_all(struct pbs_rows rows)
{
    return (struct pbs_batch){rows, NULL, rows.n};
}

/*
 * Told of `length` bytes at `from` that a pass over rows or members is done with, so that the caller
 * can let the pages of mapped files go. It is called about once a MiB and at the end of each call.
 */
typedef void pbs_digests_passed(const void *from, size_t length);

struct pbs_digests_stats {
    uint64_t count;  /* members */
    uint64_t nbytes; /* memory held beside the rows */
    uint64_t probes; /* slots looked at since the set was made, for tests against crafted input */
};

/*
 * Make an empty set with room for `expected` digests without growing; it grows by itself beyond.
 * key must be random and kept from whoever writes the digests.  passed may be NULL.
 * Errors: PBS_E_NOMEM, PBS_E_TOO_LARGE (expected is above PBS_DIGESTS_MAX_ROWS).
 */
int pbs_digests_new(const uint8_t key[PBS_DIGESTS_KEY_SIZE], uint64_t expected,
                    pbs_digests_passed *passed, struct pbs_digests **out);

/* NULL is allowed. */
void pbs_digests_free(struct pbs_digests *set);

void pbs_digests_measure(const struct pbs_digests *set, struct pbs_digests_stats *out);

/*
 * Insert a batch.  *out_added is the number of new members; where it is 0 the rows are not referred to.
 * out_new, if not NULL, has n bytes: 1 where a row is new, 0 where an equal one is in the set or
 * precedes it in the batch.  out_pos, if not NULL, has room for n numbers: the places in the batch of
 * new rows, in order, *out_added of them.  The rows that the batch does not mean are referred to as
 * well, and count (once in consecutive calls); `at` is not.
 * Errors, after which members inserted so far stay (and rows must): PBS_E_NOMEM, PBS_E_FULL (more
 * than PBS_DIGESTS_MAX_ROWS rows; nothing was inserted), PBS_E_INVALID (a position is not below
 * rows.n; nothing was inserted).
 */
int pbs_digests_insert(struct pbs_digests *set, struct pbs_batch batch, uint8_t *out_new,
                       uint32_t *out_pos, size_t *out_added);

/*
 * Set out_found[i] to 1 where row i of the batch is a member, else to 0.  Error: PBS_E_INVALID (a
 * position is not below rows.n).
 */
int pbs_digests_contains(struct pbs_digests *set, struct pbs_batch batch, uint8_t *out_found);

/*
 * Write the places in the batch of rows that are not members, in order, to out_pos (room for n numbers)
 * and their number to *out_n.  Errors: PBS_E_FULL (n is above PBS_DIGESTS_MAX_ROWS), PBS_E_INVALID
 * (a position is not below rows.n).
 */
int pbs_digests_difference(struct pbs_digests *set, struct pbs_batch batch, uint32_t *out_pos,
                           size_t *out_n);

#endif
