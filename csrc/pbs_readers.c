#define _GNU_SOURCE
#include "pbs_readers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "pbs_chunks.h"
#include "pbs_entries.h"
#include "pbs_error.h"
#include "pbs_request.h"

/*
 * What is read ahead to begin with, by one thread: two chunks of 4 MiB. Where chunk files are in
 * the page cache a single reader is faster than the sender, and what it has read is still in the
 * CPU's cache when it is sent (docs/performance.md); slow disks make both grow.
 */
#define FIRST_BYTES (((size_t)8 << 20) + 4096)

/* So many in a row that slept are slow; of a single one, something else may be the reason. */
#define SLOW_READS 3u

/* A host's name has 255 bytes at most; the HEADERS frame must fit into the least limit, 16 KiB. */
#define MAX_AUTHORITY 1024u

/* A reader that waits for room in the ring: a part of its own stack. */
struct pbs_readers_waiter {
    pthread_cond_t cond;
    size_t size;
    struct pbs_readers_waiter *next;
};

/* ---- who waits for what ---- */

static int ended(const struct pbs_readers *readers)
{
    return readers->stopping || readers->failure.status;
}

static void wake_sender(struct pbs_readers *readers)
{
    readers->sender_waits = 0;
    pbs_event_set(&readers->event);
}

static void wake_all(struct pbs_readers *readers)
{
    pthread_cond_broadcast(&readers->work);
    for (struct pbs_readers_waiter *waiter = readers->waiters; waiter; waiter = waiter->next)
        pthread_cond_signal(&waiter->cond);
}

void pbs_readers_room(struct pbs_readers *readers)
{
    size_t start;

    if (readers->waiters && pbs_ring_find(&readers->ring, readers->waiters->size, &start))
        pthread_cond_signal(&readers->waiters->cond);
}

static void fail(struct pbs_readers *readers, const struct pbs_reading *reading, int status)
{
    if (!readers->failure.status) {
        readers->failure.status = status;
        readers->failure.error = status == PBS_E_IO ? reading->error : 0;
        memcpy(readers->failure.digest, reading->job.digest, PBS_DIGEST_SIZE);
    }
    wake_sender(readers);
    wake_all(readers);
}

void pbs_readers_stop(struct pbs_readers *readers)
{
    pthread_mutex_lock(&readers->lock);
    readers->stopping = 1;
    wake_sender(readers);
    wake_all(readers);
    pthread_mutex_unlock(&readers->lock);
}

/* ---- how much is read ahead ---- */

static void *reader_main(void *argument);

/* Threads are started as there is work for them: most snapshots need one or two. */
static int start_threads(struct pbs_readers *readers)
{
    uint64_t waiting = pbs_jobs_waiting(&readers->jobs);

    while (readers->n_threads < readers->wanted_threads && readers->n_idle < waiting) {
        if (pthread_create(&readers->threads[readers->n_threads], NULL, reader_main, readers) != 0)
            return readers->n_threads ? PBS_OK : PBS_E_NOMEM;
        readers->n_threads++;
        waiting--;
    }
    return PBS_OK;
}

int pbs_readers_start(struct pbs_readers *readers)
{
    int status = start_threads(readers);

    pthread_cond_broadcast(&readers->work);
    return status;
}

static void want_bytes(struct pbs_readers *readers, size_t bytes)
{
    readers->ring.limit = bytes < readers->bound ? bytes : readers->bound;
}

static int may_grow(const struct pbs_readers *readers)
{
    return readers->wanted_threads < readers->max_threads || readers->ring.limit < readers->bound;
}

/* A few slow reads lead to all that is allowed. */
static void grow(struct pbs_readers *readers)
{
    if (readers->wanted_threads < readers->max_threads / 4)
        readers->wanted_threads *= 4;
    else
        readers->wanted_threads = readers->max_threads;
    want_bytes(readers, 2 * readers->ring.limit);
    start_threads(readers); /* this thread is one, so those that cannot be had are done without */
    pbs_readers_room(readers);
}

/* ---- a reader ---- */

/* Wait for a job. Returns 0 when there will be none: the object is being freed, or failed. */
static int take_job(struct pbs_readers *readers, struct pbs_reading *out)
{
    *out = (struct pbs_reading){.fd = -1, .shared = {.fd = -1}};
    while (!ended(readers)) {
        if (pbs_jobs_take(&readers->jobs, &out->number, &out->job)) {
            /* More readers help where the sender waits for ones that sleep. */
            out->watched = readers->starved && may_grow(readers);
            return 1;
        }
        readers->n_idle++;
        pthread_cond_wait(&readers->work, &readers->lock);
        readers->n_idle--;
    }
    return 0;
}

int pbs_readers_take(struct pbs_readers *readers, struct pbs_reading *out)
{
    pthread_mutex_lock(&readers->lock);
    int taken = take_job(readers, out);
    pthread_mutex_unlock(&readers->lock);
    return taken;
}

static void leave_queue(struct pbs_readers *readers, struct pbs_readers_waiter *me)
{
    struct pbs_readers_waiter **link = &readers->waiters;

    while (*link != me)
        link = &(*link)->next;
    *link = me->next;
    if (!me->next)
        readers->waiters_end = link;
}

/* Wait, behind those who wait already, until the ring has room. Returns 0 when none is wanted any
 * more: the object is being freed, or failed. */
static int wait_for_room(struct pbs_readers *readers, size_t size, size_t *out_start)
{
    struct pbs_readers_waiter me = {.cond = PTHREAD_COND_INITIALIZER, .size = size};
    int found = 0;

    if (size > readers->ring.limit / 2) /* one chunk is sent while the next one is read */
        want_bytes(readers, 2 * size);
    *readers->waiters_end = &me;
    readers->waiters_end = &me.next;
    while (!ended(readers) && !found) {
        found = readers->waiters == &me && pbs_ring_find(&readers->ring, size, out_start);
        if (!found)
            pthread_cond_wait(&me.cond, &readers->lock);
    }
    leave_queue(readers, &me);
    pthread_cond_destroy(&me.cond);
    return found;
}

static void sleep_us(uint32_t us)
{
    struct timespec time = {us / 1000000u, (long)(us % 1000000u) * 1000};
    while (nanosleep(&time, &time) < 0 && errno == EINTR)
        continue;
}

/* How often this thread has slept: it does so for a disk, but not for the page cache. */
static long times_slept(void)
{
    struct rusage usage = {0};

    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

static struct pbs_request request_of(const struct pbs_readers *readers,
                                     const struct pbs_reading *reading)
{
    return (struct pbs_request){"POST", readers->authority, reading->path,
                                "application/octet-stream"};
}

static void write_path(struct pbs_reading *reading, const uint8_t digest[PBS_DIGEST_SIZE])
{
    const struct pbs_job *job = &reading->job;
    char *out = reading->path;

    out = stpcpy(out, job->fixed ? "/fixed_chunk?wid=" : "/dynamic_chunk?wid=");
    out += pbs_decimal(job->writer_id, out);
    out = stpcpy(out, "&digest=");
    pbs_digest_hex(digest, out);
    out = stpcpy(out + 64, "&size=");
    out += pbs_decimal(job->plain_size, out);
    out = stpcpy(out, "&encoded-size=");
    out += pbs_decimal(reading->body_len, out);
    *out = '\0';
}

/* Open the file; where chunks are shared it may be in memory, and is read there. */
static int open_file(const struct pbs_readers *readers, struct pbs_reading *reading)
{
    if (readers->open_delay_us)
        sleep_us(readers->open_delay_us);
    if (!readers->shared)
        return pbs_chunk_open(readers->chunks_fd, reading->job.digest, &reading->fd,
                              &reading->body_len, &reading->error);
    int status = pbs_shared_take(readers->shared, readers->member, readers->chunks_fd,
                                 &reading->job, &reading->shared, &reading->error);
    reading->job.wanted = 0;
    reading->body_len = reading->shared.size;
    return status;
}

/* Open the file, and tell how much room the chunk's upload takes. */
static int open_chunk(const struct pbs_readers *readers, struct pbs_reading *reading)
{
    if (reading->watched)
        reading->slept -= times_slept();
    int status = open_file(readers, reading);
    if (reading->watched)
        reading->slept += times_slept();
    if (status)
        return status;
    reading->body_len += readers->margin;
    if (reading->body_len > PBS_CHUNK_FILE_MAX)
        return PBS_E_TOO_LARGE;
    write_path(reading, reading->job.digest);
    struct pbs_request request = request_of(readers, reading);
    return pbs_request_head_size(&request, &reading->head_len);
}

/* Make a slot for the chunk, once there is room. */
static int take_slot(struct pbs_readers *readers, struct pbs_reading *reading)
{
    struct pbs_slot slot = {.job = reading->number,
                            .head_len = reading->head_len,
                            .body_len = reading->body_len,
                            .size = reading->head_len + PBS_FRAME_HEADER + reading->body_len,
                            .state = PBS_SLOT_FILLING};

    pthread_mutex_lock(&readers->lock);
    int found = wait_for_room(readers, slot.size, &slot.start);
    if (found) {
        reading->slot = pbs_ring_take(&readers->ring, &slot);
        reading->start = readers->ring.memory + slot.start;
        pbs_readers_room(readers);
    }
    pthread_mutex_unlock(&readers->lock);
    return found ? PBS_OK : PBS_E_CLOSED;
}

static int read_chunk(const struct pbs_readers *readers, struct pbs_reading *reading)
{
    uint8_t *body = reading->start + reading->head_len + PBS_FRAME_HEADER;
    const struct pbs_shared_chunk *shared = &reading->shared;

    if (shared->entry) {
        memcpy(body + readers->margin, shared->bytes, shared->size);
        return PBS_OK;
    }
    int fd = readers->shared ? shared->fd : reading->fd;
    if (reading->watched)
        reading->slept -= times_slept();
    int status = pbs_chunk_read(fd, reading->body_len - readers->margin, reading->job.plain_size,
                                reading->job.encrypted, body + readers->margin, &reading->error);
    if (reading->watched)
        reading->slept += times_slept();
    return status;
}

int pbs_readers_read(struct pbs_readers *readers, struct pbs_reading *reading)
{
    int status = open_chunk(readers, reading);

    if (!status)
        status = take_slot(readers, reading);
    if (!status)
        status = read_chunk(readers, reading);
    if (readers->shared)
        pbs_shared_give_back(readers->shared, &reading->shared);
    if (reading->fd >= 0)
        close(reading->fd);
    reading->fd = -1;
    return status;
}

/* Write the head in front of what was read. Without the lock. */
static void write_head(const struct pbs_readers *readers, const struct pbs_reading *reading)
{
    struct pbs_request request = request_of(readers, reading);

    pbs_request_write_head(&request, reading->head_len, reading->start);
}

static void now_ready(struct pbs_readers *readers, const struct pbs_reading *reading)
{
    pbs_ring_slot(&readers->ring, reading->slot)->state = PBS_SLOT_READY;
    if (reading->watched)
        readers->slow_reads = reading->slept > 0 ? readers->slow_reads + 1 : 0;
    /* No thread begins once we stop. */
    if (readers->slow_reads >= SLOW_READS && readers->starved && !ended(readers))
        grow(readers);
    if (reading->slot == readers->ring.next && readers->sender_waits)
        wake_sender(readers);
}

void pbs_readers_give(struct pbs_readers *readers, struct pbs_reading *reading,
                      const uint8_t digest[PBS_DIGEST_SIZE])
{
    write_path(reading, digest);
    write_head(readers, reading);
    pthread_mutex_lock(&readers->lock);
    now_ready(readers, reading);
    pthread_mutex_unlock(&readers->lock);
}

void pbs_readers_drop(struct pbs_readers *readers, const struct pbs_reading *reading)
{
    pthread_mutex_lock(&readers->lock);
    pbs_ring_release(&readers->ring, reading->slot);
    pbs_jobs_acknowledge(&readers->jobs, reading->number);
    pbs_readers_room(readers);
    if (readers->sender_waits) /* for the next one, or for nothing but this */
        wake_sender(readers);
    pthread_mutex_unlock(&readers->lock);
}

static void *reader_main(void *argument)
{
    struct pbs_readers *readers = argument;
    struct pbs_reading reading;

    pthread_mutex_lock(&readers->lock);
    while (take_job(readers, &reading)) {
        pthread_mutex_unlock(&readers->lock);
        int status = pbs_readers_read(readers, &reading);
        if (!status)
            write_head(readers, &reading);
        pthread_mutex_lock(&readers->lock);
        if (!status)
            now_ready(readers, &reading);
        else if (status != PBS_E_CLOSED)
            fail(readers, &reading, status);
    }
    pthread_mutex_unlock(&readers->lock);
    return NULL;
}

/* ---- birth and death ---- */

int pbs_readers_init(struct pbs_readers *readers, int chunks_fd, const char *authority,
                     unsigned max_threads, size_t buffer_bytes)
{
    size_t least = PBS_CHUNK_FILE_MAX + 1024 + MAX_AUTHORITY; /* of the head: some 300 bytes more */

    if (max_threads == 0)
        return PBS_E_INVALID;
    if (strlen(authority) > MAX_AUTHORITY)
        return PBS_E_TOO_LARGE;
    int status = pbs_event_open(&readers->event);
    if (status)
        return status;
    readers->threads = calloc(max_threads, sizeof *readers->threads);
    status = readers->threads ? PBS_OK : PBS_E_NOMEM;
    if (!status)
        status = pbs_ring_map(&readers->ring, buffer_bytes > least ? buffer_bytes : least);
    if (status) {
        free(readers->threads);
        pbs_event_close(&readers->event);
        return status;
    }
    readers->chunks_fd = chunks_fd;
    readers->authority = authority;
    readers->max_threads = max_threads;
    readers->bound = buffer_bytes ? buffer_bytes : readers->ring.size;
    want_bytes(readers, FIRST_BYTES);
    readers->wanted_threads = 1;
    readers->starved = 1;
    readers->waiters_end = &readers->waiters;
    pthread_mutex_init(&readers->lock, NULL);
    pthread_cond_init(&readers->work, NULL);
    return PBS_OK;
}

void pbs_readers_take_over(struct pbs_readers *readers, size_t margin, size_t first_bytes)
{
    pthread_mutex_lock(&readers->lock);
    readers->max_threads = readers->wanted_threads = 0;
    readers->margin = margin;
    want_bytes(readers, first_bytes);
    pthread_mutex_unlock(&readers->lock);
}

void pbs_readers_free(struct pbs_readers *readers)
{
    pbs_readers_stop(readers);
    for (unsigned i = 0; i < readers->n_threads; i++)
        pthread_join(readers->threads[i], NULL);
    pthread_cond_destroy(&readers->work);
    pthread_mutex_destroy(&readers->lock);
    pbs_ring_unmap(&readers->ring);
    pbs_event_close(&readers->event);
    free(readers->threads);
    for (uint64_t number = readers->jobs.acknowledged; number < readers->jobs.added; number++) {
        const struct pbs_job *job = pbs_jobs_live(&readers->jobs, number);
        if (job->wanted)
            pbs_shared_unwant(readers->shared, job->digest);
    }
}
