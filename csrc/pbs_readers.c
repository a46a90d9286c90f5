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

/* A host's name has 255 bytes at most; the HEADERS frame must fit into the least limit, 16 KiB. */
#define MAX_AUTHORITY 1024u

#define PATH_SIZE 192u

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

static void fail(struct pbs_readers *readers, const struct pbs_job *job, int status, int error)
{
    if (!readers->failure.status) {
        readers->failure.status = status;
        readers->failure.error = status == PBS_E_IO ? error : 0;
        memcpy(readers->failure.digest, job->digest, PBS_DIGEST_SIZE);
    }
    wake_sender(readers);
    wake_all(readers);
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
static int take_job(struct pbs_readers *readers, uint64_t *out_number, struct pbs_job *out)
{
    while (!ended(readers)) {
        if (pbs_jobs_take(&readers->jobs, out_number, out))
            return 1;
        readers->n_idle++;
        pthread_cond_wait(&readers->work, &readers->lock);
        readers->n_idle--;
    }
    return 0;
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

/* A chunk on its way from its file to the ring. */
struct chunk {
    const struct pbs_job *job;
    int fd;
    int error; /* errno, where a step's status is PBS_E_IO */
    char path[PATH_SIZE];
    size_t head_len;
    size_t body_len;
    int watched; /* count in slept how often reading it made the thread sleep */
    long slept;
};

static struct pbs_request request_of(const struct pbs_readers *readers, const struct chunk *chunk)
{
    return (struct pbs_request){"POST", readers->authority, chunk->path,
                                "application/octet-stream"};
}

static void write_path(const struct pbs_job *job, size_t blob_size, char *out)
{
    out = stpcpy(out, job->fixed ? "/fixed_chunk?wid=" : "/dynamic_chunk?wid=");
    out += pbs_decimal(job->writer_id, out);
    out = stpcpy(out, "&digest=");
    pbs_digest_hex(job->digest, out);
    out = stpcpy(out + 64, "&size=");
    out += pbs_decimal(job->plain_size, out);
    out = stpcpy(out, "&encoded-size=");
    out += pbs_decimal(blob_size, out);
    *out = '\0';
}

/* Open the file, and tell how much room the chunk's upload takes. Without the lock. */
static int open_chunk(const struct pbs_readers *readers, struct chunk *chunk)
{
    if (chunk->watched)
        chunk->slept -= times_slept();
    if (readers->open_delay_us)
        sleep_us(readers->open_delay_us);
    int status = pbs_chunk_open(readers->chunks_fd, chunk->job->digest, &chunk->fd,
                                &chunk->body_len, &chunk->error);
    if (!status) {
        write_path(chunk->job, chunk->body_len, chunk->path);
        struct pbs_request request = request_of(readers, chunk);
        status = pbs_request_head_size(&request, &chunk->head_len);
    }
    if (chunk->watched)
        chunk->slept += times_slept();
    return status;
}

/* Read the file to where it goes in memory, write the head in front, and close the file. Without
 * the lock. */
static int read_chunk(const struct pbs_readers *readers, struct chunk *chunk, uint8_t *memory)
{
    struct pbs_request request = request_of(readers, chunk);

    if (chunk->watched)
        chunk->slept -= times_slept();
    int status = pbs_chunk_read(chunk->fd, chunk->body_len, chunk->job->plain_size,
                                chunk->job->encrypted, memory + chunk->head_len + PBS_FRAME_HEADER,
                                &chunk->error);
    close(chunk->fd);
    chunk->fd = -1;
    if (!status)
        pbs_request_write_head(&request, chunk->head_len, memory);
    if (chunk->watched)
        chunk->slept += times_slept();
    return status;
}

static void now_ready(struct pbs_readers *readers, uint64_t slot, long slept)
{
    pbs_ring_slot(&readers->ring, slot)->state = PBS_SLOT_READY;
    if (slept > 0 && readers->starved && !ended(readers)) /* no thread begins once we stop */
        grow(readers);
    if (slot == readers->ring.next && readers->sender_waits)
        wake_sender(readers);
}

/* Read one chunk into the ring. Called and returns with the lock held. */
static void read_one(struct pbs_readers *readers, uint64_t number, const struct pbs_job *job)
{
    struct chunk chunk = {.job = job, .fd = -1};
    struct pbs_slot slot = {.job = number, .state = PBS_SLOT_FILLING};

    /* More readers help where the sender waits for ones that sleep. */
    chunk.watched = readers->starved && may_grow(readers);
    pthread_mutex_unlock(&readers->lock);
    int status = open_chunk(readers, &chunk);
    slot.head_len = chunk.head_len;
    slot.body_len = chunk.body_len;
    slot.size = chunk.head_len + PBS_FRAME_HEADER + chunk.body_len;
    pthread_mutex_lock(&readers->lock);

    if (!status && wait_for_room(readers, slot.size, &slot.start)) {
        uint64_t taken = pbs_ring_take(&readers->ring, &slot);
        pbs_readers_room(readers);
        pthread_mutex_unlock(&readers->lock);
        status = read_chunk(readers, &chunk, readers->ring.memory + slot.start);
        pthread_mutex_lock(&readers->lock);
        if (!status)
            now_ready(readers, taken, chunk.slept);
    }
    if (chunk.fd >= 0)
        close(chunk.fd);
    if (status)
        fail(readers, job, status, chunk.error);
}

static void *reader_main(void *argument)
{
    struct pbs_readers *readers = argument;
    struct pbs_job job;
    uint64_t number;

    pthread_mutex_lock(&readers->lock);
    while (take_job(readers, &number, &job))
        read_one(readers, number, &job);
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

void pbs_readers_free(struct pbs_readers *readers)
{
    pthread_mutex_lock(&readers->lock);
    readers->stopping = 1;
    wake_all(readers);
    pthread_mutex_unlock(&readers->lock);
    for (unsigned i = 0; i < readers->n_threads; i++)
        pthread_join(readers->threads[i], NULL);
    pthread_cond_destroy(&readers->work);
    pthread_mutex_destroy(&readers->lock);
    pbs_ring_unmap(&readers->ring);
    pbs_event_close(&readers->event);
    free(readers->threads);
}
