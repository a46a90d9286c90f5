#define _GNU_SOURCE
#include "pbs_upload.h"

#include <stdlib.h>
#include <string.h>

#include "pbs_error.h"
#include "pbs_readers.h"

struct pbs_upload {
    struct pbs_readers readers;
    char *authority;
};

static void lock(struct pbs_upload *upload)
{
    pthread_mutex_lock(&upload->readers.lock);
}

static void unlock(struct pbs_upload *upload)
{
    pthread_mutex_unlock(&upload->readers.lock);
}

int pbs_upload_new(const struct pbs_upload_options *options, struct pbs_upload **out)
{
    struct pbs_upload *upload = calloc(1, sizeof *upload);
    if (!upload)
        return PBS_E_NOMEM;
    upload->authority = strdup(options->authority);
    int status = PBS_E_NOMEM;
    if (upload->authority)
        status = pbs_readers_init(&upload->readers, options->chunks_fd, upload->authority,
                                  options->readers, options->buffer_bytes);
    if (status) {
        free(upload->authority);
        free(upload);
        return status;
    }
    upload->readers.open_delay_us = options->open_delay_us;
    upload->readers.shared = options->shared;
    upload->readers.member = options->member;
    *out = upload;
    return PBS_OK;
}

void pbs_upload_free(struct pbs_upload *upload)
{
    if (!upload)
        return;
    pbs_readers_free(&upload->readers);
    free(upload->authority);
    free(upload);
}

int pbs_upload_event_fd(const struct pbs_upload *upload)
{
    return upload->readers.event.fd;
}

void pbs_upload_clear_event(struct pbs_upload *upload)
{
    lock(upload);
    pbs_event_clear(&upload->readers.event);
    unlock(upload);
}

/* Add the chunk at this position; *out_added is 0 where there is no room for it. */
static int add_one(struct pbs_readers *readers, const struct pbs_upload_archive *archive,
                   uint32_t pos, int *out_added)
{
    struct pbs_job *job = pbs_jobs_room(&readers->jobs);

    *out_added = 0;
    if (!job)
        return PBS_OK;
    if (pos >= archive->index.n)
        return PBS_E_INVALID;
    uint64_t plain_size = pbs_index_chunk_bytes(&archive->index, pos);
    if (plain_size > UINT32_MAX) /* or ends before it starts: the index file was cut */
        return PBS_E_TOO_LARGE;
    memcpy(job->digest, pbs_index_digest(&archive->index, pos), PBS_DIGEST_SIZE);
    job->plain_size = (uint32_t)plain_size;
    job->writer_id = archive->writer_id;
    job->fixed = archive->index.kind == PBS_INDEX_FIXED;
    job->encrypted = archive->encrypted != 0;
    job->acknowledged = 0;
    job->wanted = readers->shared && pbs_shared_want(readers->shared, job->digest) == PBS_OK;
    pbs_jobs_add(&readers->jobs);
    *out_added = 1;
    return PBS_OK;
}

int pbs_upload_add(struct pbs_upload *upload, const struct pbs_upload_archive *archive,
                   const uint32_t *positions, size_t n, size_t *out_added)
{
    size_t added = 0;
    int status = PBS_OK, more = 1;

    lock(upload);
    while (added < n && more) {
        status = add_one(&upload->readers, archive, positions[added], &more);
        added += more != 0;
    }
    if (added) {
        int started = pbs_readers_start(&upload->readers);
        if (!status)
            status = started;
    }
    unlock(upload);
    *out_added = added;
    return status;
}

uint64_t pbs_upload_added(const struct pbs_upload *upload)
{
    return upload->readers.jobs.added; /* written by this thread alone */
}

uint64_t pbs_upload_acknowledged(struct pbs_upload *upload)
{
    lock(upload); /* threads that drop chunks move it, too */
    uint64_t acknowledged = upload->readers.jobs.acknowledged;
    unlock(upload);
    return acknowledged;
}

int pbs_upload_next(struct pbs_upload *upload, const uint8_t *after, struct pbs_upload_piece *out)
{
    struct pbs_readers *readers = &upload->readers;

    lock(upload);
    struct pbs_slot *slot = pbs_ring_ready(&readers->ring);
    uint8_t *start = slot ? readers->ring.memory + slot->start : NULL;
    int given = slot && (!after || after == start);
    if (given) {
        out->message = (struct pbs_message){start, slot->head_len, slot->body_len};
        out->job = slot->job;
        out->slot = pbs_ring_hand_out(&readers->ring);
        readers->starved = 0;
    } else if (!slot) {
        pbs_event_clear(&readers->event);
        readers->sender_waits = 1;
        readers->starved = 1;
    }
    unlock(upload);
    return given;
}

void pbs_upload_release(struct pbs_upload *upload, uint64_t slot)
{
    lock(upload);
    pbs_ring_release(&upload->readers.ring, slot);
    pbs_readers_room(&upload->readers);
    unlock(upload);
}

void pbs_upload_acknowledge(struct pbs_upload *upload, uint64_t job)
{
    lock(upload);
    pbs_jobs_acknowledge(&upload->readers.jobs, job);
    unlock(upload);
}

void pbs_upload_again(struct pbs_upload *upload, uint64_t job)
{
    lock(upload);
    pbs_jobs_again(&upload->readers.jobs, job);
    pthread_cond_signal(&upload->readers.work);
    unlock(upload);
}

void pbs_upload_take_over(struct pbs_upload *upload, size_t margin, size_t first_bytes)
{
    pbs_readers_take_over(&upload->readers, margin, first_bytes);
}

int pbs_upload_take(struct pbs_upload *upload, struct pbs_reading *out)
{
    return pbs_readers_take(&upload->readers, out);
}

int pbs_upload_read(struct pbs_upload *upload, struct pbs_reading *reading)
{
    return pbs_readers_read(&upload->readers, reading);
}

void pbs_upload_give(struct pbs_upload *upload, struct pbs_reading *reading,
                     const uint8_t digest[PBS_DIGEST_SIZE])
{
    pbs_readers_give(&upload->readers, reading, digest);
}

void pbs_upload_drop(struct pbs_upload *upload, const struct pbs_reading *reading)
{
    pbs_readers_drop(&upload->readers, reading);
}

void pbs_upload_stop(struct pbs_upload *upload)
{
    pbs_readers_stop(&upload->readers);
}

size_t pbs_upload_most_bytes(struct pbs_upload *upload)
{
    lock(upload);
    size_t most = upload->readers.ring.most_used;
    unlock(upload);
    return most;
}

int pbs_upload_failed(struct pbs_upload *upload, struct pbs_upload_failure *out)
{
    lock(upload);
    const struct pbs_readers_failure *failure = &upload->readers.failure;
    int failed = failure->status != PBS_OK;
    if (failed) {
        out->status = failure->status;
        out->error = failure->error;
        memcpy(out->digest, failure->digest, PBS_DIGEST_SIZE);
    }
    unlock(upload);
    return failed;
}

int pbs_upload_digest(struct pbs_upload *upload, uint64_t job, uint8_t out[PBS_DIGEST_SIZE])
{
    lock(upload);
    const struct pbs_job *live = pbs_jobs_live(&upload->readers.jobs, job);
    if (live)
        memcpy(out, live->digest, PBS_DIGEST_SIZE);
    unlock(upload);
    return live ? PBS_OK : PBS_E_INVALID;
}
