/*
 * Chunks that uploads to several targets need, read once: whoever needs one first reads its file into
 * memory that all share, and the others copy it from there. What is held is bounded. Nobody waits for
 * room: where there is none, a chunk is read past it, and read again by whoever needs it later. All
 * that is waited for is another's read of the same file.
 *
 * Of what is held goes first what no job under way wants, the longest unused first; then what fewer
 * want than the chunk that needs the room. So a target that lags finds a part of what the faster ones
 * have read, and not always what was dropped just before.
 *
 * Each target is a member, by its number. Any thread may call anything here at any time, but for
 * pbs_shared_free. It is a leaf: its lock is taken within others', never the reverse.
 */
#ifndef PBS_SHARED_H
#define PBS_SHARED_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_bytes.h"
#include "pbs_hash.h"
#include "pbs_jobs.h"

#define PBS_SHARED_MEMBERS_MAX 64u
#define PBS_SHARED_KEY_SIZE PBS_HASH_KEY_SIZE

struct pbs_shared;
struct pbs_shared_entry;

/* What one member did. */
struct pbs_shared_counts {
    uint64_t read_chunks; /* by itself, from files */
    uint64_t read_bytes;
    uint64_t taken_chunks; /* read by another */
    uint64_t taken_bytes;
    uint64_t
        again_chunks; /* of those read: they had been read for another member, and were not kept
                       * for this one. Of reads that lie half a million chunks or more apart some
                       * are missed */
    uint64_t again_bytes;
};

/*
 * Make one for members 0 to members - 1, that holds up to room bytes. key is random, and kept from
 * whoever writes digests. PBS_E_NOMEM, PBS_E_INVALID (number of members).
 */
int pbs_shared_new(const uint8_t key[PBS_SHARED_KEY_SIZE], size_t room, unsigned members,
                   struct pbs_shared **out);

/* No upload uses it any more. */
void pbs_shared_free(struct pbs_shared *shared);

/* This member needs nothing any more: nothing is kept for it. */
void pbs_shared_leave(struct pbs_shared *shared, unsigned member);

/* A job of somebody's will take this chunk. PBS_E_NOMEM: that could not be noted; there is nothing to
 * take back then. */
int pbs_shared_want(struct pbs_shared *shared, const uint8_t digest[PBS_DIGEST_SIZE]);

/* It will not, after all. */
void pbs_shared_unwant(struct pbs_shared *shared, const uint8_t digest[PBS_DIGEST_SIZE]);

/* A chunk that was taken: in memory (entry is not NULL), or an open file that is yet to be read. */
struct pbs_shared_chunk {
    struct pbs_shared_entry *entry;
    const uint8_t *bytes;
    size_t size; /* of its blob */
    int fd;      /* the taker's, or -1 */
};

/*
 * Take a job's chunk, of the folder `.chunks`, for a member; a job that is `wanted` was announced by
 * pbs_shared_want, and is no more. What is in memory was checked as pbs_chunk_read does it, by the
 * job. Else as pbs_chunk_open and pbs_chunk_read; there is nothing to give back then.
 */
int pbs_shared_take(struct pbs_shared *shared, unsigned member, int chunks_fd,
                    const struct pbs_job *job, struct pbs_shared_chunk *out, int *out_errno);

/* Give it back; its file is closed. May be done twice. */
void pbs_shared_give_back(struct pbs_shared *shared, struct pbs_shared_chunk *chunk);

void pbs_shared_count(struct pbs_shared *shared, unsigned member, struct pbs_shared_counts *out);

/* Bytes of memory for chunks: now, and the most that there were at once. */
void pbs_shared_held(struct pbs_shared *shared, size_t *out_now, size_t *out_most);

#endif
