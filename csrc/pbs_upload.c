#define _GNU_SOURCE
#include "pbs_upload.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "pbs_bytes.h"
#include "pbs_error.h"
#include "pbs_hpack.h"

/* Bounds of what is on the way; powers of two. A job is 44 bytes, a slot 48. */
#define MAX_JOBS 16384u
#define MAX_SLOTS 2048u

/*
 * What is read ahead to begin with, by one thread: two chunks of 4 MiB. Where chunk files are in
 * the page cache a single reader is faster than the sender, and what it has read is still in the
 * CPU's cache when it is sent (docs/performance.md); slow disks make both grow.
 */
#define FIRST_BYTES (((size_t)8 << 20) + 4096)

/* A host's name has 255 bytes at most; the HEADERS frame must fit into the least limit, 16 KiB. */
#define MAX_AUTHORITY 1024u

#define HEADERS_FRAME 0x1
#define FLAG_END_HEADERS 0x4
#define CONTENT_TYPE "application/octet-stream"
#define PATH_MAX_LEN 192u

struct job {
    uint8_t digest[PBS_DIGEST_SIZE];
    uint32_t plain_size;
    uint32_t writer_id;
    uint8_t fixed;
    uint8_t encrypted;
    uint8_t acknowledged;
};

enum slot_state { SLOT_READING, SLOT_READY, SLOT_OUT, SLOT_FREE };

struct slot {
    size_t start; /* in the ring */
    size_t size;
    size_t head_len;
    size_t body_len;
    uint64_t job;
    enum slot_state state;
};

/* A reader that waits for room in the ring: a part of its own stack. */
struct waiter {
    pthread_cond_t cond;
    size_t size;
    struct waiter *next;
};

struct pbs_upload {
    int chunks_fd;
    int event_fd;
    uint32_t open_delay_us;
    char *authority;

    pthread_mutex_t lock;
    pthread_cond_t work; /* readers wait for jobs */
    /* Readers that wait for room, the first to be served first: a large chunk would otherwise wait
     * as long as small ones fit. Each has a condition of its own, since chunks may leave the ring
     * thousands of times a second, and just one reader can use the room. */
    struct waiter *waiters;
    struct waiter **waiters_end;

    pthread_t *threads;
    unsigned max_threads;
    unsigned wanted_threads; /* as many as have turned out to be useful so far */
    unsigned n_threads;
    unsigned n_idle;
    int stopping;

    struct job jobs[MAX_JOBS]; /* job j at j % MAX_JOBS; live: [acknowledged, added) */
    uint64_t acknowledged;
    uint64_t taken; /* next job for a reader */
    uint64_t added;
    uint64_t again[MAX_JOBS]; /* jobs to read once more, before new ones */
    size_t n_again;

    uint8_t *ring;
    size_t ring_size;
    size_t bound; /* what chunks share; a single one that needs more has the ring for itself */
    size_t wanted_bytes; /* as much of the bound as has turned out to be useful so far */
    size_t tail; /* where the next chunk goes, if there is room behind it */
    int wrapped; /* the tail is before the oldest live slot */
    struct slot slots[MAX_SLOTS]; /* slot s at s % MAX_SLOTS; live: [first_slot, end_slot) */
    uint64_t first_slot;
    uint64_t next_slot; /* next for the sender */
    uint64_t end_slot;
    int sender_waits; /* and is to be woken */
    int starved;      /* the last time that the sender looked, it found nothing */
    int event_set; /* event_fd is readable */

    int failed;
    struct pbs_upload_failure failure;
};

/* ---- the request's head ---- */

static size_t upload_path(const struct job *job, size_t blob_size, char *out)
{
    char *at = out;

    at = stpcpy(at, job->fixed ? "/fixed_chunk?wid=" : "/dynamic_chunk?wid=");
    at += pbs_decimal(job->writer_id, at);
    at = stpcpy(at, "&digest=");
    pbs_digest_hex(job->digest, at);
    at = stpcpy(at + 64, "&size=");
    at += pbs_decimal(job->plain_size, at);
    at = stpcpy(at, "&encoded-size=");
    at += pbs_decimal(blob_size, at);
    return (size_t)(at - out);
}

static size_t head_size(const struct pbs_upload *upload, size_t path_len)
{
    return PBS_FRAME_HEADER + 2 +
           pbs_hpack_literal_size(PBS_HPACK_AUTHORITY, strlen(upload->authority)) +
           pbs_hpack_literal_size(PBS_HPACK_PATH, path_len) +
           pbs_hpack_literal_size(PBS_HPACK_CONTENT_TYPE, strlen(CONTENT_TYPE));
}

static void write_head(const struct pbs_upload *upload, const char *path, size_t path_len,
                       size_t head_len, uint8_t *out)
{
    pbs_store_be24(out, (uint32_t)(head_len - PBS_FRAME_HEADER));
    out[3] = HEADERS_FRAME;
    out[4] = FLAG_END_HEADERS;
    pbs_store_be32(out + 5, 0);
    uint8_t *at = out + PBS_FRAME_HEADER;
    at += pbs_hpack_indexed(at, PBS_HPACK_METHOD_POST);
    at += pbs_hpack_indexed(at, PBS_HPACK_SCHEME_HTTPS);
    at += pbs_hpack_literal(at, PBS_HPACK_AUTHORITY, upload->authority,
                            strlen(upload->authority));
    at += pbs_hpack_literal(at, PBS_HPACK_PATH, path, path_len);
    pbs_hpack_literal(at, PBS_HPACK_CONTENT_TYPE, CONTENT_TYPE, strlen(CONTENT_TYPE));
}

/* ---- the ring; all with the lock held ---- */

static int ring_empty(const struct pbs_upload *upload)
{
    return upload->first_slot == upload->end_slot;
}

/* Find size bytes in one piece behind the newest slot; 0 if there is no room now. */
static int ring_find(const struct pbs_upload *upload, size_t size, size_t *out_start)
{
    if (upload->end_slot - upload->first_slot == MAX_SLOTS)
        return 0;
    if (ring_empty(upload)) {
        /* Begin anew, so that a sender that keeps up uses the same, cached, memory. */
        *out_start = 0;
        return 1;
    }
    size_t oldest = upload->slots[upload->first_slot % MAX_SLOTS].start;
    size_t end = upload->wrapped ? oldest : upload->wanted_bytes;
    if (upload->tail <= end && size <= end - upload->tail) {
        *out_start = upload->tail;
        return 1;
    }
    if (upload->wrapped || size > oldest)
        return 0;
    *out_start = 0;
    return 1;
}

/* Make a slot of what ring_find found. */
static uint64_t ring_take(struct pbs_upload *upload, const struct slot *slot)
{
    /* What is taken before the tail, which is not 0 then, is taken from the ring's beginning. */
    upload->wrapped = !ring_empty(upload) && (upload->wrapped || slot->start < upload->tail);
    upload->tail = slot->start + slot->size;
    upload->slots[upload->end_slot % MAX_SLOTS] = *slot;
    return upload->end_slot++;
}

static void ring_advance(struct pbs_upload *upload)
{
    while (upload->first_slot < upload->end_slot) {
        struct slot *oldest = &upload->slots[upload->first_slot % MAX_SLOTS];
        if (oldest->state != SLOT_FREE)
            break;
        upload->first_slot++;
        if (upload->first_slot < upload->end_slot &&
            upload->slots[upload->first_slot % MAX_SLOTS].start < oldest->start)
            upload->wrapped = 0;
    }
}

/* ---- who waits for what; all with the lock held ---- */

static void wake_sender(struct pbs_upload *upload)
{
    uint64_t one = 1;

    upload->sender_waits = 0;
    if (upload->event_set)
        return;
    upload->event_set = 1;
    while (write(upload->event_fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

static void clear_event(struct pbs_upload *upload)
{
    uint64_t count;

    if (!upload->event_set)
        return;
    upload->event_set = 0;
    while (read(upload->event_fd, &count, sizeof count) < 0 && errno == EINTR)
        continue;
}

/* Let the first of those that wait for room go on, if there is enough for it. */
static void wake_waiter(struct pbs_upload *upload)
{
    size_t start;

    if (upload->waiters && ring_find(upload, upload->waiters->size, &start))
        pthread_cond_signal(&upload->waiters->cond);
}

static void wake_readers(struct pbs_upload *upload)
{
    pthread_cond_broadcast(&upload->work);
    for (struct waiter *waiter = upload->waiters; waiter; waiter = waiter->next)
        pthread_cond_signal(&waiter->cond);
}

static void fail(struct pbs_upload *upload, const struct job *job, int status, int error)
{
    if (!upload->failed) {
        upload->failed = 1;
        upload->failure.status = status;
        upload->failure.error = status == PBS_E_IO ? error : 0;
        memcpy(upload->failure.digest, job->digest, PBS_DIGEST_SIZE);
    }
    wake_sender(upload);
    wake_readers(upload);
}

static void *reader_main(void *argument);

/* ---- how much is read ahead; all with the lock held ---- */

/* Threads are started as there is work for them: most snapshots need one or two. */
static int start_readers(struct pbs_upload *upload)
{
    uint64_t waiting = upload->added - upload->taken + upload->n_again;

    while (upload->n_threads < upload->wanted_threads && upload->n_idle < waiting) {
        if (pthread_create(&upload->threads[upload->n_threads], NULL, reader_main, upload) != 0)
            return upload->n_threads ? PBS_OK : PBS_E_NOMEM;
        upload->n_threads++;
        waiting--;
    }
    return PBS_OK;
}

static void want_bytes(struct pbs_upload *upload, size_t bytes)
{
    upload->wanted_bytes = bytes < upload->bound ? bytes : upload->bound;
}

static int may_grow(const struct pbs_upload *upload)
{
    return upload->wanted_threads < upload->max_threads || upload->wanted_bytes < upload->bound;
}

/* A few slow reads lead to all that is allowed. */
static void grow(struct pbs_upload *upload)
{
    if (upload->wanted_threads < upload->max_threads / 4)
        upload->wanted_threads *= 4;
    else
        upload->wanted_threads = upload->max_threads;
    want_bytes(upload, 2 * upload->wanted_bytes);
    start_readers(upload); /* this thread is one, so those that cannot be had are done without */
    wake_waiter(upload);
}

/* ---- readers ---- */

/* Wait for a job. Returns 0 when there will be none: the object is being freed, or failed. */
static int take_job(struct pbs_upload *upload, uint64_t *out_number, struct job *out)
{
    while (!upload->stopping && !upload->failed) {
        if (upload->n_again > 0)
            *out_number = upload->again[--upload->n_again];
        else if (upload->taken < upload->added)
            *out_number = upload->taken++;
        else {
            upload->n_idle++;
            pthread_cond_wait(&upload->work, &upload->lock);
            upload->n_idle--;
            continue;
        }
        *out = upload->jobs[*out_number % MAX_JOBS];
        return 1;
    }
    return 0;
}

static void leave_queue(struct pbs_upload *upload, struct waiter *me)
{
    struct waiter **link = &upload->waiters;

    while (*link != me)
        link = &(*link)->next;
    *link = me->next;
    if (!me->next)
        upload->waiters_end = link;
}

/* Wait, behind those who wait already, until ring_find has room. Returns 0 when none is wanted any
 * more: the object is being freed, or failed. */
static int wait_for_space(struct pbs_upload *upload, size_t size, size_t *out_start)
{
    struct waiter me = {.cond = PTHREAD_COND_INITIALIZER, .size = size};
    int found = 0;

    if (size > upload->wanted_bytes / 2) /* one chunk is sent while the next one is read */
        want_bytes(upload, 2 * size);
    *upload->waiters_end = &me;
    upload->waiters_end = &me.next;
    while (!upload->stopping && !upload->failed && !found) {
        found = upload->waiters == &me && ring_find(upload, size, out_start);
        if (!found)
            pthread_cond_wait(&me.cond, &upload->lock);
    }
    leave_queue(upload, &me);
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

/* Read one chunk into the ring. Called and returns with the lock held. */
static void read_one(struct pbs_upload *upload, uint64_t number, const struct job *job)
{
    char path[PATH_MAX_LEN];
    size_t blob_size = 0;
    int fd = -1, error = 0;
    /* More readers help where the sender waits for ones that sleep. */
    int watched = upload->starved && may_grow(upload);
    long slept = 0;

    pthread_mutex_unlock(&upload->lock);
    if (watched)
        slept -= times_slept();
    if (upload->open_delay_us)
        sleep_us(upload->open_delay_us);
    int status = pbs_chunk_open(upload->chunks_fd, job->digest, &fd, &blob_size, &error);
    size_t path_len = status ? 0 : upload_path(job, blob_size, path);
    size_t head_len = head_size(upload, path_len);
    size_t size = head_len + PBS_FRAME_HEADER + blob_size;
    size_t start;
    if (watched)
        slept += times_slept();
    pthread_mutex_lock(&upload->lock);

    if (status) {
        fail(upload, job, status, error);
        return;
    }
    if (!wait_for_space(upload, size, &start)) {
        close(fd);
        return;
    }
    uint64_t slot = ring_take(
        upload, &(struct slot){start, size, head_len, blob_size, number, SLOT_READING});
    wake_waiter(upload);
    pthread_mutex_unlock(&upload->lock);

    uint8_t *memory = upload->ring + start;
    if (watched)
        slept -= times_slept();
    status = pbs_chunk_read(fd, blob_size, job->plain_size, job->encrypted,
                            memory + head_len + PBS_FRAME_HEADER, &error);
    close(fd);
    if (!status)
        write_head(upload, path, path_len, head_len, memory);
    if (watched)
        slept += times_slept();
    pthread_mutex_lock(&upload->lock);
    if (status) {
        fail(upload, job, status, error);
        return;
    }
    upload->slots[slot % MAX_SLOTS].state = SLOT_READY;
    if (slept > 0 && upload->starved)
        grow(upload);
    if (slot == upload->next_slot && upload->sender_waits)
        wake_sender(upload);
}

static void *reader_main(void *argument)
{
    struct pbs_upload *upload = argument;
    struct job job;
    uint64_t number;

    pthread_mutex_lock(&upload->lock);
    while (take_job(upload, &number, &job))
        read_one(upload, number, &job);
    pthread_mutex_unlock(&upload->lock);
    return NULL;
}

/* ---- public ---- */

int pbs_upload_new(const struct pbs_upload_options *options, struct pbs_upload **out)
{
    if (options->readers == 0)
        return PBS_E_INVALID;
    if (strlen(options->authority) > MAX_AUTHORITY)
        return PBS_E_TOO_LARGE;
    struct pbs_upload *upload = calloc(1, sizeof *upload);
    if (!upload)
        return PBS_E_NOMEM;
    size_t least = PBS_CHUNK_FILE_MAX + 1024 + MAX_AUTHORITY; /* of the head: some 300 bytes more */
    upload->waiters_end = &upload->waiters;
    upload->ring_size = options->buffer_bytes > least ? options->buffer_bytes : least;
    upload->bound = options->buffer_bytes ? options->buffer_bytes : upload->ring_size;
    upload->chunks_fd = options->chunks_fd;
    upload->open_delay_us = options->open_delay_us;
    want_bytes(upload, FIRST_BYTES);
    upload->max_threads = options->readers;
    upload->wanted_threads = 1;
    upload->starved = 1;
    upload->authority = strdup(options->authority);
    upload->threads = calloc(options->readers, sizeof *upload->threads);
    upload->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    /* Mapped, not allocated: pages that no chunk reaches cost nothing. */
    upload->ring = mmap(NULL, upload->ring_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pthread_mutex_init(&upload->lock, NULL);
    pthread_cond_init(&upload->work, NULL);
    if (!upload->authority || !upload->threads || upload->ring == MAP_FAILED ||
        upload->event_fd < 0) {
        int status = upload->event_fd < 0 ? PBS_E_IO : PBS_E_NOMEM;
        pbs_upload_free(upload);
        return status;
    }
    *out = upload;
    return PBS_OK;
}

void pbs_upload_free(struct pbs_upload *upload)
{
    if (!upload)
        return;
    pthread_mutex_lock(&upload->lock);
    upload->stopping = 1;
    wake_readers(upload);
    pthread_mutex_unlock(&upload->lock);
    for (unsigned i = 0; i < upload->n_threads; i++)
        pthread_join(upload->threads[i], NULL);
    pthread_cond_destroy(&upload->work);
    pthread_mutex_destroy(&upload->lock);
    if (upload->ring != MAP_FAILED)
        munmap(upload->ring, upload->ring_size);
    if (upload->event_fd >= 0)
        close(upload->event_fd);
    free(upload->threads);
    free(upload->authority);
    free(upload);
}

int pbs_upload_event_fd(const struct pbs_upload *upload)
{
    return upload->event_fd;
}

void pbs_upload_clear_event(struct pbs_upload *upload)
{
    pthread_mutex_lock(&upload->lock);
    clear_event(upload);
    pthread_mutex_unlock(&upload->lock);
}

int pbs_upload_add(struct pbs_upload *upload, const struct pbs_upload_archive *archive,
                   const uint32_t *positions, size_t n, size_t *out_added)
{
    size_t added = 0;
    int status = PBS_OK;

    pthread_mutex_lock(&upload->lock);
    for (; added < n && upload->added - upload->acknowledged < MAX_JOBS; added++) {
        uint32_t pos = positions[added];
        if (pos >= archive->entries.n) {
            status = PBS_E_INVALID;
            break;
        }
        uint64_t plain_size = pbs_entry_size(&archive->entries, pos);
        if (plain_size > UINT32_MAX) { /* or ends before it starts: the index file was cut */
            status = PBS_E_TOO_LARGE;
            break;
        }
        struct job *job = &upload->jobs[upload->added % MAX_JOBS];
        memcpy(job->digest, archive->entries.digests + pos * archive->entries.stride,
               PBS_DIGEST_SIZE);
        job->plain_size = (uint32_t)plain_size;
        job->writer_id = archive->writer_id;
        job->fixed = archive->entries.chunk_size != 0;
        job->encrypted = archive->encrypted != 0;
        job->acknowledged = 0;
        upload->added++;
    }
    if (added) {
        int started = start_readers(upload);
        if (!status)
            status = started;
        pthread_cond_broadcast(&upload->work);
    }
    pthread_mutex_unlock(&upload->lock);
    *out_added = added;
    return status;
}

uint64_t pbs_upload_added(const struct pbs_upload *upload)
{
    return upload->added; /* written by this thread alone */
}

uint64_t pbs_upload_acknowledged(const struct pbs_upload *upload)
{
    return upload->acknowledged; /* likewise */
}

int pbs_upload_next(struct pbs_upload *upload, const uint8_t *after,
                    struct pbs_upload_piece *out)
{
    pthread_mutex_lock(&upload->lock);
    struct slot *slot = &upload->slots[upload->next_slot % MAX_SLOTS];
    int ready = upload->next_slot < upload->end_slot && slot->state == SLOT_READY;
    if (ready && after && after != upload->ring + slot->start) {
        ready = 0;
    } else if (ready) {
        out->message = (struct pbs_message){upload->ring + slot->start, slot->head_len,
                                            slot->body_len};
        out->job = slot->job;
        out->slot = upload->next_slot++;
        slot->state = SLOT_OUT;
        upload->starved = 0;
    } else {
        clear_event(upload);
        upload->sender_waits = 1;
        upload->starved = 1;
    }
    pthread_mutex_unlock(&upload->lock);
    return ready;
}

void pbs_upload_release(struct pbs_upload *upload, uint64_t slot)
{
    pthread_mutex_lock(&upload->lock);
    upload->slots[slot % MAX_SLOTS].state = SLOT_FREE;
    ring_advance(upload);
    wake_waiter(upload);
    pthread_mutex_unlock(&upload->lock);
}

void pbs_upload_acknowledge(struct pbs_upload *upload, uint64_t job)
{
    pthread_mutex_lock(&upload->lock);
    upload->jobs[job % MAX_JOBS].acknowledged = 1;
    while (upload->acknowledged < upload->added &&
           upload->jobs[upload->acknowledged % MAX_JOBS].acknowledged)
        upload->acknowledged++;
    pthread_mutex_unlock(&upload->lock);
}

void pbs_upload_again(struct pbs_upload *upload, uint64_t job)
{
    pthread_mutex_lock(&upload->lock);
    upload->again[upload->n_again++] = job;
    pthread_cond_signal(&upload->work);
    pthread_mutex_unlock(&upload->lock);
}

int pbs_upload_failed(struct pbs_upload *upload, struct pbs_upload_failure *out)
{
    pthread_mutex_lock(&upload->lock);
    int failed = upload->failed;
    if (failed)
        *out = upload->failure;
    pthread_mutex_unlock(&upload->lock);
    return failed;
}

int pbs_upload_digest(struct pbs_upload *upload, uint64_t job, uint8_t out[PBS_DIGEST_SIZE])
{
    if (job < upload->acknowledged || job >= upload->added)
        return PBS_E_INVALID;
    memcpy(out, upload->jobs[job % MAX_JOBS].digest, PBS_DIGEST_SIZE);
    return PBS_OK;
}
