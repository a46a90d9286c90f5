/*
 * The chunks to upload, numbered 0, 1, 2, ... as they are added, and how far that is done. A job is
 * *acknowledged* when the target answered its upload with success; the acknowledged prefix is how
 * many jobs, from the first on, are.
 *
 * Callers keep it under a lock of their own.
 */
#ifndef PBS_JOBS_H
#define PBS_JOBS_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_bytes.h"

#define PBS_JOBS_MAX 16384u /* of 44 bytes; a power of two */

struct pbs_job {
    uint8_t digest[PBS_DIGEST_SIZE];
    uint32_t plain_size;
    uint32_t writer_id;
    uint8_t fixed;
    uint8_t encrypted;
    uint8_t acknowledged;
    uint8_t wanted; /* of what is shared (pbs_shared.h); as long as it was never taken */
};

/* All zero is an empty one. */
struct pbs_jobs {
    struct pbs_job jobs[PBS_JOBS_MAX]; /* job j at j % PBS_JOBS_MAX; live: [acknowledged, added) */
    uint64_t acknowledged;
    uint64_t taken; /* next to be taken */
    uint64_t added;
    uint64_t again[PBS_JOBS_MAX]; /* to be taken once more, before new ones */
    size_t n_again;
};

/* Room for the next job, for pbs_jobs_add to count once it is filled; NULL: too many are under
 * way. */
static inline struct pbs_job *pbs_jobs_room(struct pbs_jobs *jobs)
{
    if (jobs->added - jobs->acknowledged == PBS_JOBS_MAX)
        return NULL;
    return &jobs->jobs[jobs->added % PBS_JOBS_MAX];
}

static inline void pbs_jobs_add(struct pbs_jobs *jobs)
{
    jobs->added++;
}

/* How many wait to be taken. */
static inline uint64_t pbs_jobs_waiting(const struct pbs_jobs *jobs)
{
    return jobs->added - jobs->taken + jobs->n_again;
}

/* Take one; returns 0 when none waits. */
static inline int pbs_jobs_take(struct pbs_jobs *jobs, uint64_t *out_number, struct pbs_job *out)
{
    if (jobs->n_again > 0)
        *out_number = jobs->again[--jobs->n_again];
    else if (jobs->taken < jobs->added)
        *out_number = jobs->taken++;
    else
        return 0;
    struct pbs_job *job = &jobs->jobs[*out_number % PBS_JOBS_MAX];
    *out = *job;
    job->wanted = 0;
    return 1;
}

/* Let a job that was taken be taken again. */
static inline void pbs_jobs_again(struct pbs_jobs *jobs, uint64_t number)
{
    jobs->again[jobs->n_again++] = number;
}

static inline void pbs_jobs_acknowledge(struct pbs_jobs *jobs, uint64_t number)
{
    jobs->jobs[number % PBS_JOBS_MAX].acknowledged = 1;
    while (jobs->acknowledged < jobs->added &&
           jobs->jobs[jobs->acknowledged % PBS_JOBS_MAX].acknowledged)
        jobs->acknowledged++;
}

/* A job that is not in the acknowledged prefix; NULL otherwise. */
static inline const struct pbs_job *pbs_jobs_live(const struct pbs_jobs *jobs, uint64_t number)
{
    if (number < jobs->acknowledged || number >= jobs->added)
        return NULL;
    return &jobs->jobs[number % PBS_JOBS_MAX];
}

#endif
